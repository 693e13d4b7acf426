"""What a model's `config.json` says, where that is on this machine: hubs are not asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_llem.campaign.rules.rule import Rule
from pytest_llem.records import RANDOM_WEIGHTS

EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts")
"""Names that architectures in transformers give to the number of experts of a layer."""

Config = Mapping[str, Any]
Parameters = Mapping[str, Any]


def number(config: Config, *names: str) -> int | None:
    """Return the first of some keys that has a whole number."""
    found = (config[name] for name in names if type(config.get(name)) is int)
    return next(found, None)


def tensor_parallel(parameters: Parameters) -> int:
    """Return over how many GPUs each layer is spread."""
    return parameters.get("tensor_parallel_size") or 1


def pipeline_parallel(parameters: Parameters) -> int:
    """Return into how many groups of layers the model is cut, each on GPUs of its own."""
    return parameters.get("pipeline_parallel_size") or 1


def checkpoint_quantization(config: Config) -> str | None:
    """Return the method that the weights of a checkpoint are quantised with, None where none is said.

    bitsandbytes did not always write its name; transformers then knows it by its flags.
    """
    said = config.get("quantization_config")
    if not isinstance(said, dict):
        return None
    unnamed = "bitsandbytes" if said.get("load_in_4bit") or said.get("load_in_8bit") else None
    method = said.get("quant_method") or unnamed
    return str(method) if method else None


def is_fp8(method: str | None) -> bool:
    """Return whether a method, or a type of the KV cache, is one of fp8: `fp8_per_tensor` and `fp8_e4m3` are too."""
    return method is not None and method.startswith("fp8")


def _has_random_weights(model_name: str) -> bool:
    return model_name.startswith(RANDOM_WEIGHTS)


def _speculates(model_name: str, parameters: Parameters) -> bool:
    drafts = parameters.get("speculative_config") or parameters.get("speculative_model")
    return _has_random_weights(model_name) and bool(drafts)


def _routes_at_random(model_name: str, config: Config) -> bool:
    counts = (config[name] for name in EXPERT_COUNTS if name in config)
    is_mixture = any(isinstance(count, int) and count > 1 for count in counts)
    return _has_random_weights(model_name) and is_mixture


def _heads_do_not_divide(config: Config, parameters: Parameters) -> bool:
    heads = number(config, "num_attention_heads", "n_head")
    return heads is not None and heads % tensor_parallel(parameters) != 0


def _stages_without_layer(config: Config, parameters: Parameters) -> bool:
    layers = number(config, "num_hidden_layers", "n_layer")
    return layers is not None and layers < pipeline_parallel(parameters)


def _exceeds_context(config: Config, max_input_tokens: int, max_output_tokens: int) -> bool:
    longest = number(config, "max_position_embeddings", "n_positions")
    is_scaled = bool(config.get("rope_scaling"))
    return longest is not None and not is_scaled and max_input_tokens + max_output_tokens > longest


FILTERED = (
    Rule(
        "speculation on random weights",
        _speculates,
        "random weights accept no draft: their speculative decoding says nothing about a trained model",
    ),
    Rule(
        "heads over GPUs",
        _heads_do_not_divide,
        "the tensor parallel size does not divide the model's attention heads",
    ),
    Rule(
        "stages without layers",
        _stages_without_layer,
        "the pipeline parallel size is above the model's layers",
    ),
)

WARNED = (
    Rule(
        "random experts",
        _routes_at_random,
        "random weights route tokens over the experts unlike a trained mixture of experts",
    ),
    Rule(
        "beyond the context",
        _exceeds_context,
        "max_input_tokens and max_output_tokens together exceed the model's context length"
        " (max_position_embeddings)",
    ),
)

"""What was asked of the model, and what was really applied, read back from it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from pytest_llem.backends.pytorch.loading import DTYPES
from pytest_llem.backends.pytorch.quantization import quantization_arguments
from pytest_llem.backends.pytorch.spec import PyTorchParameters
from pytest_llem.backends.sampling import resolve
from pytest_llem.records import Configuration


def of_model(model: PreTrainedModel) -> dict[str, Any]:
    """Return what a loaded model is like; `parameter_count` is as stored, so packed ones count less."""
    stored = Counter[torch.dtype]()
    for weight in model.parameters():
        stored[weight.dtype] += weight.numel()
    floating = {name: stored[dtype] for name, dtype in DTYPES.items() if dtype in stored}
    classes = {type(weight).__name__ for weight in model.parameters()}
    return {
        "model_class": type(model).__name__,
        "parameter_count": stored.total(),
        "parameter_count_by_dtype": {_dtype_name(dtype): n for dtype, n in stored.items()},
        "fp_precision": max(floating, key=floating.__getitem__, default=None),
        "attn_implementation": model.config._attn_implementation,  # noqa: SLF001 - it has no public name
        "load_in_4bit": "Params4bit" in classes,
        "load_in_8bit": "Int8Params" in classes,
        "quantization_config": _quantization(model),
        "device": model.device.type,
        "num_threads": torch.get_num_threads(),
    }


def _quantization(model: PreTrainedModel) -> dict[str, Any] | None:
    """Return the arguments of the quantiser that changed the model; a `config.json` alone proves nothing."""
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is None:
        return None
    arguments = quantizer.quantization_config.to_dict()
    plain: dict[str, Any] = json.loads(json.dumps(arguments, default=_dtype_name))
    return {name: value for name, value in plain.items() if not name.startswith("_")}


def _dtype_name(value: object) -> str:
    return str(value).removeprefix("torch.")


def of_generation(wanted: GenerationConfig) -> dict[str, Any]:
    """Return the settings that `generate()` was given."""
    return {
        "output_length": "exact" if wanted.eos_token_id is None else "natural",
        "max_output_tokens": wanted.max_new_tokens,
        "do_sample": wanted.do_sample,
        "temperature": wanted.temperature,
        "top_p": wanted.top_p,
        "top_k": wanted.top_k,
        "min_p": wanted.min_p or 0.0,
        "repetition_penalty": wanted.repetition_penalty,
        "no_repeat_ngram_size": wanted.no_repeat_ngram_size,
        "num_beams": wanted.num_beams,
    }


APPLIED_AS_WRITTEN = (
    "attn_implementation",
    "torch_compile",
    "batch_size",
    "batching_strategy",
    "use_cache",
    "min_p",
    "no_repeat_ngram_size",
    "num_beams",
)
"""Parameters that leave the engine no choice and always have an effect."""


def asked(configuration: Configuration) -> dict[str, Any]:
    """Return what a configuration demands; what it leaves to the engine, or has no effect, is not in it."""
    parameters = PyTorchParameters.model_validate(configuration.parameters)
    demanded = {
        "fp_precision": configuration.fp_precision,
        "output_length": configuration.output_length,
        "max_output_tokens": configuration.max_output_tokens,
        **asdict(resolve(configuration.decoder)),
        **{name: getattr(parameters, name) for name in APPLIED_AS_WRITTEN},
    }
    quantization = quantization_arguments(parameters) or {}
    demanded.update({name: True for name in ("load_in_4bit", "load_in_8bit") if quantization.get(name)})
    if quantization:  # transformers writes nested values in its own way
        plain = {name: value for name, value in quantization.items() if not isinstance(value, dict | list)}
        demanded["quantization_config"] = plain
    if parameters.device != "auto":
        demanded["device"] = parameters.device
    if parameters.num_threads is not None:
        demanded["num_threads"] = parameters.num_threads
    if parameters.torch_compile and parameters.torch_compile_backend:
        demanded["torch_compile_backend"] = parameters.torch_compile_backend
    if parameters.use_cache and parameters.cache_implementation:
        demanded["cache_implementation"] = parameters.cache_implementation
    return demanded

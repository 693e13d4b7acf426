"""The `tensorrt` section: sizes of an engine, and precisions that its GPUs compute in."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from pytest_llem.backends.tensorrt.spec import SPEC
from pytest_llem.campaign.rules.engines import ADA, AMPERE, Devices, lacks_capability
from pytest_llem.campaign.rules.models import checkpoint_quantization, is_fp8
from pytest_llem.campaign.rules.rule import Rule, WithoutEffect

BLACKWELL = (10, 0)
"""The compute capability that brought fp4."""

Parameters = Mapping[str, Any]

rule = partial(Rule, backend=SPEC.name)
without_effect = partial(WithoutEffect, backend=SPEC.name)


def _below(smaller: int | None, larger: int | None) -> bool:
    return smaller is not None and larger is not None and smaller < larger


def _splits_no_prompt(parameters: Parameters) -> bool:
    too_long = _below(parameters["max_num_tokens"], parameters["max_input_len"])
    return too_long and not parameters["enable_chunked_prefill"]


def _request_too_long(parameters: Parameters, max_input_tokens: int, max_output_tokens: int) -> bool:
    return _below(parameters["max_seq_len"], max_input_tokens + max_output_tokens)


def _quantised_otherwise(parameters: Parameters, config: Mapping[str, Any]) -> bool:
    return parameters["quant_algo"] is not None and checkpoint_quantization(config) is not None


def _builds_nothing(parameters: Parameters) -> bool:
    return parameters["backend"] == "pytorch" or parameters["engine_path"] is not None


def _computes_fp8(parameters: Parameters, config: Mapping[str, Any], devices: Devices) -> bool | None:
    """An engine that is already built need not be that of the checkpoint."""
    asked = "FP8" in (parameters["quant_algo"], parameters["kv_cache_quant_algo"])
    own = parameters["engine_path"] is None and is_fp8(checkpoint_quantization(config))
    return lacks_capability(ADA, devices) if asked or own else False


def _computes_fp4(parameters: Parameters, devices: Devices) -> bool | None:
    return lacks_capability(BLACKWELL, devices) if parameters["quant_algo"] == "NVFP4" else False


def _computes_bfloat16(fp_precision: str, devices: Devices) -> bool | None:
    return lacks_capability(AMPERE, devices) if fp_precision == "bfloat16" else False


FILTERED = (
    rule("float32", lambda fp_precision: fp_precision == "float32", "TensorRT-LLM serves no float32"),
    rule(
        "prompts above max_input_len",
        lambda parameters, max_input_tokens: _below(parameters["max_input_len"], max_input_tokens),
        "max_input_tokens exceed max_input_len",
    ),
    rule(
        "requests above max_seq_len",
        _request_too_long,
        "max_input_tokens and max_output_tokens together exceed max_seq_len",
    ),
    rule(
        "prompts above sequences",
        lambda parameters: _below(parameters["max_seq_len"], parameters["max_input_len"]),
        "max_input_len is above max_seq_len",
    ),
    rule(
        "fewer tokens than sequences",
        lambda parameters: _below(parameters["max_num_tokens"], parameters["max_batch_size"]),
        "max_num_tokens is below max_batch_size",
    ),
    rule(
        "prompts above a step",
        _splits_no_prompt,
        "max_num_tokens is below max_input_len, and enable_chunked_prefill is false",
    ),
    rule(
        "quantised checkpoint",
        _quantised_otherwise,
        "quant_algo quantises the weights of a checkpoint, and those of this one are quantised already",
    ),
    rule("fp8", _computes_fp8, "FP8 needs a GPU of compute capability 8.9 (Ada, Hopper)"),
    rule("fp4", _computes_fp4, "NVFP4 needs a GPU of compute capability 10.0 (Blackwell)"),
    rule(
        "bfloat16 of TensorRT-LLM",
        _computes_bfloat16,
        "TensorRT-LLM computes in bfloat16 on GPUs of compute capability 8.0 (Ampere) and above",
    ),
)

WITHOUT_EFFECT = (
    without_effect(
        "drafts of no model",
        ("max_draft_len",),
        lambda parameters: parameters["speculative_model"] is None,
        "without speculative_model",
    ),
    without_effect(
        "cache without a build",
        ("force_rebuild", "engine_cache_dir"),
        _builds_nothing,
        "with engine_path or backend: pytorch",
    ),
    without_effect(
        "haste without a build",
        ("fast_build",),
        lambda parameters: parameters["engine_path"] is not None,
        "with engine_path",
    ),
)

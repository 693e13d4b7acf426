"""The `vllm` section: what vLLM's own checks would say after minutes (vllm/config), and what they would not."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from pytest_llem.backends.vllm.spec import SPEC, quantization_method
from pytest_llem.campaign.host import Host
from pytest_llem.campaign.rules.engines import ADA, AMPERE, Devices, lacks_capability
from pytest_llem.campaign.rules.models import checkpoint_quantization, is_fp8, tensor_parallel
from pytest_llem.campaign.rules.rule import Rule, WithoutEffect
from pytest_llem.campaign.rules.workload import is_greedy

FORMATS = frozenset({"awq", "gptq", "fp8", "bitsandbytes", "compressed-tensors"})
"""Methods that read what they themselves wrote, and nothing else. Others, such as `humming`, take a checkpoint over."""

Parameters = Mapping[str, Any]

rule = partial(Rule, backend=SPEC.name)
without_effect = partial(WithoutEffect, backend=SPEC.name)


def _below(smaller: int | None, larger: int | None) -> bool:
    return smaller is not None and larger is not None and smaller < larger


def _splits_no_prompt(parameters: Parameters) -> bool:
    too_long = _below(parameters["max_num_batched_tokens"], parameters["max_model_len"])
    return too_long and parameters["enable_chunked_prefill"] is False


def _request_too_long(parameters: Parameters, max_input_tokens: int, max_output_tokens: int) -> bool:
    return _below(parameters["max_model_len"], max_input_tokens + max_output_tokens)


def _needs_quantised_checkpoint(parameters: Parameters, config: Mapping[str, Any]) -> bool:
    method = quantization_method(parameters["quantization"] or "")
    return method in ("awq", "gptq") and bool(config) and checkpoint_quantization(config) is None


def _quantised_otherwise(parameters: Parameters, config: Mapping[str, Any]) -> bool:
    named = (parameters["quantization"], checkpoint_quantization(config))
    methods = {quantization_method(name) for name in named if name}
    return len(methods) > 1 and methods <= FORMATS


def _caches_fp8(parameters: Parameters, devices: Devices) -> bool | None:
    return lacks_capability(ADA, devices) if is_fp8(parameters["kv_cache_dtype"]) else False


def _computes_bfloat16(fp_precision: str, host: Host | None, devices: Devices) -> bool | None:
    """On a machine without a GPU vLLM runs on the CPU, which computes in it."""
    runs_on_cpu = host is not None and not devices
    return lacks_capability(AMPERE, devices) if fp_precision == "bfloat16" and not runs_on_cpu else False


def _stores_fp8(parameters: Parameters, config: Mapping[str, Any], devices: Devices) -> bool | None:
    method = parameters["quantization"] or checkpoint_quantization(config)
    return lacks_capability(ADA, devices) if is_fp8(method) else False


FILTERED = (
    rule(
        "fewer tokens than requests",
        lambda parameters: _below(parameters["max_num_batched_tokens"], parameters["max_num_seqs"]),
        "max_num_batched_tokens is below max_num_seqs",
    ),
    rule(
        "prompts in one piece",
        _splits_no_prompt,
        "max_num_batched_tokens is below max_model_len, and enable_chunked_prefill is false",
    ),
    rule(
        "requests above max_model_len",
        _request_too_long,
        "max_input_tokens and max_output_tokens together exceed max_model_len",
    ),
    rule(
        "method without its checkpoint",
        _needs_quantised_checkpoint,
        "quantization: awq and gptq need a checkpoint that is quantised so, and the model's config.json names none",
    ),
    rule(
        "checkpoint of another method",
        _quantised_otherwise,
        "the checkpoint is quantised, and by another method than quantization asks for",
    ),
    rule("fp8 cache", _caches_fp8, "an fp8 KV cache needs a GPU of compute capability 8.9 (Ada, Hopper)"),
    rule(
        "bfloat16",
        _computes_bfloat16,
        "vLLM computes in bfloat16 on GPUs of compute capability 8.0 (Ampere) and above",
    ),
)

WARNED = (
    rule(
        "fp8 weights",
        _stores_fp8,
        "below compute capability 8.9 (Ada, Hopper) vLLM at best stores fp8 weights in 8 bits and computes with"
        " them in 16",
    ),
)

WITHOUT_EFFECT = (
    without_effect(
        "CUDA graphs of eager mode",
        ("cudagraph_capture_sizes",),
        lambda parameters: bool(parameters["enforce_eager"]),
        "with enforce_eager: true",
    ),
    without_effect(
        "share beside a size",
        ("gpu_memory_utilization",),
        lambda parameters: parameters["kv_cache_memory_bytes"] is not None,
        "beside kv_cache_memory_bytes",
    ),
    without_effect(
        "all-reduce of one GPU",
        ("disable_custom_all_reduce",),
        lambda parameters: tensor_parallel(parameters) == 1,
        "without tensor_parallel_size",
    ),
    without_effect("min_p of greedy decoding in vLLM", ("min_p",), is_greedy, "without sampling"),
)

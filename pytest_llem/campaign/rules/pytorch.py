"""The `pytorch` section: transformers, bitsandbytes, torch.compile."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from pytest_llem.backends.pytorch.spec import SPEC
from pytest_llem.campaign.host import Host
from pytest_llem.campaign.rules.engines import ADA, Devices, lacks_capability
from pytest_llem.campaign.rules.models import checkpoint_quantization
from pytest_llem.campaign.rules.rule import Rule, WithoutEffect
from pytest_llem.campaign.rules.workload import is_greedy

Parameters = Mapping[str, Any]

CUDA_GRAPHS = ("reduce-overhead", "max-autotune")
"""Modes of `torch.compile` that record CUDA graphs."""

BNB_4BIT = tuple(name for name in SPEC.parameters.model_fields if name.startswith("bnb_4bit_"))

rule = partial(Rule, backend=SPEC.name)
without_effect = partial(WithoutEffect, backend=SPEC.name)


def _uses_flash_attention(parameters: Parameters) -> bool:
    return bool(parameters["attn_implementation"].startswith("flash_attention"))


def _lacks_flash_attention(parameters: Parameters, host: Host | None) -> bool | None:
    """Transformers takes flash attention from its own package, or compiled from a hub through `kernels`."""
    if not _uses_flash_attention(parameters):
        return False
    known = [host.has_module(SPEC.name, name) for name in ("flash_attn", "kernels")] if host else [None]
    return None if None in known else not any(known)


def _quantises(parameters: Parameters) -> bool:
    return bool(parameters["load_in_4bit"] or parameters["load_in_8bit"])


def _quantises_otherwise(parameters: Parameters, config: Mapping[str, Any]) -> bool:
    """A checkpoint keeps its own method; transformers refuses another one."""
    own = checkpoint_quantization(config)
    given = parameters["quantization_config"] or {}
    asked = "bitsandbytes" if _quantises(parameters) else given.get("quant_method")
    return own is not None and asked is not None and asked != own


def _stores_fp8(parameters: Parameters, config: Mapping[str, Any], devices: Devices) -> bool | None:
    given = parameters["quantization_config"] or {}
    method = given.get("quant_method") or checkpoint_quantization(config)
    return lacks_capability(ADA, devices) if method == "fp8" else False


def _records_graphs_on_cpu(parameters: Parameters) -> bool:
    graphs = parameters["torch_compile"] in CUDA_GRAPHS or parameters["torch_compile_backend"] == "cudagraphs"
    return bool(parameters["device"] == "cpu" and parameters["torch_compile"] and graphs)


def _offloads_on_cpu(parameters: Parameters) -> bool:
    offloads = (parameters["cache_implementation"] or "").startswith("offloaded")
    return offloads and parameters["use_cache"] and parameters["device"] == "cpu"


def _has_mode_of_inductor(parameters: Parameters) -> bool:
    is_other = parameters["torch_compile_backend"] not in (None, "inductor")
    return is_other and parameters["torch_compile"] not in (False, "default")


FILTERED = (
    rule(
        "4 and 8 bits",
        lambda parameters: parameters["load_in_4bit"] and parameters["load_in_8bit"],
        "load_in_4bit and load_in_8bit exclude each other",
    ),
    rule(
        "quantised twice",
        lambda parameters: parameters["quantization_config"] is not None and _quantises(parameters),
        "quantization_config excludes load_in_4bit and load_in_8bit",
    ),
    rule(
        "quantised otherwise",
        _quantises_otherwise,
        "the checkpoint is quantised, and by another method than is asked for",
    ),
    rule(
        "flash attention in float32",
        lambda parameters, fp_precision: _uses_flash_attention(parameters) and fp_precision == "float32",
        "flash attention computes in float16 and bfloat16 only",
    ),
    rule(
        "flash attention on the CPU",
        lambda parameters: _uses_flash_attention(parameters) and parameters["device"] == "cpu",
        "flash attention runs on GPUs only",
    ),
    rule(
        "flash attention without its package",
        _lacks_flash_attention,
        "flash attention needs the package flash-attn or kernels, which the engine's interpreter lacks",
    ),
    rule(
        "CUDA graphs on the CPU",
        _records_graphs_on_cpu,
        "torch_compile: reduce-overhead and max-autotune, and the backend cudagraphs, need a GPU",
    ),
    rule(
        "mode of another compiler",
        _has_mode_of_inductor,
        "a torch_compile_backend other than inductor has no modes: set torch_compile: true",
    ),
    rule("offloading on the CPU", _offloads_on_cpu, "an offloaded cache_implementation needs a GPU"),
)

WARNED = (
    rule(
        "fp8 weights of transformers",
        _stores_fp8,
        "below compute capability 8.9 (Ada, Hopper) transformers turns fp8 weights into bfloat16",
    ),
)

WITHOUT_EFFECT = (
    without_effect(
        "4-bit parameters without 4 bits",
        BNB_4BIT,
        lambda parameters: not parameters["load_in_4bit"],
        "without load_in_4bit",
    ),
    without_effect(
        "compile backend without compile",
        ("torch_compile_backend",),
        lambda parameters: not parameters["torch_compile"],
        "without torch_compile",
    ),
    without_effect(
        "kind of cache without cache",
        ("cache_implementation",),
        lambda parameters: not parameters["use_cache"],
        "with use_cache: false",
    ),
    without_effect("min_p of greedy decoding", ("min_p",), is_greedy, "without sampling"),
)

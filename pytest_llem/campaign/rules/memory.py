"""Weights and KV cache against the memory of the GPUs. Both are lower bounds: what is filtered cannot fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_llem.architectures import Architecture
from pytest_llem.campaign.rules.engines import Devices
from pytest_llem.campaign.rules.models import checkpoint_quantization, pipeline_parallel, tensor_parallel
from pytest_llem.campaign.rules.rule import Figures, Found, Rule, Unjudged

ELEMENT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
GIB = 2**30

Parameters = Mapping[str, Any]
Config = Mapping[str, Any]


def _pytorch(
    *,
    architecture: Architecture | None,
    config: Config,
    parameters: Parameters,
    fp_precision: str,
    num_input_prompts: int,
    least_tokens: int,
    devices: Devices,
) -> Found:
    """One GPU holds the weights and, at the end of a `generate()` call, the cache of all of its beams."""
    if parameters["device"] == "cpu":
        return False
    given = parameters["quantization_config"] or {}
    method = (
        "4"
        if parameters["load_in_4bit"]
        else "8"
        if parameters["load_in_8bit"]
        else given.get("quant_method")
    )
    sequences = min(parameters["batch_size"], num_input_prompts) * parameters["num_beams"]
    caches_all = parameters["use_cache"] and parameters["cache_implementation"] in (None, "dynamic", "static")
    return _excess(
        architecture,
        weight_bytes=_weight_bytes(method or checkpoint_quantization(config), fp_precision),
        cache_bytes=ELEMENT_BYTES[fp_precision] * sequences if caches_all else 0,
        tokens=least_tokens,
        room_bytes=_room_bytes(devices, 1),
    )


def _vllm(
    *,
    architecture: Architecture | None,
    config: Config,
    parameters: Parameters,
    fp_precision: str,
    least_tokens: int,
    devices: Devices,
) -> Found:
    """The GPUs hold the weights and the paged cache of one request at least; the others may wait."""
    room_bytes = _room_bytes(devices, _gpus_of(parameters))
    if room_bytes is not None:
        offloaded_bytes = (parameters["cpu_offload_gb"] or 0) * GIB * _gpus_of(parameters)
        room_bytes = room_bytes * (parameters["gpu_memory_utilization"] or 1) + offloaded_bytes
    method = parameters["quantization"] or checkpoint_quantization(config)
    is_small = (parameters["kv_cache_dtype"] or "auto") not in ("auto", "float16", "bfloat16")
    return _excess(
        architecture,
        weight_bytes=_weight_bytes(method, fp_precision),
        cache_bytes=0.5 if is_small else ELEMENT_BYTES[fp_precision],
        tokens=least_tokens,
        room_bytes=room_bytes,
    )


def _tensorrt(
    *,
    architecture: Architecture | None,
    config: Config,
    parameters: Parameters,
    fp_precision: str,
    least_tokens: int,
    devices: Devices,
) -> Found:
    """As for vLLM; an engine that is already built may hold anything."""
    if parameters["engine_path"] is not None:
        return False
    method = parameters["quant_algo"] or checkpoint_quantization(config)
    return _excess(
        architecture,
        weight_bytes=_weight_bytes(method, fp_precision),
        cache_bytes=1 if parameters["kv_cache_quant_algo"] else ELEMENT_BYTES[fp_precision],
        tokens=least_tokens,
        room_bytes=_room_bytes(devices, _gpus_of(parameters)),
    )


def _gpus_of(parameters: Parameters) -> int:
    return tensor_parallel(parameters) * pipeline_parallel(parameters)


def _weight_bytes(quantization: str | None, fp_precision: str) -> float:
    """Return the least bytes of one weight: methods with an 8 in their name keep 8 bits of it, others 4."""
    if quantization is None:
        return ELEMENT_BYTES[fp_precision]
    return 1 if "8" in quantization and "4" not in quantization else 0.5


def _room_bytes(devices: Devices, number: int) -> float | None:
    """Return the memory of so many GPUs as large as the largest of these; None: unknown."""
    known = [device.memory_bytes for device in devices if device.memory_bytes]
    return number * max(known) if known else None


def _excess(
    architecture: Architecture | None,
    *,
    weight_bytes: float,
    cache_bytes: float,
    tokens: int,
    room_bytes: float | None,
) -> Found:
    """Return what is needed and what there is, in GB of 10^9 bytes; False where it fits, or the model is unknown.

    Args:
        architecture: of the model.
        weight_bytes: of one weight.
        cache_bytes: of one number of the KV cache of all sequences.
        tokens: of a sequence at its end.
        room_bytes: memory of the GPUs; None where none is known.
    """
    if architecture is None:
        return False
    weights = architecture.parameter_count * weight_bytes / 1e9
    cache = architecture.kv_cache_elements(tokens) * cache_bytes / 1e9
    needed = weights + cache
    figures = f"{needed:.1f} GB (weights {weights:.1f}, KV cache {cache:.1f})"
    if room_bytes is None:
        return Unjudged(Figures(needed, figures))
    room = room_bytes / 1e9
    return needed > room and Figures(needed / room, f"{figures} into {room:.1f} GB")


FILTERED = tuple(
    Rule(f"memory of {backend}", holds, "weights and KV cache do not fit into the GPUs' memory", backend)
    for backend, holds in (("pytorch", _pytorch), ("vllm", _vllm), ("tensorrt", _tensorrt))
)

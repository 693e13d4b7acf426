"""What was really applied: read back from the LLM's arguments, and from the engine's own description."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_llem.backends.application import demanded
from pytest_llem.backends.tensorrt.model import read_json
from pytest_llem.backends.tensorrt.spec import TensorRTParameters
from pytest_llem.records import Configuration

OURS = ("engine_path", "force_rebuild", "engine_cache_dir", "revision")
"""Parameters that TensorRT-LLM never hears of."""


def asked(configuration: Configuration) -> dict[str, Any]:
    """Return what a configuration demands, in the names of `of_llm` and `of_sampling`."""
    parameters = TensorRTParameters.model_validate(configuration.parameters)
    without = {*OURS, *(parameters.of_engines if parameters.backend == "pytorch" else ())}
    if parameters.speculative_model is None:
        without.add("max_draft_len")
    return {name: value for name, value in demanded(configuration).items() if name not in without}


def of_llm(arguments: Any, engine: Path | None) -> dict[str, Any]:
    """Return what an LLM works with.

    Args:
        arguments: its `args`, a `TrtLlmArgs` or `TorchLlmArgs`.
        engine: the folder of the engine that it runs; None: it runs none.
    """
    cache, scheduler = arguments.kv_cache_config, arguments.scheduler_config
    return {
        "trust_remote_code": arguments.trust_remote_code,
        "max_batch_size": arguments.max_batch_size,
        "enable_chunked_prefill": arguments.enable_chunked_prefill,
        "enable_block_reuse": cache.enable_block_reuse,
        "free_gpu_memory_fraction": cache.free_gpu_memory_fraction,
        "capacity_scheduler_policy": scheduler.capacity_scheduler_policy.name,
        **(_of_checkpoint(arguments) if engine is None else of_engine(engine)),
    }


def of_engine(folder: Path) -> dict[str, Any]:
    """Return what a built engine says of itself in its `config.json`."""
    description = read_json(folder / "config.json")
    model, build = description["pretrained_config"], description["build_config"]
    quantization, mapping, plugins = model["quantization"], model["mapping"], build["plugin_config"]
    return {
        "backend": "tensorrt",
        "engine_path": str(folder),
        "fp_precision": model["dtype"],
        "quant_algo": quantization["quant_algo"],
        "kv_cache_quant_algo": quantization["kv_cache_quant_algo"],
        "tensor_parallel_size": mapping["tp_size"],
        "pipeline_parallel_size": mapping["pp_size"],
        "multiple_profiles": plugins["multiple_profiles"],
        "tokens_per_block": plugins["tokens_per_block"],
        **{
            name: build[name] for name in ("strongly_typed", "max_input_len", "max_seq_len", "max_num_tokens")
        },
    }


def _of_checkpoint(arguments: Any) -> dict[str, Any]:
    speculative = arguments.speculative_config
    return {
        "backend": arguments.backend,
        "fp_precision": arguments.dtype,
        "tensor_parallel_size": arguments.tensor_parallel_size,
        "pipeline_parallel_size": arguments.pipeline_parallel_size,
        "max_seq_len": arguments.max_seq_len,
        "max_num_tokens": arguments.max_num_tokens,
        "speculative_model": str(speculative.speculative_model) if speculative else None,
        "max_draft_len": speculative.max_draft_len if speculative else None,
    }


def of_sampling(sampling: Any) -> dict[str, Any]:
    """Return what a `SamplingParams` makes of a decoder: only one that draws has a temperature."""
    return {
        "do_sample": sampling.temperature is not None,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "repetition_penalty": sampling.repetition_penalty,
        "max_output_tokens": sampling.max_tokens,
        "output_length": "exact" if sampling.ignore_eos else "natural",
    }

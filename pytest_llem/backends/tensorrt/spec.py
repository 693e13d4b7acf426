"""What the host knows of the `tensorrt` backend: its section of a campaign file. Imports no engine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pytest_llem.backends.base import BackendSpec, Parameters
from pytest_llem.records import Count


class TensorRTParameters(Parameters):
    """The `tensorrt:` section, with the names of TensorRT-LLM's build and serve commands.

    All of them shape the built engine or its executor, so each change needs a new load.

    Attributes:
        engine_path: an engine that is already built; None builds one from the model.
        force_rebuild: build even when the cache holds this engine.
        engine_cache_dir: where built engines are kept; None takes TensorRT-LLM's own place.
        max_batch_size: requests that run at once, the batch limit.
        max_input_len: prompt tokens of one request; None takes the model's own limit.
        max_seq_len: prompt and output tokens of one request; None takes the model's own limit.
        max_num_tokens: tokens a step of in-flight batching; None leaves the choice to TensorRT-LLM.
        builder_opt_level: 0 builds fastest, 5 runs fastest.
        gpu_memory_utilization: share of the free GPU memory for the KV cache.
        draft_model: hub id or folder of the draft model of speculative decoding.
        num_draft_tokens: tokens that the draft model proposes a step.
    """

    engine_path: str | None = None
    force_rebuild: bool = False
    engine_cache_dir: str | None = None
    max_batch_size: Count = 8
    max_input_len: Count | None = None
    max_seq_len: Count | None = None
    max_num_tokens: Count | None = None
    builder_opt_level: Annotated[int, Field(ge=0, le=5)] = 3
    strongly_typed: bool = True
    multiple_profiles: bool = False
    tp_size: Count = 1
    pp_size: Count = 1
    quantization: Literal["none", "fp8", "int8_sq", "int8_weight_only", "int4_awq", "int4_gptq"] = "none"
    kv_cache_type: Literal["paged", "continuous"] = "paged"
    enable_chunked_context: bool = True
    enable_kv_cache_reuse: bool = False
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    draft_model: str | None = None
    num_draft_tokens: Count = 5


SPEC = BackendSpec(
    name="tensorrt",
    parameters=TensorRTParameters,
    batch_parameter="max_batch_size",
    engine=None,
    engine_start_timeout_s=7200.0,  # building an engine takes tens of minutes
    packages=("tensorrt-llm", "tensorrt", "torch", "transformers"),
)

"""What the host knows of the `tensorrt` backend: its section of a campaign file. Imports no engine."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from pytest_llem.backends.base import BackendSpec, Parameters
from pytest_llem.records import Count

QuantAlgo = Literal["FP8", "NVFP4", "W8A8_SQ_PER_CHANNEL", "W8A16", "W4A16", "W4A16_AWQ", "W4A16_GPTQ"]

OLD_QUANTIZATIONS: Mapping[str, QuantAlgo | None] = MappingProxyType(
    {
        "none": None,
        "fp8": "FP8",
        "int8_sq": "W8A8_SQ_PER_CHANNEL",
        "int8_weight_only": "W8A16",
        "int4_awq": "W4A16_AWQ",
        "int4_gptq": "W4A16_GPTQ",
    }
)
"""What llenergymeasure v1 called `quantization`."""


class TensorRTParameters(Parameters):
    """The `tensorrt:` section, with the names of TensorRT-LLM's LLM API and of its `*_config` objects.

    All of them shape the engine or what executes it, so each change needs a new load.

    Attributes:
        backend: `tensorrt` compiles the model into an engine (TensorRT-LLM up to 1.2), `pytorch` runs it as it is.
        engine_path: a folder with an engine that is already built; None builds one from the model.
        force_rebuild: build at each launch, even when the cache holds this engine.
        engine_cache_dir: where built engines are kept, if any are; None: beside the downloaded models.
        max_batch_size: requests that run at once, the batch limit.
        max_input_len: prompt tokens of one request; None leaves it to TensorRT-LLM.
        max_seq_len: prompt and output tokens of one request; None takes the model's own limit.
        max_num_tokens: tokens a step of in-flight batching; None leaves it to TensorRT-LLM.
        fast_build: build sooner an engine that may run slower.
        multiple_profiles: tune the engine for several ranges of sizes and not for one.
        quant_algo: what the build quantises the weights to; None leaves the checkpoint as it is.
        kv_cache_quant_algo: likewise, of the KV cache.
        enable_chunked_prefill: share a long prompt out over several steps.
        enable_block_reuse: take blocks of the KV cache from earlier prompts that begin alike.
        free_gpu_memory_fraction: share of the GPU memory that the model leaves free for the KV cache.
        speculative_model: hub id or folder of a draft model; `max_draft_len` tokens are proposed a step.
        revision: branch, tag or commit of the model on its hub.
    """

    of_engines: ClassVar[tuple[str, ...]] = (
        "engine_path",
        "fast_build",
        "strongly_typed",
        "multiple_profiles",
        "quant_algo",
        "kv_cache_quant_algo",
    )
    """Parameters that change an engine, and nothing where there is none."""

    backend: Literal["tensorrt", "pytorch"] = "tensorrt"
    engine_path: str | None = None
    force_rebuild: bool = False
    engine_cache_dir: str | None = None
    max_batch_size: Count = 8
    max_input_len: Count | None = None
    max_seq_len: Count | None = None
    max_num_tokens: Count | None = None
    fast_build: bool = False
    strongly_typed: bool = True
    multiple_profiles: bool = False
    tensor_parallel_size: Count = 1
    pipeline_parallel_size: Count = 1
    quant_algo: QuantAlgo | None = None
    kv_cache_quant_algo: Literal["FP8", "INT8"] | None = None
    enable_chunked_prefill: bool = True
    enable_block_reuse: bool = False
    free_gpu_memory_fraction: Annotated[float, Field(gt=0, le=1)] = 0.9
    capacity_scheduler_policy: Literal["GUARANTEED_NO_EVICT", "MAX_UTILIZATION", "STATIC_BATCH"] = (
        "GUARANTEED_NO_EVICT"
    )
    speculative_model: str | None = None
    max_draft_len: Count = 5
    trust_remote_code: bool = False
    revision: str | None = None

    @field_validator("quant_algo", mode="before")
    @classmethod
    def _take_the_words_of_v1(cls, value: object) -> object:
        return OLD_QUANTIZATIONS.get(value, value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _refuse_what_the_backend_would_ignore(self) -> TensorRTParameters:
        if self.backend == "tensorrt" and self.speculative_model is not None:
            raise ValueError("speculative_model needs backend: pytorch, TensorRT engines take no draft model")
        fields = type(self).model_fields
        changed = [name for name in self.of_engines if getattr(self, name) != fields[name].default]
        if self.backend == "pytorch" and changed:
            raise ValueError(f"{changed[0]} belongs to backend: tensorrt and has no effect on pytorch")
        return self


SPEC = BackendSpec(
    name="tensorrt",
    parameters=TensorRTParameters,
    batch_parameter="max_batch_size",
    engine="pytest_llem.backends.tensorrt.engine",
    modules=(
        "tensorrt_llm",
    ),  # and no `preload`: it starts MPI when it is imported, so nothing may fork after
    engine_start_timeout_s=7200.0,  # building an engine takes tens of minutes
    packages=("tensorrt-llm", "tensorrt", "torch", "transformers"),
    install="pip install 'tensorrt-llm==1.2.1' --extra-index-url https://pypi.nvidia.com",
    needs_nvidia_gpu=True,
)

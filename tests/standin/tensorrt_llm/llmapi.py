"""tensorrt_llm.llmapi: the LLM of the PyTorch backend, and in `_tensorrt_engine` that of compiled engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .arguments import (
    BuildConfig,
    CapacitySchedulerPolicy,
    DraftTargetDecodingConfig,
    KvCacheConfig,
    LlmArgs,
    QuantAlgo,
    QuantConfig,
    SamplingParams,
    SchedulerConfig,
    TorchLlmArgs,
)
from .calls import record
from .executor import Executor, RequestOutput, mood

__all__ = [
    "LLM",
    "BuildConfig",
    "CapacitySchedulerPolicy",
    "DraftTargetDecodingConfig",
    "KvCacheConfig",
    "QuantAlgo",
    "QuantConfig",
    "SamplingParams",
    "SchedulerConfig",
]


class Tokenizer:
    """tensorrt_llm.llmapi.tokenizer.TransformersTokenizer, as far as it is used."""

    def encode(self, text: str) -> list[int]:
        """Return one token a word."""
        return [2 + len(word) for word in text.split()]


class BaseLLM:
    """What both LLMs share."""

    args: LlmArgs

    def _begin(self, args: LlmArgs) -> None:
        if mood() == "refuse-load":
            raise ValueError("the stand-in refuses to load")
        self.args = args
        self.tokenizer = None if args.skip_tokenizer_init else Tokenizer()
        self._executor = Executor(args.max_batch_size, reuses_blocks=args.kv_cache_config.enable_block_reuse)

    def generate_async(
        self,
        inputs: list[int],
        sampling_params: SamplingParams | None = None,
        *,
        streaming: bool = False,
        cache_salt: str | None = None,
    ) -> RequestOutput:
        """Give a request to the executor. The arguments for adapters, multimodal and split serving are left out."""
        sampling = sampling_params or SamplingParams()
        record(
            "generate_async",
            prompt=inputs,
            sampling_params=sampling,
            streaming=streaming,
            cache_salt=cache_salt,
        )
        if sampling.end_id is None and self.tokenizer is None:
            raise ValueError("tokenizer is required to reset end_id if it is None")
        return self._executor.enqueue(inputs, sampling, cache_salt, streaming=streaming)

    def get_stats(self, timeout: float | None = 2) -> list[dict[str, Any]]:
        """Return statistics of the iterations so far."""
        record("get_stats", timeout=timeout)
        return [{"iter": 0, "gpuMemUsage": 3_000_000_000}, {"iter": 1, "gpuMemUsage": 4_000_000_000}]

    def shutdown(self) -> None:
        """End the executor."""
        record("shutdown")
        self._executor.shutdown()


class LLM(BaseLLM):
    """tensorrt_llm.LLM: runs a checkpoint as it is."""

    def __init__(self, model: str | Path, **arguments: Any) -> None:
        record("LLM", model=str(model), **arguments)
        self._begin(TorchLlmArgs(model=str(model), **arguments))

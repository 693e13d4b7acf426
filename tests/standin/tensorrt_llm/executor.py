"""In-flight batching of nothing: each step gives every running request one token.

TRTLLM_STANDIN_TOKEN_MS   how long a step takes
TRTLLM_STANDIN_BUILD_S    how long a build takes
TRTLLM_STANDIN_MOOD       refuse-build, oom-build, die-build, refuse-load, short: what goes wrong
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any

from .arguments import SamplingParams

TOKEN = 7
"""What every answer is made of."""

BLOCK = 32
"""Tokens of a block of the KV cache."""


def mood() -> str:
    """Return what should go wrong."""
    return os.environ.get("TRTLLM_STANDIN_MOOD", "")


@dataclass
class CompletionOutput:
    """tensorrt_llm.llmapi.CompletionOutput."""

    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    request_perf_metrics: Any = None


class RequestOutput:
    """tensorrt_llm.llmapi.RequestOutput: to be awaited, iterated and aborted."""

    def __init__(
        self, request_id: int, prompt_token_ids: list[int], sampling: SamplingParams, *, streaming: bool
    ) -> None:
        self.request_id = request_id
        self.prompt_token_ids = prompt_token_ids
        self.outputs = [CompletionOutput()]
        self.finished = False
        self.cached_tokens = 0
        self.sampling = sampling
        self.is_aborted = False
        self.total = 0
        self.moments = {"arrival_time": _now()}
        self._given = 0
        self._streaming = streaming
        self._loop = asyncio.get_running_loop()  # elsewhere it takes a queue of threads
        self._queue: asyncio.Queue[tuple[int, str | None]] = asyncio.Queue()

    def give(self, reason: str | None) -> None:
        """Take the next token; called in the executor's thread."""
        if self._streaming or reason:
            fresh, self._given = self.total - self._given, self.total
            self._loop.call_soon_threadsafe(self._queue.put_nowait, (fresh, reason))

    def abort(self) -> None:
        """End the request at the next step."""
        self.is_aborted = True

    async def aresult(self) -> RequestOutput:
        """Wait for the completion."""
        while not self.finished:
            await self._take()
        return self

    def __aiter__(self) -> RequestOutput:
        return self

    async def __anext__(self) -> RequestOutput:
        if self.finished:
            raise StopAsyncIteration
        await self._take()
        return self

    async def _take(self) -> None:
        fresh, reason = await self._queue.get()
        output = self.outputs[0]
        output.token_ids.extend([TOKEN] * fresh)
        if reason:
            output.finish_reason, self.finished = reason, True
            output.request_perf_metrics = SimpleNamespace(
                timing_metrics=SimpleNamespace(**self.moments),
                kv_cache_metrics=SimpleNamespace(num_reused_blocks=self.cached_tokens // BLOCK),
            )


class Executor:
    """Serves up to `max_batch_size` requests at once, in a thread of its own."""

    def __init__(self, max_batch_size: int, *, reuses_blocks: bool) -> None:
        self._limit = max_batch_size
        self._reuses_blocks = reuses_blocks
        self._seen: set[tuple[str | None, tuple[int, ...]]] = set()
        self._waiting: list[RequestOutput] = []
        self._running: list[RequestOutput] = []
        self._ids = count(1)
        self._open = True
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def enqueue(
        self, prompt: list[int], sampling: SamplingParams, salt: str | None, *, streaming: bool
    ) -> RequestOutput:
        """Take a request."""
        output = RequestOutput(next(self._ids), prompt, sampling, streaming=streaming)
        blocks = tuple(prompt[: len(prompt) // BLOCK * BLOCK])
        if self._reuses_blocks and (salt, blocks) in self._seen:
            output.cached_tokens = len(blocks)
        self._seen.add((salt, blocks))
        self._waiting.append(output)
        return output

    def shutdown(self) -> None:
        """End the thread."""
        self._open = False
        self._thread.join()

    def _serve(self) -> None:
        step_s = float(os.environ.get("TRTLLM_STANDIN_TOKEN_MS", "1")) / 1e3
        while self._open:
            for request in [waiting for waiting in self._waiting if waiting.is_aborted]:
                self._waiting.remove(request)
                request.give("cancelled")
            while self._waiting and len(self._running) < self._limit:
                self._running.append(self._waiting.pop(0))
                self._running[-1].moments["first_scheduled_time"] = _now()
            time.sleep(step_s)
            for request in list(self._running):
                self._advance(request)

    def _advance(self, request: RequestOutput) -> None:
        request.moments.setdefault("first_token_time", _now())
        request.total += 1
        wanted = request.sampling.max_tokens - (mood() == "short")
        reason = "cancelled" if request.is_aborted else "length" if request.total >= wanted else None
        if reason:
            request.moments["last_token_time"] = _now()
            self._running.remove(request)
        request.give(reason)


def _now() -> timedelta:
    """Return the time of the steady clock, as the bindings of C++ do."""
    return timedelta(seconds=time.monotonic())

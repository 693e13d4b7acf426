"""Requests under way: one task of an event loop for each, as the LLM API streams its answers.

The loop runs while somebody waits, in the thread that waits, so nothing else competes with the engine's own threads.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pytest_llem.backends.base import EngineError, Request

ABORT_WITHIN_S = 30.0
"""A request that is aborted ends at the engine's next step; one that does not is let go."""

CountCached = Callable[[Any], int]


@dataclass(slots=True, eq=False)
class Call:
    """One request.

    Attributes:
        output: TensorRT-LLM's `RequestOutput`; None until the engine has the request.
        token_s: when each output token was there; empty without streaming.
    """

    prompt: list[int]
    submitted_s: float
    sampling: Any
    streaming: bool
    salt: str | None
    output: Any = None
    token_s: list[float] = field(default_factory=list)
    completed_s: float | None = None


class Flow:
    """Gives requests to an LLM and follows them.

    Args:
        llm: what `tensorrt_llm.LLM(...)` returned.
        count_cached: returns how many prompt tokens of a `RequestOutput` came from the KV cache.
    """

    def __init__(self, llm: Any, count_cached: CountCached) -> None:
        self._llm = llm
        self._count_cached = count_cached
        self._loop = asyncio.new_event_loop()
        weakref.finalize(self, self._loop.close)
        self._tasks: dict[asyncio.Task[None], Call] = {}

    def submit(self, call: Call) -> None:
        """Take a request; the engine gets it when somebody next waits."""
        self._tasks[self._loop.create_task(self._follow(call))] = call

    def wait(self, seconds: float, *, for_all: bool) -> list[tuple[Call, Request]]:
        """Return the requests that are complete, after `seconds`, or as soon as one is or, `for_all`, all are.

        Raises:
            EngineError: the engine refuses one of them.
        """
        if not self._tasks:
            return []
        when = asyncio.ALL_COMPLETED if for_all else asyncio.FIRST_COMPLETED
        self._loop.run_until_complete(asyncio.wait(self._tasks, timeout=seconds, return_when=when))
        done = [task for task in self._tasks if task.done()]
        calls = [(task, self._tasks.pop(task)) for task in done]
        return [(call, self._outcome(task, call)) for task, call in calls]

    def abort(self) -> list[Request]:
        """End every request, and return those that had begun, as far as they got."""
        calls = list(self._tasks.values())
        for task, call in self._tasks.items():
            if call.output is None:  # the engine has not seen it
                task.cancel()
            else:
                call.output.abort()
        if self._tasks:
            self._loop.run_until_complete(asyncio.wait(self._tasks, timeout=ABORT_WITHIN_S))
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        now_s = time.monotonic()
        return [self._request(call, call.completed_s or now_s) for call in calls if call.token_s]

    async def _follow(self, call: Call) -> None:
        salt = {} if call.salt is None else {"cache_salt": call.salt}
        call.output = self._llm.generate_async(
            call.prompt, sampling_params=call.sampling, streaming=call.streaming, **salt
        )
        if call.streaming:
            async for output in call.output:
                now_s = time.monotonic()
                fresh = len(output.outputs[0].token_ids) - len(call.token_s)
                call.token_s.extend([now_s] * fresh)
        else:
            await call.output.aresult()
        call.completed_s = time.monotonic()

    def _outcome(self, task: asyncio.Task[None], call: Call) -> Request:
        error = task.exception()
        if isinstance(error, ValueError):
            raise EngineError(f"TensorRT-LLM refuses a request: {error}") from error
        if error is not None:
            raise error
        assert call.completed_s is not None
        return self._request(call, call.completed_s)

    def _request(self, call: Call, completed_s: float) -> Request:
        times = _Times(call.output, call.submitted_s, completed_s)
        return Request(
            submitted_s=call.submitted_s,
            first_token_s=call.token_s[0] if call.token_s else times.of("first_token_time"),
            completed_s=call.token_s[-1] if call.token_s and call.completed_s else completed_s,
            prompt_tokens=len(call.prompt),
            output_tokens=len(call.output.outputs[0].token_ids),
            cached_tokens=min(self._count_cached(call.output), len(call.prompt)),
            started_s=times.of("first_scheduled_time"),
            token_s=call.token_s or None,
        )


class _Times:
    """When the engine itself says that things happened.

    They are on the C++ steady clock, which on Linux is that of `time.monotonic()`. One that does not lie between
    submission and completion is not believed.
    """

    def __init__(self, output: Any, submitted_s: float, completed_s: float) -> None:
        metrics = output.outputs[0].request_perf_metrics
        self._timing = getattr(metrics, "timing_metrics", None)
        self._between_s = (submitted_s, completed_s)

    def of(self, name: str) -> float | None:
        """Return one of the moments of `timing_metrics` in s."""
        moment = getattr(self._timing, name, None)
        if moment is None:
            return None
        seconds: float = moment.total_seconds()
        return seconds if self._between_s[0] <= seconds <= self._between_s[1] else None

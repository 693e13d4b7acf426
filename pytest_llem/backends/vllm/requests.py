"""The requests that the engine has and has not completed, and what becomes of them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vllm import LLMEngine, SamplingParams
from vllm.inputs import tokens_input
from vllm.v1.metrics.stats import RequestStateStats

from pytest_llem.backends.base import Request


@dataclass(slots=True)
class Pending:
    """A request under way.

    Attributes:
        position: in its pass or load.
        token_s: when each token arrived here, with `streaming`.
        engine_id: by which the engine knows it.
    """

    position: int
    submitted_s: float
    streaming: bool
    prompt_tokens: int = 0
    token_s: list[float] = field(default_factory=list)
    engine_id: str = ""


class Completed(NamedTuple):
    """A request that is complete, and how often it was put back to wait."""

    position: int
    request: Request
    preemptions: int


class Ledger:
    """Gives requests to the engine and books what it answers.

    Without streaming nothing is done for a token but what the engine itself does: the time of the first one is that
    of the engine's own statistics, taken on the same clock in the process that computes.
    """

    def __init__(self, engine: LLMEngine) -> None:
        self._engine = engine
        self._pending: dict[str, Pending] = {}
        self._count = 0

    def __len__(self) -> int:
        """Return how many requests are under way."""
        return len(self._pending)

    def submit(self, prompt: list[int], params: SamplingParams, pending: Pending) -> None:
        """Hand one request over."""
        self._count += 1
        name = str(self._count)
        pending.prompt_tokens = len(prompt)
        pending.engine_id = self._engine.add_request(name, tokens_input(prompt), params)
        self._pending[name] = pending

    def step(self) -> list[Completed]:
        """Let the engine go on for a step, and return what is complete now."""
        outputs: Iterable[Any] = self._engine.step()
        now_s = time.monotonic()
        completed = []
        for output in outputs:
            pending = self._pending[output.request_id]
            if pending.streaming:
                pending.token_s += [now_s] * len(output.outputs[0].token_ids)
            if output.finished:
                del self._pending[output.request_id]
                request = _request(pending, output.metrics, now_s, output.num_cached_tokens)
                completed.append(Completed(pending.position, request, output.metrics.num_preemptions))
        return completed

    def cancel(self) -> list[Request]:
        """Have all requests forgotten, and return those that the engine had begun with."""
        states = self._engine.output_processor.request_states
        begun = []
        for pending in self._pending.values():
            state = states[pending.engine_id]
            if state.stats is not None and state.stats.scheduled_ts:
                begun.append(_request(pending, state.stats, time.monotonic(), state.num_cached_tokens))
        self._engine.abort_request(list(self._pending))
        self._pending.clear()
        return begun


def _request(pending: Pending, stats: RequestStateStats, now_s: float, cached_tokens: int | None) -> Request:
    """Return a request as far as it got by now."""
    first_s = pending.token_s[0] if pending.token_s else stats.first_token_ts
    return Request(
        submitted_s=pending.submitted_s,
        first_token_s=first_s or None,
        completed_s=now_s,
        prompt_tokens=pending.prompt_tokens,
        output_tokens=stats.num_generation_tokens,
        cached_tokens=cached_tokens or 0,
        started_s=stats.scheduled_ts,
        token_s=pending.token_s if pending.streaming else None,
    )

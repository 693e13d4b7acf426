"""Requests that arrive one by one: when they come, and the loop that has them served.

An open loop (`constant`, `poisson`) sends requests at their times, whatever became of those before; a closed one
keeps a fixed number in the system. The loop runs from before the window until after it, so that both edges see
the load as it is and not how it begins or ends.
"""

from __future__ import annotations

import time
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Protocol

from pytest_llem.backends.base import Engine, PassReport, Request, Scheduler
from pytest_llem.records import Configuration, Load
from pytest_llem.worker.tally import Arrived

LOOK_UP_S = 0.05
"""While nothing is to do, the loop looks up this often; requests are submitted for so long at a stretch."""

ARRIVALS_STREAM = 2
"""Sets the random arrivals apart from the prompts, which are drawn from the same seed."""


# --- When requests come ---


class Arrivals(Protocol):
    """The times of a load's requests."""

    open_loop: bool

    def due(self, now_s: float, in_system: int) -> list[float]:
        """Return the times of the requests that have come since the last call, with so many not complete."""

    def next_s(self) -> float:
        """Return when the next request comes at the latest."""


class ClosedLoop:
    """A fixed number of clients, each of which sends its next request when its last one is complete."""

    open_loop = False

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency

    def due(self, now_s: float, in_system: int) -> list[float]:
        """Fill the system up."""
        return [now_s] * (self._concurrency - in_system)

    def next_s(self) -> float:
        """Return the beginning of time: a closed loop waits for completions and never for a time."""
        return 0.0


class OpenLoop:
    """Requests at given times after the first call."""

    open_loop = True

    def __init__(self, offsets_s: Iterator[float]) -> None:
        self._offsets_s = offsets_s
        self._begin_s: float | None = None
        self._next_s = 0.0

    def due(self, now_s: float, in_system: int) -> list[float]:  # noqa: ARG002 - an open loop does not look
        """Return all times up to now."""
        if self._begin_s is None:
            self._begin_s = now_s
            self._advance(self._begin_s)
        found = []
        while self._next_s <= now_s:
            found.append(self._next_s)
            self._advance(self._begin_s)
        return found

    def next_s(self) -> float:
        """Return the time of the next request."""
        return self._next_s

    def _advance(self, begin_s: float) -> None:
        self._next_s = begin_s + next(self._offsets_s)


def arrivals(load: Load, seed: int) -> Arrivals:
    """Return the arrivals that a configuration asks for; poisson ones are the same for the same seed and rate."""
    if load.mode == "closed":
        assert load.concurrency is not None
        return ClosedLoop(load.concurrency)
    assert load.rate is not None
    return OpenLoop(constant(load.rate) if load.mode == "constant" else poisson(load.rate, seed))


def constant(rate: float) -> Iterator[float]:
    """Yield times in s, 1 / rate apart, from 0."""
    return (number / rate for number in count())


def poisson(rate: float, seed: int) -> Iterator[float]:
    """Yield the times in s of a Poisson process: gaps are exponential with mean 1 / rate."""
    import numpy as np  # noqa: PLC0415 - only for random arrivals

    randomness = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, ARRIVALS_STREAM])))
    at_s = 0.0
    while True:
        at_s += float(randomness.exponential(1 / rate))
        yield at_s


# --- Who serves them ---


def scheduler_of(engine: Engine) -> Scheduler:
    """Return the engine's own scheduler, or one that forms batches for it."""
    return engine if isinstance(engine, Scheduler) else StaticBatches(engine)


class StaticBatches:
    """A scheduler for an engine that serves batches: when it is free, the requests that wait longest are next.

    So a request waits for the end of the batch before, and that is in its TTFT and its latency.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: list[tuple[Sequence[int], float, Configuration]] = []

    def submit(self, prompt: Sequence[int], submitted_s: float, configuration: Configuration) -> None:
        """Let a request wait."""
        self._waiting.append((prompt, submitted_s, configuration))

    def step(self, beat: Callable[[], None]) -> PassReport:
        """Serve one batch."""
        configuration = self._waiting[0][2]
        limit = self._engine.batch_limit(configuration) or len(self._waiting)
        batch, self._waiting = self._waiting[:limit], self._waiting[limit:]
        report = self._engine.run_pass([prompt for prompt, _, _ in batch], configuration, beat)
        for request, (_, submitted_s, _) in zip(report.requests, batch, strict=True):
            request.started_s, request.submitted_s = request.submitted_s, submitted_s
        return report

    def cancel(self) -> list[Request]:
        """Forget what waits; between two batches nothing has begun."""
        self._waiting.clear()
        return []


# --- The loop ---


class LoadLoop:
    """Sends requests as they arrive, and has them served.

    Args:
        scheduler: serves them.
        arrivals: when they come.
        prompts: one a request.
        configuration: of all of them.
        beat: shows that work goes on.
        now, sleep: the clock.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        arrivals: Arrivals,
        prompts: Iterator[Sequence[int]],
        configuration: Configuration,
        beat: Callable[[], None],
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._scheduler = scheduler
        self._arrivals = arrivals
        self._prompts = prompts
        self._configuration = configuration
        self._beat = beat
        self._now = now
        self._sleep = sleep
        self._due_s: deque[float] = deque()
        self._submitted_s: list[float] = []
        self._reports: list[tuple[float, PassReport]] = []
        self._completed_s: list[float] = []
        self._first_known_s: float | None = None
        self._met_itself = False

    def run_until(self, done: Callable[[], bool]) -> None:
        """Go on with the load until `done`, which is asked between two steps."""
        while not done():
            self._turn()

    def settled(self, patience_s: float) -> bool:
        """Return whether what follows is no longer how the load began.

        That is so when a request is complete that came after the first completion, or `patience_s` after that
        completion: behind a queue that grows such a request would take ever longer.
        """
        if self._first_known_s is None:
            return False
        return self._met_itself or self._now() - self._first_known_s >= patience_s

    def served(self, begin_s: float, requests: int | None, seconds: float) -> bool:
        """Return whether a window that opened at `begin_s` has seen enough: `requests`, else so long and one."""
        completed = len(self._completed_s) - bisect_right(self._completed_s, begin_s)
        if requests is not None:
            return completed >= requests
        return completed >= 1 and self._now() - begin_s >= seconds

    def end(self) -> Arrived:
        """End the load and return all that it was made of."""
        unfinished = self._scheduler.cancel()
        return Arrived(
            [*self._submitted_s, *self._due_s], self._reports, unfinished, self._arrivals.open_loop
        )

    def _turn(self) -> None:
        self._submit()
        if len(self._submitted_s) > len(self._completed_s):
            self._take(self._scheduler.step(self._beat))
        else:
            self._sleep(min(max(self._arrivals.next_s() - self._now(), 0), LOOK_UP_S))
        self._beat()

    def _submit(self) -> None:
        """Submit what is due, but not for long: more may come meanwhile than can ever be submitted."""
        begin_s = self._now()
        in_system = len(self._submitted_s) + len(self._due_s) - len(self._completed_s)
        self._due_s += self._arrivals.due(begin_s, in_system)
        while self._due_s and self._now() - begin_s < LOOK_UP_S:
            self._scheduler.submit(next(self._prompts), self._due_s[0], self._configuration)
            self._submitted_s.append(self._due_s.popleft())

    def _take(self, report: PassReport) -> None:
        known_s, first_s = self._now(), self._first_known_s
        self._reports.append((known_s, report))
        for request in report.requests:
            insort(self._completed_s, request.completed_s)
        if first_s is None:
            self._first_known_s = known_s if report.requests else None
        else:
            self._met_itself |= any(request.submitted_s >= first_s for request in report.requests)

"""Warm-up and windows, engine side: whole passes over prompts, and when to stop.

The unit of work is the pass, all `num_input_prompts` once. Warm-up and windows draw from disjoint streams, so no
cache that the warm-up filled can serve a window.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import count
from math import ceil

from pytest_llem.backends.application import prove
from pytest_llem.backends.base import Engine, PassReport
from pytest_llem.records import Configuration, Warmup, WarmupReport
from pytest_llem.worker import workload
from pytest_llem.worker.protocol import WarmupPolicy

SLICE_S = 10.0
"""A warm-up slice lasts whole passes up to this long, unless `warmup.window_size` counts it in passes."""

AHEAD_TOKENS = 10_000_000
"""What is drawn ahead of a window holds at most so many tokens, 36 bytes each: 100 s of a service that reads 100,000
tokens/s."""

Prompts = Sequence[Sequence[int]]


class PromptSource:
    """The prompts of each pass: drawn anew for synthetic ones, one fixed list for texts.

    A million tokens take some 50 ms to draw, while the device waits. So a window draws its passes ahead.
    """

    def __init__(self, engine: Engine, configuration: Configuration, texts: tuple[str, ...] | None) -> None:
        self._engine = engine
        self._configuration = configuration
        self._texts = texts
        self._ahead: dict[tuple[workload.Stream, int], Prompts] = {}

    def draw_ahead(self, stream: workload.Stream, passes: int) -> None:
        """Keep the prompts of the first passes of a stream, as many as `AHEAD_TOKENS` has room for, and no others.

        They are tuples, because in lists the garbage collector would look at each token, time and again.
        """
        wanted = self._configuration
        room = max(1, AHEAD_TOKENS // (wanted.num_input_prompts * wanted.max_input_tokens))
        self._ahead = {
            (stream, number): tuple(map(tuple, self._drawn(stream, number)))
            for number in range(min(passes, room))
        }

    def for_pass(self, stream: workload.Stream, number: int) -> Prompts:
        """Return the token ids of pass `number` of a stream: the same in every configuration and cycle."""
        return self._ahead.get((stream, number)) or self._drawn(stream, number)

    def _drawn(self, stream: workload.Stream, number: int) -> Prompts:
        if self._fixed is not None:
            return self._fixed
        wanted = self._configuration
        return workload.synthetic(
            stream,
            number,
            seed=wanted.random_seed,
            count=wanted.num_input_prompts,
            length=wanted.max_input_tokens,
            vocabulary_size=self._engine.vocabulary_size,
            special_token_ids=self._engine.special_token_ids,
        )

    def one_by_one(self, stream: workload.Stream) -> Iterator[Sequence[int]]:
        """Yield the prompts of pass after pass of a stream, without end."""
        for number in count():
            yield from self.for_pass(stream, number)

    @cached_property
    def _fixed(self) -> Prompts | None:
        wanted = self._configuration
        if self._texts is None:
            return None
        prompts = workload.fixed(
            self._engine.tokenize, self._texts, wanted.num_input_prompts, wanted.max_input_tokens
        )
        return tuple(map(tuple, prompts))


class Serving:
    """One experiment's passes through one engine."""

    def __init__(
        self, engine: Engine, configuration: Configuration, prompts: PromptSource, beat: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._configuration = configuration
        self._prompts = prompts
        self._beat = beat
        self._last_pass_s: float | None = None

    def run_pass(self, stream: workload.Stream, number: int) -> PassReport:
        """Serve all prompts of one pass; after the first of the warm-up the engine proves what it applied.

        Raises:
            EngineError: for anything that was asked and not applied, with both values.
        """
        prompts = self._prompts.for_pass(stream, number)
        report = self._engine.run_pass(prompts, self._configuration, self._beat)
        if (stream, number) == ("warmup", 0):
            prove(self._engine, self._configuration)
        self._last_pass_s = _duration_s([report])
        self._beat()
        return report

    def draw_ahead(self, stream: workload.Stream, seconds: float, passes: int) -> None:
        """Draw what a window will serve if its passes are as long as the last one; what it lacks it draws itself."""
        likely = ceil(seconds / max(self._last_pass_s, 1e-9)) if self._last_pass_s is not None else 0
        self._prompts.draw_ahead(stream, max(passes, likely))

    def run_window(self, stream: workload.Stream, seconds: float, passes: int) -> list[PassReport]:
        """Serve whole passes until both `seconds` and `passes` are reached."""
        reports: list[PassReport] = []
        while len(reports) < passes or _duration_s(reports) < seconds:
            reports.append(self.run_pass(stream, len(reports)))
        return reports


def warm_up(serving: Serving, wanted: Warmup, policy: WarmupPolicy) -> WarmupReport | None:
    """Serve unmeasured passes until two successive slices agree in output tokens/s.

    The floor is one full pass and `policy.min_prompts`; the cap is `policy.timeout_s`, counted from the end of
    the first pass, because that one may compile for minutes. Returns None when no warm-up is wanted.
    """
    if not wanted.enabled:
        return None
    begin_s = time.monotonic()
    progress = _WarmupProgress(wanted, policy)
    while not progress.finished():
        progress.add(serving.run_pass("warmup", progress.passes))
    return WarmupReport(
        prompts=progress.prompts,
        passes=progress.passes,
        seconds=time.monotonic() - begin_s,
        converged=progress.converged if wanted.convergence_detection else None,
    )


class _WarmupProgress:
    """Counts passes and prompts, and compares the rates of successive slices."""

    def __init__(self, wanted: Warmup, policy: WarmupPolicy) -> None:
        self._wanted = wanted
        self._policy = policy
        self._deadline_s: float | None = None
        self._slice: list[PassReport] = []
        self._last_rate: float | None = None
        self.passes = 0
        self.prompts = 0
        self.converged = False

    def add(self, report: PassReport) -> None:
        self.passes += 1
        self.prompts += len(report.requests)
        if self._deadline_s is None:
            self._deadline_s = time.monotonic() + self._policy.timeout_s
            return  # the first pass compiles and allocates: it is no slice
        self._slice.append(report)
        if self._slice_is_whole():
            self._compare(_rate(self._slice))
            self._slice = []

    def finished(self) -> bool:
        if self._deadline_s is None:
            return False
        if time.monotonic() >= self._deadline_s or self._at_cap():
            return True
        floor_reached = self.prompts >= self._policy.min_prompts
        return floor_reached and (self.converged or not self._wanted.convergence_detection)

    def _at_cap(self) -> bool:
        return self._wanted.max_prompts is not None and self.prompts >= self._wanted.max_prompts

    def _slice_is_whole(self) -> bool:
        if self._wanted.window_size is not None:
            return len(self._slice) >= self._wanted.window_size
        return _duration_s(self._slice) >= SLICE_S

    def _compare(self, rate: float) -> None:
        if self._last_rate is not None:
            mean = (rate + self._last_rate) / 2
            self.converged = abs(rate - self._last_rate) <= self._wanted.cv_threshold * mean
        self._last_rate = rate


def _duration_s(reports: list[PassReport]) -> float:
    begin_s = min(request.submitted_s for request in reports[0].requests)
    return max(request.completed_s for request in reports[-1].requests) - begin_s


def _rate(reports: list[PassReport]) -> float:
    """Return output tokens per second."""
    tokens = sum(request.output_tokens for report in reports for request in report.requests)
    return tokens / max(_duration_s(reports), 1e-9)

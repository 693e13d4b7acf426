"""Requests that arrive one by one, served by scripted engines on a scripted clock."""

# ruff: noqa: ARG002 - scripted engines take what the protocol gives them

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise, repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llem.backends.base import PassReport, Request
from pytest_llem.records import Configuration, Load
from pytest_llem.worker.load import (
    Arrivals,
    LoadLoop,
    StaticBatches,
    arrivals,
    constant,
    poisson,
    scheduler_of,
)
from pytest_llem.worker.tally import Tally, of_load

TOKENS = 8
PROMPT = [5, 6, 7]

rates = st.floats(0.1, 1000)
seeds = st.integers(0, 2**32)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now_s += seconds


class Batches:
    """An engine that serves batches of up to `limit` requests, `token_s` a token."""

    vocabulary_size = 10
    special_token_ids: frozenset[int] = frozenset()

    def __init__(self, clock: Clock, limit: int, token_s: float) -> None:
        self._clock = clock
        self._limit = limit
        self._token_s = token_s
        self.sizes: list[int] = []

    def batch_limit(self, configuration: Configuration) -> int | None:
        return self._limit

    def run_pass(
        self, prompts: Sequence[Sequence[int]], configuration: Configuration, beat: Callable[[], None]
    ) -> PassReport:
        assert 0 < len(prompts) <= self._limit
        self.sizes.append(len(prompts))
        begin_s = self._clock.now_s
        self._clock.sleep(TOKENS * self._token_s)
        first_s = begin_s + self._token_s
        return PassReport(
            [Request(begin_s, first_s, self._clock.now_s, len(prompt), TOKENS) for prompt in prompts],
            padding_tokens=1,
        )

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        raise NotImplementedError

    def effective(self) -> dict[str, object]:
        return {}

    def drain(self) -> None:
        pass

    def memory_peak_bytes(self) -> int | None:
        return None


class Continuous:
    """A scheduler that makes one token of each submitted request a step; `most` is how many it ever held."""

    def __init__(self, clock: Clock, token_s: float) -> None:
        self._clock = clock
        self._token_s = token_s
        self._running: list[Request] = []
        self.most = 0

    def submit(self, prompt: Sequence[int], submitted_s: float, configuration: Configuration) -> None:
        now_s = self._clock.now_s
        self._running.append(Request(submitted_s, None, now_s, len(prompt), 0, started_s=now_s, token_s=[]))
        self.most = max(self.most, len(self._running))

    def step(self, beat: Callable[[], None]) -> PassReport:
        self._clock.sleep(self._token_s)
        now_s = self._clock.now_s
        for request in self._running:
            request.token_s = [*(request.token_s or ()), now_s]
            request.first_token_s = request.token_s[0]
            request.completed_s = now_s
            request.output_tokens += 1
        complete = [request for request in self._running if request.output_tokens == TOKENS]
        self._running = [request for request in self._running if request.output_tokens < TOKENS]
        return PassReport(complete)

    def cancel(self) -> list[Request]:
        return self._running


def loop_of(scheduler: StaticBatches | Continuous, clock: Clock, wanted: Arrivals) -> LoadLoop:
    prompts: Iterator[list[int]] = repeat(PROMPT)
    return LoadLoop(
        scheduler, wanted, prompts, Configuration(), lambda: None, now=clock.now, sleep=clock.sleep
    )


def measured(
    scheduler: StaticBatches | Continuous,
    clock: Clock,
    load: Load,
    *,
    window_s: float = 20.0,
    limit: int | None = None,
    edge_s: float = 0.07,
) -> Tally:
    """Return the window that a worker would count, with meters that take `edge_s` for each edge."""
    loop = loop_of(scheduler, clock, arrivals(load, seed=1))
    loop.run_until(lambda: loop.settled(window_s))
    begin_s = clock.now_s + edge_s
    loop.run_until(lambda: clock.now_s >= begin_s)
    loop.run_until(lambda: loop.served(begin_s, load.requests, window_s))
    end_s = clock.now_s + edge_s
    loop.run_until(lambda: clock.now_s >= end_s)
    return of_load(loop.end(), begin_s, end_s, limit)


def latency_s(tally: Tally) -> float:
    """Return the mean latency of the requests of a window."""
    return sum(r.completed_s - r.submitted_s for r in tally.requests) / len(tally.requests)


# --- When requests come ---


@given(rates, seeds)
def test_poisson_arrivals_have_the_rate_that_was_asked(rate: float, seed: int) -> None:
    """Over 4000 arrivals the mean gap is 1 / rate and so is its spread: within 6 standard errors."""
    times_s = [0.0, *islice(poisson(rate, seed), 4000)]
    gaps = [(b - a) * rate for a, b in pairwise(times_s)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert mean == pytest.approx(1, abs=6 / 4000**0.5)
    assert variance == pytest.approx(1, abs=6 * (8 / 4000) ** 0.5)


@given(rates, seeds)
def test_poisson_arrivals_come_again_with_the_same_seed(rate: float, seed: int) -> None:
    """The seed decides the arrivals, another seed others."""
    one, again, other = (list(islice(poisson(rate, s), 20)) for s in (seed, seed, seed + 1))
    assert one == again != other
    assert one == sorted(one)


@given(rates)
def test_constant_arrivals_are_evenly_spaced(rate: float) -> None:
    """The first comes at once, each other 1 / rate after the one before."""
    times_s = list(islice(constant(rate), 50))
    assert times_s[0] == 0
    assert all((b - a) * rate == pytest.approx(1) for a, b in pairwise(times_s))


# --- Who serves them ---


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 30), st.integers(1, 12))
def test_a_closed_loop_holds_its_concurrency(concurrency: int, limit: int) -> None:
    """Never more and, whenever the engine works, never fewer requests are under way than were asked for."""
    clock = Clock()
    scheduler = Continuous(clock, 0.01)
    tally = measured(scheduler, clock, Load(mode="closed", concurrency=concurrency), window_s=2)
    assert scheduler.most == concurrency
    assert tally.mean_running_batch == pytest.approx(concurrency)

    clock = Clock()
    engine = Batches(clock, limit, 0.01)
    tally = measured(StaticBatches(engine), clock, Load(mode="closed", concurrency=concurrency), window_s=2)
    assert max(engine.sizes) == min(limit, concurrency)
    assert tally.load is not None
    assert max(tally.load.queue_begin, tally.load.queue_end) <= concurrency


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 30), st.integers(1, 12))
def test_littles_law_holds_in_a_closed_loop(concurrency: int, limit: int) -> None:
    """Concurrency is completions per second x mean latency, up to the one batch that an edge may cut."""
    clock = Clock()
    engine = Batches(clock, limit, 0.01)
    tally = measured(StaticBatches(engine), clock, Load(mode="closed", concurrency=concurrency))
    assert tally.load is not None
    assert tally.load.achieved_rate * latency_s(tally) == pytest.approx(concurrency, rel=0.02)


def test_littles_law_holds_in_an_open_loop() -> None:
    """What runs on average is completions per second x the time that each takes."""
    clock = Clock()
    tally = measured(Continuous(clock, 0.01), clock, Load(mode="poisson", rate=40), window_s=200)
    assert tally.load is not None
    assert tally.load.achieved_rate * TOKENS * 0.01 == pytest.approx(tally.mean_running_batch, rel=0.01)
    assert tally.load.offered_rate == pytest.approx(40, rel=0.05)


def test_waiting_is_in_the_latency() -> None:
    """A request that comes while a batch is served waits for its end, and its clock runs from its arrival."""
    clock = Clock()
    tally = measured(StaticBatches(Batches(clock, 4, 0.1)), clock, Load(mode="constant", rate=2))
    first_tokens_s = [r.first_token_s - r.submitted_s for r in tally.requests if r.first_token_s is not None]
    assert min(first_tokens_s) >= 0.1 - 1e-9
    assert max(first_tokens_s) > 0.3
    assert all(r.started_s is not None and r.started_s >= r.submitted_s - 1e-9 for r in tally.requests)


def test_requests_join_an_engine_with_its_own_scheduler_as_they_come() -> None:
    """No request waits for a batch where the engine takes requests at any time."""
    clock = Clock()
    tally = measured(Continuous(clock, 0.01), clock, Load(mode="poisson", rate=40))
    waits_s = [r.started_s - r.submitted_s for r in tally.requests if r.started_s is not None]
    assert len(waits_s) == len(tally.requests)
    assert max(waits_s) <= 0.01 + 1e-9


def test_a_flood_is_not_waited_for() -> None:
    """Behind a queue that grows the window opens in time, not after the queue of the first moments."""
    clock = Clock()
    measured(StaticBatches(Batches(clock, 1, 0.01)), clock, Load(mode="constant", rate=2000), window_s=2)
    assert clock.now_s < 100 + 2 * 2 + 1


def test_a_flood_that_is_too_fast_to_submit_ends_too() -> None:
    """Where requests come faster than an engine takes them over, it works all the same, and the window closes."""

    class Ponderous(Continuous):
        def submit(self, prompt: Sequence[int], submitted_s: float, configuration: Configuration) -> None:
            super().submit(prompt, submitted_s, configuration)
            self._clock.sleep(0.01)

    clock = Clock()
    tally = measured(Ponderous(clock, 0.01), clock, Load(mode="constant", rate=500), window_s=2, limit=4)
    assert clock.now_s < 100 + 2 * 2 + 1
    assert tally.saturated
    assert tally.load is not None
    assert tally.load.offered_rate == pytest.approx(500, rel=0.01)


def test_an_engine_with_a_scheduler_keeps_it() -> None:
    """Batches are formed for an engine that cannot take requests one by one, and for no other."""

    class Online(Batches, Continuous):
        pass

    clock = Clock()
    batches, online = Batches(clock, 4, 0.01), Online(clock, 4, 0.01)
    assert isinstance(scheduler_of(batches), StaticBatches)
    assert scheduler_of(online) is online


def test_the_load_can_be_a_number_of_requests() -> None:
    """`load.requests` keeps the window open until so many are complete, whatever the time."""
    clock = Clock()
    load = Load(mode="closed", concurrency=2, requests=50)
    tally = measured(Continuous(clock, 0.01), clock, load, window_s=0.0, edge_s=0.0)
    assert 50 <= len(tally.requests) <= 52


# --- What the window is made of ---


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 0.5), st.integers(1, 9))
def test_tokens_are_counted_where_they_were_made(edge_s: float, concurrency: int) -> None:
    """At any place of the edges the window holds one token a client and step, of whole requests or not."""
    clock = Clock()
    load = Load(mode="closed", concurrency=concurrency)
    tally = measured(Continuous(clock, 0.01), clock, load, window_s=3, edge_s=edge_s)
    steps = tally.window_s / 0.01
    assert tally.output_tokens == pytest.approx(steps * concurrency, abs=1.01 * concurrency)
    assert tally.prompt_tokens == pytest.approx(
        tally.output_tokens / TOKENS * len(PROMPT), abs=len(PROMPT) * concurrency
    )


@settings(deadline=None, max_examples=30)
@given(st.floats(0.1, 0.8))
def test_a_load_that_is_served_is_not_called_saturated(part: float) -> None:
    """At up to 80 % of what the engine can do, no random crowd raises the flag."""
    clock = Clock()
    capacity = 4 / (TOKENS * 0.01)
    load = Load(mode="poisson", rate=part * capacity)
    assert not measured(StaticBatches(Batches(clock, 4, 0.01)), clock, load, limit=4).saturated


@settings(deadline=None, max_examples=30)
@given(st.floats(1.15, 10))
def test_a_rate_beyond_the_engine_is_flagged(part: float) -> None:
    """From 115 % of what the engine can do the queue grows without end, and the tally says so."""
    clock = Clock()
    capacity = 4 / (TOKENS * 0.01)
    load = Load(mode="poisson", rate=part * capacity)
    tally = measured(StaticBatches(Batches(clock, 4, 0.01)), clock, load, limit=4)
    assert tally.saturated
    assert tally.load is not None
    assert tally.load.offered_rate is not None
    assert tally.load.achieved_rate == pytest.approx(capacity, rel=0.02)
    assert tally.load.achieved_rate < tally.load.offered_rate
    assert tally.full_batch_share == pytest.approx(1)

"""In which order experiments run, and what happens between them. Pure data: the runner carries it out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Literal, TypeVar

from pytest_llem.campaign.grid import Point
from pytest_llem.campaign.schema import Campaign, Execution, HealthCheck

T = TypeVar("T")
Structure = Literal["shuffled", "interleaved", "grouped"]
ReasonToEnd = Literal["conditioned", "other engine key", "recycled", "cold start"]


@dataclass(frozen=True, slots=True)
class Experiment:
    """One point in one cycle.

    Attributes:
        cycle: from 1.
        position: place in the order of the whole run, from 0.
    """

    point: Point
    cycle: int
    position: int

    @property
    def id(self) -> str:
        """Name of the test item: unique in the campaign, at most 120 bytes."""
        return f"{self.point.id}-c{self.cycle}"


def order(
    points: Sequence[Point], *, cycles: int, structure: Structure, seed: int, force_cold_start: bool = False
) -> list[Experiment]:
    """Return every point in every cycle, in the order of the run.

    `shuffled` permutes anew in each cycle, `interleaved` repeats the order of the file, `grouped` runs all
    cycles of a point before the next point. Within a cycle the points of one engine key stay together, so
    that one launch can serve them; with `force_cold_start` nothing is gained by that, and points are mixed
    freely.
    """
    blocks = [[point] for point in points] if force_cold_start else _by_engine_key(points)
    if structure == "grouped":
        pairs = [(point, cycle) for block in blocks for point in block for cycle in range(1, cycles + 1)]
    else:
        pairs = [
            (point, cycle)
            for cycle in range(1, cycles + 1)
            for block in (_shuffled(blocks, seed, cycle) if structure == "shuffled" else blocks)
            for point in block
        ]
    return [Experiment(point, cycle, position) for position, (point, cycle) in enumerate(pairs)]


def _by_engine_key(points: Iterable[Point]) -> list[list[Point]]:
    """Return the points of each engine key, keys in the order of their first point."""
    blocks: dict[str, list[Point]] = {}
    for point in points:
        blocks.setdefault(point.engine_key, []).append(point)
    return list(blocks.values())


def _shuffled(blocks: list[list[Point]], seed: int, cycle: int) -> Iterator[list[Point]]:
    """Yield the blocks of one cycle in random order, each with its points in random order.

    A cycle draws from a generator of its own, so its order depends on the seed, its number and the points
    alone.
    """
    draw = Random(f"{seed}:{cycle}").random  # noqa: S311 - an order, not a secret
    return (_permuted(block, draw) for block in _permuted(blocks, draw))


def _permuted(items: Sequence[T], draw: Callable[[], float]) -> list[T]:
    """Return the items in random order.

    Sorted by random keys: of a seeded generator Python promises for all versions what `random()` yields,
    and makes no such promise for `shuffle()`.
    """
    return sorted(items, key=lambda _: draw())


@dataclass(frozen=True, slots=True)
class Condition:
    """Run one unmeasured pass of the coming experiment's configuration, in a launch of its own."""

    launch: int


@dataclass(frozen=True, slots=True)
class EndLaunch:
    """End the engine of this launch and see its memory freed."""

    launch: int
    reason: ReasonToEnd


@dataclass(frozen=True, slots=True)
class Gap:
    """Wait: between two experiments of a cycle (`config`), or between two cycles.

    Attributes:
        seconds: to wait; with a band, at most.
        band_celsius: the wait is over when no GPU is more than this above its start; None: only time counts.
    """

    kind: Literal["config", "cycle"]
    seconds: float
    band_celsius: float | None = None

    @property
    def least_s(self) -> float:
        """How long it takes in any case."""
        return self.seconds if self.band_celsius is None else 0.0


@dataclass(frozen=True, slots=True)
class Check:
    """Look at the health of every service that has been used: a new cycle begins, or so many experiments are over."""

    reason: Literal["cycle", "interval"]


@dataclass(frozen=True, slots=True)
class Renew:
    """Replace the service of the coming experiment by a new one: a new container, a new worker process."""


Step = Condition | EndLaunch | Renew | Check | Gap


@dataclass(frozen=True, slots=True)
class Stop:
    """One experiment on the way through a session.

    Attributes:
        before: what the runner does first, in this order.
        launch: ordinal in the session of the launch that serves the experiment. 0 is the conditioning.
        new_launch: whether that launch begins here.
    """

    experiment: Experiment
    before: tuple[Step, ...]
    launch: int
    new_launch: bool


def plan(experiments_left: Sequence[Experiment], campaign: Campaign) -> list[Stop]:
    """Return a session's way through the experiments that are left.

    A launch serves neighbours of one engine key, in at most `execution.recycle_cycles` different cycles (0:
    in any number), or a single experiment under `cold_start.force_cold_start`. A slot holds one engine: the
    old one is ended before the gap, so that every load finds the device idle. Services are looked at and
    replaced before the gap too, so that an experiment never begins in the turmoil of a start.
    """
    if not experiments_left:
        return []
    first = experiments_left[0]
    opening = (Condition(0), EndLaunch(0, "conditioned")) if campaign.execution.conditioning else ()
    cold = campaign.cold_start
    renewal = (Renew(),) if cold.force_cold_start and cold.restart_container else ()
    stops = [Stop(first, (*opening, *renewal), 1, new_launch=True)]
    launch, served_cycles = 1, {first.cycle}
    checks = _checks(experiments_left, campaign.health_check)
    for (previous, experiment), check in zip(pairwise(experiments_left), checks, strict=True):
        reason = _reason_to_end(previous, experiment, served_cycles, campaign)
        ending = (EndLaunch(launch, reason),) if reason else ()
        if reason:
            launch, served_cycles = launch + 1, set()
        served_cycles.add(experiment.cycle)
        gap = _gap(previous, experiment, campaign.execution)
        stops.append(Stop(experiment, (*ending, *renewal, *check, *gap), launch, new_launch=bool(reason)))
    return stops


def _checks(experiments: Sequence[Experiment], wanted: HealthCheck) -> Iterator[tuple[Check, ...]]:
    """Yield the check before each experiment but the first: nothing runs before that one."""
    unchecked = 0
    for previous, experiment in pairwise(experiments):
        unchecked += 1
        check: tuple[Check, ...] = ()
        if wanted.enabled and experiment.cycle != previous.cycle:
            check = (Check("cycle"),)
        elif wanted.enabled and unchecked == wanted.interval_experiments:
            check = (Check("interval"),)
        if check:
            unchecked = 0
        yield check


def _reason_to_end(
    previous: Experiment, experiment: Experiment, served_cycles: set[int], campaign: Campaign
) -> ReasonToEnd | None:
    """Return why the launch that served `previous` cannot serve `experiment`, or None if it can."""
    if campaign.cold_start.force_cold_start:
        return "cold start"
    if experiment.point.engine_key != previous.point.engine_key:
        return "other engine key"
    limit = campaign.execution.recycle_cycles
    if limit and len(served_cycles | {experiment.cycle}) > limit:
        return "recycled"
    return None


def _gap(previous: Experiment, experiment: Experiment, execution: Execution) -> tuple[Gap, ...]:
    """Return the wait between two experiments; none where the campaign asks for 0 s."""
    band_celsius = execution.gap_band_celsius if execution.gap == "thermal" else None
    if experiment.cycle != previous.cycle:
        gap = Gap("cycle", execution.cycle_gap_seconds, band_celsius)
    else:
        gap = Gap("config", execution.config_gap_seconds, band_celsius)
    return (gap,) if gap.seconds else ()

"""What analysis keeps of a result: few enough bytes that 100,000 of them fit in memory."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar

from pytest_llem.records import METRICS, Measurement, Quantity, Result, Source

Shared = TypeVar("Shared")

Unit = Literal["cycle", "round"]
"""What one block is: a cycle of a run, or in a daemon's series a whole round."""

PLACE = {name: place for place, name in enumerate(METRICS)}
"""Where a metric lies in `Observation.values` and `Observation.sources`."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a campaign asks of one configuration.

    Attributes:
        configuration: the spec hash that its results carry.
        label: its name in tables.
        axes: its value on each axis, by dotted name.
        experiments: how many cycles were asked for: the N of "n of N".
    """

    configuration: str
    label: str
    axes: Mapping[str, Any]
    experiments: int


@dataclass(frozen=True, slots=True)
class Observation:
    """One attempt at one experiment.

    Attributes:
        configuration: spec hash; with `cycle` it names the experiment.
        started_at: seconds since the epoch, for the order in time.
        launch: id of the engine process; None if the attempt has no measurement.
        failure_kind: class of the failure; None for a completed experiment.
        devices: UUIDs of the GPUs whose energy was read.
        values: one a metric, in the order and units of `METRICS`; NaN where there is none.
        sources: of the values, in the same order.
        parts: of which parts of the machine a value is the sum, in the same order; empty where that is no question.
        reasons: why a value is not there, in the same order; None where it is.
        backend: the inference engine; each runs in an environment of its own.
        environment: hash of that; None if it is not known.
        throttle_share: of the window, of the GPU that was slowed down the longest; None where none tells.
        more_launches: the others, where this is the mean over several cycles.
    """

    configuration: str
    label: str
    cycle: int
    session: str
    started_at: float
    launch: str | None
    status: Literal["completed", "failed"]
    failure_kind: str | None
    flags: tuple[str, ...]
    devices: tuple[str, ...]
    values: array[float]
    sources: tuple[Source, ...]
    parts: tuple[tuple[str, ...], ...]
    reasons: tuple[str | None, ...]
    backend: str = ""
    environment: str | None = None
    throttle_share: float | None = None
    more_launches: tuple[str, ...] = ()

    @classmethod
    def of(cls, result: Result) -> Observation:
        """Return what analysis needs of `result`; strings and sources are shared between observations."""
        measurement = result.measurement
        quantities = [_quantity(measurement, name) for name in METRICS]
        return cls(
            configuration=sys.intern(result.spec_hash),
            label=sys.intern(result.label),
            cycle=result.cycle,
            session=sys.intern(result.session_id),
            started_at=result.started_at.timestamp(),
            launch=sys.intern(measurement.launch.id) if measurement else None,
            status=result.status,
            failure_kind=result.failure.kind if result.failure else None,
            flags=_shared(measurement.flags) if measurement else (),
            devices=_shared(_devices(measurement)),
            values=array("d", (math.nan if q is None or q.value is None else q.value for q in quantities)),
            sources=_shared(tuple("unavailable" if q is None else q.source for q in quantities)),
            parts=_shared(tuple(() if q is None else q.parts for q in quantities)),
            reasons=_shared(tuple(q.note if q and q.value is None else None for q in quantities)),
            backend=sys.intern(result.configuration.backend),
            environment=sys.intern(result.environment_hash) if result.environment_hash else None,
            throttle_share=_throttle_share(measurement),
        )

    @property
    def block(self) -> tuple[int, str]:
        """The statistical block: a cycle that was finished in another session is two of them."""
        return self.cycle, self.session


def why_no_mean(observations: Iterable[Observation], metric: str) -> str | None:
    """Return why values of a metric are not alike, so that nothing can be their mean; None where they are."""
    place = PLACE[metric]
    origins = {(one.sources[place], one.parts[place]) for one in observations}
    sources = sorted({source for source, _ in origins})
    if len(sources) > 1:
        return f"values from {' and '.join(sources)}: different sources have no common mean"
    sums = sorted(" + ".join(parts) for _, parts in origins if parts)
    if len(sums) > 1:
        return f"values of {' and of '.join(sums)}: different parts of the machine have no common mean"
    return None


def newest(observations: Iterable[Observation]) -> list[Observation]:
    """Return one observation an experiment, in order of time.

    An experiment is a configuration in a cycle. Its newest completed attempt stands for it; a failed one only
    if none was completed. So a repeated experiment never counts twice.
    """
    kept: dict[tuple[str, int], Observation] = {}
    for observation in sorted(observations, key=lambda one: one.started_at):
        experiment = observation.configuration, observation.cycle
        if observation.status == "completed" or experiment not in kept or kept[experiment].status == "failed":
            kept[experiment] = observation
    return sorted(kept.values(), key=lambda one: one.started_at)


def _quantity(measurement: Measurement | None, metric: str) -> Quantity | None:
    return measurement.metrics.get(metric) if measurement else None


def _devices(measurement: Measurement | None) -> tuple[str, ...]:
    domains = measurement.energy_j if measurement else ()
    return tuple(sorted(domain.removeprefix("gpu:") for domain in domains if domain.startswith("gpu:")))


def _throttle_share(measurement: Measurement | None) -> float | None:
    traces = measurement.devices.values() if measurement else ()
    return max((trace.throttle_share for trace in traces if trace.throttle_share is not None), default=None)


@lru_cache(maxsize=4096)
def _shared(values: tuple[Shared, ...]) -> tuple[Shared, ...]:
    """Return the one tuple that stands for all equal ones."""
    return values

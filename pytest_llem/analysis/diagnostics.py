"""Signs that the cycles of a campaign are not the independent repetitions that an interval takes them for.

All but throttling look at the additive model on logs, log y = configuration + block, fitted by least squares on
incomplete blocks. A block effect is what the machine did to every configuration alike in that block.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from pytest_llem.analysis.observations import PLACE, Observation, why_no_mean
from pytest_llem.analysis.resampling import Array
from pytest_llem.records import MEASURED_ENERGY, THROTTLED, Record

THROUGHPUT = "output_tokens_per_second"
ENERGY = "energy_per_output_token_j"

_SMALL = 0.01
"""Effects on a log scale (about 1 %) below which nothing is flagged, however certain they are."""

_OUTLYING = 3.5
"""Robust standard deviations beyond which a value is an outlier (Iglewicz and Hoaglin 1993), at least."""


class Diagnostic(Record):
    """One line about the campaign.

    Attributes:
        value: an effect in %, the autocorrelation as it is, the number of outliers or of throttled experiments.
        flagged: whether the reader should doubt the intervals for it.
    """

    name: str
    metric: str
    value: float
    text: str
    flagged: bool


@dataclass(frozen=True, slots=True)
class _Fit:
    """The additive model of one metric.

    Attributes:
        observations: those that were fitted, one a residual.
        blocks: in order of time.
        effects: of the blocks; their sum is 0.
        residuals: on logs.
        df: degrees of freedom of the residuals.
    """

    observations: list[Observation]
    blocks: list[tuple[int, str]]
    effects: Array
    residuals: Array
    df: int


def diagnose(observations: Sequence[Observation], *, level: float) -> tuple[Diagnostic, ...]:
    """Return what can be said of throttling, of throughput, and of energy if one instrument measured it.

    Args:
        observations: one an experiment.
        level: of the t intervals that decide whether an effect is there.
    """
    effects = (
        diagnostic
        for metric in (THROUGHPUT, ENERGY)
        if (fit := _fit(_usable(observations, metric), PLACE[metric])) is not None
        for look in (_drift, _first_cycle, _autocorrelation, _outlying_cycle, _outliers)
        for diagnostic in look(fit, metric, level)
    )
    return (*_throttling(observations), *effects)


def _throttling(observations: Sequence[Observation]) -> Iterator[Diagnostic]:
    """How many experiments heat or the power brake slowed down, where a GPU tells, and which of them the most."""
    told = [
        (one.throttle_share, one)
        for one in observations
        if one.status == "completed" and one.throttle_share is not None
    ]
    if not told:
        return
    share, worst = max(told, key=lambda pair: pair[0])
    slowed = sum(THROTTLED in one.flags for _, one in told)
    text = f"throttling: heat or the power brake slowed a GPU down in {slowed} of {len(told)} experiments"
    if slowed:
        text += f", at worst for {100 * share:.0f} % of the window ({worst.label} in cycle {worst.cycle})"
    yield Diagnostic(
        name="throttling", metric="throttle_share", value=slowed, text=text, flagged=bool(slowed)
    )


def _usable(observations: Sequence[Observation], metric: str) -> list[Observation]:
    """Return the completed observations with a value, without the blocks that hold few configurations."""
    place = PLACE[metric]
    known = [one for one in observations if one.status == "completed" and one.values[place] > 0]
    is_measured = all(one.sources[place] in MEASURED_ENERGY for one in known)
    if metric == ENERGY and (why_no_mean(known, metric) or not is_measured):
        return []
    blocks: defaultdict[tuple[int, str], list[Observation]] = defaultdict(list)
    for one in sorted(known, key=lambda one: one.started_at):
        blocks[one.block].append(one)
    half = len({one.configuration for one in known}) / 2
    return [one for block in blocks.values() if len(block) >= half for one in block]


def _fit(observations: list[Observation], place: int) -> _Fit | None:
    """Fit the model, with the configurations swept out first; None if the blocks cannot be compared."""
    configurations = {
        key: row for row, key in enumerate(dict.fromkeys(o.configuration for o in observations))
    }
    blocks = {key: column for column, key in enumerate(dict.fromkeys(o.block for o in observations))}
    if len(blocks) < 3:
        return None
    rows = np.array([configurations[one.configuration] for one in observations])
    columns = np.array([blocks[one.block] for one in observations])
    logs = np.log([one.values[place] for one in observations])

    present = np.zeros((len(configurations), len(blocks)))
    present[rows, columns] = 1
    share = present / present.sum(axis=1, keepdims=True)
    within = logs - _mean_by(rows, logs)
    reduced = np.diag(present.sum(axis=0)) - present.T @ share
    effects, _, rank, _ = np.linalg.lstsq(reduced, np.bincount(columns, within, len(blocks)))
    if rank < len(blocks) - 1:
        return None  # no chain of configurations links all blocks
    rest = logs - effects[columns]
    df = len(observations) - len(configurations) - len(blocks) + 1
    return _Fit(observations, list(blocks), effects, rest - _mean_by(rows, rest), df)


def _mean_by(rows: np.ndarray[tuple[int], np.dtype[np.int64]], values: Array) -> Array:
    """Return for each value the mean of all values of its row."""
    means: Array = np.bincount(rows, values) / np.bincount(rows)
    return means[rows]


def _drift(fit: _Fit, metric: str, level: float) -> Iterator[Diagnostic]:
    """Slope of the block effects, from 3 blocks."""
    count = len(fit.effects)
    time = np.arange(count) - (count - 1) / 2
    slope = float(time @ fit.effects / (time @ time))
    residuals = fit.effects - slope * time
    error = math.sqrt(float(residuals @ residuals) / (count - 2) / float(time @ time))
    yield _effect(
        "drift", metric, slope, error * _t(level, count - 2), "a block", notable=_SMALL / (count - 1)
    )


def _first_cycle(fit: _Fit, metric: str, level: float) -> Iterator[Diagnostic]:
    """First block against the mean of the others, from 4 blocks."""
    others = fit.effects[1:]
    if len(others) < 3:
        return
    difference = float(fit.effects[0] - others.mean())
    error = float(others.std(ddof=1)) * math.sqrt(1 + 1 / len(others))
    reach = error * _t(level, len(others) - 1)
    yield _effect("first-cycle effect", metric, difference, reach, "against the later ones", notable=_SMALL)


def _effect(name: str, metric: str, effect: float, reach: float, what: str, *, notable: float) -> Diagnostic:
    percent, low, high = (100 * math.expm1(min(x, 10.0)) for x in (effect, effect - reach, effect + reach))
    flagged = abs(effect) > max(reach, notable)
    return Diagnostic(
        name=name,
        metric=metric,
        value=percent,
        text=f"{name} of {metric}: {percent:+.2f} % {what} [{low:+.2f}, {high:+.2f}]",
        flagged=flagged,
    )


def _autocorrelation(fit: _Fit, metric: str, level: float) -> Iterator[Diagnostic]:
    """Lag-1 autocorrelation of the block effects, from 8 blocks: below, its noise hides anything."""
    count = len(fit.effects)
    total = float(fit.effects @ fit.effects)
    if count < 8 or total == 0:
        return
    value = float(fit.effects[:-1] @ fit.effects[1:]) / total
    # Mean and variance under independence: Moran 1948, "Some theorems on time series II".
    expected = -1 / count
    error = (count - 2) / (count * math.sqrt(count - 1))
    flagged = value > expected + error * float(ndtri(level))
    meaning = ": blocks resemble their neighbours, so the intervals are too narrow" if flagged else ""
    yield Diagnostic(
        name="autocorrelation",
        metric=metric,
        value=value,
        text=f"lag-1 autocorrelation of {metric} over {count} blocks: {value:+.2f}{meaning}",
        flagged=flagged,
    )


def _outlying_cycle(fit: _Fit, metric: str, level: float) -> Iterator[Diagnostic]:
    """Block farthest from the others, named and kept, by the test of Grubbs 1950; from 5 blocks."""
    count = len(fit.effects)
    spread = float(fit.effects.std(ddof=1))
    if count < 5 or spread == 0:
        return
    worst = int(np.argmax(np.abs(fit.effects)))
    effect = float(fit.effects[worst])
    t = _t(1 - (1 - level) / count, count - 2)
    critical = (count - 1) / math.sqrt(count) * math.sqrt(t**2 / (count - 2 + t**2))
    flagged = abs(effect) > max(critical * spread, _SMALL)
    percent = 100 * math.expm1(effect)
    meaning = ": an outlier, kept" if flagged else ""
    yield Diagnostic(
        name="outlying cycle",
        metric=metric,
        value=percent,
        text=f"farthest cycle of {metric}: {fit.blocks[worst][0]} at {percent:+.2f} %{meaning}",
        flagged=flagged,
    )


def _outliers(fit: _Fit, metric: str, level: float) -> Iterator[Diagnostic]:
    """Experiments far from the model, named and kept; from 8 degrees of freedom and 3 configurations.

    Of two configurations that part ways in a cycle, nobody can say which one it was.
    """
    if fit.df < 8 or len({one.configuration for one in fit.observations}) < 3:
        return
    size = len(fit.residuals)
    spread = 1.4826 * float(np.median(np.abs(fit.residuals))) * math.sqrt(size / fit.df)
    farthest = float(ndtri(1 - (1 - level) / (2 * size)))  # of so many that are clean
    limit = max(_OUTLYING, farthest) * spread
    far = np.flatnonzero(np.abs(fit.residuals) > max(limit, _SMALL))
    worst = sorted(far, key=lambda place: -abs(fit.residuals[place]))[:5]
    named = ", ".join(_name(fit.observations[place], fit.residuals[place]) for place in worst)
    more = f" and {len(far) - 5} more" if len(far) > 5 else ""
    yield Diagnostic(
        name="outliers",
        metric=metric,
        value=len(far),
        text=f"outliers of {metric}: {len(far)} of {size}" + (f", kept: {named}{more}" if named else ""),
        flagged=bool(len(far)),
    )


def _name(observation: Observation, residual: float) -> str:
    return f"{observation.label} in cycle {observation.cycle} ({100 * math.expm1(residual):+.1f} %)"


def _t(level: float, df: int) -> float:
    return float(stdtrit(df, (1 + level) / 2))

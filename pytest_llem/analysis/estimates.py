"""One metric of one row: its mean over blocks with both intervals, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pydantic.dataclasses import dataclass as checked

from pytest_llem.analysis.intervals import (
    CHECKS,
    Interval,
    Sample,
    bootstrap_method,
    headline_method,
    intervals,
    mean,
)
from pytest_llem.analysis.observations import PLACE, why_no_mean
from pytest_llem.analysis.resampling import Method
from pytest_llem.analysis.rows import Block, Row
from pytest_llem.campaign.schema import Confidence
from pytest_llem.records import METRICS, Source


@checked(frozen=True, slots=True, config=CHECKS)
class MetricSummary:
    """One metric of one row.

    Attributes:
        source: of every value; `mixed` if they came from more than one, or are sums of different parts of the
            machine, and then there is no mean.
        n: blocks that have a value.
        center: geometric mean over blocks; arithmetic if the metric may be negative or `note` says so.
        interval: the headline, by `confidence.method`; None below 3 blocks.
        bootstrap: the second interval: studentized from 5 blocks; at 3 and 4 percentile, with its coverage.
        sd_log: standard deviation of the natural logs of the block values (about their CV); None below 2.
        sd: standard deviation in `unit`, where the mean is arithmetic.
        parts: of energy and power, the parts of the machine that every value is the sum of.
    """

    metric: str
    unit: str
    source: Source | Literal["mixed"]
    n: int
    center: float | None = None
    interval: Interval | None = None
    bootstrap: Interval | None = None
    sd_log: float | None = None
    sd: float | None = None
    note: str | None = None
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Gathered:
    """The values of one metric of one row, before anything is computed."""

    metric: str
    source: Source | Literal["mixed"]
    n: int
    sample: Sample
    note: str | None
    parts: tuple[str, ...] = ()


BATCH = 50
"""Rows estimated at a time: few enough that their values take no room to speak of."""


def estimate(rows: Sequence[Row], confidence: Confidence, seed: int) -> list[dict[str, MetricSummary]]:
    """Return the metrics of each row, by name in the order of `METRICS`; those without a value too."""
    batches = (rows[first : first + BATCH] for first in range(0, len(rows), BATCH))
    return [metrics for batch in batches for metrics in _estimated(batch, confidence, seed)]


def _estimated(rows: Sequence[Row], confidence: Confidence, seed: int) -> list[dict[str, MetricSummary]]:
    gathered = [_gather(row.blocks, metric) for row in rows for metric in METRICS]
    headlines, bootstraps = _both([one.sample for one in gathered], confidence, seed)
    summaries = map(_summary, gathered, headlines, bootstraps)
    return [{metric: next(summaries) for metric in METRICS} for _ in rows]


def _both(
    samples: Sequence[Sample], confidence: Confidence, seed: int
) -> tuple[list[Interval | None], list[Interval | None]]:
    """Return the headline and the bootstrap interval of each sample; made once where they are the same."""

    def headline(n: int) -> Method:
        return headline_method(confidence.method, n)

    def differs(sample: Sample) -> bool:
        return headline(len(sample.values)) != bootstrap_method(len(sample.values))

    make = partial(intervals, level=confidence.level, resamples=confidence.resamples, seed=seed)
    headlines = make(samples, headline)
    others = iter(make([sample for sample in samples if differs(sample)], bootstrap_method))
    pairs = zip(samples, headlines, strict=True)
    return headlines, [next(others) if differs(sample) else found for sample, found in pairs]


def _gather(blocks: Sequence[Block], metric: str) -> _Gathered:
    """Take the values of `metric`, one a block; a block in which a configuration has none is left out."""
    place = PLACE[metric]
    known = [block for block in blocks if not any(math.isnan(one.values[place]) for one in block)]
    if not known:
        return _Gathered(metric, "unavailable", 0, Sample((), logarithmic=True), _reason(blocks, place))
    if why := why_no_mean((one for block in known for one in block), metric):
        return _Gathered(metric, "mixed", len(known), Sample((), logarithmic=True), why)
    values = [[one.values[place] for one in block] for block in known]
    positive = all(value > 0 for block in values for value in block)
    sample = _sample(values, logarithmic=METRICS[metric].logarithmic and positive)
    note = _note(metric, len(known), len(blocks), positive)
    first = known[0][0]
    return _Gathered(metric, first.sources[place], len(known), sample, note, first.parts[place])


def _reason(blocks: Sequence[Block], place: int) -> str | None:
    """Return why a metric has no value at all, if all cycles say the same."""
    reasons = {one.reasons[place] for block in blocks for one in block}
    return reasons.pop() if len(reasons) == 1 else None


def _sample(values: Sequence[Sequence[float]], *, logarithmic: bool) -> Sample:
    """Average the configurations of each block."""
    return Sample(tuple(mean(block, logarithmic=logarithmic) for block in values), logarithmic)


def _note(metric: str, known: int, blocks: int, positive: bool) -> str | None:
    notes = []
    if known < blocks:
        notes.append(f"no value in {blocks - known} of {blocks} blocks")
    if METRICS[metric].logarithmic and not positive:
        notes.append("a value of 0 or below: arithmetic mean and linear interval")
    return "; ".join(notes) or None


def _summary(gathered: _Gathered, headline: Interval | None, bootstrap: Interval | None) -> MetricSummary:
    sample = gathered.sample
    return MetricSummary(
        metric=gathered.metric,
        unit=METRICS[gathered.metric].unit,
        source=gathered.source,
        n=gathered.n,
        center=sample.center,
        interval=headline,
        bootstrap=bootstrap,
        sd_log=sample.sd if sample.logarithmic else None,
        sd=None if sample.logarithmic else sample.sd,
        note=gathered.note,
        parts=gathered.parts,
    )

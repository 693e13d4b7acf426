"""Budgets (`expect`): whether a configuration kept its bounds, as far as its interval can tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pytest_llem.analysis.estimates import MetricSummary
from pytest_llem.campaign.schema import Budget
from pytest_llem.records import Record

Bound = Literal["max", "min"]
Outcome = Literal["met", "over", "inconclusive", "no_value"]


class Verdict(Record):
    """What became of one bound on one metric of one configuration.

    Attributes:
        limit: in the metric's unit.
        outcome: `met` and `over` if the whole interval lies on one side of the limit, `inconclusive` if the
            limit lies inside, `no_value` if there is nothing to judge. `over` also means below a `min`.
        failed: whether the session fails for it: `over`, `no_value`, and `inconclusive` with the mean beyond
            the limit. So noise never buys a pass, and few good campaigns fail: with 12 configurations, 3
            cycles, a CV of 2 % and 3 % of headroom about 5 %; were each cycle judged alone, 92 %.
        message: one line with both numbers.
    """

    metric: str
    bound: Bound
    limit: float
    outcome: Outcome
    failed: bool
    message: str


def judge(metrics: Mapping[str, MetricSummary], budgets: Mapping[str, Budget]) -> tuple[Verdict, ...]:
    """Judge every bound of `budgets` on the intervals in `metrics`; on the mean where there is none."""
    return tuple(
        _verdict(metrics[metric], bound, limit)
        for metric, budget in budgets.items()
        for bound, limit in _limits(budget)
    )


def _limits(budget: Budget) -> Iterator[tuple[Bound, float]]:
    if budget.max is not None:
        yield "max", budget.max
    if budget.min is not None:
        yield "min", budget.min


def _verdict(summary: MetricSummary, bound: Bound, limit: float) -> Verdict:
    outcome = _outcome(summary, bound, limit)
    beyond = summary.center is None or _beyond(summary.center, bound, limit)
    return Verdict(
        metric=summary.metric,
        bound=bound,
        limit=limit,
        outcome=outcome,
        failed=beyond if outcome == "inconclusive" else outcome != "met",
        message=_message(summary, bound, limit, outcome, beyond=beyond),
    )


def _outcome(summary: MetricSummary, bound: Bound, limit: float) -> Outcome:
    if summary.center is None:
        return "no_value"
    low, high = summary.center, summary.center
    if summary.interval is not None:
        low, high = summary.interval.low, summary.interval.high
    worst, best = (high, low) if bound == "max" else (low, high)
    if not _beyond(worst, bound, limit):
        return "met"
    return "over" if _beyond(best, bound, limit) else "inconclusive"


def _beyond(value: float, bound: Bound, limit: float) -> bool:
    return value > limit if bound == "max" else value < limit


def _message(summary: MetricSummary, bound: Bound, limit: float, outcome: Outcome, *, beyond: bool) -> str:
    if outcome == "no_value":
        reason = summary.note or "no completed cycle has a value"
        (wanted,) = _texts(limit)
        return f"budget not judged: {summary.metric} has no mean ({reason}), {bound} {wanted} {summary.unit}"
    assert summary.center is not None
    wanted, center = _texts(limit, summary.center)
    found = f"{'~' if summary.source == 'model' else ''}{center}"
    if summary.interval is not None:
        low, high = _texts(summary.interval.low, summary.interval.high)
        found += f" [{low}, {high}]"
    sign = (">" if beyond else "<=") if bound == "max" else ("<" if beyond else ">=")
    comparison = f"{summary.metric} {found} {sign} {bound} {wanted} {summary.unit}"
    lead = "over budget" if beyond else "within budget"
    if outcome == "inconclusive":
        return f"{lead}, not for certain: {comparison}; more cycles would tell"
    if summary.interval is None:
        return f"{lead}: {comparison} (n = {summary.n}: judged on the mean)"
    return f"{lead}: {comparison}"


def _texts(*values: float) -> list[str]:
    """Return values with four significant digits, or as many as it takes to tell them apart."""
    for digits in range(4, 16):
        texts = [f"{float(f'{value:.{digits}g}'):.15g}" for value in values]
        if len(set(texts)) == len(set(values)):
            break
    return texts

"""The summary of a campaign: one row a configuration, one a group, with what must be said beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from pytest_llem.analysis.budgets import Verdict, judge
from pytest_llem.analysis.diagnostics import Diagnostic, diagnose
from pytest_llem.analysis.environments import changes
from pytest_llem.analysis.estimates import MetricSummary, estimate
from pytest_llem.analysis.messages import describe_method, messages
from pytest_llem.analysis.observations import Expected, Observation, Unit, newest
from pytest_llem.analysis.rows import Row, configuration_rows, group_rows
from pytest_llem.campaign.schema import Budget, Confidence
from pytest_llem.records import Record, Source

_NO_BUDGETS: Mapping[str, Budget] = MappingProxyType({})
_NO_ENVIRONMENTS: Mapping[str, Mapping[str, Any]] = MappingProxyType({})


class RowSummary(Record):
    """One configuration, or one group of them.

    Attributes:
        key: spec hash, or the group's values.
        n: completed blocks (a group's: completed by all its configurations), of the `of` that were asked for.
        launches: engine processes that served them.
        sources: of its metrics.
        flags: experiments by flag.
        failures: experiments that failed and were never completed, by class.
        budgets: verdicts on `expect`; empty for a group, and for a configuration of which nothing has run.
        note: what a reader must know about its blocks.
    """

    key: str
    label: str
    axes: dict[str, Any]
    n: int
    of: int
    launches: int
    sources: tuple[Source, ...]
    flags: dict[str, int]
    failures: dict[str, int]
    metrics: dict[str, MetricSummary]
    budgets: tuple[Verdict, ...] = ()
    note: str | None = None


class Summary(Record):
    """What a campaign found.

    Attributes:
        level: nominal coverage of the intervals.
        method: of the headline intervals as resolved, such as "Student t on logs, n = 3".
        unit: what n counts.
        rows: one a configuration, in the order of the campaign.
        groups: one for each combination of values on the `group_by` axes; empty without them.
        messages: sentences that belong beside the table.
    """

    level: float
    method: str
    unit: Unit = "cycle"
    rows: tuple[RowSummary, ...]
    groups: tuple[RowSummary, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    messages: tuple[str, ...] = ()


def summarise(
    observations: Iterable[Observation],
    expected: Sequence[Expected],
    *,
    confidence: Confidence,
    group_by: Sequence[str] = (),
    budgets: Mapping[str, Budget] = _NO_BUDGETS,
    structure: Literal["shuffled", "interleaved", "grouped"] = "shuffled",
    recycle_cycles: int = 1,
    seed: int = 0,
    environments: Mapping[str, Mapping[str, Any]] = _NO_ENVIRONMENTS,
    unit: Unit = "cycle",
) -> Summary:
    """Summarise a campaign, or what there is of it.

    Args:
        observations: of the campaign's run; those of a configuration that is not expected are left out.
        expected: what the campaign asks for; its order is the order of the rows.
        confidence: level, method and resamples of the intervals.
        group_by: axes whose values make a group. A group is averaged within each block, never pooled.
        budgets: bounds by metric, judged on each configuration's interval.
        structure: order of the campaign, for what must be said about it.
        recycle_cycles: cycles that one launch may serve, 0 for all.
        seed: of the bootstraps.
        environments: machines and software by the hash that observations name.
        unit: what an observation stands for; a series of a daemon has one a round (`rounds.merge`).
    """
    asked = {one.configuration for one in expected}
    known = newest(one for one in observations if one.configuration in asked)
    rows = configuration_rows(known, expected)
    groups = group_rows(known, expected, group_by) if group_by else []
    metrics = estimate([*rows, *groups], confidence, seed)
    of_rows, of_groups = metrics[: len(rows)], metrics[len(rows) :]
    return Summary(
        level=confidence.level,
        method=describe_method(metrics),
        unit=unit,
        rows=tuple(_row(*pair, budgets) for pair in zip(rows, of_rows, strict=True)),
        groups=tuple(_row(*pair, _NO_BUDGETS) for pair in zip(groups, of_groups, strict=True)),
        diagnostics=diagnose(known, level=confidence.level) if unit == "cycle" else (),
        messages=(
            *messages(rows, group_by, structure, recycle_cycles, unit),
            *changes(known, environments, unit),
        ),
    )


def _row(row: Row, metrics: dict[str, MetricSummary], budgets: Mapping[str, Budget]) -> RowSummary:
    completed = [one for block in row.blocks for one in block]
    return RowSummary(
        key=row.key,
        label=row.label,
        axes=dict(row.axes),
        n=len(row.blocks),
        of=row.of,
        launches=len({launch for one in completed for launch in (one.launch, *one.more_launches)}),
        sources=tuple(sorted({source for one in completed for source in one.sources} - {"unavailable"})),
        flags=dict(Counter(flag for one in completed for flag in one.flags)),
        failures=dict(Counter(one.failure_kind for one in row.observations if one.failure_kind)),
        metrics=metrics,
        budgets=judge(metrics, budgets) if row.observations else (),
        note=row.note,
    )

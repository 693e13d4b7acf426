"""The sentences that belong beside a table: what its intervals are, and what they do not cover."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import combinations
from types import MappingProxyType

from pytest_llem.analysis.estimates import MetricSummary
from pytest_llem.analysis.intervals import LEAST, Interval
from pytest_llem.analysis.observations import PLACE, Unit
from pytest_llem.analysis.resampling import Method
from pytest_llem.analysis.rows import Row, group_label

NAMES: MappingProxyType[Method, str] = MappingProxyType(
    {
        "student": "Student t",
        "bootstrap-t": "studentized bootstrap",
        "percentile": "percentile bootstrap",
        "bca": "BCa bootstrap",
    }
)
"""The methods in words."""


def describe_method(metrics: Iterable[Mapping[str, MetricSummary]]) -> str:
    """Return the methods of the headline intervals with their n, and their coverage where it falls short."""
    used: defaultdict[Method, list[Interval]] = defaultdict(list)
    for row in metrics:
        for summary in row.values():
            if summary.interval is not None:
                used[summary.interval.method].append(summary.interval)
    if not used:
        return f"means without intervals, n < {LEAST}"
    return "; ".join(_describe(method, found) for method, found in used.items())


def _describe(method: Method, found: Sequence[Interval]) -> str:
    sizes = sorted({one.n for one in found})
    text = f"{NAMES[method]} on logs, n = {_span(str(sizes[0]), str(sizes[-1]))}"
    covered = sorted(round(100 * one.coverage) for one in found if one.coverage is not None)
    return f"{text} (covers {_span(str(covered[0]), str(covered[-1]))} %)" if covered else text


def _span(first: str, last: str) -> str:
    return first if first == last else f"{first} to {last}"


def messages(
    rows: Sequence[Row], group_by: Sequence[str], structure: str, recycle_cycles: int, unit: Unit = "cycle"
) -> tuple[str, ...]:
    """Return what must be said about the configurations `rows` and the way they were measured."""
    if unit == "round":  # it has its own launches and sessions, whatever its cycles share
        return (
            *_about_rounds(rows),
            *_about_groups(rows, group_by),
            *_about_balance(rows, group_by),
            *_about_order(rows, structure),
            *_about_devices(rows),
            *_about_parts(rows),
        )
    return (
        *_about_cycles(rows),
        *_about_groups(rows, group_by),
        *_about_balance(rows, group_by),
        *_about_order(rows, structure),
        *_about_launches(rows, recycle_cycles),
        *_about_sessions(rows),
        *_about_devices(rows),
        *_about_parts(rows),
    )


def _about_rounds(rows: Sequence[Row]) -> Iterator[str]:
    few = sum(0 < len(row.blocks) < LEAST for row in rows)
    yield "The unit is the round: its cycles share its hour, so they are averaged and do not count one by one"
    if few:
        yield f"{few} of {len(rows)} configurations have fewer than {LEAST} rounds so far: means without intervals"


def _about_cycles(rows: Sequence[Row]) -> Iterator[str]:
    asked = max((row.of for row in rows), default=0)
    few = sum(0 < len(row.blocks) < LEAST for row in rows)
    if asked == 1:
        yield "Single cycle: set execution.cycles to 3 or more for confidence intervals"
    elif asked == 2:
        yield "Two cycles: means only, their range is no interval; set execution.cycles to 3 or more"
    elif few:
        yield f"{few} of {len(rows)} configurations completed fewer than 3 cycles: means without intervals"


def _about_groups(rows: Sequence[Row], group_by: Sequence[str]) -> Iterator[str]:
    for path in group_by:
        if not any(path in row.axes for row in rows):
            axes = ", ".join(sorted({axis for row in rows for axis in row.axes})) or "none"
            yield f"group_by: {path} is no axis of this campaign (its axes: {axes})"


def _about_balance(rows: Sequence[Row], group_by: Sequence[str]) -> Iterator[str]:
    """Say where groups are averages over different configurations, for then their order may be that of another axis."""
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[group_label(row.axes, group_by)].append(row)
    others = sorted({axis for row in rows for axis in row.axes} - set(group_by))
    unequal = [axis for axis in others if len(set(_shares(groups.values(), axis))) > 1]
    if group_by and unequal:
        sizes = Counter(len(members) for members in groups.values())
        averages = f"{min(sizes)} to {max(sizes)}" if len(sizes) > 1 else f"{min(sizes)}"
        yield (
            f"Groups by {', '.join(group_by)} average {averages} configurations, and not the same ones: they differ in "
            f"{', '.join(unequal)} too, so a difference between groups may be that of {' or '.join(unequal)}"
        )


def _shares(groups: Iterable[Sequence[Row]], axis: str) -> Iterator[frozenset[tuple[str, Fraction]]]:
    """Yield how often each group has each value of an axis, as shares; nothing for groups without that axis."""
    for members in groups:
        values = Counter(repr(row.axes[axis]) for row in members if row.axes.get(axis) is not None)
        if values:
            yield frozenset((value, Fraction(count, values.total())) for value, count in values.items())


def _about_order(rows: Sequence[Row], structure: str) -> Iterator[str]:
    if structure == "grouped" and len(rows) > 1:
        yield (
            "Grouped order: the cycles of a configuration ran back to back, so a drift over the session "
            "looks like a difference between configurations; execution.structure: shuffled keeps them apart"
        )


def _about_launches(rows: Sequence[Row], recycle_cycles: int) -> Iterator[str]:
    """Only where a launch did serve several cycles: cold starts and restarts give launches of their own."""
    shared = any(len({one.launch for one in row.completed}) < len(row.completed) for row in rows)
    if not shared or recycle_cycles == 1:
        return
    if recycle_cycles == 0:
        yield (
            "execution.recycle_cycles is 0: the intervals are conditional on one launch, "
            "the spread between launches is not in them"
        )
    else:
        yield (
            f"execution.recycle_cycles is {recycle_cycles}: up to {recycle_cycles} cycles share a launch, "
            "so the intervals understate the spread between launches"
        )


def _about_sessions(rows: Sequence[Row]) -> Iterator[str]:
    of_rows = {row.label: frozenset(one.session for one in row.completed) for row in rows if row.completed}
    sessions = frozenset[str]().union(*of_rows.values())
    apart = _without_a_common_session(of_rows)
    if apart:
        one, other = apart
        yield (
            f"Measured in {len(sessions)} sessions, and {one} in others than {other}: a difference between such "
            "configurations is one between their sessions too, and no interval covers that"
        )
    elif len(sessions) > 1:
        yield (
            f"Measured in {len(sessions)} sessions: a cycle that was split between two counts as two blocks, "
            "and differences between the sessions are in the intervals"
        )


def _without_a_common_session(of_rows: Mapping[str, frozenset[str]]) -> tuple[str, str] | None:
    """Return two configurations that share no session, if there are any."""
    firsts: dict[frozenset[str], str] = {}
    for label, sessions in of_rows.items():
        firsts.setdefault(sessions, label)
    pairs = ((firsts[one], firsts[other]) for one, other in combinations(firsts, 2) if not one & other)
    return next(pairs, None)


def _about_devices(rows: Sequence[Row]) -> Iterator[str]:
    several = [row for row in rows if len({one.devices for one in row.completed}) > 1]
    if several:
        uuids = sorted({uuid for row in several for one in row.completed for uuid in one.devices})
        yield (
            f"{len(several)} of {len(rows)} configurations average over different GPUs ({', '.join(uuids)}): "
            "boards of one model differ by up to 8 % in power"
        )


def _about_parts(rows: Sequence[Row]) -> Iterator[str]:
    """Only on configurations that are of one kind each: the others have no mean, and their row says why."""
    place = PLACE["energy_per_output_token_j"]
    of_rows = [{one.parts[place] for one in row.completed} - {()} for row in rows]
    sums = Counter(" + ".join(found.pop()) for found in of_rows if len(found) == 1)
    if len(sums) > 1:
        counts = ", ".join(f"{parts} in {count}" for parts, count in sorted(sums.items()))
        yield (
            f"Energy is not that of the same parts of the machine in all configurations ({counts}): compare it by "
            "domain, energy_<domain>_j in results.csv"
        )

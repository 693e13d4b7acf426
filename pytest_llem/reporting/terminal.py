"""What a campaign says on the terminal, as lines of text: before it runs, while it runs, and at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_llem.campaign.grid import Expansion, at_most
from pytest_llem.campaign.rules import Verdict
from pytest_llem.records import Result
from pytest_llem.reporting.digits import at_least, duration
from pytest_llem.reporting.headline import Headline, progress, time_left_s
from pytest_llem.reporting.names import counted, shortened
from pytest_llem.state.health import HealthTally
from pytest_llem.state.run_info import Difference

if TYPE_CHECKING:
    from pytest_llem.analysis.summary import Summary

__all__ = [
    "Headline",
    "difference",
    "failures",
    "health",
    "messages",
    "progress",
    "resuming",
    "time_left_s",
    "unjudged",
    "validation",
]

COMMANDS = 5
"""Experiments of one cause whose command is shown."""

LOG_LINES = 5
"""Last lines of an experiment's log that are shown with its failure."""


def validation(expansion: Expansion, *, cycles: int, least_s: float) -> list[str]:
    """Return what a campaign amounts to, and why configurations are filtered, warned or merged.

    Args:
        expansion: `valid` counts the configurations that run, warned ones included.
        cycles: of the campaign.
        least_s: what windows and gaps of the experiments to run take; loads and warm-up come on top.
    """
    valid, filtered = len(expansion.points), len(expansion.filtered)
    warned = sum(point.verdict == "warned" for point in expansion.points)
    generated = counted(expansion.generated, "configuration")
    amount = f"{counted(cycles, 'cycle')} = {counted(valid * cycles, 'experiment')}"
    judged = f"{valid} valid, {filtered} filtered, {warned} warned"
    lines = [f"Generated {generated}: {judged}; {amount}; at least {at_least(least_s)}"]
    reasons = expansion.reasons()
    meanings: tuple[tuple[Verdict, str], ...] = (("filtered", "filtered"), ("warned", "valid but warned"))
    for verdict, meaning in meanings:
        for reason, count in reasons[verdict].most_common():
            lines.append(f"  {meaning} {count}: {reason}{at_most(expansion.figures, reason)}")
    return [*lines, *_merged(expansion)]


def unjudged(expansion: Expansion) -> list[str]:
    """Return what is not judged for want of a GPU, for one who validates a campaign of another machine."""
    return [
        f"note: not to be judged from here: {reason}; at most {figures} are needed"
        for reason, figures in expansion.unjudged.items()
    ]


def _merged(expansion: Expansion) -> Iterator[str]:
    """Yield which configurations run as another one."""
    for difference, count in expansion.differences.items():
        yield f"  merged {count}: differ from a valid one only in {difference}"
    equal = expansion.merged - sum(expansion.differences.values())
    if equal:
        yield f"  merged {equal}: equal to a valid one, and measured with it"


def resuming(remaining: int, completed: int, failed: int) -> str:
    """Return the line that says what a session continues."""
    return f"Resuming: {remaining} remaining ({completed} completed, {failed} failed)"


def difference(found: Difference) -> list[str]:
    """Return what an edit of the campaign changed, in one line; nothing where it changed nothing."""
    parts = [
        f"{len(labels)} {what} ({shortened(labels)})"
        for what, labels in zip(found._fields, found, strict=True)
        if labels
    ]
    return [f"since the last session: {', '.join(parts)}"] if parts else []


def messages(summary: Summary) -> list[str]:
    """Return what must be said beside the table: on intervals, the machine's behaviour and budgets."""
    return [*summary.messages, *_flags(summary), *_diagnostics(summary), *_verdicts(summary)]


def _flags(summary: Summary) -> Iterator[str]:
    """Yield one line a flag, with the configurations that carry it."""
    carriers: dict[str, list[str]] = {}
    for row in summary.rows:
        for flag, count in row.flags.items():
            carriers.setdefault(flag, []).append(f"{row.label} {count} of {row.n}")
    for flag, labels in carriers.items():
        yield f"! {flag.replace('_', ' ')}: {shortened(labels)}"


def _diagnostics(summary: Summary) -> Iterator[str]:
    """Yield what is flagged; without any, one line that says what was looked for."""
    for diagnostic in summary.diagnostics:
        if diagnostic.flagged:
            yield f"! {diagnostic.text}"
    if summary.diagnostics and not any(diagnostic.flagged for diagnostic in summary.diagnostics):
        names = dict.fromkeys(diagnostic.name for diagnostic in summary.diagnostics)
        yield f"diagnostics: nothing to flag in {', '.join(names)} (numbers in summary.json)"


def _verdicts(summary: Summary) -> Iterator[str]:
    """Yield the verdicts on budgets that a reader must know of: all that were not plainly met."""
    for row in summary.rows:
        for verdict in row.budgets:
            if verdict.outcome != "met":
                yield f"{'! ' if verdict.failed else ''}{row.label}: {verdict.message}"


def health(tally: HealthTally) -> list[str]:
    """Return what happened to the services, and who else was on the GPUs; nothing where there is nothing to tell."""
    parts = [counted(tally.checks, "check")] if tally.checks else []
    parts += [
        f"{counted(count, 'restart')} of {backend}" for backend, count in sorted(tally.restarts.items())
    ]
    if tally.memory_not_freed:
        parts.append(f"GPU memory of an ended engine not freed {counted(tally.memory_not_freed, 'time')}")
    if tally.unavailable_s:
        parts.append(f"{duration(tally.unavailable_s)} without a Docker engine")
    parts += [
        f"{backend} unhealthy since cycle {lost.cycle}: {lost.problem}"
        for backend, lost in sorted(tally.unhealthy.items())
    ]
    lines = [f"health: {', '.join(parts)}"] if parts else []
    if tally.residents:
        lines.append(f"residents, part of every number: {'; '.join(tally.residents)}")
    return lines


def failures(failed: Sequence[Result], *, rerun: Callable[[Result], str], limit: int = 20) -> list[str]:
    """Return why experiments failed and how to run each of them again; one cause is told once.

    Args:
        failed: the latest attempt at each experiment that was never completed.
        rerun: returns the command that runs an experiment again.
        limit: causes that are told one by one, the most frequent first.
    """
    if not failed:
        return []
    causes: dict[tuple[str, str], list[Result]] = {}
    for result in failed:
        causes.setdefault(_cause(result), []).append(result)
    by_frequency = sorted(causes.items(), key=lambda cause: -len(cause[1]))
    lines = [f"{counted(len(failed), 'experiment')} failed: {_by_class(failed)}"]
    for (kind, message), results in by_frequency[:limit]:
        lines += [f"{kind}: {message}", *_evidence(results, rerun)]
    rest = [result for _, results in by_frequency[limit:] for result in results]
    if rest:
        lines.append(f"and {len(rest)} more: {_by_class(rest)}")
    return lines


def _evidence(results: Sequence[Result], rerun: Callable[[Result], str]) -> Iterator[str]:
    """Yield the end of the first one's log, and the commands."""
    failure = results[0].failure
    assert failure is not None
    for line in failure.log_tail.rstrip().splitlines()[-LOG_LINES:]:
        yield f"  | {line}"
    for result in results[:COMMANDS]:
        yield f"  rerun: {rerun(result)}"
    if len(results) > COMMANDS:
        yield f"  and {len(results) - COMMANDS} more experiments with this cause; --lf runs them all"


def _by_class(failed: Sequence[Result]) -> str:
    classes = Counter(_cause(result)[0] for result in failed)
    return ", ".join(f"{kind} {count}" for kind, count in classes.most_common())


def _cause(result: Result) -> tuple[str, str]:
    """Return class and message, the latter in one line."""
    assert result.failure is not None
    return result.failure.kind, " ".join(result.failure.message.split())

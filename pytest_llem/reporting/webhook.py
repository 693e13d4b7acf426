"""What a webhook is told when a session ends (docs/notifications.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pytest_llem.analysis.expenses import SpendingReport
from pytest_llem.records import Result
from pytest_llem.reporting import outlook
from pytest_llem.reporting.names import counted
from pytest_llem.state.run_info import RunInfo

if TYPE_CHECKING:
    from pytest_llem.analysis.summary import Summary

PAYLOAD_SCHEMA_VERSION = 1
"""Raised when a field of the payload changes its meaning or goes."""

Status = Literal["complete", "budget", "partial", "failed", "interrupted", "crashed", "not_started"]
EventName = Literal["complete", "failure"]

EVENTS: Mapping[Status, EventName | None] = MappingProxyType(
    {
        "complete": "complete",
        "budget": "complete",
        "partial": None,
        "failed": "failure",
        "interrupted": "failure",
        "crashed": "failure",
        "not_started": "failure",
    }
)
"""As what each end of a session is told; None: somebody chose some experiments at a prompt, and sees them pass."""

TEXT_CHARACTERS = 1_900
"""Chat services cut a message, or refuse it, from 2,000 on."""

FAILURES_CHARACTERS = 700
"""Of failed experiments within the text."""

TABLE_LINES, TABLE_WIDTH, FAILURES, MESSAGE_CHARACTERS = 60, 100, 5, 300


@dataclass(frozen=True, slots=True)
class Ending:
    """How a session ended.

    Attributes:
        exit_code: pytest's.
        seconds: that it took.
        reason: one sentence on an end before its time; None: there is nothing to tell.
    """

    exit_code: int
    seconds: float
    reason: str | None


@dataclass(frozen=True, slots=True)
class Told:
    """What there is to tell of a run; see the attributes of the session.

    Attributes:
        experiments: of the campaign.
        remaining: those of them that the run still lacks.
        failed: the newest result of those that were tried and never completed.
    """

    campaign: str
    info: RunInfo
    experiments: int
    remaining: int
    failed: Sequence[Result]
    spending: SpendingReport
    summary: Summary | None
    results: Path


def status_of(ending: Ending, told: Told) -> Status:
    """Return the one word for the end of a session, by pytest's exit code."""
    passed: Status = "budget" if told.spending.stopped_by else "partial" if told.remaining else "complete"
    statuses: dict[int, Status] = {0: passed, 2: "interrupted", 3: "crashed", 4: "not_started", 5: passed}
    return statuses.get(ending.exit_code, "failed")


def payload(event: EventName, status: Status, ending: Ending, told: Told) -> dict[str, Any]:
    """Return what is posted: plain values, `text` among them for services that show a message."""
    table = _table(told.summary)
    return {
        "schema_version": PAYLOAD_SCHEMA_VERSION,
        "event": event,
        "status": status,
        "text": _text(status, ending, told, table),
        "campaign": told.campaign,
        "campaign_key": told.info.campaign_key,
        "run_id": told.info.run_id,
        "host": told.info.session.hostname,
        "exit_code": ending.exit_code,
        "reason": ending.reason or told.spending.stopped_by,
        "experiments": told.experiments,
        "completed": told.experiments - told.remaining,
        "failed": len(told.failed),
        "remaining": told.remaining,
        "session_s": ending.seconds,
        "spending": told.spending.model_dump(mode="json"),
        "failures": [_failure(result) for result in told.failed[:FAILURES]],
        "results": str(told.results),
        "table": "\n".join(_cut(table, len("\n".join(table[:TABLE_LINES])))),
        "tool_version": told.info.tool_version,
    }


def _table(summary: Summary | None) -> list[str]:
    """Return the table's lines; none where nothing was completed."""
    if summary is None or not any(row.n for row in summary.rows):
        return []
    from pytest_llem.reporting.table import table  # noqa: PLC0415 - rich: not to collect

    return [line.rstrip() for line in table(summary, width=TABLE_WIDTH, colour=False).splitlines()]


def _cut(lines: list[str], characters: int) -> list[str]:
    """Return as many lines as fit, and how many do not."""
    lengths = accumulate(len(line) + 1 for line in lines)
    kept = sum(1 for _ in takewhile(lambda length: length <= characters + 1, lengths))
    left = len(lines) - kept
    return [*lines[:kept], f"... and {left} lines more"] if left else lines


def _text(status: Status, ending: Ending, told: Told, table: list[str]) -> str:
    done = f"{told.experiments - told.remaining} of {counted(told.experiments, 'experiment')} completed"
    head = [f"{told.campaign} on {told.info.session.hostname}: {status.replace('_', ' ')}, {done}"]
    if reason := ending.reason or told.spending.stopped_by:
        head.append(_short(reason))
    head += outlook.spent(told.spending)[:1]
    causes = [f"{f['experiment_id']}: {f['kind']}: {f['message']}" for f in map(_failure, told.failed)]
    head += _cut(causes, FAILURES_CHARACTERS)
    foot = f"run {told.info.run_id}: {told.results}"
    fence = ["```", "```"] if table else []
    room = TEXT_CHARACTERS - len("\n".join([*head, *fence, foot])) - len("\n... and 10000 lines more\n")
    shown = _cut(table, room) if room > 0 else []
    return "\n".join([*head, *fence[:1], *shown, *fence[1:], foot])[:TEXT_CHARACTERS]


def _failure(result: Result) -> dict[str, str]:
    assert result.failure is not None
    return {
        "experiment_id": result.experiment_id,
        "kind": result.failure.kind,
        "message": _short(result.failure.message),
    }


def _short(message: str) -> str:
    """Return a message in one line of bearable length."""
    line = " ".join(message.split())
    return line if len(line) <= MESSAGE_CHARACTERS else f"{line[: MESSAGE_CHARACTERS - 4]} ..."

"""The rounds of a daemon's series: their table on the terminal, and the files of the series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pytest_llem import __version__
from pytest_llem.reporting.cells import as_page, cells, columns_of
from pytest_llem.reporting.digits import duration
from pytest_llem.reporting.export import SUMMARY_CSV, SUMMARY_JSON, numbers_row, summary_json
from pytest_llem.state.results import ResultStore

if TYPE_CHECKING:
    from pytest_llem.analysis.summary import Summary

SERIES_SUMMARY_SCHEMA_VERSION = 1
"""Raised when a field of a series' summary.json changes its meaning or goes."""


@dataclass(frozen=True, slots=True)
class RoundLine:
    """One round, as it is shown and stored.

    Attributes:
        due, started_at, ended_at: UTC; None while it runs.
        ran_s: that its sessions took.
        completed, asked: experiments; None asked: it never got as far as to know.
        failed: experiments that were tried and never completed.
        outcome: in words.
    """

    number: int
    run_id: str
    due: datetime
    started_at: datetime
    ended_at: datetime | None
    ran_s: float
    completed: int
    failed: int
    asked: int | None
    outcome: str
    exit_code: int | None


def rounds_table(rounds: Sequence[RoundLine]) -> list[str]:
    """Return the rounds, a line each, with their local times."""
    header = ("round", "started", "took", "experiments", "outcome", "run")
    rows = [header, *map(_cells, rounds)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _cells(one: RoundLine) -> tuple[str, ...]:
    took = "" if one.ended_at is None else duration(one.ran_s)
    counts = f"{one.completed} of {one.asked}" if one.asked is not None else "none"
    failed = f", {one.failed} failed" if one.failed else ""
    started = f"{one.started_at.astimezone():%a %Y-%m-%d %H:%M:%S %Z}"
    return str(one.number), started, took, counts + failed, one.outcome, one.run_id


def write_series_summary(
    store: ResultStore, summary: Summary, rounds: Sequence[RoundLine], origin: dict[str, Any]
) -> None:
    """Write summary.json and summary.csv of a series, each atomically.

    Raises:
        StorageError: the disk refuses.
    """
    head = {
        "schema_version": SERIES_SUMMARY_SCHEMA_VERSION,
        **origin,
        "tool_version": __version__,
        "updated": datetime.now(UTC).isoformat(),
    }
    store.write_parts(
        SUMMARY_JSON, summary_json(summary, head | {"rounds": [_stored(one) for one in rounds]})
    )
    axes = list(dict.fromkeys(name for row in summary.rows for name in row.axes))
    rows = [numbers_row(row, axes) | head for row in summary.rows]
    store.write_text(SUMMARY_CSV, as_page(map(cells, rows), columns_of(rows)))


def _stored(one: RoundLine) -> dict[str, Any]:
    return {
        name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
        for name in one.__slots__
        for value in [getattr(one, name)]
    }

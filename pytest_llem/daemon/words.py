"""What the daemon says, one line an event."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from pytest_llem.daemon.clock import Schedule
from pytest_llem.reporting.digits import duration

SHOWN_STARTS = 8


class Speaker:
    """Prints lines and appends them to a log, each at once.

    Args:
        schedule: knows the local time.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self.log: Path | None = None

    def say(self, now_s: float, line: str) -> None:
        """Say one line; nobody who listens any more, and a full disk, are no reason to end."""
        text = f"{self._schedule.local(now_s):%Y-%m-%d %H:%M:%S}  {line}"
        with contextlib.suppress(OSError):
            print(text, flush=True)  # noqa: T201 - a program's output
        if self.log is not None:
            with contextlib.suppress(OSError), self.log.open("a") as file:
                file.write(text + "\n")


def moment(schedule: Schedule, moment_s: float) -> str:
    """Return a time such as `Mon 2026-11-23 02:00:00 CET`."""
    return f"{schedule.local(moment_s):%a %Y-%m-%d %H:%M:%S %Z}"


def every(schedule: Schedule) -> str:
    """Return how a schedule goes on after its first start."""
    if schedule.interval_s is None:
        return "one round"
    steps = f"every {span(schedule.interval_s)}"
    return f"{steps} for {span(schedule.total_s)}" if schedule.total_s else f"{steps} until it is stopped"


def plan(schedule: Schedule, first_s: float, now_s: float) -> Iterator[str]:
    """Yield the starts of a series, a line each; of many the first ones."""
    starts = list(islice(schedule.starts(first_s, now_s - 1), SHOWN_STARTS + 1))
    for start_s in starts[:SHOWN_STARTS]:
        yield f"  {moment(schedule, start_s)} (in {duration(max(0.0, start_s - now_s))})"
    if len(starts) > SHOWN_STARTS:
        yield "  ..."


def span(seconds: int) -> str:
    """Return a whole time in the largest unit of `daemon.interval` that fits: `6h`, `90s`."""
    sizes = (("d", 86_400), ("h", 3600), ("m", 60))
    return next((f"{seconds // size}{unit}" for unit, size in sizes if seconds % size == 0), f"{seconds}s")

"""Tells a campaign's owner what no session of a round can tell: that one was lost, and how the series ended."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pytest_llem import __version__
from pytest_llem.daemon.series import Round, Series, completed
from pytest_llem.notify import send

VARIABLE = "LLEM_NOTIFY"
"""How the session that becomes the daemon hands the address over: arguments are for all users to see. Rounds, which
read the campaign themselves, do not get it."""

MESSAGE_SCHEMA_VERSION = 1
"""Raised when a field of a message changes its meaning or goes."""

TEXT_CHARACTERS = 1_900
"""Chat services cut a message, or refuse it, from 2,000 on."""

TABLE_WITHIN_S = 120.0

Status = Literal["round_lost", "series_complete", "series_failed", "series_interrupted"]


@dataclass(frozen=True, slots=True)
class Herald:
    """Whom to tell, and of what.

    Attributes:
        url: of the webhook; None: nobody.
        on: events, `complete` and `failure`.
    """

    url: str | None = None
    on: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls) -> Self:
        """Take over what the session handed over, and take it out of the environment."""
        told = json.loads(os.environ.pop(VARIABLE, "{}"))
        return cls(told.get("url"), tuple(told.get("on", ())))

    def environment(self) -> dict[str, str]:
        """Return the variable that hands it over; none where nobody is told."""
        return {VARIABLE: json.dumps({"url": self.url, "on": self.on})} if self.url else {}

    def tell_lost(self, folder: Path, series: Series, lost: Round) -> str | None:
        """Tell of a round whose session could not tell its end itself; return why that failed."""
        if "failure" not in self.on:
            return None
        head = f"{_who(series)}: round {lost.number} {lost.how()}"
        return self._send("round_lost", folder, series, [head], exit_code=lost.exit_code)

    def tell_end(self, folder: Path, series: Series, exit_code: int) -> str | None:
        """Tell how the series ended, with its tables; return why that failed."""
        status: Status = "series_complete" if exit_code == 0 else "series_failed"
        if not series.ended:
            status = "series_interrupted"
        if _event_of(status) not in self.on:
            return None
        done = f"{completed(series.rounds)} of {len(series.rounds)} rounds completed"
        head = f"{_who(series)}: {status.replace('_', ' ')}, {done}"
        return self._send(status, folder, series, [head, *_tables(folder)], exit_code=exit_code)

    def _send(
        self, status: Status, folder: Path, series: Series, lines: Sequence[str], *, exit_code: int | None
    ) -> str | None:
        if self.url is None:
            return None
        message: dict[str, Any] = {
            "schema_version": MESSAGE_SCHEMA_VERSION,
            "event": _event_of(status),
            "status": status,
            "text": "\n".join(_within(lines, TEXT_CHARACTERS)),
            "campaign": series.campaign,
            "series_id": series.id,
            "host": socket.gethostname(),
            "exit_code": exit_code,
            "rounds": len(series.rounds),
            "completed": completed(series.rounds),
            "results": str(folder),
            "tool_version": __version__,
        }
        return send(self.url, message)


def _event_of(status: Status) -> str:
    return "complete" if status == "series_complete" else "failure"


def _who(series: Series) -> str:
    return f"{series.campaign} on {socket.gethostname()}, series {series.id}"


def _tables(folder: Path) -> list[str]:
    """Return what is shown of the series, as the analysis prints it; nothing where that fails."""
    command = [sys.executable, "-P", "-m", "pytest_llem", "rounds", str(folder)]
    environment = os.environ | {"COLUMNS": "100"}
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            command, env=environment, capture_output=True, check=False, text=True, timeout=TABLE_WITHIN_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    return ["```", *lines, "```"] if lines else []


def _within(lines: Sequence[str], characters: int) -> list[str]:
    """Return as many lines as fit; a code block that was cut is closed."""
    kept: list[str] = []
    for line in lines:
        if sum(len(one) + 1 for one in kept) + len(line) > characters - len("\n...\n```"):
            return [*kept, "...", "```"] if "```" in kept else [*kept, "..."]
        kept.append(line)
    return kept

"""The account of a series: its schedule's first start and its rounds, in one file that is whole at any moment."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Literal

from pytest_llem.state.run_id import RUN_ID, new_run_id

SERIES_SCHEMA_VERSION = 1
"""Raised when a field of series.json changes its meaning or goes."""

SERIES_FILE = "series.json"
SERIES_FOLDER = "series"
"""Where the series of a campaign lie, beside its runs, with the two locks and the mark of `Assignment.told`."""

LOCK_FILE, LEASH_FILE, TOLD_FILE = ".lock", ".leash", ".told"

Outcome = Literal["running", "passed", "failed", "crashed", "interrupted", "cut"]
"""Of a round: `crashed` is any end that is not pytest's 0 or 1; `interrupted` goes on when the daemon starts again;
`cut` was ended by `daemon.total_duration`."""


Stopped = Literal["interrupted", "cut"]
"""Why a round was asked to end early."""


class SeriesError(Exception):
    """The account of a series cannot be read; the message names the file and what to do."""


@dataclass(slots=True)
class Round:
    """One round.

    Attributes:
        number: from 1.
        run_id: its own run.
        due, started_at, ended_at: Unix times in s; a round that went on after an interruption keeps its first start.
        ran_s: that its sessions took, without the pause of an interruption; what a killed daemon did not see is not in.
        exit_code: pytest's; negative: the signal that killed it; None: it has none yet, or could not be started.
    """

    number: int
    run_id: str
    due: float
    started_at: float
    outcome: Outcome = "running"
    ended_at: float | None = None
    ran_s: float = 0.0
    exit_code: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is to go on when the daemon starts again; `running` in a file without a daemon is so too."""
        return self.outcome in ("running", "interrupted")

    def go_on(self) -> None:
        """Note that a session of it begins."""
        self.outcome, self.ended_at, self.exit_code = "running", None, None

    def end(self, now_s: float, ran_s: float, exit_code: int | None, stopped: Stopped | None) -> None:
        """Note how a session of it ended; `stopped` is why it was asked to, and counts only if it did end early."""
        self.ended_at, self.exit_code = now_s, exit_code
        self.ran_s += ran_s
        if exit_code in (0, 1):
            self.outcome = "failed" if exit_code else "passed"
        else:
            self.outcome = stopped or "crashed"

    def how(self) -> str:
        """Return its outcome in words."""
        if self.outcome != "crashed":
            return self.outcome
        if self.exit_code is None:
            return "could not be started"
        if self.exit_code < 0:
            return f"killed by {_signal_name(-self.exit_code)}"
        return f"ended with pytest's exit code {self.exit_code}"


@dataclass(slots=True)
class Series:
    """The rounds of one daemon.

    Attributes:
        id: of the form of a run's; it sorts by time.
        campaign, campaign_sha256: name, and hash of what it says.
        points_sha256: hash of what is measured: files that the campaign names, and the machine, are in it. Another
            one of the two is another series.
        executor: where all its rounds run.
        first_start: Unix time in s, from which all starts are counted.
        ended: whether it has no more rounds to start.
    """

    schema_version: int = field(default=SERIES_SCHEMA_VERSION, kw_only=True)
    id: str
    campaign: str
    campaign_sha256: str
    points_sha256: str
    executor: str
    first_start: float
    ended: bool = False
    rounds: list[Round] = field(default_factory=list)

    def begin_round(self, due_s: float, now_s: float) -> Round:
        """Add the round that begins now."""
        run_id = new_id(now_s)
        self.rounds.append(Round(len(self.rounds) + 1, run_id, due_s, now_s))
        return self.rounds[-1]

    def open_round(self) -> Round | None:
        """Return the round that was interrupted, if the last one was."""
        return self.rounds[-1] if self.rounds and self.rounds[-1].is_open else None

    def having(self, *outcomes: Outcome) -> list[Round]:
        """Return the rounds with one of these outcomes."""
        return [one for one in self.rounds if one.outcome in outcomes]

    @property
    def exit_code(self) -> int:
        """0: every round that ran to its end passed; 1: one did not."""
        return 1 if self.having("failed", "crashed") else 0


def new_id(now_s: float) -> str:
    """Return the id of a run or series that begins now."""
    return new_run_id(datetime.fromtimestamp(now_s, UTC), Random())  # noqa: S311 - a name, not a secret


def newest(folder: Path) -> Path | None:
    """Return the folder of the newest series below `folder`."""
    found = [path.parent for path in folder.glob(f"*/{SERIES_FILE}") if RUN_ID.fullmatch(path.parent.name)]
    return max(found, default=None, key=lambda path: path.name)


def unfinished(folder: Path) -> Series | None:
    """Return the newest series below `folder` if it has not ended.

    Raises:
        SeriesError: its account cannot be read.
    """
    path = newest(folder)
    series = read(path) if path else None
    return None if series is None or series.ended else series


def find(folder: Path) -> Path:
    """Return the folder of a series: the one that is named, or the newest of a campaign's results.

    Raises:
        SeriesError: there is none.
    """
    found = folder if (folder / SERIES_FILE).exists() else newest(folder / SERIES_FOLDER)
    if found is None:
        raise SeriesError(
            f"{folder} is neither the folder of a series nor one with a series of a campaign in it"
        )
    return found


def read(folder: Path) -> Series:
    """Return the series in a folder.

    Raises:
        SeriesError: there is none, or it is not one that this version knows.
    """
    path = folder / SERIES_FILE
    try:
        found = json.loads(path.read_text(), object_hook=_in_unix_time)
        if found["schema_version"] > SERIES_SCHEMA_VERSION:
            raise SeriesError(f"{path} is of a newer version: update pytest-llem")
        return Series(**found | {"rounds": [Round(**one) for one in found["rounds"]]})
    except FileNotFoundError:
        raise SeriesError(f"there is no {path}: name the folder of a series") from None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise SeriesError(
            f"{path} cannot be read ({error}): move its folder away to begin a new series"
        ) from error


def write(folder: Path, series: Series) -> None:
    """Put the account on disk: a reader, and a power failure, sees the old one or the new.

    Raises:
        OSError: the disk refuses.
    """
    path = folder / SERIES_FILE
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        file.write(_as_json(series))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_TIMES = ("first_start", "due", "started_at", "ended_at")


def _as_json(series: Series) -> str:
    """Return the account as text, a line each round."""
    head = json.dumps(_stored(series) | {"rounds": []}).removesuffix("]}")
    rounds = ",\n".join(json.dumps(_stored(one)) for one in series.rounds)
    return f"{head}\n{rounds}\n]}}\n"


def _stored(record: Series | Round) -> dict[str, Any]:
    """Return the fields of a record, times in ISO 8601."""
    found = {name: getattr(record, name) for name in record.__slots__}
    times = {
        name: datetime.fromtimestamp(found[name], UTC).isoformat()
        for name in _TIMES
        if found.get(name) is not None
    }
    return found | times


def _in_unix_time(found: dict[str, Any]) -> dict[str, Any]:
    return found | {
        name: datetime.fromisoformat(found[name]).timestamp()
        for name in _TIMES
        if found.get(name) is not None
    }


def _signal_name(number: int) -> str:
    """Return such as `SIGKILL`; most real-time signals have a number only."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def completed(rounds: Iterable[Round]) -> int:
    """Return how many rounds ran to their end."""
    return sum(one.outcome in ("passed", "failed") for one in rounds)

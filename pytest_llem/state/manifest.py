"""The journal of a run: one JSON line an event, appended and synced, one file a writer.

A transition costs one short append however long the run is, and nothing is kept in memory. `fold` reads
the journals of a run back and says how far each experiment got. A journal may lose its last line (a power
failure) or be deleted (`--cache-clear`): `run.py` holds it against the results on disk, which are the truth.

Every line has `at` (UTC) and `event`. The events of an experiment also have `spec_hash`, `cycle`,
`experiment_id` and `attempt`:

    running    an attempt begins
    completed  its result is on disk: `result` (path in the run's folder), `bytes`, `started_at`,
               `completed_at`
    failed     likewise, with `failure_kind` and `message`
    lost       the file of a finished attempt is gone or damaged

Those about the health of a service have `backend` and `cycle`, and are counted (`health.py`):

    health_check   it was looked at, for a `reason`; `problem` is null if it is healthy
    restart        it was restarted because of `why`, in `took_s`; `problem` is null if it came up
    unhealthy      it was given up because of `problem`, after so many `restarts`
    recovered      it is used again
    memory_not_freed   the GPU memory of an ended engine was not free in time: `problem`
    unavailable    the Docker engine or host was gone (no `backend`): `problem`, `waited_s`, `is_back`

`opened` heads a journal and each later session in it. Other events are for human readers: `gap`, `conditioning`,
`service_started`, and `renewed`, the new service of a cold start (both with `took_s`, `problem`).
"""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

from pytest_llem.records import Result
from pytest_llem.state.health import HealthTally
from pytest_llem.state.results import DamagedFileError, make_folder, storage, sync_folder

JOURNAL_SCHEMA_VERSION = 1
"""Raised when an event changes its meaning; a new event or field does not raise it."""

Event = dict[str, Any]
Key = tuple[str, int]
"""What identifies an experiment across sessions: spec hash and cycle, never the id."""

StatusName = Literal["pending", "running", "completed", "failed"]
_STATUS_AFTER: dict[str, StatusName] = {
    "running": "running",
    "completed": "completed",
    "failed": "failed",
    "lost": "pending",
}


def new_event(event: str, /, **fields: Any) -> Event:
    """Return an event that happens now."""
    return {"at": datetime.now(UTC).isoformat(), "event": event, **fields}


def finished_event(result: Result, path: str, size: int) -> Event:
    """Return the event that says: this attempt is over, and its result of `size` bytes lies in `path`."""
    event = new_event(
        result.status,
        spec_hash=result.spec_hash,
        cycle=result.cycle,
        experiment_id=result.experiment_id,
        attempt=result.attempt,
        started_at=result.started_at.isoformat(),
        completed_at=result.completed_at.isoformat(),
        result=path,
        bytes=size,
    )
    if result.failure:
        event |= {"failure_kind": result.failure.kind, "message": result.failure.message}
    return event


class Journal:
    """One writer's file. `Journal(None, {})` keeps nothing, for a session without a cache.

    Args:
        path: the file, `<writer>.jsonl`; an existing one is continued on a fresh line.
        header: what the line that opens this session's part says (run id, campaign key, versions).

    Raises:
        StorageError: the file cannot be written, here and in `append`; appending may be tried again.
    """

    def __init__(self, path: Path | None, header: Mapping[str, Any]) -> None:
        self._file = None
        if path is None:
            return
        self._path = path
        with storage(path):
            make_folder(path.parent)
            self._file = path.open("ab", buffering=0)
            self._inside_line = _ends_inside_line(path)
            sync_folder(path.parent)
        try:
            self.append("opened", schema_version=JOURNAL_SCHEMA_VERSION, pid=os.getpid(), **header)
        except BaseException:
            self.close()
            raise

    def append(self, event: str, /, **fields: Any) -> None:
        """Write one event that happens now; it is on disk when this returns."""
        self.extend([new_event(event, **fields)])

    def extend(self, events: Iterable[Event]) -> None:
        """Write many events with one sync."""
        if self._file is None:
            return
        text = "".join(json.dumps(event, allow_nan=False, separators=(",", ":")) + "\n" for event in events)
        data = memoryview(b"\n" * self._inside_line + text.encode())
        with storage(self._path):
            self._inside_line = True  # until all of it is known to be on disk
            while data:
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
            self._inside_line = False

    def close(self) -> None:
        """Close the file; nothing is appended afterwards."""
        if self._file is not None:
            self._file.close()


def _ends_inside_line(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


@dataclass(slots=True)
class Status:
    """How far one attempt at an experiment got.

    Attributes:
        status: `pending` only after the attempt's result was lost.
        started_at, completed_at: UTC.
        result: path of the result in the run's folder, of `size` bytes; None until the attempt is over.
        failure_kind, message: of a failed attempt.
    """

    spec_hash: str
    cycle: int
    experiment_id: str
    attempt: int
    status: StatusName
    started_at: datetime | None = None
    completed_at: datetime | None = None
    result: str | None = None
    size: int | None = None
    failure_kind: str | None = None
    message: str | None = None

    @property
    def key(self) -> Key:
        """The experiment that this was an attempt at."""
        return self.spec_hash, self.cycle


@dataclass
class Ledger:
    """What the journals of a run say.

    Attributes:
        attempts: by experiment id and number, in the order in which they began.
        health: what they say of the services.
        damaged_lines: lines that were skipped; the torn last line of a file is not counted.
    """

    attempts: dict[tuple[str, int], Status] = field(default_factory=dict)
    health: HealthTally = field(default_factory=HealthTally)
    damaged_lines: int = 0

    def apply(self, event: Event) -> None:
        """Take in one event; those that are about neither an experiment nor health change nothing.

        Raises:
            KeyError, TypeError, ValueError: the event lacks what its kind must have.
        """
        self.health.apply(event)
        if event["event"] not in _STATUS_AFTER:
            return
        status = _status(event)
        identity = status.experiment_id, status.attempt
        if status.status == "running":
            self.attempts.pop(identity, None)  # begun again: it is now the latest
        self.attempts[identity] = status

    def statuses(self) -> dict[Key, Status]:
        """Return the status of each experiment: that of its latest finished attempt, else of its latest.

        So an attempt that was killed does not hide the one before it. `running` is what the journal heard
        last: the holder of the run's lock knows that it means pending.
        """
        latest: dict[Key, Status] = {}
        for status in self.attempts.values():
            known = latest.get(status.key)
            if known is None or known.result is None or status.result is not None:
                latest[status.key] = status
        return latest


def _status(event: Event) -> Status:
    status = Status(
        spec_hash=event["spec_hash"],
        cycle=event["cycle"],
        experiment_id=event["experiment_id"],
        attempt=event["attempt"],
        status=_STATUS_AFTER[event["event"]],
    )
    if status.status == "running":
        status.started_at = datetime.fromisoformat(event["at"])
    elif status.status in {"completed", "failed"}:
        status.started_at = datetime.fromisoformat(event["started_at"])
        status.completed_at = datetime.fromisoformat(event["completed_at"])
        status.result = event["result"]
        status.size = event["bytes"]
        status.failure_kind = event.get("failure_kind")
        status.message = event.get("message")
    return status


def fold(paths: Iterable[Path]) -> Ledger:
    """Read the journals of a run, in any order, as one.

    Events of different writers are merged by time; within a file the order of lines rules, whatever the
    clock did.

    Raises:
        DamagedFileError: a journal was written by a newer version.
    """
    ledger = Ledger()
    streams = [_events(path, ledger) for path in sorted(paths)]
    for _, event in heapq.merge(*streams, key=itemgetter(0)):
        try:
            ledger.apply(event)
        except (KeyError, TypeError, ValueError):
            ledger.damaged_lines += 1
    return ledger


def _events(path: Path, ledger: Ledger) -> Iterator[tuple[float, Event]]:
    """Yield the events of one file with their Unix times; count the damaged lines in `ledger`."""
    with path.open("rb") as lines:
        for line in lines:
            if line.isspace():
                continue  # left by a write that failed and was tried again
            try:
                event = json.loads(line)
                at = datetime.fromisoformat(event["at"]).timestamp()
                newer = event["event"] == "opened" and event["schema_version"] > JOURNAL_SCHEMA_VERSION
            except (KeyError, TypeError, ValueError):
                ledger.damaged_lines += line.endswith(b"\n")
                continue
            if newer:
                raise DamagedFileError(
                    f"{path} is of a newer version; update pytest-llem or start a new run without --lf"
                )
            yield at, event

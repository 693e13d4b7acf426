"""A run's files, its lock, and what a session finds when it continues a run.

`Runs` is all runs of one campaign, `Run` is the one that this session writes, and `Standing` is how far it
got: the journals folded, then held against the results on disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from pytest_llem.records import Result
from pytest_llem.state import reserve
from pytest_llem.state.health import HealthTally
from pytest_llem.state.manifest import Event, Journal, Key, Ledger, Status, finished_event, fold, new_event
from pytest_llem.state.results import (
    EXPERIMENTS,
    DamagedFileError,
    ResultStore,
    StorageError,
    make_folder,
    storage,
)
from pytest_llem.state.run_id import RUN_ID
from pytest_llem.state.run_info import RUN_SCHEMA_VERSION, RunInfo

if TYPE_CHECKING:
    from filelock import BaseFileLock

RUN_FILE = "run.json"
LOCK_FILE = ".lock"


class RunBusyError(Exception):
    """Another session writes this run; the message says which process, and what to do."""


@dataclass
class Standing:
    """How far a run got.

    Attributes:
        results: where its results lie.
        statuses: by spec hash and cycle; what is absent, pending or running here has yet to run.
        corrections: the lines that the journals lack to agree with the disk; already part of `statuses`.
        damaged: one sentence on each thing that could not be read.
        health: of the services, over all sessions.
    """

    results: ResultStore
    statuses: dict[Key, Status]
    corrections: list[Event]
    damaged: list[str]
    health: HealthTally

    def having(self, status: Literal["completed", "failed"]) -> dict[Key, Status]:
        """Return the experiments with this status."""
        return {key: found for key, found in self.statuses.items() if found.status == status}

    def load_completed(self) -> Iterator[Result]:
        """Read the result of each completed experiment.

        A file that was altered without a change of its size is found only here: it is added to `damaged`
        and its experiment becomes pending. So read before choosing what to run.
        """
        for status in self.having("completed").values():
            try:
                yield self.results.read(self.results.folder / str(status.result))
            except DamagedFileError as error:
                self.damaged.append(str(error))
                status.status = "pending"

    def load_others(self) -> Iterator[Result]:
        """Read the attempts that have no part in the analysis: those that failed, or were replaced by a later one."""
        kept = {str(status.result) for status in self.having("completed").values()}
        others = (self.results.folder / name for name in self.results.sizes() if name not in kept)
        return (result for _, result in self.results.scan(others))


@dataclass
class Run:
    """The run that this process writes.

    Attributes:
        health: of its services, that of earlier sessions included.
    """

    info: RunInfo
    results: ResultStore
    journal: Journal
    lock: BaseFileLock | None
    health: HealthTally = field(default_factory=HealthTally)

    def note(self, event: str, /, **facts: Any) -> None:
        """Put an event into the journal, and count it if it is about health."""
        happened = new_event(event, **facts)
        self.health.apply(happened)
        self.journal.extend([happened])

    def begin(self, experiment_id: str, spec_hash: str, cycle: int) -> int:
        """Note that an attempt begins and return its number."""
        attempt = self.results.next_attempt(experiment_id)
        self.journal.append(
            "running", spec_hash=spec_hash, cycle=cycle, experiment_id=experiment_id, attempt=attempt
        )
        return attempt

    def record(self, result: Result) -> Path:
        """Put a result on disk, then note it in the journal; return the file's path.

        Raises:
            StorageError: one of the two failed. A result that is on disk counts even if it was not noted. On a
                full disk the result goes into the space that was reserved for it, and the message says so.
        """
        try:
            return self._record(result)
        except StorageError as error:
            if not self.results.path_of(result.experiment_id, result.attempt).exists():
                if not reserve.release(self.results.folder):
                    raise
                self._record(result)
            raise StorageError(f"{error} (the result of {result.experiment_id} is stored)") from error

    def close(self) -> None:
        """Close the journal and let other sessions in."""
        self.journal.close()
        if self.lock is not None:
            reserve.release(self.results.folder)
            self.lock.release()

    def _record(self, result: Result) -> Path:
        path = self.results.write(result)
        self.journal.extend([finished_event(result, self.results.name_of(path), path.stat().st_size)])
        return path


@dataclass(frozen=True)
class Runs:
    """The runs of one campaign.

    Attributes:
        cache_dir: the `llem` folder in pytest's cache, home of the journals; None without a cache.
        results_dir: the campaign's `io.results_dir`.
    """

    cache_dir: Path | None
    results_dir: Path
    campaign_key: str

    def newest(self) -> str | None:
        """Return the id of the newest run that has a result; one that ended before its first has nothing to offer."""
        folders = (self.results_dir / self.campaign_key).glob(f"*/{EXPERIMENTS}/")
        return max(filter(RUN_ID.fullmatch, (folder.parent.name for folder in folders)), default=None)

    def results(self, run_id: str) -> ResultStore:
        """Return the store of a run's results."""
        return ResultStore(self.results_dir / self.campaign_key / run_id)

    def info(self, run_id: str) -> RunInfo | None:
        """Return what a run's `run.json` says; None if it has none.

        Raises:
            DamagedFileError: it was altered, or written by a newer version.
        """
        path = self.results(run_id).folder / RUN_FILE
        try:
            return RunInfo.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise DamagedFileError(
                f"{path} does not describe a run in schema version {RUN_SCHEMA_VERSION}; "
                "without --lf a new run begins; this one wants the version of pytest-llem that wrote it"
            ) from error

    def survey(self, run_id: str) -> Standing:
        """Find out how far a run got, and write nothing."""
        results = self.results(run_id)
        journals = self._journals(run_id)
        ledger = fold(journals.glob("*.jsonl") if journals else ())
        corrections = reconcile(ledger, results)
        damaged = [str(error) for error in results.damaged]
        if ledger.damaged_lines:
            damaged.append(f"{ledger.damaged_lines} damaged lines in {journals} were skipped")
        return Standing(results, ledger.statuses(), corrections, damaged, ledger.health)

    def open(self, info: RunInfo) -> tuple[Run, Standing]:
        """Take a run's lock, clear what dead sessions left, and make its journals agree with its results.

        Raises:
            RunBusyError: another session holds the run.
            StorageError: the disk refuses.
            DamagedFileError: a newer version wrote the run.
        """
        results = self.results(info.run_id)
        with ExitStack() as undo:
            lock = self._lock(info.run_id)
            undo.callback(lock.release)
            results.sweep()
            results.write_text(RUN_FILE, info.model_dump_json(indent=2) + "\n")
            standing = self.survey(info.run_id)
            reserve.take(results.folder)
            run = self._run(info, "main", lock)
            undo.callback(run.journal.close)
            run.journal.extend(standing.corrections)
            run.health = standing.health
            run.health.unhealthy.clear()  # those services ended with their session
            undo.pop_all()
        return run, standing

    def join(self, info: RunInfo, writer: str) -> Run:
        """Return a run whose lock another process of the same session holds, for an xdist worker."""
        return self._run(info, writer, lock=None)

    def _run(self, info: RunInfo, writer: str, lock: BaseFileLock | None) -> Run:
        journals = self._journals(info.run_id)
        header = {
            "run_id": info.run_id,
            "campaign_key": self.campaign_key,
            "session_id": info.session.id,
            "tool_version": info.tool_version,
        }
        journal = Journal(journals / f"{writer}.jsonl" if journals else None, header)
        return Run(info, self.results(info.run_id), journal, lock)

    def _journals(self, run_id: str) -> Path | None:
        return self.cache_dir / self.campaign_key / run_id if self.cache_dir else None

    def _lock(self, run_id: str) -> BaseFileLock:
        from filelock import FileLock, Timeout  # noqa: PLC0415 - it brings asyncio: not to collect

        path = self.results(run_id).folder / LOCK_FILE
        with storage(path):
            make_folder(path.parent)
            lock = FileLock(path, thread_local=False)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                raise RunBusyError(self._busy(run_id)) from None
        return lock

    def _busy(self, run_id: str) -> str:
        info = self.info(run_id)
        holder = f"process {info.session.pid} on {info.session.hostname}" if info else "another process"
        return f"run {run_id} is being written by {holder}; wait for it, or start a new run without --lf"


def reconcile(ledger: Ledger, results: ResultStore) -> list[Event]:
    """Make `ledger` agree with the results on disk and return the events that this took.

    A file that the journals know, of the size they know, is believed unread; only others are read. A sound
    file without a line (the session was killed between the two) is entered; a line without a sound file is
    `lost`.
    """
    known = {status.result: status for status in ledger.attempts.values() if status.result is not None}
    sizes = results.sizes()
    believed = {name for name, size in sizes.items() if name in known and known[name].size == size}
    found = [
        finished_event(result, results.name_of(path), path.stat().st_size)
        for path, result in results.scan(results.folder / name for name in sizes if name not in believed)
    ]
    found.sort(key=itemgetter("completed_at"))  # UTC, so the text sorts by time
    sound = believed.union(event["result"] for event in found)
    lost = [_lost(status) for name, status in known.items() if name not in sound]
    for event in [*lost, *found]:
        ledger.apply(event)
    return [*lost, *found]


def _lost(status: Status) -> Event:
    return new_event(
        "lost",
        spec_hash=status.spec_hash,
        cycle=status.cycle,
        experiment_id=status.experiment_id,
        attempt=status.attempt,
    )

"""The results of one run on disk: each attempt one JSON file, whole or absent at any moment.

A file is written under a temporary name, synced, renamed, and its folder synced; a killed session or a full
disk leaves at most a temporary file, which is never read. These files are the truth about what has run; the
journal (`manifest.py`) is the quick way to it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pytest_llem.records import RESULT_SCHEMA_VERSION, Result

EXPERIMENTS = "experiments"
TEMPORARY_SUFFIX = ".tmp"
_ATTEMPT = re.compile(r"attempt-([1-9][0-9]*)\.json")
_REMEDIES = {
    errno.ENOSPC: "free some space and continue with --lf",
    errno.EDQUOT: "free some space in your quota and continue with --lf",
    errno.EROFS: "make the file system writable and continue with --lf",
    errno.EACCES: "make the folder writable and continue with --lf",
    errno.EPERM: "make the folder writable and continue with --lf",
}


class StorageError(Exception):
    """A file of a run could not be written. One sentence: the path, the reason, what to do."""


class DamagedFileError(ValueError):
    """A file of a run that is cut short, altered, misplaced or of a newer version; the message names it."""


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn an operating system's error on the way to `path` into a `StorageError`."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "repair the file system and continue with --lf")
        raise StorageError(f"cannot write {path}: {error.strerror or error}; {remedy}") from error


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents so that they outlast a power failure."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems sync names by themselves and refuse this
            raise
    finally:
        os.close(descriptor)


def atomic_write(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write `data` to `path`, replacing what is there: a reader sees the old bytes or the new, never a part.

    Args:
        path: the file.
        data: all of it, or its parts one by one, so that they need not be in memory together.

    Raises:
        StorageError: the data is not (durably) there; no temporary file is left.
    """
    with atomic_file(path) as file:
        file.writelines([data] if isinstance(data, bytes) else data)


@contextmanager
def atomic_file(path: Path) -> Iterator[BufferedWriter]:
    """Give a file to write that becomes `path` when the block ends well; see `atomic_write`."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    with storage(path):
        make_folder(path.parent)
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def _files_below(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """Yield every file under `folder`, at any depth; none if it does not exist."""
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files_below(entry.path)
            else:
                yield entry


class ResultStore:
    """The folder of one run, `<results_dir>/<campaign key>/<run id>`.

    Nothing is created before the first write.

    Attributes:
        folder: the run's folder.
        damaged: what `scan` could not read, in the order of discovery.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: list[DamagedFileError] = []

    def path_of(self, experiment_id: str, attempt: int) -> Path:
        """Return the file of one attempt."""
        return self.folder / EXPERIMENTS / experiment_id / f"attempt-{attempt}.json"

    def name_of(self, path: Path) -> str:
        """Return the path in the run's folder, as journals and reports name it on any machine."""
        return path.relative_to(self.folder).as_posix()

    def next_attempt(self, experiment_id: str) -> int:
        """Return the number after the highest on disk, damaged files included; the first is 1."""
        names = (entry.name for entry in _files_below(self.folder / EXPERIMENTS / experiment_id))
        numbers = (int(match[1]) for match in map(_ATTEMPT.fullmatch, names) if match)
        return max(numbers, default=0) + 1

    def write(self, result: Result) -> Path:
        """Put `result` on disk and return its path.

        Raises:
            StorageError: the disk refused, or this attempt is already there; nothing partial is left.
        """
        path = self.path_of(result.experiment_id, result.attempt)
        # Test and rename are two steps: the run's lock keeps every other session out.
        if path.exists():
            raise StorageError(
                f"cannot write {path}: this attempt is on disk already and is never overwritten"
            )
        atomic_write(path, result.model_dump_json(indent=2).encode() + b"\n")
        return path

    def write_text(self, name: str, text: str) -> Path:
        """Write a file of the run beside its experiments, atomically, and return its path."""
        return self.write_parts(name, [text])

    def write_parts(self, name: str, parts: Iterable[str]) -> Path:
        """Do the same with a text whose parts come one by one."""
        path = self.folder / name
        atomic_write(path, (part.encode() for part in parts))
        return path

    def write_json(self, name: str, value: Any) -> Path:
        """Write `value` as JSON (`NaN` and infinities are refused with a ValueError)."""
        return self.write_text(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    def read(self, path: Path) -> Result:
        """Return the result in `path`.

        Raises:
            DamagedFileError: the file is missing, cut short, altered, of a newer version, or was moved here.
        """
        try:
            result = Result.model_validate_json(path.read_bytes())
        except OSError as error:
            raise DamagedFileError(f"{path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise DamagedFileError(
                f"{path} is no result of schema version {RESULT_SCHEMA_VERSION}: {where}: {first['msg']}"
            ) from error
        if result.schema_version > RESULT_SCHEMA_VERSION:
            raise DamagedFileError(
                f"{path} has schema version {result.schema_version}; update pytest-llem to read it"
            )
        if path != self.path_of(result.experiment_id, result.attempt):
            raise DamagedFileError(
                f"{path} holds attempt {result.attempt} at {result.experiment_id!r}; move it back"
            )
        return result

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of every attempt's file, unread, by its path in the run's folder."""
        start = len(str(self.folder)) + 1
        return {
            entry.path[start:]: entry.stat().st_size
            for entry in _files_below(self.folder / EXPERIMENTS)
            if _ATTEMPT.fullmatch(entry.name)
        }

    def scan(self, paths: Iterable[Path] | None = None) -> Iterator[tuple[Path, Result]]:
        """Yield each readable attempt of `paths` (all by default); collect the others in `damaged`."""
        for path in (self.folder / name for name in sorted(self.sizes())) if paths is None else paths:
            try:
                yield path, self.read(path)
            except DamagedFileError as error:
                self.damaged.append(error)

    def sweep(self) -> None:
        """Remove the temporary files of dead writers. Only for the holder of the run's lock."""
        left = [Path(e.path) for e in _files_below(self.folder) if e.name.endswith(TEMPORARY_SUFFIX)]
        for path in left:
            with storage(path):
                path.unlink(missing_ok=True)

"""Slots: what one experiment occupies alone, a GPU of this machine or its CPU, held by a file lock.

Two sessions on one slot would measure each other; so the second waits, and says for whom. The lock is the
kernel's (`flock`). It is gone with its process, however that ends, and child processes do not inherit it. The
file itself stays; it holds the words that say who holds it, which mean nothing once the lock is free.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import pwd
import time
from collections.abc import Callable, Generator, Iterable
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from pytest_llem.executors.base import ExecutorError

CPU = "cpu"
"""The slot of a session without a GPU."""

FOLDER_VARIABLE = "LLEM_SLOTS_DIR"

DEFAULT_FOLDER = Path("/tmp/pytest-llem-slots")  # noqa: S108 - see below
"""One place for all users of a machine. `TMPDIR` would give users, and jobs, one each, where they never meet."""

FOLDER_MODE = 0o1777
FILE_MODE = 0o1666
"""All users may lock; the sticky bit keeps cleaners of /tmp away (XDG Base Directory Specification)."""

POLL_S = 0.2
TELL_EVERY_S = 1.0
LONGEST_WORDS_BYTES = 1000
NO_WORDS = "another session"


class Slot:
    """The slots of one session, taken together and given back together, at the latest with this object.

    Args:
        names: UUIDs of GPUs; none: the CPU.
        campaign: what the session does, for those who wait.
    """

    def __init__(self, names: Iterable[str], campaign: str) -> None:
        self._names = sorted(set(names)) or [CPU]
        self._campaign = campaign
        self._locks: list[FileIO] = []

    def acquire(self, on_wait: Callable[[str], None], poll_s: float = POLL_S) -> None:
        """Take the slots, and wait while another session holds one.

        All sessions take theirs in the order of the names, so no two wait for each other.

        Args:
            on_wait: is told who is waited for, at once and then each second.
            poll_s: between two tries.

        Raises:
            ExecutorError: the locks cannot be used here.
        """
        try:
            for name in self._names:
                self._locks.append(self._wait_for(name, on_wait, poll_s))
        except BaseException:  # Ctrl-C as well
            self.release()
            raise

    def release(self) -> None:
        """Give back what is held."""
        while self._locks:
            lock = self._locks.pop()
            fcntl.flock(lock, fcntl.LOCK_UN)  # closing would leave it to a forked child
            lock.close()

    def _wait_for(self, name: str, on_wait: Callable[[str], None], poll_s: float) -> FileIO:
        told_s = -TELL_EVERY_S
        while (lock := _try_lock(name)) is None:
            if time.monotonic() - told_s >= TELL_EVERY_S:
                on_wait(f"waiting for {name}: held by {holder_of(name) or NO_WORDS}")
                told_s = time.monotonic()
            time.sleep(poll_s)
        with contextlib.suppress(OSError):  # a full disk: a lock without words is a lock
            lock.truncate(0)
            lock.write(self._words().encode(errors="replace"))
        return lock

    def _words(self) -> str:
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        host = platform.node()
        return f"{_user()} (process {os.getpid()} on {host}, campaign {self._campaign}) since {since}"


def holder_of(name: str) -> str | None:
    """Return in words who holds a slot at this moment; None: nobody, or it cannot be told."""
    try:
        with _folder() as folder, _open(folder, name, os.O_RDONLY) as file:
            if _lock(file, fcntl.LOCK_SH):
                return None
            words = (file.read(LONGEST_WORDS_BYTES) or b"").decode(errors="replace")
            return "".join(filter(str.isprintable, words)) or NO_WORDS
    except (OSError, ExecutorError):
        return None


def _try_lock(name: str) -> FileIO | None:
    """Return the locked file of a slot, or None: another session holds it."""
    with _folder(make=True) as folder, contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(_open_or_make(folder, name))
            if not _lock(file, fcntl.LOCK_EX):
                return None
        except OSError as error:
            raise _cannot_lock(f"its file for {name}: {error.strerror}") from error
        removed = os.fstat(file.fileno()).st_nlink == 0  # by a cleaner, since it was opened
        if removed:
            return None
        stack.pop_all()
        return file


def _lock(file: FileIO, kind: int) -> bool:
    """Lock a file if that is possible without waiting, and return whether it was."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open_or_make(folder: int, name: str) -> FileIO:
    with contextlib.suppress(FileNotFoundError):
        return _open(folder, name, os.O_RDWR)
    # Two calls: in a sticky folder the kernel may refuse O_CREAT for a file that exists and is another user's.
    with contextlib.suppress(FileExistsError):
        file = _open(folder, name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.fchmod(file.fileno(), FILE_MODE)  # whatever the umask is
        return file
    return _open(folder, name, os.O_RDWR)


def _open(folder: int, name: str, flags: int) -> FileIO:
    """Open a slot's file; a link or a pipe that another user may have put there is not followed or waited for."""
    return FileIO(
        f"{name.replace('/', '_')}.lock",
        "r" if flags == os.O_RDONLY else "r+",
        opener=lambda path, _: os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder),
    )


@contextlib.contextmanager
def _folder(*, make: bool = False) -> Generator[int]:
    """Open the folder of the locks, and make it if need be: the default one, not one that was mistyped."""
    named = os.environ.get(FOLDER_VARIABLE)
    path = Path(named).resolve() if named else DEFAULT_FOLDER
    try:
        if make and not named:
            _make(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise _cannot_lock(error.strerror) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _make(path: Path) -> None:
    with contextlib.suppress(FileExistsError):
        path.mkdir()
        path.chmod(FOLDER_MODE)


def _cannot_lock(reason: str | None) -> ExecutorError:
    folder = os.environ.get(FOLDER_VARIABLE) or DEFAULT_FOLDER
    return ExecutorError(
        f"the slots' folder {folder} cannot be used ({reason}): set {FOLDER_VARIABLE} to an existing folder"
        f" that all sessions of this machine may write (mode {FOLDER_MODE:o})"
    )


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # in a container
        return f"user {os.geteuid()}"

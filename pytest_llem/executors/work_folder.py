"""A session's private folder: sockets, logs, the token file that containers read. Those of killed sessions go.

The folder belongs to whoever holds the kernel's lock (`flock`) on its `lock` file, and that is nobody's once the
process is gone, however it ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from io import FileIO
from pathlib import Path

PREFIX = "llem-"
LOCK = "lock"


class WorkFolder:
    """A new folder that only this user may read, until `remove`. Making one sweeps those of dead sessions.

    Attributes:
        path: short, because a Unix socket's path ends at 107 bytes.
    """

    def __init__(self) -> None:
        sweep()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = _take(self.path)

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def sweep() -> None:
    """Remove this user's folders whose sessions are dead. One without a lock file is just being made, or not ours."""
    for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError):  # another session that sweeps was quicker, or it is alive
            if lock.stat().st_uid == os.getuid():
                with lock.open("rb", buffering=0) as held:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(lock.parent)


def _take(folder: Path) -> FileIO:
    """Return the lock of a folder; its file gets its name when it is held, so no sweep comes between."""
    unnamed = folder / f"{LOCK}.new"
    lock = unnamed.open("wb", buffering=0)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    unnamed.rename(folder / LOCK)
    return lock

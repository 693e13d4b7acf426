"""Two locks of the kernel's (`flock`), both gone with their process however it ends.

One is held by the daemon of a campaign, so that there is one. The other is the leash of its rounds: the daemon
holds it alone, and every round's session waits for a share of it. When the daemon lets go, because the rounds are
to stop or because it died, they get it, and know. They keep their share until they are gone, so the next daemon,
which wants it alone again, cannot begin a round beside one that is still ending.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from io import FileIO
from pathlib import Path


class DaemonBusyError(Exception):
    """Another daemon repeats this campaign; the message says which process."""


class DaemonLock:
    """The right to repeat one campaign, held until the process ends.

    Args:
        path: the lock's file; it also says who holds it.

    Raises:
        DaemonBusyError: somebody else has it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise DaemonBusyError(_holder(path)) from None
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": os.getpid(), "hostname": socket.gethostname()}))
        self._file.flush()

    def close(self) -> None:
        """Let another daemon in."""
        self._file.close()


def _holder(path: Path) -> str:
    words = "another process"
    with contextlib.suppress(OSError, ValueError, KeyError):
        found = json.loads(path.read_text())
        words = f"process {found['pid']} on {found['hostname']}"
    return f"this campaign is repeated by {words} already; end that daemon first (kill, or systemctl stop)"


class Leash:
    """The daemon's end of the leash.

    Args:
        path: its file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: FileIO = path.open("ab", buffering=0)

    def take(self) -> bool:
        """Take the leash alone; False while a round of a dead daemon is still ending."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @property
    def is_held(self) -> bool:
        """Whether the rounds may still go on."""
        return not self._file.closed

    def let_go(self) -> None:
        """Let the rounds end after the experiment in progress."""
        self._file.close()


def wait_for_release(leash: str) -> FileIO:
    """Return, in a round's process, when the daemon has let go; keep what is returned until the end."""
    file: FileIO = Path(leash).open("rb", buffering=0)  # noqa: SIM115 - kept open is what it is for
    fcntl.flock(file, fcntl.LOCK_SH)
    return file

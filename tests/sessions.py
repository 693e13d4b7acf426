"""Campaign sessions as processes of their own, to be interrupted and killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def start_session(root: Path, campaign: str, *options: str) -> subprocess.Popen[str]:
    """Start a session in `root` as from a shell's prompt: it hears Ctrl-C.

    A CI that runs the tests in the background lets them ignore SIGINT, and they would pass that on.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", f"--campaign={campaign}", *options],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - takes no lock
    )


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 60) -> None:
    """Wait for a condition, which must come true."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"waited in vain until {what}"
        time.sleep(0.02)

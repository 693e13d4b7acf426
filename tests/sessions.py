"""Campaign sessions as processes of their own, to be interrupted and killed."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pytest_llem.executors.slots import Slot

WATCH_PHASES = """
from pathlib import Path
from pytest_llem.display import Display

def phase(self, what, phase, before=Display.phase):
    note(phase)
    before(self, what, phase)

def waiting(self, what, left_s, before=Display.waiting):
    note(what)
    before(self, what, left_s)

def note(line):
    with Path("phases").open("a") as file:
        file.write(line + "\\n")

Display.phase, Display.waiting = phase, waiting
"""
"""A conftest.py that writes down what a terminal would show; `phases` reads it."""

TWO_SIZES = """
    backends: [abacus]
    shared: {batch_size: [1, 2]}
    backend_overrides: {abacus: {mood_file: mood}}
"""
"""The grid of a campaign whose engine can be told to misbehave."""

HANG_SECOND = """
from pathlib import Path

def pytest_llem_result(config, result):
    if not Path("mood").exists():
        Path("mood").write_text("pass-hang")
"""
"""A conftest.py for `TWO_SIZES`: the second experiment hangs until somebody ends it."""


def phases(root: Path) -> list[str]:
    """Return the phases and waits that a session with `WATCH_PHASES` has gone through so far."""
    path = root / "phases"
    return path.read_text().splitlines() if path.exists() else []


def hear_ctrl_c() -> None:
    """Undo, in a new process, that SIGINT is ignored: so it is where a shell runs the tests in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start_session(root: Path, campaign: str, *options: str) -> subprocess.Popen[str]:
    """Start a session in `root` as from a shell's prompt."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", f"--campaign={campaign}", *options],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,  # noqa: PLW1509 - takes no lock
    )


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 60) -> None:
    """Wait for a condition, which must come true."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"waited in vain until {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def slot_held(*names: str) -> Iterator[None]:
    """Hold the slot of these GPUs, or without any that of the CPU, as another session would."""
    slot = Slot(names, "another")
    slot.acquire(print)
    try:
        yield
    finally:
        slot.release()

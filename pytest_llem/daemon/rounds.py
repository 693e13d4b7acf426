"""The child processes of a daemon: the pytest session of a round, and the analysis of a series."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pytest_llem.daemon.assignment import Assignment
from pytest_llem.daemon.sleep import hear_signals


class Process(Protocol):
    """A process that was started."""

    def poll(self) -> int | None:
        """Return its exit code, negative for a signal; None while it runs."""

    def send_signal(self, number: int, /) -> None:
        """Send it a signal, if it still runs."""


class Starter(Protocol):
    """Starts what a daemon needs beside itself."""

    def round(self, assignment: Assignment) -> Process:
        """Start the session of a round."""

    def analysis(self, series: Path, *, show: bool) -> Process:
        """Start the analysis of a series, which writes its summary and shows it."""


class Sessions:
    """Starts real processes, each in a session of its own: Ctrl-C in a terminal is for the daemon alone.

    Args:
        command: of a round.
        log: where their output goes; None: to the daemon's own.
    """

    def __init__(self, command: Sequence[str], log: Path | None) -> None:
        self._command = command
        self.log = log

    def round(self, assignment: Assignment) -> Process:
        """See `Starter`."""
        return self._start(self._command, assignment.environment(), shown=self.log is None)

    def analysis(self, series: Path, *, show: bool) -> Process:
        """See `Starter`."""
        command = [sys.executable, "-P", "-m", "pytest_llem", "rounds", str(series)]
        return self._start(command, {}, shown=show or self.log is None)

    def _start(self, command: Sequence[str], more: dict[str, str], *, shown: bool) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"} | more  # a log that is followed is up to date
        output = None if shown or self.log is None else self.log.open("ab")
        try:
            return subprocess.Popen(  # noqa: S603 - the user's own command line
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                start_new_session=True,
                preexec_fn=hear_signals,  # noqa: PLW1509 - the daemon has one thread
            )
        finally:
            if output:
                output.close()


def stop_at_once(process: Process) -> None:
    """Interrupt a session as Ctrl-C would."""
    process.send_signal(signal.SIGTERM)

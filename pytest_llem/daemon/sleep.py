"""Sleeping until a time, a signal, or the end of a child process, whichever comes first."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Protocol

LOOK_S = 60.0
"""The longest sleep. Timers stand still while a machine is suspended, and know nothing of a clock that is set; so
now and then the daemon looks at the clock on the wall."""


class Bed(Protocol):
    """Where the daemon sleeps; tests have one with a clock of its own."""

    def now(self) -> float:
        """Return the Unix time in s."""

    def sleep(self, until_s: float, wake: Callable[[], bool] = lambda: False) -> bool:
        """Sleep until a Unix time; earlier if a child process ended and `wake` then says so.

        Returns:
            Whether a signal asked to stop.
        """


def stop_signals() -> set[signal.Signals]:
    """Return the signals that ask the daemon to stop: those that this process was not started to ignore."""
    asking = (
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
    )  # nohup ignores the last, a shell's `&` the second
    return {number for number in asking if signal.getsignal(number) != signal.SIG_IGN}


class SignalBed:
    """The real one. Signals are blocked and waited for, so none is lost and none interrupts anything."""

    def __init__(self) -> None:
        self._stops = stop_signals()
        signal.pthread_sigmask(signal.SIG_BLOCK, self._stops | {signal.SIGCHLD})

    def now(self) -> float:
        """See `Bed`."""
        return time.time()

    def sleep(self, until_s: float, wake: Callable[[], bool] = lambda: False) -> bool:
        """See `Bed`."""
        while not wake() and (left_s := until_s - self.now()) > 0:
            heard = signal.sigtimedwait(self._stops | {signal.SIGCHLD}, min(left_s, LOOK_S))
            if heard is not None and heard.si_signo != signal.SIGCHLD:
                return True
        return False


def hear_signals() -> None:
    """Undo the block in a child process before it begins."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())

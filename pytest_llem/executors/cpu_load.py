"""How much of the machine's CPU time others take while a window is served."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

LEAST_S = 5.0
"""Shorter windows are not judged: CPU time comes in ticks of 10 ms, and a passing daemon would weigh too much."""


class CpuTime(NamedTuple):
    """CPU time so far, in s summed over all CPUs.

    Attributes:
        at_s: `time.monotonic()`.
        passed_s: of all CPUs, idle or not.
        busy_s: of that, at work.
        own_s: of that, for our own processes, as far as they can be seen.
    """

    at_s: float
    passed_s: float
    busy_s: float
    own_s: float


def foreign_share(begin: CpuTime, end: CpuTime) -> float:
    """Return which part of all CPU time went to others than us, 0 to 1."""
    passed_s = end.passed_s - begin.passed_s
    foreign_s = (end.busy_s - begin.busy_s) - (end.own_s - begin.own_s)
    return min(1.0, max(0.0, foreign_s / passed_s)) if passed_s > 0 else 0.0


class CpuLoad:
    """The load of one window.

    Args:
        own_pids: returns the processes of our services.
    """

    def __init__(self, own_pids: Callable[[], Collection[int]]) -> None:
        self._own_pids = own_pids
        self._ours: Collection[int] = ()
        self._begin: CpuTime | None = None

    def make_ready(self) -> None:
        """List our processes; in containers that is a command, which must not run within the window."""
        self._ours = self._own_pids()

    def begin(self) -> None:
        """Count from now on, for the processes that are listed."""
        self._begin = _so_far(self._ours)

    def share(self) -> float | None:
        """Return the share of others since the begin; None: there was none, or it is too short ago."""
        if self._begin is None or time.monotonic() - self._begin.at_s < LEAST_S:
            return None
        ours = {*self._ours, *self._own_pids()}  # some may have been started since
        return foreign_share(self._begin, _so_far(ours))


def _so_far(ours: Iterable[int]) -> CpuTime:
    """Return the CPU time of this moment; this process is ours too."""
    import psutil  # noqa: PLC0415 - not to collect

    times_s = psutil.cpu_times()._asdict()
    guests_s = times_s.get("guest", 0.0) + times_s.get("guest_nice", 0.0)  # they are in user and nice too
    passed_s = sum(times_s.values()) - guests_s
    idle_s = times_s["idle"] + times_s.get("iowait", 0.0)
    used_s = _used_s({os.getpid(), *ours})
    return CpuTime(time.monotonic(), passed_s, passed_s - idle_s, used_s)


def _used_s(pids: Iterable[int]) -> float:
    """Return the CPU time of processes and of their children that have ended."""
    import psutil  # noqa: PLC0415 - not to collect

    used_s = 0.0
    for pid in pids:
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.Error:  # it has just ended: its parent has its time
            continue
        used_s += times.user + times.system + times.children_user + times.children_system
    return used_s

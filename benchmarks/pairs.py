"""Timing two commands in turn, A B B A: on a noisy machine only neighbours can be compared."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import entry_points
from typing import Literal, NamedTuple

Figure = Literal["wall_s", "cpu_s", "peak_mib"]

ALONE = tuple(
    word
    for plugin in entry_points(group="pytest11")
    if plugin.name != "llem"
    for word in ("-p", f"no:{plugin.name}")
)
"""Options of a pytest without the other plugins that happen to be installed here."""

_BYTECODE = tempfile.TemporaryDirectory(prefix="bytecode-")
COMPILED = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": _BYTECODE.name}
"""Environment of a process that finds all modules compiled, as after an installation, once one has run before."""


class Run(NamedTuple):
    """One finished process: wall seconds, CPU seconds, and the peak of its resident memory in MiB."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def measure(command: Sequence[str], *, cwd: str, env: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end; it must succeed."""
    begin_s = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **COMPILED, **(env or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command} ended with {process.returncode}:\n{errors.decode()}")
    return Run(time.monotonic() - begin_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def pairs(first: Callable[[], Run], second: Callable[[], Run], *, count: int) -> list[tuple[Run, Run]]:
    """Return `count` neighbouring runs of two commands, after one of each that does not count."""
    first(), second()
    runs = []
    for number in range(count):
        if number % 2:
            late = second()
            runs.append((first(), late))
        else:
            runs.append((first(), second()))
    return runs


def median_ratio(runs: Sequence[tuple[Run, Run]], figure: Figure) -> float:
    """Return the median over pairs of the first's figure divided by the second's."""
    return statistics.median([float(getattr(a, figure) / getattr(b, figure)) for a, b in runs])


def median_difference(runs: Sequence[tuple[Run, Run]], figure: Figure) -> float:
    """Return the median over pairs of the first's figure less the second's."""
    return statistics.median([float(getattr(a, figure) - getattr(b, figure)) for a, b in runs])


def median(runs: Sequence[Run], figure: Figure) -> float:
    """Return the median of one figure."""
    return statistics.median([float(getattr(run, figure)) for run in runs])


def heading(title: str) -> None:
    """Print what was measured, where and when."""
    cpus = os.cpu_count()
    print(
        f"{title} ({platform.machine()}, {cpus} CPUs, Python {platform.python_version()}, {datetime.now(UTC):%F})"
    )

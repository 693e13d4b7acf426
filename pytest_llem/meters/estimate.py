"""Machines without any counter: a labelled model, CPU time x rated power.

It lets a first campaign show its columns on a laptop or a virtual machine. It knows nothing of frequency,
idle power, memory or accelerators, so it ranks configurations by CPU time and by nothing else; its source is
`model`, and it is never compared or summed with a measured value.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import psutil

from pytest_llem.meters.base import Reading, Sample, energy_between
from pytest_llem.records import Quantity, Source

RATED_W_PER_CPU = 3.5
"""Average power of a fully used vCPU of AWS (Cloud Carbon Footprint, methodology, "Average Max Watts")."""

RATED_W_VARIABLE = "LLEM_RATED_WATTS_PER_CPU"

CPU_TIME_STEP_S = 1 / os.sysconf("SC_CLK_TCK")


def open_meter(pids: Callable[[], Iterable[int]], note: str = "") -> CpuTimeModel:
    """Model the processes that `pids` returns, and all that descends from them.

    Args:
        pids: called at each reading; the engine's root processes, none while no engine lives.
        note: said beside every value, after the model's own assumption.

    Raises:
        ValueError: the environment variable `LLEM_RATED_WATTS_PER_CPU` is no positive number of watts.
    """
    return CpuTimeModel(pids, _rated_w(), note)


def _rated_w() -> float:
    text = os.environ.get(RATED_W_VARIABLE)
    if not text:
        return RATED_W_PER_CPU
    with suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise ValueError(f"{RATED_W_VARIABLE} is {text!r}; it takes watts per logical CPU, such as 3.5")


class CpuTimeModel:
    """CPU seconds of some process trees x rated watts per logical CPU, as domain `cpu`."""

    source: Source = "model"

    def __init__(self, pids: Callable[[], Iterable[int]], rated_w: float, note: str) -> None:
        self._pids = pids
        self._rated_w = rated_w
        self._note = note
        self._used_s: dict[psutil.Process, float] = {}

    def read(self, *, at_tick: bool = False) -> Reading:
        """Read the CPU time used so far; what a root does after its last reading is not seen."""
        del at_tick
        for pid in self._pids():
            with suppress(psutil.NoSuchProcess):
                root = psutil.Process(pid)
                # A child that ends in the middle of this can be missing once: a tree's time never falls.
                self._used_s[root] = max(self._used_s.get(root, 0.0), _tree_cpu_s(root))
        energy_j = sum(self._used_s.values()) * self._rated_w
        return Reading(time.monotonic(), {"cpu": energy_j}, lag_s={"cpu": CPU_TIME_STEP_S})

    def between(self, begin: Reading, end: Reading) -> dict[str, Quantity]:
        """Return the modelled energy in J; the resolution is mean power x the step of CPU times."""
        return energy_between(begin, end, self.source, note=self._assumption())

    def flags(self, begin: Reading, end: Reading) -> set[str]:
        """Return nothing: a model that has no value is no instrument that failed."""
        del begin, end
        return set()

    def sample(self) -> list[Sample]:
        """Return nothing: a walk through all processes ten times a second is no small thing."""
        return []

    def _assumption(self) -> str:
        assumption = f"modelled: CPU time of the engine x {self._rated_w:g} W per logical CPU"
        return f"{assumption}; {self._note}" if self._note else assumption

    def describe(self) -> str:
        """Return source, domain and the assumption."""
        return f"{self.source}: cpu, {self._assumption()}"

    def close(self) -> None:
        """Do nothing: the model holds no resource."""


def _tree_cpu_s(root: psutil.Process) -> float:
    """Return user and system time of a live tree in s, with that of ended children that were waited for."""
    used_s = 0.0
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used_s += times.user + times.system + times.children_user + times.children_system
    return used_s

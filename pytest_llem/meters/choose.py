"""Which meters a machine has, and what they measure together."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from pytest_llem.meters import amd, estimate, nvml, power, rapl, unseen
from pytest_llem.meters.base import Meter, Reading, Sample
from pytest_llem.meters.excess import mean_power_w
from pytest_llem.meters.part import PartOfMeter
from pytest_llem.meters.sums import DOMAINS, with_sums
from pytest_llem.meters.unmetered import Unmetered
from pytest_llem.records import MEASURED_ENERGY, ModelRuns, Quantity, unavailable

POWERCAP_ROOT_VARIABLE = "LLEM_POWERCAP_ROOT"
"""Where RAPL is read; containers set it to /host/powercap, since newer engines mask the original."""

ELSEWHERE = "the model runs on another machine, whose energy the meters of this one do not see"
BESIDE_ENGINE = (
    "no instrument measures this machine, and the estimate from CPU time sees the engine process alone: the model"
    " runs in another one"
)

Readings = tuple[Reading, ...]


def open_meters(
    *,
    devices: Sequence[str] | None = None,
    powercap_root: Path | None = None,
    engine_pids: Callable[[], Iterable[int]],
) -> list[Meter]:
    """Open what this machine can measure with, and check that GPU counters move (0.2 s, at most 4 s).

    A GPU without a working counter is measured by its power; one that no meter sees leaves no total. The model of
    `estimate` is taken only where no GPU was found and RAPL gives nothing: it never stands beside a measured value.

    Args:
        devices: indices or UUIDs of the GPUs to measure; None takes all, an empty list none.
        powercap_root: of RAPL; None takes the variable `LLEM_POWERCAP_ROOT`, else the kernel's own place.
        engine_pids: returns the engine's root processes, for the model.

    Raises:
        ValueError: a device that the machine does not have, or a rated power that is no number.
    """
    gpus = _gpu_meters(devices)
    root = powercap_root or os.environ.get(POWERCAP_ROOT_VARIABLE) or rapl.POWERCAP_ROOT
    cpu = rapl.open_meter(Path(root))
    if gpus or (cpu and cpu.read().energy_j):
        return [*gpus, cpu] if cpu else gpus
    reason = DOMAINS["cpu"]
    if cpu:
        reason = cpu.read().errors["cpu"]
        cpu.close()
    return [estimate.open_meter(engine_pids, reason)]


def _gpu_meters(devices: Sequence[str] | None) -> list[Meter]:
    counters = nvml.open_meter(devices)
    if counters is None:
        others = amd.open_meter(devices) or unseen.open_meter(devices)
        return [others] if others else []
    counters.check_counters()
    integrals = power.open_meter(counters.hand_over())
    return [counters, integrals] if integrals else [counters]


class Meters:
    """All meters of a machine, read together."""

    def __init__(self, meters: Iterable[Meter]) -> None:
        self._meters = tuple(meters)

    def of(self, devices: Collection[str] | None) -> Meters:
        """Return these meters without the GPUs that are not named by their UUID; None: these."""
        return self if devices is None else Meters(PartOfMeter(meter, devices) for meter in self._meters)

    def seeing(self, model_runs: ModelRuns) -> Meters:
        """Return these meters if they see the energy of a model that runs there, else one that has no values."""
        if model_runs == "elsewhere":
            return Meters([Unmetered(ELSEWHERE)])
        if model_runs == "beside_engine" and any(meter.source == "model" for meter in self._meters):
            return Meters([Unmetered(BESIDE_ENGINE)])
        return self

    @property
    def have_instruments(self) -> bool:
        """Whether one of them measures something, and does not only model it."""
        return any(meter.source in MEASURED_ENERGY and meter.read().energy_j for meter in self._meters)

    def domains(self) -> set[str]:
        """Return what `between` and `power_w` have: all domains of the meters, and the sums."""
        reading = self.read()
        return set(self.between(reading, reading))

    def read(self, *, at_tick: bool = False) -> Readings:
        """Read every meter; those that wait for a tick come first, so that all end within milliseconds."""
        return tuple(meter.read(at_tick=at_tick) for meter in self._meters)

    def between(
        self, begin: Readings, end: Readings, *, refused: Mapping[str, str] | None = None
    ) -> dict[str, Quantity]:
        """Return the energy in J of `total`, `gpu`, `cpu`, `dram` and each `gpu:<uuid>`.

        The four that are no device are always there, unavailable with the reason where nothing measures them.

        Args:
            begin: what `read` returned.
            end: what it returned later.
            refused: domains whose values are known to be wrong, with the reason: they are unavailable.
        """
        found = self._found(begin, end)
        found |= {domain: unavailable("J", reason) for domain, reason in (refused or {}).items()}
        return with_sums(found, "J")

    def _found(self, begin: Readings, end: Readings) -> dict[str, Quantity]:
        found: dict[str, Quantity] = {}
        for meter, first, last in zip(self._meters, begin, end, strict=True):
            found |= meter.between(first, last)
        return found

    def power_w(self, begin: Readings, end: Readings) -> dict[str, Quantity]:
        """Return the mean power in W of the same domains as `between`, each over its own time."""
        lasts_s = {domain: end_s - begin_s for domain, (begin_s, end_s) in times_s(begin, end).items()}
        found = self._found(begin, end)
        return with_sums(mean_power_w(found, lasts_s), "W")

    def idle_power_w(
        self, duration_s: float, wait: Callable[[float], object] = time.sleep
    ) -> dict[str, Quantity]:
        """Return the mean power in W over a quiet interval that begins and ends at ticks.

        Args:
            duration_s: at least this long.
            wait: lets that time pass, and may raise to end it early.
        """
        begin = self.read(at_tick=True)
        wait(duration_s)
        return self.power_w(begin, self.read(at_tick=True))

    def flags(self, begin: Readings, end: Readings) -> set[str]:
        """Return the words for what went wrong from `begin` to `end`, where that is news."""
        flags: set[str] = set()
        for meter, first, last in zip(self._meters, begin, end, strict=True):
            flags |= meter.flags(first, last)
        return flags

    def sample(self) -> list[Sample]:
        """Return what a trace records now."""
        return [sample for meter in self._meters for sample in meter.sample()]

    def describe(self) -> tuple[str, ...]:
        """Return one line a meter, for the environment snapshot."""
        return tuple(meter.describe() for meter in self._meters)

    def close(self) -> None:
        """Release every meter."""
        for meter in self._meters:
            meter.close()


def times_s(begin: Readings, end: Readings) -> dict[str, tuple[float, float]]:
    """Return by domain when it was read first and last, `time.monotonic()` in s."""
    return {
        domain: (first.time_of(domain), last.time_of(domain))
        for first, last in zip(begin, end, strict=True)
        for domain in (*first.energy_j, *first.errors)
    }

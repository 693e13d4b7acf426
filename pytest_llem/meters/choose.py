"""Which meters a machine has, and what their domains are together.

`gpu` is the sum over devices. `total`, the headline, is the sum of `gpu`, `cpu` and `dram` as far as they are
measured, and its note names them: "gpu + cpu; without dram: <reason>".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pytest_llem.meters import estimate, nvml, rapl
from pytest_llem.meters.base import Meter, Reading
from pytest_llem.records import Quantity, Source, unavailable

POWERCAP_ROOT_VARIABLE = "LLEM_POWERCAP_ROOT"
"""Where RAPL is read; containers set it to /host/powercap, since newer engines mask the original."""

DOMAINS = {
    "gpu": "no NVIDIA GPU is measured here",
    "cpu": "no RAPL counter on this machine",
    "dram": "no RAPL counter for DRAM on this machine",
}
"""The parts of a machine in the order in which they lead a total, with the reason where no meter has them."""


def open_meters(
    *,
    devices: Sequence[str] | None = None,
    powercap_root: Path | None = None,
    engine_pids: Callable[[], Iterable[int]],
) -> list[Meter]:
    """Open what this machine can measure with, and check that GPU counters move (0.2 s, at most 4 s).

    The model of `estimate` is taken only where no GPU was found and RAPL gives nothing: it never stands
    beside a measured value.

    Args:
        devices: indices or UUIDs of the GPUs to measure; None takes all, an empty list none.
        powercap_root: of RAPL; None takes the variable `LLEM_POWERCAP_ROOT`, else the kernel's own place.
        engine_pids: returns the engine's root processes, for the model.

    Raises:
        ValueError: a device that the machine does not have, or a rated power that is no number.
    """
    gpus = nvml.open_meter(devices)
    if gpus:
        gpus.check_counters()
    root = powercap_root or os.environ.get(POWERCAP_ROOT_VARIABLE) or rapl.POWERCAP_ROOT
    cpu = rapl.open_meter(Path(root))
    measured: list[Meter] = [meter for meter in (gpus, cpu) if meter]
    if gpus or (cpu and cpu.read().energy_j):
        return measured
    reason = DOMAINS["cpu"]
    if cpu:
        reason = cpu.read().errors["cpu"]
        cpu.close()
    return [estimate.open_meter(engine_pids, reason)]


class Meters:
    """All meters of a machine, read together."""

    def __init__(self, meters: Iterable[Meter]) -> None:
        self._meters = tuple(meters)

    def read(self, *, at_tick: bool = False) -> tuple[Reading, ...]:
        """Read every meter; those that wait for a tick come first, so that all end within milliseconds."""
        return tuple(meter.read(at_tick=at_tick) for meter in self._meters)

    def between(self, begin: tuple[Reading, ...], end: tuple[Reading, ...]) -> dict[str, Quantity]:
        """Return the energy in J of `total`, `gpu`, `cpu`, `dram` and each `gpu:<uuid>`.

        The four that are no device are always there, unavailable with the reason where nothing measures them.
        """
        found: dict[str, Quantity] = {}
        for meter, first, last in zip(self._meters, begin, end, strict=True):
            found |= meter.between(first, last)
        absent = {domain: unavailable("J", reason) for domain, reason in DOMAINS.items()}
        return {"total": total(found)} | absent | _parts(found) | found

    def describe(self) -> tuple[str, ...]:
        """Return one line a meter, for the environment snapshot."""
        return tuple(meter.describe() for meter in self._meters)

    def close(self) -> None:
        """Release every meter."""
        for meter in self._meters:
            meter.close()


def total(quantities: Mapping[str, Quantity]) -> Quantity:
    """Return the headline energy in J: the sum of GPUs, CPU packages and DRAM as far as they are measured.

    The first of them that the machine has leads: it gives the source, and without its value there is no
    total, for the rest would pass for the whole. A follower without a value is named in the note as missing.
    Modelled and measured values are never summed.

    Args:
        quantities: by domain: `cpu`, `dram`, `gpu:<uuid>`.
    """
    parts = _parts(quantities)
    if not parts:
        return unavailable("J", "no energy source on this machine")
    name, leader = next(iter(parts.items()))
    if leader.value is None:
        return unavailable("J", f"{name}: {leader.note}")
    summed = {
        domain: part
        for domain, part in parts.items()
        if part.value is not None and (part.source == "model") == (leader.source == "model")
    }
    notes = [" + ".join(summed)]
    notes += [leader.note] if leader.note else []
    notes += [f"without {domain}: {part.note}" for domain, part in parts.items() if domain not in summed]
    return _sum(summed.values(), leader.source, "; ".join(notes))


def _parts(quantities: Mapping[str, Quantity]) -> dict[str, Quantity]:
    """Return those of `gpu`, `cpu` and `dram` that some meter has, `gpu` as the sum over devices."""
    parts = {domain: quantities[domain] for domain in ("cpu", "dram") if domain in quantities}
    devices = {domain: device for domain, device in quantities.items() if domain.startswith("gpu:")}
    return {"gpu": _gpu(devices)} | parts if devices else parts


def _gpu(devices: Mapping[str, Quantity]) -> Quantity:
    for domain, device in devices.items():
        if device.value is None:
            return unavailable("J", f"{domain.removeprefix('gpu:')}: {device.note}")
    return _sum(devices.values(), next(iter(devices.values())).source)


def _sum(addends: Iterable[Quantity], source: Source, note: str | None = None) -> Quantity:
    """Add values and, as the worst case, resolutions; None if one of these is not known."""
    values, resolutions = zip(*((addend.value, addend.resolution) for addend in addends), strict=True)
    return Quantity(
        value=sum(values),
        unit="J",
        source=source,
        resolution=None if None in resolutions else sum(resolutions),
        note=note,
    )

"""CPU packages and DRAM: RAPL counters, read from the kernel's powercap tree.

Intel and AMD processors appear there alike, as `intel-rapl`. The counters wrap (after 17 min at 250 W on many
servers), so the meter reads them every 30 s by itself and carries the sum on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pytest_llem.meters.base import (
    COUNTER_RESET,
    READING_FAILED,
    Break,
    Clock,
    Reading,
    Sample,
    energy_between,
    flags_between,
    samples_of,
)
from pytest_llem.records import Quantity, Source

POWERCAP_ROOT = Path("/sys/devices/virtual/powercap")

CATCH_UP_S = 30.0
"""Time between the meter's own readings; the fastest counters wrap after some minutes."""

UPDATE_S = 0.001
"""The counters move about every millisecond (Khan et al., RAPL in Action, ACM TOMPECS 3(2), 2018)."""

MOST_W = 2000.0
"""No zone draws so much: the largest packages are rated for 500 W (AMD EPYC 9965, product specifications)."""

_NO_PERMISSION = (
    "no permission to read {file}: since CVE-2020-8694 RAPL is for root alone; on the host, run "
    "`sudo chmod a+r /sys/class/powercap/intel-rapl*/energy_uj` (until the next boot; a udev rule lasts)"
)


def open_meter(root: Path = POWERCAP_ROOT, clock: Clock = time) -> RaplMeter | None:
    """Open the RAPL counters below `root`; None where there is no CPU package.

    The domain `cpu` is the sum over packages, `dram` that over their DRAM. The platform zone (`psys`) holds
    both and is left out, and so are a package's own parts (`core`, `uncore`).

    Args:
        root: of the powercap tree.
        clock: what time is read from.
    """
    packages = _packages(root)
    if not packages:
        return None
    folders = {"cpu": packages}
    if drams := [folder for package in packages for folder in _zones(package, "*/name", "dram")]:
        folders["dram"] = drams
    zones = {domain: [_Zone(folder, clock) for folder in found] for domain, found in folders.items()}
    return RaplMeter(root, zones, clock)


def _packages(root: Path) -> list[Path]:
    """Return the folder of each package once: some are listed a second time under `intel-rapl-mmio`."""
    by_name: dict[str, Path] = {}
    # /sys/class/powercap holds all zones side by side, /sys/devices/virtual/powercap one level down.
    for pattern in ("*/name", "*/*/name"):
        for folder in _zones(root, pattern, "package-"):
            name = _name(folder)
            if name not in by_name or "mmio" in by_name[name].name:
                by_name[name] = folder
    return list(by_name.values())


def _zones(root: Path, pattern: str, prefix: str) -> Iterator[Path]:
    return (file.parent for file in sorted(root.glob(pattern)) if _name(file.parent).startswith(prefix))


def _name(zone: Path) -> str:
    return (zone / "name").read_text().strip()


class _Value(NamedTuple):
    """A counter at one moment, and the largest value before it wraps."""

    at_s: float
    energy_uj: int
    largest_uj: int


class _Zone:
    """One RAPL counter, carried on across its wraps.

    A counter falls when it wraps, but also when it starts anew: after a suspend, or in a virtual machine that
    was restored. It has wrapped if the energy up to its end and on is one that the time allows.

    Attributes:
        broken: the latest moment up to which it was not counted.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._last: _Value | None = None
        self._used_uj = 0
        self.broken: Break | None = None

    def used_j(self) -> float:
        """Return the energy since the first call, right if the counter wraps at most once between calls."""
        energy_uj, largest_uj = (
            int((self._folder / file).read_text()) for file in ("energy_uj", "max_energy_range_uj")
        )
        now = _Value(self._clock.monotonic(), energy_uj, largest_uj)
        if self._last is not None:
            self._add(self._last, now)
        self._last = now
        return self._used_uj / 1e6

    def _add(self, before: _Value, now: _Value) -> None:
        used_uj = (now.energy_uj - before.energy_uj) % (now.largest_uj + 1)
        possible_uj = MOST_W * 1e6 * (now.at_s - before.at_s + UPDATE_S)
        if now.energy_uj < before.energy_uj and used_uj > possible_uj:
            fell_j = (before.energy_uj - now.energy_uj) / 1e6
            reason = f"the RAPL counter fell by {fell_j:.6g} J, too early for a wrap: it was reset"
            self.broken = Break(now.at_s, reason, COUNTER_RESET)
        else:
            self._used_uj += used_uj

    def interrupt(self, reason: str) -> None:
        """Forget the last value: a counter that was away may have started anew, which is no wrap."""
        self._last = None
        self.broken = Break(self._clock.monotonic(), reason)


def _failed(error: OSError | ValueError) -> str:
    if isinstance(error, PermissionError):
        return _NO_PERMISSION.format(file=error.filename)
    return f"the RAPL counter could not be read: {error}"


class RaplMeter:
    """The RAPL counters of one machine: domain `cpu`, and `dram` where the processor counts it."""

    source: Source = "rapl"

    def __init__(self, root: Path, zones: dict[str, list[_Zone]], clock: Clock) -> None:
        self._root = root
        self._zones = zones
        self._clock = clock
        self._lock = threading.Lock()
        self._missing: frozenset[str] = frozenset()
        self._missing = frozenset(self.read().errors)
        self._closed = threading.Event()
        self._catching_up = threading.Thread(target=self._catch_up, name="rapl", daemon=True)
        self._catching_up.start()

    def _catch_up(self) -> None:
        while not self._closed.wait(CATCH_UP_S):
            self.read()

    def read(self, *, at_tick: bool = False) -> Reading:
        """Read every counter now; they move too often for a tick to be worth a wait."""
        del at_tick
        energy_j: dict[str, float] = {}
        errors: dict[str, str] = {}
        with self._lock:
            for domain, zones in self._zones.items():
                try:
                    energy_j[domain] = sum(zone.used_j() for zone in zones)
                except (OSError, ValueError) as error:
                    errors[domain] = _failed(error)
                    for zone in zones:
                        zone.interrupt(errors[domain])
            breaks = self._breaks(energy_j)
        return Reading(
            self._clock.monotonic(),
            energy_j,
            errors,
            lag_s=dict.fromkeys(energy_j, UPDATE_S),
            flags=dict.fromkeys(errors.keys() - self._missing, READING_FAILED),
            breaks=breaks,
        )

    def _breaks(self, domains: Iterable[str]) -> dict[str, Break]:
        """Return by domain the latest break of any of its zones."""
        found = {domain: [zone.broken for zone in self._zones[domain] if zone.broken] for domain in domains}
        return {domain: max(breaks) for domain, breaks in found.items() if breaks}

    def between(self, begin: Reading, end: Reading) -> dict[str, Quantity]:
        """Return the energy in J of `cpu` and `dram`; the resolution is mean power x 1 ms."""
        return energy_between(begin, end, self.source)

    def flags(self, begin: Reading, end: Reading) -> set[str]:
        """Return the words for what went wrong with a counter that could be read at first."""
        return flags_between(begin, end)

    def sample(self) -> list[Sample]:
        """Return the counters as they are now."""
        return samples_of(self.read())

    def describe(self) -> str:
        """Return source, place, domains with their number of zones, and what cannot be read."""
        states = {domain: f"{len(zones)} zones" for domain, zones in self._zones.items()}
        states |= {domain: f"unavailable: {reason}" for domain, reason in self.read().errors.items()}
        domains = ", ".join(f"{domain} ({state})" for domain, state in states.items())
        return f"{self.source}: {domains} from {self._root}"

    def close(self) -> None:
        """End the meter's own readings."""
        self._closed.set()
        self._catching_up.join()

"""NVIDIA GPUs without a working energy counter: their power, integrated over time.

Zero-order hold: each reading counts until the next one, repeats too, and both edges of a window are readings.
Power that the device itself has averaged over the last second comes half a second late. In a steady state, on a
ramp and around a step inside the window that is settled by what the device says at the edges; a burst within
the last second before an edge is not, and is flagged.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from itertools import pairwise

import pynvml

from pytest_llem.meters.base import (
    Break,
    Clock,
    Reading,
    Sample,
    energy_between,
    flags_between,
)
from pytest_llem.meters.devices import AVERAGING_S, Device, flag_of
from pytest_llem.records import Quantity, Source

POWER_INTEGRAL_EDGE = "power_integral_edge"
"""The flag of a window whose power moved within the averaging time before an edge, so that part of it is missed."""

EDGE_LIMIT = 0.01
"""How much of a window's energy may be unsettled at its edges."""

INTERVAL_S = 0.1

GAP_LIMIT_S = 1.0
"""Power that was not read for longer is not taken for known."""


def open_meter(gpus: Mapping[Device, str], clock: Clock = time) -> PowerMeter | None:
    """Integrate the power of GPUs from now on; None without any.

    Args:
        gpus: devices with the reason why they have no counter. One that reports no power either gives a domain
            that is unavailable.
        clock: what time is read from.
    """
    return PowerMeter(gpus, clock) if gpus else None


class PowerIntegral:
    """The energy of one device so far, from its power.

    A mean over the last `averaging_s` lags by half of that. `energy_j` therefore adds what is on its way,
    averaging_s / 2 x power. Over a window that is right if power was steady, or on the same ramp, for `averaging_s`
    before each edge. A burst of h W that began d s before an edge is missed by h (d / 2) (1 - d / averaging_s),
    which is less than averaging_s / 2 x the rise of the mean: that is `unsettled_j`.

    Attributes:
        broken: the latest moment up to which power was not known, and why.
    """

    def __init__(self, averaging_s: float) -> None:
        self._averaging_s = averaging_s
        self._held_j = 0.0
        self._recent: deque[tuple[float, float]] = deque()
        self.broken: Break | None = None

    def add(self, at_s: float, power_w: float) -> None:
        """Let the previous reading end and this one begin."""
        if self._recent:
            last_s, last_w = self._recent[-1]
            if at_s - last_s > GAP_LIMIT_S:
                self.interrupt(at_s, f"no power was read for {at_s - last_s:.3g} s")
            else:
                self._held_j += last_w * (at_s - last_s)
        self._recent.append((at_s, power_w))
        while len(self._recent) > 2 and self._recent[1][0] <= at_s - AVERAGING_S:
            self._recent.popleft()

    def interrupt(self, at_s: float, reason: str) -> None:
        """Note that the energy up to `at_s` is not known."""
        self.broken = Break(at_s, reason)
        self._recent.clear()

    @property
    def energy_j(self) -> float:
        """The energy in J since the first reading, with what is on its way."""
        return self._held_j + self._averaging_s / 2 * self._recent[-1][1]

    @property
    def lag_s(self) -> float:
        """The longest time in s between two readings of the last second."""
        times_s = [at_s for at_s, _ in self._recent]
        return max((after_s - before_s for before_s, after_s in pairwise(times_s)), default=0.0)

    @property
    def unsettled_j(self) -> float:
        """By how much a change of power can falsify `energy_j`."""
        powers_w = [power_w for _, power_w in self._recent]
        return self._averaging_s / 2 * (max(powers_w) - min(powers_w))


class PowerMeter:
    """The integrated power of some GPUs, one domain `gpu:<uuid>` each."""

    source: Source = "nvml_power_integral"

    def __init__(self, gpus: Mapping[Device, str], clock: Clock) -> None:
        self._clock = clock
        self._gpus = {gpu.domain: gpu for gpu in gpus}
        self._why = {gpu.domain: why for gpu, why in gpus.items()}
        self._unavailable: dict[str, str] = {}
        self._integrals = {domain: PowerIntegral(gpu.averaging_s) for domain, gpu in self._gpus.items()}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        for domain, reason in self.read().errors.items():
            del self._gpus[domain]
            self._unavailable[domain] = f"{self._why[domain]}, and {reason}"
        self._thread = threading.Thread(target=self._keep_reading, name="power", daemon=True)
        self._thread.start()

    def _keep_reading(self) -> None:
        while self._gpus and not self._closed.wait(INTERVAL_S):
            self.read()

    def read(self, *, at_tick: bool = False) -> Reading:
        """Read every power now; a sensor may repeat itself, so there is no tick to wait for."""
        del at_tick
        reading = Reading(self._clock.monotonic(), {}, dict(self._unavailable))
        with self._lock:
            for domain, gpu in self._gpus.items():
                self._read(domain, gpu, reading)
        return reading

    def _read(self, domain: str, gpu: Device, into: Reading) -> None:
        integral = self._integrals[domain]
        at_s = into.at_s_by_domain[domain] = self._clock.monotonic()
        try:
            integral.add(at_s, gpu.power_w())
        except pynvml.NVMLError as error:
            into.errors[domain] = f"its power could not be read: {error}"
            into.flags[domain] = flag_of(error)
            integral.interrupt(at_s, into.errors[domain])
            return
        into.energy_j[domain] = integral.energy_j
        into.lag_s[domain] = integral.lag_s
        into.unsettled_j[domain] = integral.unsettled_j
        if integral.broken:
            into.breaks[domain] = integral.broken

    def between(self, begin: Reading, end: Reading) -> dict[str, Quantity]:
        """Return each device's energy in J; the note says why it has no counter."""
        found = energy_between(begin, end, self.source)
        return {
            domain: energy if energy.value is None else energy.model_copy(update={"note": self._why[domain]})
            for domain, energy in found.items()
        }

    def flags(self, begin: Reading, end: Reading) -> set[str]:
        """Return the words for what went wrong, and `power_integral_edge` where an edge is not settled."""
        flags = flags_between(begin, end)
        for domain, energy in energy_between(begin, end, self.source).items():
            if energy.value and _unsettled_j(domain, begin, end) > EDGE_LIMIT * energy.value:
                flags.add(POWER_INTEGRAL_EDGE)
        return flags

    def sample(self) -> list[Sample]:
        """Return the sensors of every device."""
        return [gpu.sample(self._clock.monotonic()) for gpu in self._gpus.values()]

    def describe(self) -> str:
        """Return source, devices with the kind of their power and why it is integrated, and what is not measured."""
        kinds = {domain: "averaged" if gpu.averaging_s else "instant" for domain, gpu in self._gpus.items()}
        working = [f"{domain} ({kind} power: {self._why[domain]})" for domain, kind in kinds.items()]
        missing = [f"{domain} (unavailable: {reason})" for domain, reason in self._unavailable.items()]
        return f"{self.source}: " + ", ".join(working + missing)

    def close(self) -> None:
        """End the readings; the NVML session is that of the counters' meter."""
        self._closed.set()
        self._thread.join()


def _unsettled_j(domain: str, begin: Reading, end: Reading) -> float:
    return begin.unsettled_j[domain] + end.unsettled_j[domain]

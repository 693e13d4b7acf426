"""NVIDIA GPUs: the driver's own energy counter, read through NVML.

The counter (`nvmlDeviceGetTotalEnergyConsumption`, mJ, Volta and newer) moves in ticks, about every 100 ms,
so the energy between two arbitrary readings is wrong by up to tick / window: 10 % of one second. A reading
`at_tick` waits until each device's counter has just moved; what is left of the error is the time between two
polls.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import pynvml

from pytest_llem.meters import devices
from pytest_llem.meters.base import (
    COUNTER_STUCK,
    Clock,
    Reading,
    Sample,
    energy_between,
    flags_between,
)
from pytest_llem.meters.devices import Device, flag_of
from pytest_llem.records import Quantity, Source

TICK_LIMIT_S = 2.0
"""A counter that has not moved for so long, some twenty ticks, does not work."""

POLL_S = 0.001

COUNTER_MISSING = "counter_missing"

NO_COUNTER = "no energy counter on this device: it came with the Volta generation"
STUCK = f"the energy counter did not rise within {TICK_LIMIT_S:g} s"


def open_meter(names: Sequence[str] | None = None, clock: Clock = time) -> NvmlMeter | None:
    """Open the energy counters of NVIDIA GPUs.

    Args:
        names: indices (NVML's order, that of the PCI bus) or UUIDs; None takes all.
        clock: what time is read from and waited with.

    Returns:
        None where there is no NVIDIA driver or no device. A driver that does not answer, a device in MIG mode
        and a device without a counter give a domain that is unavailable, with the reason.

    Raises:
        ValueError: a device is named that the machine does not have.
    """
    found = devices.find(names)
    return NvmlMeter(found.devices, found.refused, clock) if found else None


class _Value(NamedTuple):
    """One device's counter, read between two times; `lag_s` None: the length of a tick is not known."""

    asked_s: float
    at_s: float
    energy_mj: int
    lag_s: float | None


def _at_tick(before: _Value, after: _Value) -> _Value:
    """Return a value that is new, knowing that its tick fell between these two."""
    return after._replace(lag_s=after.at_s - before.asked_s)


class _Failure(NamedTuple):
    """Why a counter gave no value, in a sentence and as the word for results."""

    reason: str
    flag: str


class NvmlMeter:
    """The energy counters of some GPUs, one domain `gpu:<uuid>` each."""

    source: Source = "nvml_counter"

    def __init__(self, gpus: dict[str, Device], unavailable: dict[str, str], clock: Clock) -> None:
        self._gpus = gpus
        self._unavailable = unavailable
        self._clock = clock
        self._without_counter: dict[str, Device] = {}
        self._tick_s: dict[str, float] = {}
        self._give_up_failed(self.read())

    def check_counters(self) -> dict[str, str]:
        """Watch two ticks of every counter, to learn their length; one that does not rise is given up.

        Returns:
            The domains that are unavailable from now on, with the reason.
        """
        first = self._give_up_failed(self.read(at_tick=True))
        second = self._give_up_failed(self.read(at_tick=True))
        self._tick_s = {
            domain: second.at_s_by_domain[domain] - first.at_s_by_domain[domain] for domain in self._gpus
        }
        return dict(self._unavailable)

    def _give_up_failed(self, reading: Reading) -> Reading:
        for domain, flag in reading.flags.items():
            gpu = self._gpus.pop(domain)
            self._unavailable[domain] = reading.errors[domain]
            if flag in (COUNTER_MISSING, COUNTER_STUCK):
                self._without_counter[domain] = gpu
        return reading

    def hand_over(self) -> dict[Device, str]:
        """Part with the devices whose counter is missing or stuck, and return them with that reason."""
        return {gpu: self._unavailable.pop(domain) for domain, gpu in self._without_counter.items()}

    def read(self, *, at_tick: bool = False) -> Reading:
        """Read every counter, with `at_tick` each device just after its own next tick."""
        found = self._next_ticks() if at_tick else {domain: self._ask(domain) for domain in self._gpus}
        values = {domain: value for domain, value in found.items() if isinstance(value, _Value)}
        failures = {domain: failure for domain, failure in found.items() if isinstance(failure, _Failure)}
        return Reading(
            at_s=max((value.at_s for value in values.values()), default=self._clock.monotonic()),
            energy_j={domain: value.energy_mj / 1000 for domain, value in values.items()},
            errors=self._unavailable | {domain: failure.reason for domain, failure in failures.items()},
            at_s_by_domain={domain: value.at_s for domain, value in values.items()},
            lag_s={domain: value.lag_s for domain, value in values.items() if value.lag_s is not None},
            flags={domain: failure.flag for domain, failure in failures.items()},
        )

    def _ask(self, domain: str) -> _Value | _Failure:
        asked_s = self._clock.monotonic()
        try:
            energy_mj = self._gpus[domain].counter_mj()
        except pynvml.NVMLError_NotSupported:
            return _Failure(NO_COUNTER, COUNTER_MISSING)
        except pynvml.NVMLError as error:
            return _Failure(f"the energy counter could not be read: {error}", flag_of(error))
        return _Value(asked_s, self._clock.monotonic(), energy_mj, self._tick_s.get(domain))

    def _next_ticks(self) -> dict[str, _Value | _Failure]:
        """Poll until every counter has moved once; the tick fell between the last two polls of its device."""
        done: dict[str, _Value | _Failure] = {domain: self._ask(domain) for domain in self._gpus}
        waiting = {domain: value for domain, value in done.items() if isinstance(value, _Value)}
        deadline_s = self._clock.monotonic() + TICK_LIMIT_S
        while waiting and self._clock.monotonic() < deadline_s:
            self._clock.sleep(POLL_S)
            for domain, before in list(waiting.items()):
                now = self._ask(domain)
                if isinstance(now, _Value) and now.energy_mj == before.energy_mj:
                    waiting[domain] = now
                    continue
                del waiting[domain]
                done[domain] = now if isinstance(now, _Failure) else _at_tick(before, now)
        return done | dict.fromkeys(waiting, _Failure(STUCK, COUNTER_STUCK))

    def between(self, begin: Reading, end: Reading) -> dict[str, Quantity]:
        """Return each device's energy in J, from its own begin to its own end.

        The resolution is mean power x one tick, or between readings `at_tick` x the time between two polls.
        """
        return energy_between(begin, end, self.source)

    def flags(self, begin: Reading, end: Reading) -> set[str]:
        """Return the words for what went wrong since the check of the counters."""
        return flags_between(begin, end)

    def sample(self) -> list[Sample]:
        """Return the sensors of every device."""
        return [gpu.sample(self._clock.monotonic()) for gpu in self._gpus.values()]

    def describe(self) -> str:
        """Return source, devices and length of tick, and what is not measured."""
        working = [f"{domain}{self._tick(domain)}" for domain in self._gpus]
        missing = [f"{domain} (unavailable: {reason})" for domain, reason in self._unavailable.items()]
        return f"{self.source}: " + (", ".join(working + missing) or "no device")

    def _tick(self, domain: str) -> str:
        return f" (tick {self._tick_s[domain] * 1000:.0f} ms)" if domain in self._tick_s else ""

    def close(self) -> None:
        """End the NVML session."""
        devices.release()

"""NVIDIA GPUs: the driver's own energy counter, read through NVML.

The counter (`nvmlDeviceGetTotalEnergyConsumption`, mJ, Volta and newer) moves in ticks, about every 100 ms,
so the energy between two arbitrary readings is wrong by up to tick / window: 10 % of one second. A reading
`at_tick` waits until each device's counter has just moved; what is left of the error is the time between two
polls.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pynvml

from pytest_llem.meters.base import Reading, energy_between
from pytest_llem.records import Quantity, Source

TICK_LIMIT_S = 2.0
"""A counter that has not moved for so long, some twenty ticks, does not work."""

POLL_S = 0.001

_NO_GPU_HERE = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_GPU_NOT_FOUND,
}


def open_meter(devices: Sequence[str] | None = None) -> NvmlMeter | None:
    """Open the energy counters of NVIDIA GPUs.

    Args:
        devices: indices (NVML's order, that of the PCI bus) or UUIDs; None takes all.

    Returns:
        None where there is no NVIDIA driver or no device. A driver that does not answer, a device in MIG mode
        and a device without a counter give a domain that is unavailable, with the reason.

    Raises:
        ValueError: a device is named that the machine does not have.
    """
    if devices is not None and not devices:
        return None
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        if error.value in _NO_GPU_HERE:
            return None
        return NvmlMeter({}, {"gpu:all": f"the NVIDIA driver does not answer: {error}"})
    names = [str(index) for index in range(count)] if devices is None else devices
    return _open(names) if names else None


def _open(names: Iterable[str]) -> NvmlMeter:
    handles: dict[str, Any] = {}
    unavailable: dict[str, str] = {}
    for name in names:
        domain, handle, reason = _open_device(name)
        if reason is None:
            handles[domain] = handle
        else:
            unavailable[domain] = reason
    return NvmlMeter(handles, unavailable)


def _open_device(name: str) -> tuple[str, Any, str | None]:
    """Return a device's domain and handle, and why its counter cannot be used (None: it can)."""
    if name.startswith("MIG-"):
        return f"gpu:{name}", None, "a MIG partition has no energy counter of its own"
    try:
        by_name = pynvml.nvmlDeviceGetHandleByIndex if name.isdecimal() else pynvml.nvmlDeviceGetHandleByUUID
        handle = by_name(int(name) if name.isdecimal() else name)
        domain = f"gpu:{pynvml.nvmlDeviceGetUUID(handle)}"
    except (pynvml.NVMLError_NotFound, pynvml.NVMLError_InvalidArgument):
        raise ValueError(
            f"this machine has no GPU {name!r}; `nvidia-smi -L` lists indices and UUIDs"
        ) from None
    except pynvml.NVMLError as error:
        return f"gpu:{name}", None, f"the GPU does not answer: {error}"
    return domain, handle, _why_not_measured(handle)


def _why_not_measured(handle: Any) -> str | None:
    with contextlib.suppress(pynvml.NVMLError):  # most devices know no MIG mode
        if pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE:
            return "MIG is enabled: the energy counter is that of the whole GPU, not of one partition"
    try:
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError_NotSupported:
        return "no energy counter on this device: it came with the Volta generation"
    except pynvml.NVMLError as error:
        return _failed(error)
    return None


def _failed(error: pynvml.NVMLError) -> str:
    return f"the energy counter could not be read: {error}"


class _Sample(NamedTuple):
    """One device's counter, read between two times; `lag_s` None: the length of a tick is not known."""

    asked_s: float
    at_s: float
    energy_mj: int
    lag_s: float | None


class NvmlMeter:
    """The energy counters of some GPUs, one domain `gpu:<uuid>` each."""

    source: Source = "nvml_counter"

    def __init__(self, handles: dict[str, Any], unavailable: dict[str, str]) -> None:
        self._handles = handles
        self._unavailable = unavailable
        self._tick_s: dict[str, float] = {}

    def check_counters(self) -> dict[str, str]:
        """Watch two ticks of every counter, to learn their length; one that does not rise is given up.

        Returns:
            The domains that are unavailable from now on, with the reason.
        """
        first = self._read_and_give_up()
        second = self._read_and_give_up()
        self._tick_s = {
            domain: second.at_s_by_domain[domain] - first.at_s_by_domain[domain] for domain in self._handles
        }
        return dict(self._unavailable)

    def _read_and_give_up(self) -> Reading:
        reading = self.read(at_tick=True)
        for domain in reading.errors:
            self._handles.pop(domain, None)
        self._unavailable |= reading.errors
        return reading

    def read(self, *, at_tick: bool = False) -> Reading:
        """Read every counter, with `at_tick` each device just after its own next tick."""
        samples, errors = self._next_ticks() if at_tick else self._poll(self._handles)
        return Reading(
            at_s=max((sample.at_s for sample in samples.values()), default=time.monotonic()),
            energy_j={domain: sample.energy_mj / 1000 for domain, sample in samples.items()},
            errors=self._unavailable | errors,
            at_s_by_domain={domain: sample.at_s for domain, sample in samples.items()},
            lag_s={domain: sample.lag_s for domain, sample in samples.items() if sample.lag_s is not None},
        )

    def _poll(self, domains: Iterable[str]) -> tuple[dict[str, _Sample], dict[str, str]]:
        samples: dict[str, _Sample] = {}
        errors: dict[str, str] = {}
        for domain in domains:
            asked_s = time.monotonic()
            try:
                energy_mj = pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handles[domain])
            except pynvml.NVMLError as error:
                errors[domain] = _failed(error)
            else:
                samples[domain] = _Sample(asked_s, time.monotonic(), energy_mj, self._tick_s.get(domain))
        return samples, errors

    def _next_ticks(self) -> tuple[dict[str, _Sample], dict[str, str]]:
        """Poll until every counter has moved once; the tick fell between the last two polls of its device."""
        waiting, errors = self._poll(self._handles)
        ticked: dict[str, _Sample] = {}
        deadline_s = time.monotonic() + TICK_LIMIT_S
        while waiting and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
            now, failed = self._poll(waiting)
            errors |= failed
            for domain, sample in now.items():
                if sample.energy_mj != waiting[domain].energy_mj:
                    ticked[domain] = sample._replace(lag_s=sample.at_s - waiting[domain].asked_s)
            waiting = {domain: sample for domain, sample in now.items() if domain not in ticked}
        errors |= dict.fromkeys(waiting, f"the energy counter did not rise within {TICK_LIMIT_S:g} s")
        return ticked, errors

    def between(self, begin: Reading, end: Reading) -> dict[str, Quantity]:
        """Return each device's energy in J, from its own begin to its own end.

        The resolution is mean power x one tick, or between readings `at_tick` x the time between two polls.
        """
        return energy_between(begin, end, self.source)

    def describe(self) -> str:
        """Return source, devices and length of tick, and what is not measured."""
        working = [f"{domain}{self._tick(domain)}" for domain in self._handles]
        missing = [f"{domain} (unavailable: {reason})" for domain, reason in self._unavailable.items()]
        return f"{self.source}: " + ", ".join(working + missing)

    def _tick(self, domain: str) -> str:
        return f" (tick {self._tick_s[domain] * 1000:.0f} ms)" if domain in self._tick_s else ""

    def close(self) -> None:
        """End the NVML session; a driver that is gone cannot refuse."""
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()

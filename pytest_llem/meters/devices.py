"""NVIDIA GPUs as NVML shows them: which there are, what each of them can be asked, and how it fails."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pynvml

from pytest_llem.meters.base import DEVICE_LOST, READING_FAILED, Sample

AVERAGING_S = 1.0
"""What `nvmlDeviceGetPowerUsage` averages over on Ampere (except GA100) and newer (NVML API reference)."""

_NO_GPU_HERE = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_GPU_NOT_FOUND,
}


class Found(NamedTuple):
    """The GPUs of a machine by domain, and by domain why others cannot be measured."""

    devices: dict[str, Device]
    refused: dict[str, str]


def find(names: Sequence[str] | None = None) -> Found | None:
    """Open an NVML session, to be ended by `release`, and find GPUs.

    Args:
        names: indices (NVML's order, that of the PCI bus) or UUIDs; None takes all.

    Returns:
        None where there is no NVIDIA driver or no device. A driver or a device that does not answer is refused,
        and so is a device in MIG mode, with the reason.

    Raises:
        ValueError: a device is named that the machine does not have.
    """
    if names is not None and not names:
        return None
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        if error.value in _NO_GPU_HERE:
            return None
        return Found({}, {"gpu:all": f"the NVIDIA driver does not answer: {error}"})
    names = [str(index) for index in range(count)] if names is None else names
    found = dict(_find(name) for name in names)
    devices = {domain: gpu for domain, gpu in found.items() if isinstance(gpu, Device)}
    refused = {domain: reason for domain, reason in found.items() if isinstance(reason, str)}
    return Found(devices, refused) if found else None


def release() -> None:
    """End one NVML session; a driver that is gone cannot refuse."""
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlShutdown()


def _find(name: str) -> tuple[str, Device | str]:
    """Return a device's domain, and the device or why it cannot be measured."""
    if name.startswith("MIG-"):
        return f"gpu:{name}", "a MIG partition has no energy counter of its own"
    try:
        by_name = pynvml.nvmlDeviceGetHandleByIndex if name.isdecimal() else pynvml.nvmlDeviceGetHandleByUUID
        handle = by_name(int(name) if name.isdecimal() else name)
        domain = f"gpu:{pynvml.nvmlDeviceGetUUID(handle)}"
    except (pynvml.NVMLError_NotFound, pynvml.NVMLError_InvalidArgument):
        raise ValueError(
            f"this machine has no GPU {name!r}; `nvidia-smi -L` lists indices and UUIDs"
        ) from None
    except pynvml.NVMLError as error:
        return f"gpu:{name}", f"the GPU does not answer: {error}"
    if _in_mig_mode(handle):
        return domain, "MIG is enabled: the energy counter is that of the whole GPU, not of one partition"
    return domain, Device(domain, handle)


def _in_mig_mode(handle: Any) -> bool:
    with contextlib.suppress(pynvml.NVMLError):  # most devices know no MIG mode
        return bool(pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE)
    return False


def flag_of(error: pynvml.NVMLError) -> str:
    """Return the word for a reading that failed."""
    return DEVICE_LOST if error.value == pynvml.NVML_ERROR_GPU_IS_LOST else READING_FAILED


class Device:
    """One GPU. Its readings raise `pynvml.NVMLError`.

    Attributes:
        domain: `gpu:<uuid>`.
        averaging_s: what `power_w` is averaged over; 0 where it is the power of the moment.
    """

    def __init__(self, domain: str, handle: Any) -> None:
        self.domain = domain
        self._handle = handle
        self._sensors = _sensors(handle)
        self.averaging_s = 0.0 if "instant_power_w" in self._sensors else AVERAGING_S

    def counter_mj(self) -> int:
        """Return the energy counter in mJ; it is there since the Volta generation."""
        return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))

    def power_w(self) -> float:
        """Return the power of the moment where the device knows it, else its own average."""
        read = self._sensors.get("instant_power_w") or self._sensors.get("average_power_w")
        if read is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return read(self._handle)

    def sample(self, at_s: float) -> Sample:
        """Return all sensors at once; one that fails is None in it, and flags the sample."""
        values: dict[str, float] = {}
        flag = None
        for name, read in self._sensors.items():
            try:
                values[name] = read(self._handle)
            except pynvml.NVMLError as error:
                flag = flag_of(error)
        return Sample(at_s, self.domain, flag=flag, **values)


Sensor = Callable[[Any], float]


def _sensors(handle: Any) -> dict[str, Sensor]:
    """Return the sensors that answer now, by field of `Sample`; the others are not asked again."""
    answering: dict[str, Sensor] = {}
    for name, read in (_power_sensors(handle) | _OTHER_SENSORS).items():
        with contextlib.suppress(pynvml.NVMLError):
            read(handle)
            answering[name] = read
    return answering


def _power_sensors(handle: Any) -> dict[str, Sensor]:
    """Return how to ask for the power of the moment and for an average, whichever there may be."""
    averages = False
    with contextlib.suppress(pynvml.NVMLError):  # a driver too old to say knows no Ampere
        averages = pynvml.nvmlDeviceGetArchitecture(handle) >= pynvml.NVML_DEVICE_ARCH_AMPERE
    if not averages:
        return {"instant_power_w": _power_usage_w}
    return {"instant_power_w": _instant_power_w, "average_power_w": _power_usage_w}


def _instant_power_w(handle: Any) -> float:
    field = pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_POWER_INSTANT])[0]
    if field.nvmlReturn != pynvml.NVML_SUCCESS:
        raise pynvml.NVMLError(field.nvmlReturn)
    return float(field.value.uiVal) / 1000


def _power_usage_w(handle: Any) -> float:
    return float(pynvml.nvmlDeviceGetPowerUsage(handle)) / 1000


_OTHER_SENSORS: dict[str, Sensor] = {
    "energy_j": lambda gpu: pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000,
    "temperature_c": lambda gpu: pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
    "sm_clock_mhz": lambda gpu: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
    "memory_clock_mhz": lambda gpu: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_MEM),
    # Old drivers know no other name for the clocks' event reasons.
    "throttle_reasons": pynvml.nvmlDeviceGetCurrentClocksThrottleReasons,
    "memory_used_bytes": lambda gpu: pynvml.nvmlDeviceGetMemoryInfo(gpu).used,
}

"""What the NVIDIA GPUs of an experiment are and how they are set, as NVML tells it.

What a device or a driver does not tell is None: virtual GPUs, MIG partitions and old drivers leave much out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, NamedTuple

import pynvml

COMPUTE_MODES = MappingProxyType(
    {
        pynvml.NVML_COMPUTEMODE_DEFAULT: "default",
        pynvml.NVML_COMPUTEMODE_PROHIBITED: "prohibited",
        pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS: "exclusive_process",
    }
)

FACTS: MappingProxyType[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "uuid": pynvml.nvmlDeviceGetUUID,
        "name": pynvml.nvmlDeviceGetName,
        "vbios": pynvml.nvmlDeviceGetVbiosVersion,
        "memory_bytes": lambda gpu: pynvml.nvmlDeviceGetMemoryInfo(gpu).total,
        "power_limit_w": lambda gpu: pynvml.nvmlDeviceGetPowerManagementLimit(gpu) / 1000,
        "default_power_limit_w": lambda gpu: pynvml.nvmlDeviceGetPowerManagementDefaultLimit(gpu) / 1000,
        "enforced_power_limit_w": lambda gpu: pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000,
        "max_sm_clock_mhz": lambda gpu: pynvml.nvmlDeviceGetMaxClockInfo(gpu, pynvml.NVML_CLOCK_SM),
        "max_memory_clock_mhz": lambda gpu: pynvml.nvmlDeviceGetMaxClockInfo(gpu, pynvml.NVML_CLOCK_MEM),
        "application_graphics_clock_mhz": lambda gpu: pynvml.nvmlDeviceGetApplicationsClock(
            gpu, pynvml.NVML_CLOCK_GRAPHICS
        ),
        "application_memory_clock_mhz": lambda gpu: pynvml.nvmlDeviceGetApplicationsClock(
            gpu, pynvml.NVML_CLOCK_MEM
        ),
        "ecc": lambda gpu: bool(pynvml.nvmlDeviceGetEccMode(gpu)[0]),
        "persistence": lambda gpu: bool(pynvml.nvmlDeviceGetPersistenceMode(gpu)),
        "mig": lambda gpu: bool(pynvml.nvmlDeviceGetMigMode(gpu)[0]),
        "compute_mode": lambda gpu: COMPUTE_MODES.get(pynvml.nvmlDeviceGetComputeMode(gpu)),
        "pcie_generation": pynvml.nvmlDeviceGetCurrPcieLinkGeneration,
        "max_pcie_generation": pynvml.nvmlDeviceGetMaxPcieLinkGeneration,
        "pcie_width": pynvml.nvmlDeviceGetCurrPcieLinkWidth,
        "max_pcie_width": pynvml.nvmlDeviceGetMaxPcieLinkWidth,
    }
)
"""How to ask for each fact about a device, in the order of environment.json."""


class Inventory(NamedTuple):
    """The GPUs and what drives them.

    Attributes:
        driver: version of NVIDIA's driver.
        cuda_driver: the newest version of CUDA that it supports, such as `12.4`.
        devices: one mapping a GPU; docs/formats.md names the keys.
    """

    driver: str | None = None
    cuda_driver: str | None = None
    devices: tuple[dict[str, Any], ...] = ()


def take(names: Sequence[str] | None = None) -> Inventory:
    """Describe GPUs.

    Args:
        names: indices (NVML's order, that of the PCI bus) or UUIDs; None takes all. One that the machine does
            not have is left out.

    Returns:
        An empty inventory where there is no NVIDIA driver, or where it does not answer.
    """
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        try:
            return Inventory(
                driver=_answer(pynvml.nvmlSystemGetDriverVersion),
                cuda_driver=_answer(_cuda_driver),
                devices=tuple(_describe(name) for name in _names(names) if _handle(name) is not None),
            )
        finally:
            pynvml.nvmlShutdown()
    return Inventory()


def _names(names: Sequence[str] | None) -> Sequence[str]:
    if names is not None:
        return names
    return [str(index) for index in range(_answer(pynvml.nvmlDeviceGetCount) or 0)]


def _handle(name: str) -> Any:
    """Return a device's handle, or None if there is no such device or it does not answer."""
    if name.isdecimal():
        return _answer(pynvml.nvmlDeviceGetHandleByIndex, int(name))
    return _answer(pynvml.nvmlDeviceGetHandleByUUID, name)


def _describe(name: str) -> dict[str, Any]:
    handle = _handle(name)
    facts = {fact: _answer(ask, handle) for fact, ask in FACTS.items()}
    return facts | {"uuid": facts["uuid"] or name}


def _cuda_driver() -> str:
    """Return NVML's number, 1000 x major + 10 x minor, as it is written elsewhere."""
    version = pynvml.nvmlSystemGetCudaDriverVersion_v2()
    return f"{version // 1000}.{version % 1000 // 10}"


def _answer(ask: Callable[..., Any], *arguments: Any) -> Any:
    """Return what NVML answers; None if it fails, or if the driver's library has no such function."""
    try:
        return ask(*arguments)
    except pynvml.NVMLError:
        return None

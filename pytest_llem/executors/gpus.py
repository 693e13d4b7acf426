"""The NVIDIA GPUs of this machine as NVML shows them to the host: which there are, who uses them, how warm they are.

NVML shows all GPUs and all processes of the host, whatever CUDA_VISIBLE_DEVICES says, and opens no CUDA context.
What it does not answer is None with a sentence that says so; no driver means no GPUs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_llem.campaign.host import Device


@dataclass(frozen=True)
class Gpu:
    """A GPU, with its place on the PCI bus as `nvidia-smi` counts it.

    A MIG partition, which is taken as it was named, has neither index nor name.
    """

    index: int | None
    uuid: str
    name: str | None

    def __str__(self) -> str:
        if self.index is None:
            return self.uuid
        return f"GPU {self.index} ({self.name or 'name unknown'}, {self.uuid})"


@dataclass(frozen=True)
class Installed:
    """The GPUs of this machine, and a sentence about each that does not answer, or about the driver."""

    gpus: tuple[Gpu, ...] = ()
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        gpus = ", ".join(map(str, self.gpus)) or "no NVIDIA GPU with a driver"
        return "; ".join([f"this machine has {gpus}", *self.problems])


@dataclass(frozen=True)
class GpuMemory:
    """What is in use of a GPU's memory at one moment, in bytes.

    Attributes:
        uuid: of the GPU or MIG partition.
        total_bytes: all of it.
        used_bytes: by processes, and by the driver for itself.
        by_pid: of each process that computes or draws, under its id on the host. None stands for a process whose
            memory NVML does not tell, and for the whole if it does not list processes.
        compute_pids: those that compute.
        problems: what NVML did not answer, a sentence each.
    """

    uuid: str
    total_bytes: int | None = None
    used_bytes: int | None = None
    by_pid: Mapping[int, int | None] | None = None
    compute_pids: frozenset[int] | None = None
    problems: tuple[str, ...] = ()

    def foreign_pct(self, own_pids: Collection[int]) -> float | None:
        """Return how much of the memory is used by others than these processes, in % of all of it.

        What the driver keeps for itself, some hundred MB, counts as foreign.

        Returns:
            None where that cannot be told: NVML does not answer, or does not say what these processes use. It
            does not where it counts processes in another PID namespace.
        """
        own_bytes = self._used_by(own_pids)
        if not self.total_bytes or self.used_bytes is None or own_bytes is None:
            return None
        return 100 * max(0, self.used_bytes - own_bytes) / self.total_bytes

    def _used_by(self, pids: Collection[int]) -> int | None:
        if not pids:
            return 0
        listed = [used for pid, used in (self.by_pid or {}).items() if pid in pids]
        known = [used for used in listed if used is not None]
        return sum(known) if known and len(known) == len(listed) else None


def installed() -> Installed:
    """Return the GPUs that NVML knows."""
    nvml, problem = _driver()
    if nvml is None:
        return Installed(problems=(problem,) if problem else ())
    driver = _Questions("the NVIDIA driver")
    gpus, problems = [], driver.unanswered
    for index in range(driver.ask(nvml.nvmlDeviceGetCount) or 0):
        device = _Questions(f"GPU {index}")
        handle = device.ask(nvml.nvmlDeviceGetHandleByIndex, index)
        uuid = handle and device.ask(nvml.nvmlDeviceGetUUID, handle)
        if uuid:
            gpus.append(Gpu(index, uuid, device.ask(nvml.nvmlDeviceGetName, handle)))
        problems += device.unanswered
    return Installed(tuple(gpus), tuple(problems))


def devices(here: Installed) -> tuple[Device, ...]:
    """Return what rules need to know of these GPUs; what one does not tell is None."""
    nvml, _ = _driver()
    return () if nvml is None else tuple(_device(nvml, gpu) for gpu in here.gpus)


def _device(nvml: Any, gpu: Gpu) -> Device:
    device = _Questions(str(gpu))
    handle = device.ask(nvml.nvmlDeviceGetHandleByUUID, gpu.uuid)
    if handle is None:
        return Device(gpu.index, gpu.uuid)
    capability = device.ask(nvml.nvmlDeviceGetCudaComputeCapability, handle)
    whole = device.ask(nvml.nvmlDeviceGetMemoryInfo, handle)
    return Device(gpu.index, gpu.uuid, capability and tuple(capability), whole and whole.total)


def memory(uuids: Iterable[str]) -> list[GpuMemory]:
    """Return who uses the memory of these GPUs or MIG partitions at this moment."""
    nvml, problem = _driver()
    if nvml is None:
        return [GpuMemory(uuid, problems=(problem or "no NVIDIA driver",)) for uuid in uuids]
    return [_memory(nvml, uuid) for uuid in uuids]


def temperatures_c(uuids: Iterable[str]) -> dict[str, float]:
    """Return the temperature of those of these GPUs that tell it, in degrees Celsius."""
    nvml, _ = _driver()
    if nvml is None:
        return {}
    found = {uuid: _temperature_c(nvml, uuid) for uuid in uuids}
    return {uuid: celsius for uuid, celsius in found.items() if celsius is not None}


def _temperature_c(nvml: Any, uuid: str) -> float | None:
    device = _Questions(uuid)
    handle = device.ask(nvml.nvmlDeviceGetHandleByUUID, uuid)
    if handle is None:
        return None
    celsius = device.ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
    return None if celsius is None else float(celsius)


def _memory(nvml: Any, uuid: str) -> GpuMemory:
    device = _Questions(uuid)
    handle = device.ask(nvml.nvmlDeviceGetHandleByUUID, uuid)
    if handle is None:
        return GpuMemory(uuid, problems=tuple(device.unanswered))
    whole = device.ask(nvml.nvmlDeviceGetMemoryInfo, handle)
    computing = device.ask(nvml.nvmlDeviceGetComputeRunningProcesses, handle)
    drawing = device.ask(nvml.nvmlDeviceGetGraphicsRunningProcesses, handle)
    return GpuMemory(
        uuid,
        total_bytes=whole and whole.total,
        used_bytes=whole and whole.used,
        by_pid=None if computing is None else _by_pid([*computing, *(drawing or [])]),
        compute_pids=None if computing is None else frozenset(process.pid for process in computing),
        problems=tuple(device.unanswered),
    )


def _by_pid(processes: Iterable[Any]) -> dict[int, int | None]:
    """Return what each process uses; one that computes and draws is listed twice with the same memory.

    A process with a context uses some. Drivers say 0 where they do not know, as in a container
    (NVIDIA/open-gpu-kernel-modules, pull request 614).
    """
    used: dict[int, int] = {}
    for process in processes:
        used[process.pid] = max(used.get(process.pid, 0), process.usedGpuMemory or 0)
    return {pid: most or None for pid, most in used.items()}


class _Questions:
    """Puts single questions about one thing to NVML, and notes which are not answered."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self.unanswered: list[str] = []

    def ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """Return the answer, or None."""
        import pynvml  # noqa: PLC0415 - see `_driver`

        try:
            return question(*arguments)
        except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError) as error:  # the latter: an old driver
            self.unanswered.append(f"{self._subject} does not answer {question.__name__}: {error}")
            return None


@functools.cache
def _driver() -> tuple[Any, str | None]:
    """Open NVML for the rest of this process.

    Returns:
        The binding, or None; and why it is None, if it is not for want of a driver.
    """
    import pynvml  # noqa: PLC0415 - a session that only collects asks for no GPU

    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded, pynvml.NVMLError_GpuNotFound):
        return None, None
    except pynvml.NVMLError as error:
        return None, f"the NVIDIA driver does not answer: {error}"
    return pynvml, None

"""Which GPUs a session uses, and why, in words for the header.

Indexes are NVML's, in the order of the PCI bus, as `nvidia-smi` prints them; CUDA may count otherwise, so a
choice is handed on as UUIDs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_llem.executors.base import ExecutorError
from pytest_llem.executors.gpus import Gpu, Installed, memory
from pytest_llem.executors.slots import holder_of

OPTION = "--campaign-gpus"
CPU_ONLY = "none"

CUDA_VARIABLE = "CUDA_VISIBLE_DEVICES"
ENDS_CUDA_LIST = {"", "-1", "NoDevFiles"}
"""CUDA reads its list up to the first entry that is no device; Slurm writes `NoDevFiles` for a job without one."""

ALLOCATED_VARIABLES = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "NVIDIA_VISIBLE_DEVICES")
NO_LIST = {"", "all", "none", "void"}
"""What NVIDIA_VISIBLE_DEVICES may say beside a list (NVIDIA Container Toolkit)."""


@dataclass(frozen=True)
class GpuChoice:
    """The GPUs of a session.

    Attributes:
        gpus: none: the session measures on the CPU.
        reason: which they are and why.
        visible: what CUDA_VISIBLE_DEVICES is to be for engines: UUIDs; "" hides GPUs that are here and not
            chosen; None where there are none: leave it alone.
        by_default: whether nobody named them.
    """

    gpus: tuple[Gpu, ...]
    reason: str
    visible: str | None
    by_default: bool = False

    @property
    def uuids(self) -> tuple[str, ...]:
        """The GPUs under the names that hold for slots, meters and engines."""
        return tuple(gpu.uuid for gpu in self.gpus)


def choose_gpus(
    asked: str | None, environ: Mapping[str, str], here: Installed, source: str = OPTION
) -> GpuChoice:
    """Return the GPUs that a session uses.

    What the option asks for wins over CUDA_VISIBLE_DEVICES, that over what a scheduler or a container runtime
    allocated; else it is the only GPU here, or an idle one.

    Args:
        asked: indexes, UUIDs or unambiguous beginnings of UUIDs, comma-separated; `none`: the CPU.
        environ: of the session.
        here: the GPUs of this machine.
        source: where it is asked for.

    Raises:
        ExecutorError: a GPU is named that this machine does not have.
    """
    if asked is not None:
        entries = [] if asked.strip() == CPU_ONLY else _entries(asked)
        return _named(source, entries, here)
    if not here.gpus:
        return GpuChoice((), f"no GPU: {here}", None)
    if CUDA_VARIABLE in environ:
        return _named(CUDA_VARIABLE, _as_cuda_reads(environ[CUDA_VARIABLE]), here)
    for variable in ALLOCATED_VARIABLES:
        allocated = environ.get(variable, "").strip()
        if allocated not in NO_LIST:
            return _allocated(variable, _entries(allocated), here)
    return _idlest(here.gpus)


def _entries(text: str) -> list[str]:
    return [entry.strip() for entry in text.split(",")]


def _as_cuda_reads(text: str) -> list[str]:
    entries = _entries(text)
    end = next((place for place, entry in enumerate(entries) if entry in ENDS_CUDA_LIST), None)
    return entries[:end]


def _named(source: str, entries: Iterable[str], here: Installed) -> GpuChoice:
    gpus = dict.fromkeys(_find(entry, source, here) for entry in entries)
    if not gpus:
        return GpuChoice((), f"no GPU, as {source} says", "" if here.gpus else None)
    return _chosen(gpus, f"as {source} says")


def _allocated(variable: str, entries: Sequence[str], here: Installed) -> GpuChoice:
    """Return what was allocated; its indexes are the host's, also where only those GPUs can be seen.

    Inside a device cgroup or a container NVML counts the visible GPUs from 0 (Slurm, sbatch(1):
    SLURM_JOB_GPUS), so as many as were allocated are those.
    """
    if len(entries) == len(here.gpus):
        return _chosen(here.gpus, f"as {variable} says")
    return _named(variable, entries, here)


def _find(entry: str, source: str, here: Installed) -> Gpu:
    if entry.startswith("MIG-") and here.gpus:
        return Gpu(None, entry, None)
    fits = [gpu for gpu in here.gpus if _means(entry, gpu)]
    exact = [gpu for gpu in fits if gpu.uuid == entry] or fits
    if len(exact) == 1:
        return exact[0]
    fault = "which fits more than one GPU" if fits else "which is not here"
    raise ExecutorError(f"{source} names {entry!r}, {fault}: {here}")


def _means(entry: str, gpu: Gpu) -> bool:
    """Return whether an index, UUID or beginning of a UUID, as CUDA accepts it, can mean this GPU."""
    if entry.isdecimal():
        return gpu.index == int(entry)
    return entry.startswith("GPU-") and gpu.uuid.startswith(entry)


def _idlest(gpus: Sequence[Gpu]) -> GpuChoice:
    """Return the GPU whose slot is free and on which nothing computes, or the one that comes nearest."""
    if len(gpus) == 1:
        return _chosen(gpus, "the only one here", by_default=True)
    uses = {use.uuid: use for use in memory(gpu.uuid for gpu in gpus)}
    held = {gpu: holder_of(gpu.uuid) is not None for gpu in gpus}
    idle = {gpu: not held[gpu] and uses[gpu.uuid].compute_pids == frozenset() for gpu in gpus}

    def rank(gpu: Gpu) -> tuple[bool, bool, float]:
        used_bytes = uses[gpu.uuid].used_bytes
        return held[gpu], not idle[gpu], math.inf if used_bytes is None else used_bytes

    best = min(gpus, key=rank)
    why = (
        f"idle, of {len(gpus)} here"
        if idle[best]
        else f"the least used of {len(gpus)} here, none of them idle"
    )
    return _chosen([best], why, by_default=True)


def _chosen(gpus: Iterable[Gpu], why: str, *, by_default: bool = False) -> GpuChoice:
    gpus = tuple(gpus)
    visible = ",".join(gpu.uuid for gpu in gpus)
    return GpuChoice(gpus, f"{', '.join(map(str, gpus))}: {why}", visible, by_default)


def choose_named(source: str, entries: Iterable[int | str], here: Installed) -> GpuChoice:
    """Return the GPUs of a list of indexes, UUIDs or beginnings of UUIDs; an empty one: the CPU.

    Raises:
        ExecutorError: a GPU is named that this machine does not have.
    """
    return _named(source, map(str, entries), here)


def together(choices: Iterable[GpuChoice], why: str) -> GpuChoice:
    """Return the GPUs of several choices as one."""
    return _chosen(dict.fromkeys(gpu for choice in choices for gpu in choice.gpus), why)

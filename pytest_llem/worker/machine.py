"""What the kernel says of this machine: processors, containers, limits. Linux; elsewhere most of it is not known."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

SYS = Path("/sys")
CGROUP_MEMBERSHIP = Path("/proc/self/cgroup")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

NO_LIMIT_BYTES = 1 << 60
"""Version 1 of cgroups has no word for "no limit": it shows the largest whole number of pages."""

_CONTAINER_FILES = {"docker": ".dockerenv", "podman": "run/.containerenv"}
_CONTAINER_VARIABLES = {
    "kubernetes": "KUBERNETES_SERVICE_HOST",
    "apptainer": "APPTAINER_CONTAINER",
    "singularity": "SINGULARITY_CONTAINER",
}


class Processors(NamedTuple):
    """The CPUs of a machine; None is not known, as in many virtual machines.

    Attributes:
        sockets, numa_nodes: packages, and parts with memory of their own.
        max_mhz: the highest clock of the fastest core.
        governor: who sets the clocks; several are joined by `, `.
        smt: whether cores run several threads at a time.
    """

    sockets: int | None
    numa_nodes: int | None
    max_mhz: float | None
    governor: str | None
    smt: bool | None


def processors(sys: Path = SYS) -> Processors:
    """Return what sysfs says of the CPUs."""
    system = sys / "devices/system"
    cpus = sorted((system / "cpu").glob("cpu[0-9]*"))
    packages = _distinct(cpu / "topology/physical_package_id" for cpu in cpus)
    clocks_khz = _distinct(cpu / "cpufreq/cpuinfo_max_freq" for cpu in cpus)
    governors = _distinct(cpu / "cpufreq/scaling_governor" for cpu in cpus)
    smt = _text(system / "cpu/smt/active")
    return Processors(
        sockets=len(packages) or None,
        numa_nodes=len([*(system / "node").glob("node[0-9]*")]) or None,
        max_mhz=max(map(int, clocks_khz)) / 1000 if clocks_khz else None,
        governor=", ".join(sorted(governors)) or None,
        smt=None if smt is None else smt == "1",
    )


def boot_id() -> str:
    """Return what tells this boot of this machine from all others; it is the same inside containers."""
    return _text(BOOT_ID) or "unknown"


def container(root: Path = Path("/"), variables: Mapping[str, str] = os.environ) -> str | None:
    """Return the kind of container that this is, by the marks that its engine leaves; None without any."""
    for kind, variable in _CONTAINER_VARIABLES.items():
        if variable in variables:
            return kind
    for kind, file in _CONTAINER_FILES.items():
        if (root / file).exists():
            return kind
    return variables.get("container")  # set by systemd's rule, as LXC does


class Limits(NamedTuple):
    """What the control groups of this process allow it; None is no limit."""

    cpus: float | None
    memory_bytes: int | None


def cgroup_limits(sys: Path = SYS, membership: Path = CGROUP_MEMBERSHIP) -> Limits:
    """Return the tightest limits of this process's control groups and all above them (versions 1 and 2)."""
    cpus = _tightest(_folders("cpu", sys, membership), _cpus)
    memory_bytes = _tightest(_folders("memory", sys, membership), _memory_bytes)
    return Limits(cpus, None if memory_bytes is None else int(memory_bytes))


def _tightest(folders: Iterable[Path], limit: Callable[[Path], float | None]) -> float | None:
    return min((found for folder in folders if (found := limit(folder)) is not None), default=None)


def _folders(controller: str, sys: Path, membership: Path) -> Iterator[Path]:
    """Yield the folders of a controller from this process's group up to the root.

    A container of version 1 names groups that it does not see; its own lies at the root there.
    """
    for line in (_text(membership) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            group = PurePosixPath(path)
            for above in (group, *group.parents):
                yield sys / "fs/cgroup" / controllers / above.relative_to("/")


def _cpus(folder: Path) -> float | None:
    quota, _, period = (_text(folder / "cpu.max") or "").partition(" ")
    if not period:
        quota = _text(folder / "cpu.cfs_quota_us") or "max"
        period = _text(folder / "cpu.cfs_period_us") or "1"
    return None if quota in ("max", "-1") else int(quota) / int(period)


def _memory_bytes(folder: Path) -> float | None:
    limit = _text(folder / "memory.max") or _text(folder / "memory.limit_in_bytes") or "max"
    return None if limit == "max" or int(limit) >= NO_LIMIT_BYTES else int(limit)


def _distinct(files: Iterable[Path]) -> set[str]:
    return {text for file in files if (text := _text(file)) is not None}


def _text(file: Path) -> str | None:
    """Return what a file says, or None if it cannot be read."""
    with contextlib.suppress(OSError):
        return file.read_text(encoding="utf-8").strip()
    return None

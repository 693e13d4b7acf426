"""The machine and the software beside the model, as a snapshot that goes with the results."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from pytest_llem.meters.inventory import Inventory
from pytest_llem.records import Environment, MachineSettings
from pytest_llem.worker import machine


def snapshot(
    packages: Iterable[str], meters: Iterable[str], gpus: Inventory, notes: Iterable[str] = ()
) -> Environment:
    """Return what this machine is; `packages` are looked up in this interpreter, absent ones left out.

    In a container the name of the machine is not known, only an id that is another one each time.
    """
    processors, container = machine.processors(), machine.container()
    return Environment(
        **dict(settings(gpus)),
        hostname=None if container else platform.node(),
        machine=platform.machine(),
        kernel=platform.release(),
        c_library=_c_library(),
        container=container,
        cpu=_cpu_name(),
        sockets=processors.sockets,
        cores=psutil.cpu_count(logical=False),
        numa_nodes=processors.numa_nodes,
        memory_bytes=psutil.virtual_memory().total,
        driver=gpus.driver,
        cuda_driver=gpus.cuda_driver,
        python=platform.python_version(),
        packages={name: found for name in packages if (found := _version(name))},
        meters=tuple(meters),
        notes=tuple(notes),
    )


def settings(gpus: Inventory) -> MachineSettings:
    """Return how this machine is set now, in milliseconds; `gpus` were looked at now too."""
    processors, limits = machine.processors(), machine.cgroup_limits()
    return MachineSettings(
        taken_at=datetime.now(UTC),
        logical_cpus=psutil.cpu_count() or 1,
        smt=processors.smt,
        max_cpu_mhz=processors.max_mhz,
        governor=processors.governor,
        cpu_limit=limits.cpus,
        memory_limit_bytes=limits.memory_bytes,
        devices=gpus.devices,
    )


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _c_library() -> str | None:
    """Return name and version, such as `glibc 2.36`; other libraries than that one do not say theirs."""
    with contextlib.suppress(OSError, ValueError):
        return os.confstr("CS_GNU_LIBC_VERSION")
    return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

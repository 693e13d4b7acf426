"""The machine and the software beside the model, as a snapshot that goes with the results."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from pytest_llem.records import Environment

GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def snapshot(packages: Iterable[str], meters: Iterable[str], notes: Iterable[str] = ()) -> Environment:
    """Return what this machine is; `packages` are looked up in this interpreter, absent ones left out."""
    return Environment(
        hostname=platform.node(),
        machine=platform.machine(),
        kernel=platform.release(),
        cpu=_cpu_name(),
        logical_cpus=psutil.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        governor=GOVERNOR.read_text().strip() if GOVERNOR.exists() else None,
        python=platform.python_version(),
        packages={name: found for name in packages if (found := _version(name))},
        meters=tuple(meters),
        notes=tuple(notes),
    )


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

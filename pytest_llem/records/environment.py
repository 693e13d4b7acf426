"""The machine and the software beside the model."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pytest_llem.records.base import Record


class MachineSettings(Record):
    """What can be set otherwise while a worker lives; None is not known.

    Attributes:
        governor: who sets the clocks of the CPUs.
        cpu_limit, memory_limit_bytes: of the worker's control groups; None is no limit.
        devices: one mapping a GPU, see docs/formats.md.
    """

    taken_at: datetime | None = None
    logical_cpus: int
    smt: bool | None = None
    max_cpu_mhz: float | None = None
    governor: str | None
    cpu_limit: float | None = None
    memory_limit_bytes: int | None = None
    devices: tuple[dict[str, Any], ...] = ()


class Environment(MachineSettings):
    """The machine and the software beside the model; None is not known.

    Attributes:
        hostname: of the machine; for a container, of the one that started it.
        container: the kind of container; None outside of one. `image` is the digest of its image.
        driver, cuda_driver: of the NVIDIA GPUs, and the newest CUDA that it supports.
        packages: versions of those that matter for the backend.
        git_commit: of the campaign's repository.
        meters: what each of them reads and assumes.
    """

    hostname: str | None
    machine: str
    kernel: str
    c_library: str | None = None
    container: str | None = None
    image: str | None = None
    cpu: str
    sockets: int | None = None
    cores: int | None = None
    numa_nodes: int | None = None
    memory_bytes: int
    driver: str | None = None
    cuda_driver: str | None = None
    python: str
    packages: dict[str, str]
    git_commit: str | None = None
    meters: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


VOLATILE = frozenset({"taken_at", "meters", "notes", "pcie_generation"})
"""What changes while an environment stays the same: times, measured ticks, links that save power when idle."""

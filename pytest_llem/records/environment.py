"""The machine and the software beside the model."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pytest_llem.records.base import Record


class Environment(Record):
    """The machine and the software beside the model; None is not known.

    Attributes:
        hostname: of the machine; for a container, of the one that started it.
        container: the kind of container; None outside of one. `image` is the digest of its image.
        cpu_limit, memory_limit_bytes: of the worker's control groups; None is no limit.
        driver, cuda_driver: of the NVIDIA GPUs, and the newest CUDA that it supports.
        devices: one mapping a GPU, see docs/formats.md.
        packages: versions of those that matter for the backend.
        git_commit: of the campaign's repository.
        meters: what each of them reads and assumes.
    """

    taken_at: datetime | None = None
    hostname: str | None
    machine: str
    kernel: str
    c_library: str | None = None
    container: str | None = None
    image: str | None = None
    cpu: str
    sockets: int | None = None
    cores: int | None = None
    logical_cpus: int
    smt: bool | None = None
    numa_nodes: int | None = None
    max_cpu_mhz: float | None = None
    governor: str | None
    cpu_limit: float | None = None
    memory_bytes: int
    memory_limit_bytes: int | None = None
    driver: str | None = None
    cuda_driver: str | None = None
    devices: tuple[dict[str, Any], ...] = ()
    python: str
    packages: dict[str, str]
    git_commit: str | None = None
    meters: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


VOLATILE = frozenset({"taken_at", "meters", "notes", "pcie_generation"})
"""What changes while an environment stays the same: times, measured ticks, links that save power when idle."""

"""One attempt at one experiment: a measurement or a failure, with its place in a run and its circumstances."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pytest_llem.records.base import Record
from pytest_llem.records.configuration import Configuration
from pytest_llem.records.measurement import Measurement

RESULT_SCHEMA_VERSION = 1
"""Raised when a field of `Result` changes its meaning or goes; a new optional field does not raise it."""


FailureClass = Literal[
    "oom",
    "timeout",
    "engine_start",
    "crashed",
    "unhealthy",
    "lost",
    "invalid_config",
    "not_measured",
    "not_isolated",
    "cancelled",
]


class Failure(Record):
    """Why an experiment has no measurement: its class, one sentence, and the end of the log."""

    kind: FailureClass
    message: str
    log_tail: str = ""


class GpuProcess(Record):
    """A process of somebody else's on a GPU.

    Attributes:
        pid: as the host counts it.
        name: None if it was gone before it could be asked.
        devices: UUIDs of the watched GPUs that it uses.
    """

    pid: int
    name: str | None
    devices: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name or 'name unknown'} (process {self.pid}) on {' and '.join(self.devices)}"


class Isolation(Record):
    """Who else used the device while an experiment ran.

    Attributes:
        devices: UUIDs of the GPUs that were watched; none: there is no GPU, and the CPUs are the device.
        residents: who used them before the session began: part of the baseline.
        foreign: who came later and is not ours.
        foreign_cpu_share: of all CPU time of the machine in the window, what others took, 0 to 1; None: not judged.
        problem: why less can be told than that; None where all can be told.
    """

    devices: tuple[str, ...]
    residents: tuple[GpuProcess, ...] = ()
    foreign: tuple[GpuProcess, ...] = ()
    foreign_cpu_share: float | None = None
    problem: str | None = None


class Cooling(Record):
    """One GPU in a thermal gap, in degrees Celsius.

    Attributes:
        start_c: after conditioning, at the start of the session.
        before_c, after_c: when the gap began and when it ended; None: it did not tell any more.
    """

    start_c: float
    before_c: float
    after_c: float | None


class ThermalGap(Record):
    """A wait for GPUs to cool down; `Result.gap_s` says how long it was.

    Attributes:
        reached: whether every device came within the band; else the whole gap was waited.
        devices: by UUID.
    """

    reached: bool
    devices: dict[str, Cooling]


class Result(Record):
    """One attempt at one experiment, as it lies on disk.

    Exactly one of `measurement` and `failure` is set, but for an experiment that was measured and then refused
    (`not_measured`, `not_isolated`): it keeps both.

    Attributes:
        round: of the daemon's series that the run is one of, from 1; None: somebody started the run.
        gap_s: really waited before it.
        thermal_gap: how the GPUs cooled down in that time; None: the gap was a fixed time, or there was none.
        isolation: who else used the devices; None: it did not get as far as a service.
        service_start_s: how long its service (container or worker process) took to come up for it; None: it was up.
        trace: name of the file beside this one with the samples of power and temperature; None: there is none.
    """

    schema_version: int = RESULT_SCHEMA_VERSION
    tool_version: str
    campaign: str
    run_id: str
    session_id: str
    round: int | None = None
    experiment_id: str
    label: str
    axes: dict[str, Any]
    spec_hash: str
    engine_key: str
    cycle: int
    position: int
    attempt: int
    executor: str
    environment_hash: str | None
    status: Literal["completed", "failed"]
    started_at: datetime
    completed_at: datetime
    gap_s: float
    thermal_gap: ThermalGap | None = None
    service_start_s: float | None = None
    isolation: Isolation | None = None
    trace: str | None = None
    configuration: Configuration
    measurement: Measurement | None = None
    failure: Failure | None = None

"""What every room passes on: configurations, quantities, results. Nothing here does anything; pydantic only.

A `Configuration` says what to measure, a `Measurement` is what the worker found, a `Result` is a measurement
(or a `Failure`) with its place in a run. Each number that came out of a measurement is a `Quantity`: it carries
its unit and its source, and it is `None` when it is not available, never 0.
"""

from __future__ import annotations

from pytest_llem.records.base import Count, NonNegative, Record
from pytest_llem.records.configuration import (
    RANDOM_WEIGHTS,
    Baseline,
    Configuration,
    Dataset,
    Decoder,
    Load,
    ModelRuns,
    Prefill,
    Timeseries,
    Warmup,
)
from pytest_llem.records.environment import VOLATILE, Environment, MachineSettings
from pytest_llem.records.measurement import (
    NOT_RECORDED,
    THROTTLED,
    DeviceTrace,
    Idle,
    IdleKind,
    Launch,
    LoadReport,
    Measurement,
    PrefillReport,
    WarmupReport,
)
from pytest_llem.records.quantities import MEASURED_ENERGY, METRICS, Metric, Quantity, Source, unavailable
from pytest_llem.records.result import (
    RESULT_SCHEMA_VERSION,
    Cooling,
    Failure,
    FailureClass,
    GpuProcess,
    Isolation,
    Result,
    ThermalGap,
)

__all__ = [
    "MEASURED_ENERGY",
    "METRICS",
    "NOT_RECORDED",
    "RANDOM_WEIGHTS",
    "RESULT_SCHEMA_VERSION",
    "THROTTLED",
    "VOLATILE",
    "Baseline",
    "Configuration",
    "Cooling",
    "Count",
    "Dataset",
    "Decoder",
    "DeviceTrace",
    "Environment",
    "Failure",
    "FailureClass",
    "GpuProcess",
    "Idle",
    "IdleKind",
    "Isolation",
    "Launch",
    "Load",
    "LoadReport",
    "MachineSettings",
    "Measurement",
    "Metric",
    "ModelRuns",
    "NonNegative",
    "Prefill",
    "PrefillReport",
    "Quantity",
    "Record",
    "Result",
    "Source",
    "ThermalGap",
    "Timeseries",
    "Warmup",
    "WarmupReport",
    "unavailable",
]

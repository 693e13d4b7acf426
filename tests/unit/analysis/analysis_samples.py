"""Observations and results that the tests of analysis are made of."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pytest_llem.analysis.observations import Expected, Observation
from pytest_llem.records import (
    METRICS,
    Configuration,
    Failure,
    FailureClass,
    Launch,
    Measurement,
    Quantity,
    Result,
    Source,
    unavailable,
)

THROUGHPUT = "output_tokens_per_second"
ENERGY = "energy_per_output_token_j"


def observation(
    value: float | Mapping[str, float] | None,
    *,
    configuration: str = "a",
    cycle: int = 1,
    session: str = "monday",
    started_at: float | None = None,
    launch: str | None = None,
    failure: str | None = None,
    flags: tuple[str, ...] = (),
    devices: tuple[str, ...] = (),
    sources: Mapping[str, Source] | None = None,
    parts: Mapping[str, tuple[str, ...]] | None = None,
    throttle_share: float | None = None,
    backend: str = "pytorch",
    environment: str | None = None,
) -> Observation:
    """Return an observation whose throughput is `value`, or whose metrics are; each cycle takes 100 s."""
    metrics = {THROUGHPUT: value} if isinstance(value, float | int) else value or {}
    named, summed = sources or {}, parts or {}
    return Observation(
        configuration=configuration,
        label=f"label of {configuration}",
        cycle=cycle,
        session=session,
        started_at=100.0 * cycle if started_at is None else started_at,
        launch=launch or f"{configuration}{cycle}{session}",
        status="failed" if failure else "completed",
        failure_kind=failure,
        flags=flags,
        devices=devices,
        values=array("d", [metrics.get(metric, math.nan) for metric in METRICS]),
        sources=tuple(named.get(m, "clock") if m in metrics else "unavailable" for m in METRICS),
        parts=tuple(summed.get(m, ()) for m in METRICS),
        reasons=tuple(None if m in metrics else f"no {m} here" for m in METRICS),
        throttle_share=throttle_share,
        backend=backend,
        environment=environment,
    )


def cycles(values: Sequence[float | Mapping[str, float] | None], **rest: Any) -> list[Observation]:
    """Return one observation a cycle, from cycle 1."""
    return [observation(value, cycle=cycle, **rest) for cycle, value in enumerate(values, 1)]


def expected(*configurations: str, experiments: int = 3, **axes: Any) -> list[Expected]:
    """Return what a campaign asks of `configurations`; `batch_size` is the configuration's name."""
    return [
        Expected(name, f"label of {name}", {"batch_size": name} | axes, experiments)
        for name in configurations
    ]


def result(metrics: Mapping[str, Quantity], *, failure: FailureClass | None = None) -> Result:
    """Return a result as the runner stores it, with a measurement if there are `metrics`."""
    moment = datetime(2026, 11, 22, 12, tzinfo=UTC)
    launch = Launch(
        id="launch-7",
        engine_key="key",
        warm=True,
        start_method="spawn",
        start_s=1.0,
        load_s=2.0,
        load_energy_j=unavailable("J", "no meter"),
    )
    measurement = Measurement(
        launch=launch,
        warmup=None,
        window_s=30.0,
        energy_window_s=30.1,
        passes=3,
        requests=30,
        prompt_tokens=300,
        cached_tokens=0,
        padding_tokens=0,
        output_tokens=600,
        mean_running_batch=8.0,
        prompt_sha256="0",
        energy_j={
            domain: Quantity(value=9.0, unit="J", source="nvml_counter")
            for domain in ("total", "gpu:GPU-2", "gpu:GPU-1")
        },
        metrics=dict(metrics),
        effective={},
        flags=("not_converged",),
    )
    return Result(
        tool_version="0",
        campaign="grid",
        run_id="run",
        session_id="monday",
        experiment_id="id",
        label="pytorch-b8",
        axes={"backend": "pytorch", "batch_size": 8},
        spec_hash="hash",
        engine_key="key",
        cycle=2,
        position=5,
        attempt=1,
        executor="local",
        environment_hash=None,
        status="failed" if failure else "completed",
        started_at=moment,
        completed_at=moment,
        gap_s=0.0,
        configuration=Configuration(),
        measurement=measurement if metrics else None,
        failure=Failure(kind=failure, message="It failed.") if failure else None,
    )

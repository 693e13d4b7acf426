"""Valid records for tests, to be varied: a completed experiment on one GPU, and one that failed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

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
    WarmupReport,
    unavailable,
)

BEGIN = datetime(2026, 11, 22, 18, 45, 12, tzinfo=UTC)
GPU = "GPU-0f3a"

NUMBERS = {
    "energy_per_output_token_j": 0.412,
    "energy_per_total_token_j": 0.103,
    "energy_per_request_j": 52.7,
    "energy_j": 5270.0,
    "power_mean_w": 175.7,
    "output_tokens_per_second": 426.3,
    "total_tokens_per_second": 1705.0,
    "requests_per_second": 3.33,
    "e2e_latency_ms_mean": 812.5,
    "model_load_time_s": 4.2,
    "cold_start_time_s": 9.6,
    "memory_peak_bytes": 3.1e9,
}
"""Metrics of the measurement that `measurement` returns. There are no times of first tokens."""


def metrics(
    numbers: Mapping[str, float],
    energy_source: Source = "nvml_counter",
    parts: tuple[str, ...] = ("gpu",),
) -> dict[str, Quantity]:
    """Return numbers as quantities; where the energy is unavailable, so is what is derived from it."""
    found = {}
    for name, value in numbers.items():
        unit = METRICS[name].unit
        if not METRICS[name].is_metered:
            found[name] = Quantity(value=value, unit=unit, source="clock")
        elif energy_source == "unavailable":
            found[name] = unavailable(unit, "no meter")
        else:
            found[name] = Quantity(value=value, unit=unit, source=energy_source, parts=parts)
    return found


def measurement(
    numbers: Mapping[str, float] | None = None,
    *,
    energy_source: Source = "nvml_counter",
    parts: tuple[str, ...] = ("gpu",),
    **changes: Any,
) -> Measurement:
    """Return a measurement with `numbers` over `NUMBERS` as its metrics and `changes` to its fields."""
    total = (
        unavailable("J", "no meter")
        if energy_source == "unavailable"
        else Quantity(value=5270.0, unit="J", source=energy_source, resolution=17.6, parts=parts)
    )
    fields: dict[str, Any] = {
        "launch": Launch(
            id="launch-1",
            engine_key="key",
            warm=False,
            start_method="forkserver",
            start_s=1.5,
            load_s=4.2,
            load_energy_j=unavailable("J", "no meter"),
        ),
        "warmup": WarmupReport(prompts=100, passes=1, seconds=12.5, converged=True),
        "window_s": 30.0,
        "energy_window_s": 30.1,
        "passes": 1,
        "requests": 100,
        "prompt_tokens": 38_400,
        "cached_tokens": 0,
        "padding_tokens": 0,
        "output_tokens": 12_800,
        "mean_running_batch": 7.9,
        "prompt_sha256": "0" * 64,
        "energy_j": {
            "total": total,
            "gpu": total,
            f"gpu:{GPU}": total,
            "cpu": unavailable("J", "not readable"),
        },
        "metrics": metrics(NUMBERS | dict(numbers or {}), energy_source, parts),
        "effective": {"batch_size": 8},
    }
    return Measurement(**fields | changes)


def result(
    name: str = "pytorch batch_size=8",
    cycle: int = 1,
    *,
    failed: FailureClass | None = None,
    message: str = "the device ran out of memory",
    log_tail: str = "",
    **changes: Any,
) -> Result:
    """Return a first attempt at the configuration `name` in a cycle; each cycle begins 10 minutes later.

    With `failed`, a class of failure, it has no measurement, and `message` and `log_tail` say why. The spec
    hash follows from the name; `changes` go to the fields of the result.
    """
    started = BEGIN + timedelta(minutes=10 * cycle)
    fields: dict[str, Any] = {
        "tool_version": "0.1.0",
        "campaign": "sizes",
        "run_id": "20261122-184512-x7k2",
        "session_id": "5e55101a",
        "experiment_id": f"{name.replace(' ', '-')}-c{cycle}",
        "label": name,
        "axes": {"backend": "pytorch", "batch_size": 8},
        "spec_hash": f"hash of {name}",
        "engine_key": "key",
        "cycle": cycle,
        "position": 0,
        "attempt": 1,
        "executor": "local",
        "environment_hash": "0a1b2c3d4e5f",
        "status": "failed" if failed else "completed",
        "started_at": started,
        "completed_at": started + timedelta(seconds=60),
        "gap_s": 10.0,
        "configuration": Configuration(backend="pytorch", model_name="models/tiny"),
        "measurement": None if failed else measurement(),
        "failure": Failure(kind=failed, message=message, log_tail=log_tail) if failed else None,
    }
    return Result(**fields | changes)

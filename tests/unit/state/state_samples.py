"""Results and runs for the tests of `pytest_llem.state`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from pytest_llem.records import Configuration, Failure, FailureClass, Launch, Measurement, Result, unavailable
from pytest_llem.state.run import Runs
from pytest_llem.state.run_info import RunInfo, new_session

RUN_ID = "20261122-184512-x7k2"
BEGIN = datetime(2026, 11, 22, 18, 45, 12, tzinfo=UTC)

MEASUREMENT = Measurement(
    launch=Launch(
        id="launch-1",
        engine_key="key",
        warm=True,
        start_method="forkserver",
        start_s=1.0,
        load_s=2.0,
        load_energy_j=unavailable("J", "no meter"),
    ),
    warmup=None,
    window_s=30.0,
    energy_window_s=30.1,
    passes=3,
    requests=300,
    prompt_tokens=1000,
    cached_tokens=0,
    padding_tokens=0,
    output_tokens=900,
    mean_running_batch=1.0,
    prompt_sha256="0" * 64,
    energy_j={"total": unavailable("J", "no meter")},
    metrics={},
    effective={"batch_size": 1},
)


def a_result(
    name: str, attempt: int = 1, *, spec_hash: str = "", failed: FailureClass | None = None
) -> Result:
    """Return an attempt at the experiment `name`, in cycle 1; later attempts begin later."""
    started = BEGIN + timedelta(minutes=attempt)
    return Result(
        tool_version="0.1.0",
        campaign="sizes",
        run_id=RUN_ID,
        session_id="session",
        experiment_id=name,
        label=name,
        axes={"pytorch.batch_size": 1},
        spec_hash=spec_hash or f"hash of {name}",
        engine_key="key",
        cycle=1,
        position=0,
        attempt=attempt,
        executor="local",
        environment_hash=None,
        status="failed" if failed else "completed",
        started_at=started,
        completed_at=started + timedelta(seconds=30),
        gap_s=10.0,
        configuration=Configuration(backend="pytorch"),
        measurement=None if failed else MEASUREMENT,
        failure=Failure(kind=failed, message="it broke") if failed else None,
    )


def the_runs(folder: Path) -> Runs:
    """Return the runs of one campaign with their cache and results under `folder`."""
    return Runs(cache_dir=folder / "cache", results_dir=folder / "results", campaign_key="sizes-0a1b2c")


def run_info() -> RunInfo:
    """Return what the session of this process says of the run `RUN_ID`."""
    return RunInfo(
        run_id=RUN_ID,
        campaign_key="sizes-0a1b2c",
        seed=7,
        created=BEGIN,
        campaign_sha256="0" * 64,
        tool_version="0.1.0",
        cycles=1,
        points={"hash of a": "a"},
        session=new_session(),
    )

"""The trace of an experiment: its file beside the result, and what the result keeps of it."""

from __future__ import annotations

import csv
import gzip
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from scripted import TOY, Session
from standin.build import Gpu, uuid
from standin.curves import step

DOMAIN = f"gpu:{uuid(0)}"

WARMING = Gpu(
    step(100, 300, 0.5),
    period_s=1.0,
    temperature_c=tuple((second / 10, 40 + second) for second in range(10)),
    throttle_reasons=((0.0, 0.0), (0.5, 0x20)),
)
"""Each second: 100 W, then 300 W and throttled, and from 40 to 49 degrees."""

FULL_DISK = f"""#!{sys.executable}
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
os.environ["PYTHONPATH"] += os.pathsep + {str(TOY)!r}
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""An interpreter whose files end after 1500 bytes, in the middle of a line of the trace."""

WITHOUT_PYARROW = """
import sys
sys.modules["pyarrow"] = None
"""


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, nvml: Path) -> Session:
    """A window of 2 s with a trace at the default interval."""
    return Session(tmp_path_factory.mktemp("traced"), nvml, [WARMING], "window.seconds=2")


def file_of(session: Session) -> Path:
    """Return the trace that a result names."""
    (result,) = session.folder.rglob("attempt-1.json")
    return result.parent / str(session.result["trace"])


def samples_of(session: Session) -> list[dict[str, Any]]:
    return list(parquet.read_table(file_of(session)).to_pylist())


def test_a_trace_holds_the_window(traced: Session) -> None:
    """The samples reach over both edges, on the clock that the edges are on, and their power is the curve's."""
    samples = samples_of(traced)
    times_s = [sample["at_s"] for sample in samples]
    begin_s, end_s = traced.measurement["energy_edges_s"][DOMAIN]
    assert times_s == sorted(times_s)
    assert times_s[0] < begin_s < end_s < times_s[-1]
    assert {sample["domain"] for sample in samples} == {DOMAIN}
    assert {sample["instant_power_w"] for sample in samples} == {100.0, 300.0}
    assert {sample["throttle_reasons"] for sample in samples} == {0.0, 32.0}


def test_a_trace_knows_the_calendar(traced: Session) -> None:
    """Its metadata ties the clock of the samples to the time of day."""
    clock = parquet.read_schema(file_of(traced)).metadata[b"clock"].decode()
    word, at_s, verb, at = clock.split()
    assert (word, verb) == ("at_s", "is")
    assert float(at_s) == pytest.approx(samples_of(traced)[0]["at_s"], abs=1)
    began, ended = (datetime.fromisoformat(traced.result[name]) for name in ("started_at", "completed_at"))
    assert began < datetime.fromisoformat(at) < ended


def test_a_result_keeps_what_the_trace_says(traced: Session) -> None:
    """Power, temperature, clocks and throttling of the window stand in the result."""
    device = traced.measurement["devices"][DOMAIN]
    assert device["power_mean_w"] == pytest.approx(200, rel=0.15)
    assert (device["power_peak_w"], device["instant_power"]) == (300, True)
    assert 40 <= device["temperature_start_c"] <= device["temperature_max_c"]
    assert 46 <= device["temperature_max_c"] <= 49
    assert device["throttle_share"] == pytest.approx(0.5, abs=0.15)
    assert device["throttle_reasons"] == ["sw_thermal"]
    assert "throttled" in traced.measurement["flags"]
    assert (device["sm_clock_mean_mhz"], device["memory_clock_mean_mhz"]) == (1500, 2600)
    assert device["counter_integral_ratio"] == pytest.approx(1, rel=0.15)


def test_throttling_is_told_on_the_terminal(traced: Session) -> None:
    """Below the table stand the configurations that were throttled, and for how long at worst."""
    said = " ".join(traced.done.stdout.split())
    assert "! throttled: abacus 1 of 1" in said
    assert re.search(
        r"! throttling: .* in 1 of 1 experiments, at worst for \d\d % of the window \(abacus in", said
    )


@pytest.mark.key("defaults.timeseries.sample_interval_ms")
def test_the_interval_is_that_of_the_samples(traced: Session, tmp_path: Path, nvml: Path) -> None:
    """A fifth of the interval gives more than twice the samples in the same window."""
    settings = ("window.seconds=2", "defaults.timeseries.sample_interval_ms=20")
    finer = Session(tmp_path, nvml, [WARMING], *settings)
    counts = [session.measurement["devices"][DOMAIN]["samples"] for session in (traced, finer)]
    assert counts[1] > 2 * counts[0]
    assert counts[0] <= 23


@pytest.mark.key("defaults.timeseries.enabled")
def test_without_a_trace_nothing_is_known_of_the_devices(traced: Session, tmp_path: Path, nvml: Path) -> None:
    """`enabled: false` leaves the energy as it is, and no file, no sensors and no peak."""
    session = Session(tmp_path, nvml, [WARMING], "defaults.timeseries.enabled=false", "window.seconds=1")
    found = session.measurement
    assert found["energy_j"]["total"]["source"] == "nvml_counter"
    assert (session.result["trace"], found["devices"]) == (None, {})
    assert "timeseries.enabled is false" in found["metrics"]["power_peak_w"]["note"]
    assert traced.measurement["metrics"]["power_peak_w"]["value"] == 300


@pytest.mark.key("defaults.timeseries.save")
def test_a_trace_that_is_not_saved_is_summarised(traced: Session, tmp_path: Path, nvml: Path) -> None:
    """`save: false` leaves no file, and the result keeps what the trace said."""
    session = Session(tmp_path, nvml, [WARMING], "defaults.timeseries.save=false", "window.seconds=1")
    assert session.result["trace"] is None
    assert not list(tmp_path.rglob("*.trace.*"))
    assert session.measurement["devices"][DOMAIN]["power_peak_w"] == 300
    assert file_of(traced).exists()


def test_where_there_is_nothing_to_sample_there_is_no_trace(tmp_path: Path, nvml: Path) -> None:
    """A machine without sensors has no trace file, and its result says so."""
    session = Session(tmp_path, nvml, [])
    assert session.result["trace"] is None
    assert "no GPU tells its power" in session.measurement["metrics"]["power_peak_w"]["note"]


def test_without_pyarrow_a_trace_is_csv(tmp_path: Path, nvml: Path) -> None:
    """The same samples come as gzipped CSV, and one line says what to install for Parquet."""
    settings = ("execution.cycles=2", "window.seconds=0.5")
    session = Session(tmp_path, nvml, [WARMING], *settings, conftest=WITHOUT_PYARROW)
    assert session.done.stdout.count("pip install 'pytest-llem[traces]'") == 1
    for result in tmp_path.rglob("attempt-1.json"):
        with gzip.open(result.with_suffix(".trace.csv.gz"), "rt", encoding="ascii", newline="") as file:
            assert file.readline().startswith("# at_s ")
            samples = list(csv.DictReader(file))
        assert {sample["domain"] for sample in samples} == {DOMAIN}
        assert {float(sample["instant_power_w"]) for sample in samples} <= {100, 300}


def test_a_torn_trace_costs_no_result(tmp_path: Path, nvml: Path) -> None:
    """Where the worker's disk is full, the result is stored with a flag, and its trace ends at its last whole line."""
    python = tmp_path / "python"
    python.write_text(FULL_DISK)
    python.chmod(0o755)
    settings = ("services.abacus.python=./python", "window.seconds=2")
    session = Session(tmp_path, nvml, [WARMING], *settings)
    assert "trace_incomplete" in session.measurement["flags"]
    assert session.result["status"] == "completed"
    assert file_of(session).suffix == ".parquet"
    assert {sample["instant_power_w"] for sample in samples_of(session)} <= {100.0, 300.0}

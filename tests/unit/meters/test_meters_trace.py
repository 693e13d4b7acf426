from __future__ import annotations

import re
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.meters.base import Sample
from pytest_llem.meters.trace import Trace, read
from standin.build import Gpu, uuid, write_zone

GPU = f"gpu:{uuid(0)}"


class Ones:
    """A meter that counts its samples."""

    def __init__(self) -> None:
        self.count = 0

    def sample(self) -> list[Sample]:
        self.count += 1
        return [Sample(time.monotonic(), "gpu:a", energy_j=float(self.count)), Sample(1.0, "cpu")]


def test_a_trace_holds_what_every_sensor_says(play: Any, tmp_path: Path) -> None:
    """A line has the domain's counter, powers, temperature, clocks, throttle reasons and memory, and its time."""
    counter = write_zone(tmp_path / "powercap" / "intel-rapl" / "intel-rapl:0", "package-0", 0)
    (tmp_path / "memory").write_text("80000 1234\n")
    shown = play(
        f"""
        meters = choose.Meters(choose.open_meters(engine_pids=list))
        running = trace.Trace(meters, Path({str(tmp_path / "trace.csv")!r}))
        Path({str(counter)!r}).write_text("5000000")
        running.stop()
        meters.close()
        show(at_s=time.monotonic(), samples=[sample._asdict() for sample in trace.read(running.path)])
        """,
        Gpu(((0.0, 250.0),), temperature_c=((0.0, 61.0),), throttle_reasons=((0.0, 64.0),)),
        LLEM_POWERCAP_ROOT=str(tmp_path / "powercap"),
        NVML_STANDIN_MEMORY=str(tmp_path / "memory"),
    )
    gpu, cpu = shown["samples"]
    assert 0 < shown["at_s"] - gpu.pop("at_s") < 10
    assert gpu.pop("energy_j") > 1e6  # the stand-in starts at 1 MJ
    assert gpu.pop("average_power_w") == pytest.approx(250)
    assert gpu == {
        "domain": GPU,
        "instant_power_w": 250.0,
        "temperature_c": 61.0,
        "sm_clock_mhz": 1500.0,
        "memory_clock_mhz": 2600.0,
        "throttle_reasons": 64.0,
        "memory_used_bytes": 1234 * 2**20,
        "flag": None,
    }
    assert (cpu["domain"], cpu["energy_j"]) == ("cpu", 5.0)


def test_sensors_that_a_device_lacks_are_empty_cells(play: Any, tmp_path: Path) -> None:
    """What the device does not support is None in every sample, and no failure."""
    shown = play(
        f"""
        running = trace.Trace(nvml.open_meter(), Path({str(tmp_path / "trace.csv")!r}))
        running.stop()
        show(samples=[sample._asdict() for sample in trace.read(running.path)])
        """,
        Gpu(instant=False, average_s=0, temperature_c=(), sm_clock_mhz=()),
    )
    (sample,) = shown["samples"]
    assert {name for name, value in sample.items() if value is None} == {
        "average_power_w",  # before Ampere all power is that of the moment
        "temperature_c",
        "sm_clock_mhz",
        "memory_used_bytes",
        "flag",
    }


def test_samples_come_at_their_interval_until_the_trace_stops(tmp_path: Path) -> None:
    """One thread appends a sample at each interval, and none after the trace has stopped."""
    meters = Ones()
    with Trace(meters, tmp_path / "trace.csv", interval_s=0.01) as trace:
        while meters.count < 20:
            time.sleep(0.001)
    stopped_at = meters.count
    trace.stop()  # has no effect any more
    assert "trace" not in {thread.name for thread in threading.enumerate()}
    times_s = [sample.at_s for sample in read(trace.path) if sample.domain == "gpu:a"]
    assert len(times_s) == stopped_at == meters.count
    assert times_s == sorted(times_s)
    assert times_s[-1] - times_s[0] >= 0.01 * 15  # it waits in between


def test_samples_are_in_the_file_as_they_come(tmp_path: Path) -> None:
    """A trace can be read while it runs: a server that dies leaves what it had."""
    trace = Trace(Ones(), tmp_path / "trace.csv")
    trace.sample()
    assert len(list(read(trace.path))) == 2
    trace.stop()


def test_the_first_line_ties_samples_to_the_calendar(tmp_path: Path) -> None:
    """The file begins with one moment on both clocks, and the names of the columns."""
    before_s, before = time.monotonic(), datetime.now(UTC)
    trace = Trace(Ones(), tmp_path / "trace.csv")
    trace.stop()
    anchor, header = trace.path.read_text().splitlines()[:2]
    at_s, when = re.fullmatch(r"# at_s (\S+) is (\S+)", anchor).groups()  # type: ignore[union-attr]
    elapsed_s = (datetime.fromisoformat(when) - before).total_seconds()
    assert float(at_s) - before_s == pytest.approx(elapsed_s, abs=1)
    assert header == ",".join(Sample._fields)


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    """A line that was cut off when the machine went down is no sample."""
    trace = Trace(Ones(), tmp_path / "trace.csv")
    trace.stop()
    with trace.path.open("a") as file:
        file.write("12.5,gpu:a,1")
    assert [sample.domain for sample in read(trace.path)] == ["gpu:a", "cpu"]


def test_a_full_disk_ends_the_trace_and_not_the_experiment() -> None:
    """When the file cannot be written, the trace goes on without samples and says why."""
    trace = Trace(Ones(), Path("/dev/full"))
    trace.sample()
    trace.stop()
    assert "No space left on device" in str(trace.problem)


def test_a_span_begins_with_what_holds_there(tmp_path: Path) -> None:
    """Of each domain the last sample before a span belongs to it, earlier and later ones do not."""

    class Scripted:
        def __init__(self) -> None:
            self.times_s = iter([1.0, 2.0, 3.0, 4.0, 5.0])

        def sample(self) -> list[Sample]:
            at_s = next(self.times_s)
            return [Sample(at_s, "gpu:a"), Sample(at_s + 0.1, "gpu:b")]

    trace = Trace(Scripted(), tmp_path / "trace.csv")
    for _ in range(4):
        trace.sample()
    trace.stop()
    found = [(sample.at_s, sample.domain) for sample in trace.between(2.5, 4.0)]
    assert found == [(2.0, "gpu:a"), (2.1, "gpu:b"), (3.0, "gpu:a"), (3.1, "gpu:b"), (4.0, "gpu:a")]

"""What only a real GPU can show: its counter, its sensors, forking beside its driver, a model of billions."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import on_gpu
from pytest_llem.executors.gpus import Gpu, memory
from pytest_llem.meters.choose import Meters, open_meters
from pytest_llem.meters.window import COUNTER_INTEGRAL_DISAGREE
from pytest_llem.records import MEASURED_ENERGY
from runs import results_of, summary

Record = Callable[[str, object], None]


@pytest.fixture
def meters(gpu: Gpu) -> Iterator[Meters]:
    """The instruments of the first GPU."""
    opened = Meters(open_meters(devices=[gpu.uuid], engine_pids=list))
    yield opened
    opened.close()


def test_the_counter_ticks(gpu: Gpu, record_property: Record) -> None:
    """The energy counter rises in ticks of 1 to 250 ms."""
    tick_s = on_gpu.counter_tick_s(gpu.uuid)
    record_property("counter_tick_s", tick_s)
    assert 0.001 <= tick_s <= 0.25


def test_counter_and_power_agree_under_load(meters: Meters, tmp_path: Path, record_property: Record) -> None:
    """Over matrix products, counter and integrated power are within 5 %, and an instrument measured."""
    window = on_gpu.at_full_load(meters, tmp_path)
    record_property("counter_integral_ratio", on_gpu.ratio(window))
    assert window.energy_j["total"].source in MEASURED_ENERGY
    assert COUNTER_INTEGRAL_DISAGREE not in window.flags
    assert on_gpu.ratio(window) == pytest.approx(1, abs=0.05)


def test_counter_and_power_agree_at_idle(meters: Meters, tmp_path: Path, record_property: Record) -> None:
    """At idle, where a sensor's steps weigh more, counter and integrated power are within 10 %."""
    window = on_gpu.at_idle(meters, tmp_path)
    record_property("counter_integral_ratio", on_gpu.ratio(window))
    assert on_gpu.ratio(window) == pytest.approx(1, abs=0.1)


def test_idle_draws_less_than_load(meters: Meters, tmp_path: Path) -> None:
    """An idle GPU has a power, and matrix products draw more."""
    idle, busy = on_gpu.at_idle(meters, tmp_path), on_gpu.at_full_load(meters, tmp_path)
    idle_j, busy_j = idle.energy_j["total"].value, busy.energy_j["total"].value
    assert idle_j is not None
    assert busy_j is not None
    assert 0 < idle_j < busy_j


def test_a_trace_costs_little(meters: Meters, tmp_path: Path, record_property: Record) -> None:
    """A trace slows the launching of small kernels, where the driver is the bottleneck, by less than 1 %."""
    costs = on_gpu.trace_costs(meters, tmp_path, pairs=11)
    record_property("trace_costs", costs)
    assert statistics.median(costs) < 0.01


def test_the_trial_tells_whether_an_engine_can_use_the_gpu() -> None:
    """Engines that are started as the trial says, with torch preloaded, multiply on the GPU."""
    found = on_gpu.trial("torch")
    assert found.works, found


def test_nothing_is_forked_from_a_parent_with_cuda() -> None:
    """Where an import initialises the CUDA driver in the parent, the trial refuses, and spawned engines work."""
    found = on_gpu.trial_where_cuda_is_up()
    assert found.method == "spawn"
    assert found.reason.startswith(("an import initialised the CUDA driver", "the preloaded parent has"))
    assert found.works


def test_a_campaign_of_billions_of_weights(tmp_path: Path, gpu: Gpu) -> None:
    """The GPU campaign of this repository is measured by instruments, with intervals, and leaves no memory behind."""
    used_before = memory([gpu.uuid])[0].used_bytes
    quick = ("execution.cycles=3", "window.seconds=5", "defaults.baseline.duration_sec=5")
    done = on_gpu.campaign(tmp_path, gpu.uuid, *quick)
    assert done.returncode == 0, done.stdout
    results = results_of(tmp_path)
    assert [result["status"] for result in results] == ["completed"] * 9
    assert {result["measurement"]["effective"]["fp_precision"] for result in results} == {"bfloat16"}
    rows = summary(tmp_path)["rows"]
    rates = [row["metrics"]["output_tokens_per_second"]["center"] for row in rows]
    assert rates == sorted(rates)
    for metric in ("output_tokens_per_second", "energy_per_output_token_j"):
        for row in rows:
            found = row["metrics"][metric]
            assert found["interval"]["low"] < found["center"] < found["interval"]["high"]
    used_after = memory([gpu.uuid])[0].used_bytes
    assert used_before is not None
    assert used_after is not None
    assert used_after - used_before < 256 << 20

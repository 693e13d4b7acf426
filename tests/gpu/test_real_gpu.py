"""What only a real GPU can show: its counter, its sensors, forking beside its driver, a model of billions."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_llem.executors.gpus import Gpu, memory
from pytest_llem.meters import nvml
from pytest_llem.meters.choose import Meters, open_meters
from pytest_llem.meters.trace import Trace
from pytest_llem.meters.window import COUNTER_INTEGRAL_DISAGREE, Window, judge
from pytest_llem.records import MEASURED_ENERGY
from pytest_llem.worker import forking
from runs import results_of, summary

ROOT = Path(__file__).parents[2]
WINDOW_S = 12.0


@pytest.fixture
def meters(gpu: Gpu) -> Iterator[Meters]:
    """The instruments of the first GPU."""
    opened = Meters(open_meters(devices=[gpu.uuid], engine_pids=list))
    yield opened
    opened.close()


def multiply_for(seconds: float) -> None:
    """Keep the GPU busy with matrix products."""
    import torch

    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        a = (a @ a).clamp(-1, 1)
        torch.cuda.synchronize()


def watched(meters: Meters, folder: Path, work: Callable[[], object]) -> Window:
    with Trace(meters, folder / "trace.csv") as trace:
        before = meters.read(at_tick=True)
        work()
        after = meters.read(at_tick=True)
    return judge(meters, before, after, trace)


def test_the_counter_ticks(gpu: Gpu) -> None:
    """The energy counter rises in ticks of 1 to 250 ms."""
    meter = nvml.open_meter([gpu.uuid])
    assert meter is not None
    meter.check_counters()
    reads = [meter.read(at_tick=True) for _ in range(10)]
    meter.close()
    domain = f"gpu:{gpu.uuid}"
    lasts_s = (reads[-1].at_s - reads[0].at_s) / (len(reads) - 1)
    assert 0.001 <= lasts_s <= 0.25
    assert reads[-1].energy_j[domain] > reads[0].energy_j[domain]


def test_counter_and_power_agree_under_load(meters: Meters, tmp_path: Path, gpu: Gpu) -> None:
    """Over matrix products, counter and integrated power are within 5 %, and an instrument measured."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(multiply_for, (5.0,))  # warm
        window = watched(meters, tmp_path, lambda: pool.apply(multiply_for, (WINDOW_S,)))
    assert window.energy_j["total"].source in MEASURED_ENERGY
    assert COUNTER_INTEGRAL_DISAGREE not in window.flags
    (ratio,) = window.counter_integral_ratio.values()
    assert ratio == pytest.approx(1, abs=0.05)


def test_idle_draws_less_than_load(meters: Meters, tmp_path: Path, gpu: Gpu) -> None:
    """An idle GPU has a power, and matrix products draw more."""
    idle = watched(meters, tmp_path, lambda: time.sleep(WINDOW_S))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        busy = watched(meters, tmp_path, lambda: pool.apply(multiply_for, (WINDOW_S,)))
    idle_j, busy_j = idle.energy_j["total"].value, busy.energy_j["total"].value
    assert idle_j is not None
    assert busy_j is not None
    assert 0 < idle_j < busy_j


def test_the_trial_tells_whether_a_forked_child_can_use_the_gpu() -> None:
    """Where the trial chooses the forkserver, a forked child multiplies on the GPU."""
    choice = forking.choose(["torch"], timeout_s=300)
    child = choice.context.Process(target=multiply_for, args=(0.5,))  # type: ignore[attr-defined]
    child.start()
    child.join(120)
    assert child.exitcode == 0, choice.reason


def test_a_campaign_of_billions_of_weights(pytester: pytest.Pytester, gpu: Gpu) -> None:
    """The GPU campaign of this repository is measured by instruments, and leaves no memory behind."""
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    (pytester.path / "campaigns").symlink_to(ROOT / "campaigns")
    used_before = memory([gpu.uuid])[0].used_bytes
    quick = ("execution.cycles=2", "window.seconds=5", "defaults.baseline.duration_sec=5")
    text = (ROOT / "campaigns" / "gpu-batch-sizes.yaml").read_text()
    (pytester.path / "grid.yaml").write_text(text + "\n")
    settings = [f"--campaign-set={setting}" for setting in quick]
    outcome = pytester.runpytest_subprocess(
        "--campaign=grid.yaml",
        "--campaign-executor=local",
        f"--campaign-gpus={gpu.uuid}",
        "--campaign-require=measured",
        *settings,
    )
    outcome.assert_outcomes(passed=6)
    assert {r["measurement"]["effective"]["fp_precision"] for r in results_of(pytester.path)} == {"bfloat16"}
    rows = summary(pytester.path)["rows"]
    rates = [row["metrics"]["output_tokens_per_second"]["center"] for row in rows]
    assert rates == sorted(rates)
    used_after = memory([gpu.uuid])[0].used_bytes
    assert used_before is not None
    assert used_after is not None
    assert used_after - used_before < 256 << 20

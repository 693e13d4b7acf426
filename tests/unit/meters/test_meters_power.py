from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.meters.power import GAP_LIMIT_S, PowerIntegral
from standin.build import Gpu, uuid
from standin.curves import ramp

FIRST, SECOND = f"gpu:{uuid(0)}", f"gpu:{uuid(1)}"

REAL_TIME = """
    meters = choose.Meters(choose.open_meters(engine_pids=list))
    begin = meters.read(at_tick=True)
    time.sleep(1.2)
    end = meters.read(at_tick=True)
    found = window.judge(meters, begin, end)
    meters.close()
    show(begin=begin[1], end=end[1], energy=found.energy_j, flags=found.flags, epoch_s=epoch_s(),
         described=meters.describe())
"""

SCRIPTED = """
    power.PowerMeter._keep_reading = lambda self: None  # its thread knows nothing of the script's time
    meter = power.open_meter(nvml.open_meter(clock=clock).hand_over(), clock)
    sleep_until(2.0, meter.read)
    begin = meter.read()
    sleep_until({until_s}, meter.read)
    end = meter.read()
    sleep_until(6.0, meter.read)
    later = meter.read()
    sleep_until(8.0, meter.read)
    end_of_later = meter.read()
    show(energy=meter.between(begin, end), flags=meter.flags(begin, end),
         later=meter.between(later, end_of_later), later_flags=meter.flags(later, end_of_later))
"""

gaps_s = st.lists(st.floats(0.001, 0.99 * GAP_LIMIT_S), min_size=30, max_size=30)
powers_w = st.lists(st.floats(0, 1000), min_size=2, max_size=30)
averaging_s = st.sampled_from([0.0, 1.0])


def integrated(readings: Iterable[tuple[float, float]], averaging_s: float) -> PowerIntegral:
    integral = PowerIntegral(averaging_s)
    for at_s, power_w in readings:
        integral.add(at_s, power_w)
    return integral


@given(gaps_s, powers_w, averaging_s)
def test_repeats_change_nothing(gaps_s: list[float], powers_w: list[float], averaging_s: float) -> None:
    """A power that is read again before it changes counts as long as if it had been read once."""
    readings = list(zip(accumulate(gaps_s), powers_w, strict=False))
    repeats = [((at_s + next_s) / 2, power_w) for (at_s, power_w), (next_s, _) in pairwise(readings)]
    once, again = integrated(readings, averaging_s), integrated(sorted(readings + repeats), averaging_s)
    assert again.energy_j == pytest.approx(once.energy_j)


@given(st.floats(0, 1000), st.integers(2, 50), averaging_s)
def test_steady_power_is_exact(watts: float, count: int, averaging_s: float) -> None:
    """Steady power gives watts x seconds, with nothing unsettled at the edges."""
    begin, end = (integrated([(0.1 * n, watts) for n in range(last)], averaging_s) for last in (1, count))
    assert end.energy_j - begin.energy_j == pytest.approx(watts * 0.1 * (count - 1), abs=1e-6)
    assert end.unsettled_j == 0


@given(st.floats(0.05, 0.95), st.floats(1, 1000))
def test_a_burst_at_the_edge_is_missed_by_less_than_what_is_unsettled(
    begin_s: float, height_w: float
) -> None:
    """Whenever in the last second a burst began, its missing part is within `unsettled_j`."""
    step_s = 0.001
    integral = PowerIntegral(1.0)
    for tick in range(2001):  # the mean over 1 s of a power that rises `begin_s` before the end at 2 s
        at_s = tick * step_s
        integral.add(at_s, height_w * min(max(at_s - (2 - begin_s), 0.0), 1.0))
    missing_j = height_w * begin_s - integral.energy_j
    assert missing_j == pytest.approx(height_w * begin_s / 2 * (1 - begin_s), abs=2 * height_w * step_s)
    assert missing_j <= integral.unsettled_j + 2 * height_w * step_s


def test_a_gap_is_a_break() -> None:
    """Power that was not read for more than a second is not taken for known."""
    integral = integrated([(0.0, 100), (GAP_LIMIT_S + 0.2, 100)], 0)
    assert integral.broken
    assert integral.broken.until_s == GAP_LIMIT_S + 0.2
    assert "no power was read for 1.2 s" in integral.broken.reason


def test_a_gpu_without_a_counter_is_measured_by_its_power(play: Any) -> None:
    """In real time the integral is that of the power between the edges; source and note say so, and why."""
    gpu = Gpu(ramp(200, 500, 0, 4), counter=False)
    shown = play(REAL_TIME, gpu, Gpu())
    edges_s = (shown[edge]["at_s_by_domain"][FIRST] - shown["epoch_s"] for edge in ("begin", "end"))
    energy = shown["energy"]
    assert energy[FIRST]["value"] == pytest.approx(
        gpu.energy_j(*edges_s), rel=0.1
    )  # a busy machine reads late
    assert energy[FIRST]["source"] == "nvml_power_integral"
    assert "no energy counter on this device" in energy[FIRST]["note"]
    assert energy[SECOND]["source"] == "nvml_counter"
    assert energy["gpu"]["value"] == pytest.approx(energy[FIRST]["value"] + energy[SECOND]["value"])
    assert (energy["gpu"]["source"], energy["total"]["source"]) == ("nvml_power_integral",) * 2
    assert "no energy counter on this device" in energy["total"]["note"]
    assert shown["flags"] == []
    assert "instant power: no energy counter" in shown["described"][1]


def test_a_stuck_counter_falls_back_on_power(play: Any) -> None:
    """A counter that does not rise within 2 s is not used; the device is measured by its power, with a note."""
    shown = play(REAL_TIME, Gpu(counter_factor=0, average_s=0))
    assert shown["energy"]["total"]["value"] == pytest.approx(200 * 1.2, rel=0.2)
    assert "did not rise within 2 s" in shown["energy"]["total"]["note"]


def test_a_device_with_neither_counter_nor_power_is_unavailable(play: Any) -> None:
    """The reason names both."""
    shown = play(REAL_TIME, Gpu(power_w=(), counter=False))
    total = shown["energy"]["total"]
    assert total["value"] is None
    assert "no energy counter on this device" in total["note"]
    assert "its power could not be read: Not Supported" in total["note"]
    assert total["note"].removeprefix("gpu: ").removeprefix(f"{uuid(0)}: ") in shown["described"][1]


def test_mig_is_not_measured_by_power_either(play: Any) -> None:
    """In MIG mode the power is that of the whole GPU too: the reason stays."""
    shown = play(
        """
        meters = choose.Meters(choose.open_meters(engine_pids=list))
        show(energy=meters.between(meters.read(), meters.read()), flags=meters.flags(meters.read(), meters.read()))
        """,
        Gpu(mig=True),
    )
    assert "MIG is enabled" in shown["energy"]["gpu"]["note"]
    assert shown["flags"] == []


@pytest.mark.parametrize(
    ("gpu", "until_s", "reason", "flag"),
    [
        (
            Gpu(counter=False, fails_s=(3.0, 3.5)),
            4.0,
            "not counted all through the window: its power could not be read",
            "reading_failed",
        ),
        (
            Gpu(counter=False, fails_s=(3.0, 3.5)),
            3.2,
            "its power could not be read: Unknown Error",
            "reading_failed",
        ),
        (
            Gpu(counter=False, lost_after_s=3.0),
            4.0,
            "its power could not be read: GPU is lost",
            "device_lost",
        ),
    ],
    ids=["in the middle", "at the end", "lost"],
)
def test_a_reading_that_fails_leaves_no_number(
    play: Any, gpu: Gpu, until_s: float, reason: str, flag: str
) -> None:
    """Power that could not be read in the middle of a window or at its end gives a reason and a flag."""
    shown = play(SCRIPTED.format(until_s=until_s), gpu, speed=0)
    assert shown["energy"][FIRST]["value"] is None
    assert reason in shown["energy"][FIRST]["note"]
    assert shown["flags"] == [flag]
    recovers = flag == "reading_failed"
    assert shown["later_flags"] == ([] if recovers else [flag])
    assert (shown["later"][FIRST]["value"] == pytest.approx(400)) is recovers

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_llem.meters.base import Reading
from pytest_llem.meters.window import edge_idle_s
from standin.build import Gpu, uuid

FIRST, SECOND = f"gpu:{uuid(0)}", f"gpu:{uuid(1)}"

SCRIPTED = """
    counters = nvml.open_meter(clock=clock)
    counters.check_counters()
    meters = choose.Meters([counters])
    running = trace.Trace(meters, Path({path!r}), clock=clock)
    sleep_until(2.0, running.sample)
    begin = meters.read(at_tick=True)
    sleep_until(5.0, running.sample)
    end = meters.read(at_tick=True)
    running.stop()
    found = window.judge(meters, begin, end, running)
    untraced = window.judge(meters, begin, end)
    show(energy=found.energy_j, flags=found.flags, summaries=found.summaries, untraced=untraced.flags)
"""


@pytest.fixture
def judge(play: Any, tmp_path: Path) -> Any:
    """Return a function that judges a traced window from 2 s to 5 s of scripted time."""
    return lambda *gpus: play(SCRIPTED.format(path=str(tmp_path / "trace.csv")), *gpus, speed=0)


def test_a_window_in_real_time(play: Any, tmp_path: Path) -> None:
    """With the trace thread beside it, a counter's energy agrees with the trace, and the summary is the device's."""
    shown = play(
        f"""
        meters = choose.Meters(choose.open_meters(engine_pids=list))
        with trace.Trace(meters, Path({str(tmp_path / "trace.csv")!r}), interval_s=0.02) as running:
            begin = meters.read(at_tick=True)
            time.sleep(1)
            end = meters.read(at_tick=True)
        found = window.judge(meters, begin, end, running)
        meters.close()
        show(ratios=found.counter_integral_ratio, flags=found.flags, summaries=found.summaries)
        """,
        Gpu(((0.0, 350.0),), temperature_c=((0.0, 55.0),), throttle_reasons=((0.0, 32.0),)),
    )
    assert shown["ratios"] == {FIRST: pytest.approx(1, rel=0.05)}
    assert shown["flags"] == ["throttled"]
    device = shown["summaries"][FIRST]
    assert (device["power_mean_w"], device["temperature_max_c"]) == (pytest.approx(350), 55)
    assert (device["throttle_share"], device["throttle_reasons"]) == (pytest.approx(1), ["sw_thermal"])


def test_a_quiet_window_has_no_flags(judge: Any) -> None:
    """Two sound devices give their energy, their sum, and nothing to say."""
    shown = judge(Gpu(), Gpu())
    assert shown["energy"]["gpu"]["value"] == pytest.approx(2 * 200 * 3, rel=0.05)
    assert shown["flags"] == shown["untraced"] == []
    assert shown["summaries"].keys() == {FIRST, SECOND}


@pytest.mark.parametrize(("until_s", "flags"), [(2.5, ["throttled"]), (2.0, [])])
def test_a_throttled_window_is_flagged(judge: Any, until_s: float, flags: list[str]) -> None:
    """A GPU of two that heat slows down for a sixth of the window flags it; the time before does not count."""
    shown = judge(Gpu(), Gpu(throttle_reasons=((0.0, 32.0), (until_s, 0.0))))
    assert shown["flags"] == flags
    assert shown["untraced"] == []


def test_a_lost_device_takes_the_sum_with_it(judge: Any) -> None:
    """One device of two that is lost inside the window: no energy of it and none of the sum, and a flag."""
    shown = judge(Gpu(), Gpu(lost_after_s=4.0))
    assert shown["energy"][FIRST]["value"] > 0
    assert {shown["energy"][domain]["value"] for domain in (SECOND, "gpu", "total")} == {None}
    assert "GPU is lost" in shown["energy"]["total"]["note"]
    assert uuid(1) in shown["energy"]["total"]["note"]
    assert shown["flags"] == shown["untraced"] == ["device_lost"]


def test_a_reading_that_fails_at_an_edge_is_flagged(judge: Any) -> None:
    """A counter that cannot be read at the end leaves no number, and is no lost device."""
    shown = judge(Gpu(fails_s=(4.9, 6.0)))
    assert shown["energy"]["total"]["value"] is None
    assert "the energy counter could not be read: Unknown Error" in shown["energy"]["total"]["note"]
    assert shown["flags"] == ["reading_failed"]


def test_a_reading_that_fails_in_the_middle_is_flagged_and_the_counter_counts(judge: Any) -> None:
    """A counter that answers at both edges has its number; the trace says that it failed in between."""
    shown = judge(Gpu(fails_s=(3.0, 3.5)))
    assert shown["energy"]["total"]["value"] == pytest.approx(200 * 3, rel=0.05)
    assert (shown["flags"], shown["untraced"]) == (["reading_failed"], [])


def test_a_counter_that_sticks_inside_the_window_is_flagged(play: Any) -> None:
    """A counter that no longer rises is unavailable at the edge that waited for it."""
    shown = play(
        """
        meter = nvml.open_meter(clock=clock)
        meter.check_counters()
        begin = meter.read(at_tick=True)
        sleep_until(5.0)
        end = meter.read(at_tick=True)
        show(energy=meter.between(begin, end), flags=meter.flags(begin, end))
        """,
        Gpu(((0.0, 200.0), (2.0, 0.0))),
        speed=0,
    )
    assert "did not rise within 2 s" in shown["energy"][FIRST]["note"]
    assert shown["flags"] == ["counter_stuck"]


def test_a_counter_that_fell_is_flagged(judge: Any) -> None:
    """A reset inside the window leaves no number; the edges alone tell where the counter was far up."""
    shown = judge(Gpu(reset_after_s=4.0))
    assert shown["energy"]["total"]["value"] is None
    assert "reset" in shown["energy"]["total"]["note"]
    assert shown["flags"] == shown["untraced"] == ["counter_reset"]


def test_a_fall_between_the_edges_is_seen_by_the_trace(judge: Any) -> None:
    """A counter that fell and rose above its first value again gives no wrong difference."""
    shown = judge(Gpu(counter_start_j=-350.0, reset_after_s=2.3))
    assert shown["untraced"] == []
    assert shown["energy"]["total"]["value"] is None
    assert "the energy counter fell inside the window" in shown["energy"]["total"]["note"]
    assert shown["flags"] == ["counter_reset"]


def test_a_trace_that_could_not_be_written_is_flagged(play: Any, tmp_path: Path) -> None:
    """A trace whose disk is full costs what it would have said and not the energy, and says so."""
    shown = play(
        f"""
        import resource
        meters = choose.Meters([nvml.open_meter(clock=clock)])
        running = trace.Trace(meters, Path({str(tmp_path / "trace.csv")!r}), clock=clock)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        begin = meters.read(at_tick=True)
        sleep_until(5.0, running.sample)
        found = window.judge(meters, begin, meters.read(at_tick=True), running)
        show(energy=found.energy_j, flags=found.flags, problem=running.problem)
        """,
        Gpu(),
        speed=0,
    )
    assert shown["energy"]["gpu"]["value"] > 0
    assert shown["flags"] == ["trace_incomplete"]
    assert "File too large" in shown["problem"]


def test_the_idle_time_at_the_edges_is_each_domain_s_own() -> None:
    """Idle time is what lies between a domain's readings and the work, at both ends."""
    begin = (Reading(10.1, {"gpu:a": 1.0, "gpu:b": 1.0}, {}, {"gpu:a": 10.0}), Reading(10.2, {"cpu": 1.0}))
    end = (Reading(20.5, {"gpu:a": 2.0, "gpu:b": 2.0}, {}, {"gpu:a": 20.4}), Reading(20.6, {"cpu": 2.0}))
    idle_s = edge_idle_s(begin, end, work_begin_s=10.3, work_end_s=20.3)
    assert idle_s == pytest.approx({"gpu:a": 0.4, "gpu:b": 0.4, "cpu": 0.4})


def test_idle_power_is_that_of_a_quiet_interval(play: Any) -> None:
    """Idle power is the mean per device and their sum, between ticks, with its source and resolution in W."""
    shown = play(
        """
        power.PowerMeter._keep_reading = lambda self: None  # its thread knows nothing of the script's time
        counters = nvml.open_meter(clock=clock)
        counters.check_counters()
        meters = choose.Meters([counters, power.open_meter(counters.hand_over(), clock)])
        show(power=meters.idle_power_w(5.0, lambda seconds: sleep_until(clock.monotonic() + seconds, meters.read)))
        """,
        Gpu(((0.0, 70.0),)),
        Gpu(((0.0, 90.0),), counter=False),
        Gpu(mig=True),
        speed=0,
    )
    devices = shown["power"]
    assert (devices[FIRST]["value"], devices[FIRST]["source"]) == (
        pytest.approx(70, rel=0.001),
        "nvml_counter",
    )
    assert (devices[SECOND]["value"], devices[SECOND]["source"]) == (pytest.approx(90), "nvml_power_integral")
    assert 0 < devices[FIRST]["resolution"] < 0.1  # one poll of 1 ms in 5 s
    assert {quantity["unit"] for quantity in devices.values()} == {"W"}
    assert devices["gpu"]["value"] is None  # one device in MIG mode


def test_idle_power_can_be_ended_early(play: Any) -> None:
    """What the wait raises ends the measurement: nobody waits 30 s for a session that is gone."""
    shown = play(
        """
        def gone(seconds):
            raise ConnectionResetError
        try:
            choose.Meters([nvml.open_meter()]).idle_power_w(30, gone)
        except ConnectionResetError:
            show(ended=True)
        """,
        Gpu(),
    )
    assert shown == {"ended": True}

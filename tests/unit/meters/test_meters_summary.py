from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.meters.base import Sample
from pytest_llem.meters.summary import THROTTLE_REASONS, Summary, held, peak_power_w, summarize


def sample(at_s: float, **values: Any) -> Sample:
    return Sample(at_s, "gpu:a", **values)


def summary(samples: Sequence[Sample], begin_s: float = 0.0, end_s: float = 10.0) -> Summary:
    return summarize(samples, {"gpu:a": (begin_s, end_s)})["gpu:a"]


def powers(**watts_at: float) -> list[Sample]:
    return [sample(float(at_s[1:]), instant_power_w=watts) for at_s, watts in watts_at.items()]


times_s = st.lists(st.floats(0, 20), min_size=1, max_size=30).map(sorted)


@given(times_s, st.floats(0, 10), st.floats(0, 10))
def test_samples_hold_until_the_next_one(times_s: list[float], begin_s: float, length_s: float) -> None:
    """The times of all samples fill the window from the first sample, or its begin, to its end, once."""
    end_s = begin_s + length_s
    found = list(held([sample(at_s) for at_s in times_s], begin_s, end_s))
    if times_s[0] > end_s:
        assert found == []
        return
    assert all(seconds >= 0 for _, seconds in found)
    covered_s = sum(seconds for _, seconds in found)
    assert covered_s == pytest.approx(end_s - max(begin_s, times_s[0]), abs=1e-9)


def test_power_is_integrated_with_both_edges() -> None:
    """What holds when the window begins counts from there, and the last sample counts to its end."""
    found = summary(powers(_1=100, _4=300, _8=500), begin_s=2, end_s=10)
    assert found.integral_j == 2 * 100 + 4 * 300 + 2 * 500
    assert (found.power_mean_w, found.power_peak_w) == (found.integral_j / 8, 500)


def test_steady_power_that_repeats_itself_is_not_zero() -> None:
    """300 W for 10 s are 3000 J, though every sample says the same."""
    assert summary([sample(at_s, instant_power_w=300.0) for at_s in range(11)]).integral_j == 3000


def test_averaged_power_is_late_by_half_a_second() -> None:
    """A step inside the window that a 1 s mean shows as a ramp is settled by its two edges."""
    ramp = [
        sample(at_s / 100, average_power_w=100 * min(max(at_s - 500, 0), 100) / 100) for at_s in range(1001)
    ]
    found = summary(ramp)
    assert found.instant is False
    assert found.integral_j == pytest.approx(500, rel=0.002)


def test_instant_power_is_preferred() -> None:
    """Where a device tells both powers, the power of the moment is taken."""
    found = summary([sample(0, instant_power_w=200.0, average_power_w=100.0)])
    assert (found.instant, found.power_mean_w) == (True, 200.0)


@pytest.mark.parametrize(
    "samples", [powers(_5=100, _9=100), [*powers(_0=100), sample(5.0, flag="device_lost")]]
)
def test_power_that_is_not_known_all_the_time_has_no_integral(samples: list[Sample]) -> None:
    """Neither a trace that began late nor one with failed readings gives an integral; a mean it does."""
    found = summary(samples)
    assert found.integral_j is None
    assert found.power_mean_w == 100


def test_temperatures_are_those_of_start_end_and_maximum() -> None:
    """The window's first, last and highest temperature, of which the first may lie before its begin."""
    samples = [
        sample(at_s, temperature_c=celsius) for at_s, celsius in ((0, 40.0), (3, 80.0), (9, 70.0), (12, 99.0))
    ]
    found = summary(samples, begin_s=1)
    assert (found.temperature_start_c, found.temperature_end_c, found.temperature_max_c) == (40, 70, 80)


def test_clocks_are_means_over_time() -> None:
    """A clock counts for as long as it lasted."""
    samples = [sample(0, sm_clock_mhz=1000.0, memory_clock_mhz=500.0), sample(9, sm_clock_mhz=2000.0)]
    found = summary(samples)
    assert (found.sm_clock_mean_mhz, found.memory_clock_mean_mhz) == (1100, 500)


@pytest.mark.parametrize("bit", range(11))
def test_throttling_is_heat_and_the_power_brake(bit: int) -> None:
    """The share of time with one of the four reasons counts; idle clocks and the power cap do not."""
    found = summary(
        [
            sample(0, throttle_reasons=0.0),
            sample(6, throttle_reasons=float(1 << bit)),
            sample(9, throttle_reasons=0.0),
        ]
    )
    counts = 1 << bit in (0x08, 0x20, 0x40, 0x80)
    assert found.throttle_share == pytest.approx(0.3 if counts else 0)
    assert found.throttle_reasons == ((THROTTLE_REASONS[1 << bit],) if counts else ())


def test_reasons_at_the_same_time_count_once() -> None:
    """Two reasons over one time are not twice the share."""
    found = summary([sample(0, throttle_reasons=float(0x20 | 0x40))])
    assert found.throttle_share == 1
    assert found.throttle_reasons == ("sw_thermal", "hw_thermal")


def test_sensors_that_are_not_there_are_none() -> None:
    """A device without sensors has a summary without values, never 0."""
    found = summary([sample(0), sample(5)])
    always = {"instant", "throttle_reasons", "samples", "longest_gap_s", "flags"}
    assert {name for name, value in vars(found).items() if value is not None} == always
    assert (found.samples, found.longest_gap_s) == (2, 5)


def test_a_counter_that_falls_and_failed_readings_are_flags() -> None:
    """A fall inside the window is a reset, also where the counter rises above its first value again."""
    samples = [sample(at_s, energy_j=joules) for at_s, joules in ((0, 10.0), (3, 2.0), (9, 50.0))]
    assert summary([*samples, sample(9.5, flag="reading_failed")]).flags == {
        "counter_reset",
        "reading_failed",
    }
    assert summary(samples, begin_s=4).flags == frozenset()


def test_devices_are_kept_apart() -> None:
    """Each device has its own window and samples; what is no device has no summary."""
    samples = [Sample(0, "cpu", 1.0), *powers(_0=100), Sample(1, "gpu:b", instant_power_w=7.0)]
    found = summarize(samples, {"cpu": (0, 1), "gpu:a": (0, 2), "gpu:b": (1, 3), "gpu:c": (0, 9)})
    assert {domain: device.integral_j for domain, device in found.items()} == {"gpu:a": 200, "gpu:b": 14}


def test_the_peak_is_that_of_all_devices_together() -> None:
    """Powers are added as they hold at the same time; before every device has told one there is no sum."""
    powers = [("gpu:a", 500.0), ("gpu:b", 100.0), ("gpu:a", 200.0), ("cpu", None), ("gpu:b", 350.0)]
    samples = [Sample(float(at), domain, average_power_w=watts) for at, (domain, watts) in enumerate(powers)]
    assert peak_power_w(samples, ["gpu:a", "gpu:b", "cpu"]) == 600
    assert peak_power_w(samples, ["gpu:a", "gpu:b", "gpu:c"]) is None
    assert peak_power_w(samples, ["cpu"]) is None

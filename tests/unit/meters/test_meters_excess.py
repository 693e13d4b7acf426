"""Energy without that of an idle machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.meters import excess
from pytest_llem.records import Quantity, unavailable

numbers = st.floats(0, 1e6)
times_s = st.floats(0.01, 1e4)


def joules(value: float, resolution: float | None = 0.5) -> Quantity:
    return Quantity(value=value, unit="J", source="nvml_counter", resolution=resolution)


def watts(value: float) -> Quantity:
    return Quantity(value=value, unit="W", source="nvml_counter", resolution=0.1)


@given(numbers, times_s)
def test_power_over_time_and_back_is_the_same_power(power_w: float, time_s: float) -> None:
    """Power x time is energy, and energy / the same time is that power again, resolution included."""
    energy_j = excess.over_time({"gpu:a": watts(power_w)}, {"gpu:a": time_s}, "")
    assert energy_j["gpu:a"].unit == "J"
    back = excess.mean_power_w(energy_j, {"gpu:a": time_s})["gpu:a"]
    assert back.value == pytest.approx(power_w)
    assert back.unit == "W"
    assert back.resolution == pytest.approx(0.1)


@given(numbers, numbers)
def test_energy_above_idle_and_idle_are_the_whole(energy_j: float, idle_j: float) -> None:
    """What is above idle may be negative; with the idle energy it is all, known as badly as both together."""
    above = excess.above({"cpu": joules(energy_j)}, {"cpu": joules(idle_j, 0.25)})["cpu"]
    assert above.value is not None
    assert above.value + idle_j == pytest.approx(energy_j, abs=1e-6)
    assert above.resolution == 0.75
    vague = excess.above({"cpu": joules(energy_j)}, {"cpu": joules(idle_j, None)})["cpu"]
    assert vague.resolution is None


def test_without_idle_power_there_is_nothing_above_it() -> None:
    """A domain without an idle power has no energy above it, and says why; where it is only left out, all stays."""
    idle_j = excess.over_time({}, {"cpu": 2.0}, "not measured")
    assert idle_j["cpu"] == unavailable("J", "not measured")
    assert excess.above({"cpu": joules(10)}, idle_j)["cpu"] == idle_j["cpu"]
    assert excess.without_known({"cpu": joules(10)}, idle_j)["cpu"] == joules(10)


def test_without_energy_there_is_nothing_above_idle() -> None:
    """Energy that is not available stays so, with its own reason."""
    lost = unavailable("J", "lost")
    for difference in (excess.above, excess.without_known):
        assert difference({"gpu:a": lost}, {"gpu:a": joules(1)})["gpu:a"] == lost

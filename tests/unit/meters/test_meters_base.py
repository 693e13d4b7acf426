from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.meters.base import Reading, energy_between

counters_j = st.floats(0, 1e9)


@given(begin_j=counters_j, end_j=counters_j)
def test_a_difference_is_positive_or_unavailable(begin_j: float, end_j: float) -> None:
    """A counter that rose gives its difference; one that fell or stood still gives a reason."""
    energy = energy_between(Reading(1.0, {"cpu": begin_j}), Reading(3.0, {"cpu": end_j}), "rapl")["cpu"]
    if end_j > begin_j:
        assert (energy.value, energy.source) == (end_j - begin_j, "rapl")
    else:
        assert energy.value is None
        assert energy.note


@pytest.mark.parametrize("failed", ["begin", "end"])
def test_a_reading_that_failed_leaves_no_number(failed: str) -> None:
    """A domain that could not be read at either edge is unavailable, with that reading's reason."""
    good, bad = Reading(1.0, {"cpu": 5.0}), Reading(2.0, {}, {"cpu": "gone"})
    edges = (bad, good) if failed == "begin" else (good, bad)
    assert energy_between(*edges, "rapl")["cpu"].note == "gone"


def test_the_resolution_is_the_larger_lag_times_the_mean_power() -> None:
    """Over 100 J in the domain's own 2 s, with edges 0.1 s and 0.02 s late, the resolution is 5 J."""
    begin = Reading(9.0, {"gpu:a": 50.0}, at_s_by_domain={"gpu:a": 8.0}, lag_s={"gpu:a": 0.1})
    end = Reading(11.0, {"gpu:a": 150.0}, at_s_by_domain={"gpu:a": 10.0}, lag_s={"gpu:a": 0.02})
    assert energy_between(begin, end, "nvml_counter")["gpu:a"].resolution == pytest.approx(5.0)


def test_a_lag_that_is_not_known_gives_no_resolution() -> None:
    """Where one edge does not know its lag, the resolution is None."""
    begin, end = Reading(1.0, {"cpu": 1.0}, lag_s={"cpu": 0.1}), Reading(2.0, {"cpu": 2.0})
    assert energy_between(begin, end, "rapl")["cpu"].resolution is None

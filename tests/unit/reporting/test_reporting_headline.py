"""The one line of an experiment."""

from __future__ import annotations

import pytest

from factories import measurement, result
from pytest_llem.records import FailureClass, Result
from pytest_llem.reporting.headline import Headline, progress, time_left_s


def line_of(one: Result) -> str:
    return progress(Headline.of(one), done=5, of=12, cycles=3, left_s=14.2)


def test_the_line_has_every_headline_number_with_its_unit() -> None:
    """A finished experiment shows cycle, label, energy, throughput, latency, count and time left."""
    line = line_of(result(cycle=2))
    expected = [
        "cycle 2/3",
        "pytorch batch_size=8",
        "0.412 J/token",
        "426 token/s",
        "e2e 812 ms",
        "[ 5/12]",
        "0:14 left",
    ]
    assert line.split("  ") == expected


def test_a_modelled_energy_is_marked() -> None:
    """Energy from a model carries `~`, energy from an instrument does not."""
    assert "~0.412 J/token" in line_of(result(measurement=measurement(energy_source="model")))
    assert "~" not in line_of(result())


def test_an_absent_energy_is_said() -> None:
    """Where no energy is known the line says so and shows no 0."""
    line = line_of(result(measurement=measurement(energy_source="unavailable")))
    assert "no energy  426 token/s" in line


def test_a_failure_shows_its_class_and_a_cut_message_in_one_line() -> None:
    """A failed experiment shows FAILED, its class and the beginning of its message."""
    line = line_of(result(failed="oom", message="CUDA out of memory:\n" + "tried " * 100))
    assert "FAILED oom: CUDA out of memory: tried" in line
    assert "\n" not in line
    assert len(line) < 180


def test_an_experiment_refused_after_its_measurement_is_a_failure() -> None:
    """`not_measured` keeps its numbers on disk; its line is a failure all the same."""
    refused = result(failed="not_measured", measurement=measurement(energy_source="model"))
    assert "FAILED not_measured" in line_of(refused)


def test_labels_can_be_aligned() -> None:
    """With a label width, numbers of different labels begin in the same column."""
    lines = [
        progress(Headline.of(result(name)), done=1, of=9, cycles=10, left_s=None, label_width=24)
        for name in ("pytorch batch_size=8", "pytorch batch_size=128")
    ]
    assert len({line.index("0.412") for line in lines}) == 1
    assert lines[0].endswith("[1/9]")


@pytest.mark.parametrize("failed", [None, "oom"])
def test_a_headline_survives_the_way_through_properties(failed: FailureClass | None) -> None:
    """Properties that a worker process sends are plain values and give back the same headline."""
    headline = Headline.of(result(failed=failed))
    properties = headline.to_properties()
    assert Headline.from_properties([("seed", 7), *properties]) == headline
    assert {type(value) for _, value in properties} <= {str, int, float}


def test_properties_have_their_units_in_their_names() -> None:
    """What lands in JUnit XML is named by metric and unit, and holds nothing that is not known."""
    assert [name for name, _ in Headline.of(result()).to_properties()] == [
        "llem_label",
        "llem_cycle",
        "energy_per_output_token_j",
        "energy_source",
        "output_tokens_per_second",
        "e2e_latency_ms_mean",
    ]


def test_a_test_that_measured_nothing_has_no_headline() -> None:
    """Properties of a user's other tests are no headline."""
    assert Headline.from_properties([("energy_source", "solar")]) is None


def test_one_number_stands_beside_passed() -> None:
    """Beside PASSED stands the energy per token, or the throughput where there is no energy."""
    assert Headline.of(result()).energy_or_rate() == "0.412 J/token"
    assert (
        Headline.of(result(measurement=measurement(energy_source="model"))).energy_or_rate()
        == "~0.412 J/token"
    )
    without = result(measurement=measurement(energy_source="unavailable"))
    assert Headline.of(without).energy_or_rate() == "426 token/s"


def test_the_time_left_follows_from_the_mean() -> None:
    """Three experiments in 90 s leave 60 s for two more; before the first one nothing is known."""
    assert time_left_s(90, done=3, of=5) == pytest.approx(60)
    assert time_left_s(90, done=5, of=5) == 0
    assert time_left_s(90, done=0, of=5) is None

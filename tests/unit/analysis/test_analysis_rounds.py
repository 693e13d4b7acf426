"""The round as the unit: what a series of a daemon says of a configuration."""

from __future__ import annotations

import math

import pytest

from pytest_llem.analysis.observations import PLACE, Observation
from pytest_llem.analysis.rounds import merge
from pytest_llem.analysis.summary import Summary, summarise
from pytest_llem.campaign.schema import Confidence
from unit.analysis.analysis_samples import ENERGY, THROUGHPUT, cycles, expected, observation


def rounds(*values: list[float]) -> list[Observation]:
    """Return what rounds with these cycles say of one configuration, each measured in a session of its own."""
    return [
        one
        for number, found in enumerate(values, 1)
        for one in merge(cycles(found, session=f"night {number}"), number)
    ]


def summary_of(observations: list[Observation], count: int) -> Summary:
    return summarise(
        observations, expected("a", experiments=count), confidence=Confidence(), unit="round", seed=1
    )


def test_three_rounds_of_two_cycles_are_three() -> None:
    """The number of rounds is n, and the interval is that of their means with 2 degrees of freedom."""
    summary = summary_of(rounds([100, 104], [110, 114], [120, 124]), 3)
    (row,) = summary.rows
    interval = row.metrics[THROUGHPUT].interval
    assert (row.n, row.of, summary.unit) == (3, 3, "round")
    assert interval is not None
    assert (interval.n, interval.df) == (3, 2)
    means = [math.sqrt(100 * 104), math.sqrt(110 * 114), math.sqrt(120 * 124)]
    assert row.metrics[THROUGHPUT].center == pytest.approx(math.prod(means) ** (1 / 3))
    alone = summary_of(rounds(*[[mean] for mean in means]), 3)
    assert alone.rows[0].metrics[THROUGHPUT] == row.metrics[THROUGHPUT]


def test_launches_are_counted_in_every_round() -> None:
    """The launches of a row are all those of its cycles."""
    assert summary_of(rounds([1, 2], [3, 4]), 2).rows[0].launches == 4


def test_the_words_are_of_rounds() -> None:
    """Nothing is said of cycles, sessions or launches, which are no units here."""
    summary = summary_of(rounds([1, 2], [3, 4]), 2)
    assert len(summary.messages) == 2
    assert "The unit is the round" in summary.messages[0]
    assert "fewer than 3 rounds" in summary.messages[1]
    assert summary.diagnostics == ()


def test_a_cycle_that_failed_leaves_the_others_of_its_round() -> None:
    """The mean is over what the round completed; a round that completed nothing is no block."""
    first = [observation(100, cycle=1), observation(None, cycle=2, failure="oom")]
    second = [observation(None, cycle=1, failure="oom")]
    summary = summary_of([*merge(first, 1), *merge(second, 2)], 2)
    (row,) = summary.rows
    assert (row.n, row.of, row.failures) == (1, 2, {"oom": 1})
    assert row.metrics[THROUGHPUT].center == 100


def test_a_repeated_experiment_counts_once() -> None:
    """Of several attempts at one cycle the newest completed one counts, as in a run."""
    attempts = [observation(100, cycle=1, started_at=1), observation(200, cycle=1, started_at=2)]
    (merged,) = merge(attempts, 1)
    assert merged.values[PLACE[THROUGHPUT]] == 200


def test_different_sources_in_a_round_have_no_mean() -> None:
    """Energy of two sources is not averaged, and the reason names both."""
    found = [
        observation({ENERGY: 1.0}, cycle=1, sources={ENERGY: "rapl"}),
        observation({ENERGY: 2.0}, cycle=2, sources={ENERGY: "model"}),
    ]
    (merged,) = merge(found, 1)
    assert math.isnan(merged.values[PLACE[ENERGY]])
    assert merged.reasons[PLACE[ENERGY]] == (
        "a round has values from model and rapl: different sources have no common mean"
    )


def test_different_parts_in_a_round_have_no_mean() -> None:
    """Energy with and without the CPU is not averaged; where all cycles have the same parts the round has them."""
    with_cpu, alone = [
        observation({ENERGY: 1.0}, cycle=cycle, parts={ENERGY: parts})
        for cycle, parts in enumerate([("gpu", "cpu"), ("gpu",)], 1)
    ]
    (merged,) = merge([with_cpu, alone], 1)
    assert math.isnan(merged.values[PLACE[ENERGY]])
    assert "a round has values of gpu and of gpu + cpu" in str(merged.reasons[PLACE[ENERGY]])
    (merged,) = merge([with_cpu], 1)
    assert merged.parts[PLACE[ENERGY]] == ("gpu", "cpu")


def test_flags_and_devices_are_those_of_all_cycles() -> None:
    """What one cycle carries the round carries, once."""
    found = [
        observation(1, cycle=1, flags=("hot",), devices=("GPU-1",), throttle_share=0.1),
        observation(1, cycle=2, flags=("hot", "busy"), devices=("GPU-2",), throttle_share=0.3),
    ]
    (merged,) = merge(found, 1)
    assert merged.flags == ("hot", "busy")
    assert merged.devices == ("GPU-1", "GPU-2")
    assert merged.throttle_share == 0.3

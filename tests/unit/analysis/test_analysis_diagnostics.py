from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from pytest_llem.analysis.diagnostics import Diagnostic, diagnose
from pytest_llem.analysis.observations import Observation
from pytest_llem.records import Source
from unit.analysis.analysis_samples import ENERGY, THROUGHPUT, observation


def campaign(
    configurations: int,
    cycles: int,
    *,
    effect: Callable[[int], float] = lambda _: 0.0,
    noise: float = 0.002,
    seed: int = 1,
    missing: Sequence[tuple[int, int]] = (),
) -> list[Observation]:
    """Return noisy observations of configurations 10 % apart, with an `effect` on the logs of each cycle.

    `missing` holds (configuration, cycle) from 0.
    """
    logs = np.random.default_rng(seed).normal(0, noise, (configurations, cycles))
    return [
        observation(
            float(100 * math.exp(0.1 * row + logs[row, column] + effect(column))),
            configuration=f"c{row}",
            cycle=column + 1,
            started_at=1000.0 * column + row,
        )
        for row in range(configurations)
        for column in range(cycles)
        if (row, column) not in missing
    ]


def named(observations: list[Observation], name: str) -> Diagnostic:
    """Return one diagnostic of throughput."""
    (found,) = [one for one in diagnose(observations, level=0.95) if one.name == name]
    return found


def test_a_steady_campaign_has_nothing_flagged() -> None:
    """Independent noise of 0.2 % gives every diagnostic a line and none a flag."""
    found = diagnose(campaign(6, 9), level=0.95)
    names = ["drift", "first-cycle effect", "autocorrelation", "outlying cycle", "outliers"]
    assert [one.name for one in found] == names
    assert not any(one.flagged for one in found)


def test_a_drift_is_found_with_its_slope() -> None:
    """A rise of 1 % a cycle is reported as such and flagged."""
    found = named(campaign(6, 5, effect=lambda cycle: 0.01 * cycle), "drift")
    assert found.flagged
    assert found.value == pytest.approx(1.0, abs=0.15)
    assert found.text.startswith("drift of output_tokens_per_second: +")


def test_a_drift_is_told_from_what_is_missing() -> None:
    """Fast configurations that are missing early raise the plain means of later cycles, not their effects."""
    missing = [(row, cycle) for row in (4, 5) for cycle in (0, 1)]
    found = named(campaign(6, 5, missing=missing), "drift")
    assert not found.flagged
    assert found.value == pytest.approx(0, abs=0.2)


def test_a_tiny_drift_is_not_flagged() -> None:
    """A drift that is certain but far below 1 % over the campaign leaves the intervals alone."""
    found = named(campaign(6, 5, effect=lambda cycle: 1e-4 * cycle, noise=1e-7), "drift")
    assert found.value == pytest.approx(0.01, rel=0.01)
    assert not found.flagged


def test_a_slow_first_cycle_is_found() -> None:
    """A first cycle 5 % below the others is flagged, as first-cycle effect and as outlying cycle."""
    observations = campaign(6, 6, effect=lambda cycle: -0.05 * (cycle == 0))
    found = named(observations, "first-cycle effect")
    assert found.flagged
    assert found.value == pytest.approx(-4.9, abs=0.4)
    assert named(observations, "outlying cycle").flagged


def test_an_outlying_cycle_is_named_and_kept() -> None:
    """A cycle in which every configuration was 5 % faster is named by its number."""
    found = named(campaign(6, 6, effect=lambda cycle: 0.05 * (cycle == 3)), "outlying cycle")
    assert found.flagged
    assert "of output_tokens_per_second: 4 at +" in found.text
    assert found.text.endswith("an outlier, kept")


def test_neighbouring_cycles_that_resemble_each_other_are_found() -> None:
    """A slow wave over twelve cycles is an autocorrelation that is flagged."""
    found = named(campaign(4, 12, effect=lambda c: 0.03 * math.sin(c / 2)), "autocorrelation")
    assert found.flagged
    assert 0.5 < found.value < 1


def test_an_outlying_experiment_is_named_and_kept() -> None:
    """One experiment 8 % off is named with its configuration, its cycle and how far off it is."""
    observations = campaign(6, 5, noise=0.003)
    place = next(i for i, one in enumerate(observations) if (one.configuration, one.cycle) == ("c2", 4))
    observations[place] = observation(
        100 * math.exp(0.2 - 0.08), configuration="c2", cycle=4, started_at=observations[place].started_at
    )
    found = named(observations, "outliers")
    assert (found.value, found.flagged) == (1, True)
    assert "kept: label of c2 in cycle 4 (-" in found.text


def test_many_experiments_are_no_outliers() -> None:
    """Of 10,000 clean experiments some lie beyond 3.5 standard deviations, and none is called an outlier."""
    found = named(campaign(2000, 5, noise=0.05), "outliers")
    assert (found.value, found.flagged) == (0, False)
    assert found.text == "outliers of output_tokens_per_second: 0 of 10000"


def test_of_two_configurations_no_one_is_the_outlier() -> None:
    """Where two configurations part ways nobody can say which one it was, so neither is accused."""
    assert "outliers" not in {one.name for one in diagnose(campaign(2, 12), level=0.95)}


@pytest.mark.parametrize(
    ("cycles", "names"),
    [
        (2, set()),
        (3, {"drift"}),
        (4, {"drift", "first-cycle effect"}),
        (5, {"drift", "first-cycle effect", "outlying cycle"}),
        (8, {"drift", "first-cycle effect", "outlying cycle", "autocorrelation"}),
    ],
)
def test_a_diagnostic_appears_where_the_cycles_allow_it(cycles: int, names: set[str]) -> None:
    """Each diagnostic of a single configuration waits for the number of cycles that can carry it."""
    assert {one.name for one in diagnose(campaign(1, cycles), level=0.95)} == names


def test_a_straggler_is_no_cycle() -> None:
    """A block that holds one configuration of six, finished in another session, is not taken for a cycle."""
    observations = campaign(6, 3, missing=[(0, 2)])
    straggler = observation(150.0, configuration="c0", cycle=3, session="tuesday", started_at=9e5)
    assert diagnose([*observations, straggler], level=0.95) == diagnose(observations, level=0.95)


def test_blocks_without_a_link_are_not_compared() -> None:
    """Two halves of a campaign that share no configuration have no common block effects."""
    missing = [(r, c) for r in range(4) for c in range(6) if (r < 2) != (c < 3)]
    assert diagnose(campaign(4, 6, missing=missing), level=0.95) == ()


def test_equal_values_are_steady() -> None:
    """A campaign without any noise at all has a drift of 0, and divides by nothing."""
    assert named(campaign(3, 9, noise=0.0), "drift").value == pytest.approx(0, abs=1e-9)
    assert not any(one.flagged for one in diagnose(campaign(3, 9, noise=0.0), level=0.95))


@pytest.mark.parametrize(("source", "diagnosed"), [("rapl", True), ("model", False)])
def test_energy_is_diagnosed_if_it_was_measured(source: Source, diagnosed: bool) -> None:
    """A measured energy has its own lines, a modelled one says nothing about the machine."""
    observations = [
        observation(
            {THROUGHPUT: 100.0 + cycle, ENERGY: 0.5 + cycle / 100}, cycle=cycle, sources={ENERGY: source}
        )
        for cycle in range(1, 5)
    ]
    metrics = {one.metric for one in diagnose(observations, level=0.95)}
    assert metrics == ({THROUGHPUT, ENERGY} if diagnosed else {THROUGHPUT})


@pytest.mark.parametrize(
    ("shares", "flagged", "text"),
    [
        ((0.0, 0.004), False, "in 0 of 2 experiments"),
        ((0.02, 0.3), True, "in 2 of 2 experiments, at worst for 30 % of the window (label of a in cycle 2)"),
    ],
)
def test_throttling_is_counted_and_its_worst_is_named(
    shares: Sequence[float], flagged: bool, text: str
) -> None:
    """Throttled experiments are counted from the first cycle on, and that with the largest share is named."""
    observations = [
        observation(100.0, cycle=cycle, throttle_share=share, flags=("throttled",) if share > 0.01 else ())
        for cycle, share in enumerate(shares, 1)
    ]
    found = named(observations, "throttling")
    assert (found.flagged, found.value) == (flagged, 2 * flagged)
    assert found.text == f"throttling: heat or the power brake slowed a GPU down {text}"


def test_nothing_is_said_of_throttling_that_no_gpu_tells() -> None:
    """Without a trace of a GPU there is no line on throttling."""
    assert diagnose([observation(100.0)], level=0.95) == ()


@pytest.mark.parametrize("configurations", [1, 8])
def test_few_steady_campaigns_are_flagged(configurations: int) -> None:
    """On independent noise of 5 % each diagnostic is flagged in about 5 % of campaigns, never in 12 %."""
    flagged: dict[str, int] = {}
    for seed in range(150):
        for one in diagnose(campaign(configurations, 9, noise=0.05, seed=seed), level=0.95):
            flagged[one.name] = flagged.get(one.name, 0) + one.flagged
    assert all(count < 0.12 * 150 for count in flagged.values()), flagged

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llem.analysis.budgets import Verdict
from pytest_llem.analysis.observations import Observation
from pytest_llem.analysis.summary import summarise
from pytest_llem.campaign.schema import Budget, Confidence
from unit.analysis.analysis_samples import ENERGY, THROUGHPUT, cycles, expected, observation

AROUND_HALF = (0.50, 0.51, 0.53)
"""Energies in J/token whose interval is [0.4768, 0.5524]."""


def verdicts(observations: list[Observation], metric: str, budget: Budget) -> tuple[Verdict, ...]:
    """Return what the summary says of one budget on configuration `a`."""
    confidence = Confidence(resamples=99)
    (row,) = summarise(observations, expected("a"), confidence=confidence, budgets={metric: budget}).rows
    return row.budgets


def judged(energies: tuple[float, ...], **bounds: float) -> Verdict:
    """Return the verdict on the energy per token of cycles with `energies`."""
    observations = cycles([{ENERGY: energy} for energy in energies], sources={ENERGY: "nvml_counter"})
    (verdict,) = verdicts(observations, ENERGY, Budget(**bounds))
    return verdict


@pytest.mark.parametrize(
    ("limit", "outcome", "failed"),
    [(0.60, "met", False), (0.54, "inconclusive", False), (0.49, "inconclusive", True), (0.40, "over", True)],
)
def test_a_maximum_is_judged_on_the_interval(limit: float, outcome: str, failed: bool) -> None:
    """The whole interval on one side decides; with the limit inside it, the mean says whether it fails."""
    verdict = judged(AROUND_HALF, max=limit)
    assert (verdict.outcome, verdict.failed) == (outcome, failed)


@pytest.mark.parametrize(
    ("limit", "outcome", "failed"),
    [(0.40, "met", False), (0.49, "inconclusive", False), (0.54, "inconclusive", True), (0.60, "over", True)],
)
def test_a_minimum_is_judged_the_other_way_round(limit: float, outcome: str, failed: bool) -> None:
    """A minimum is met where a maximum would be broken."""
    verdict = judged(AROUND_HALF, min=limit)
    assert (verdict.outcome, verdict.failed) == (outcome, failed)


def test_the_message_has_both_numbers_and_the_unit() -> None:
    """One line says metric, mean, interval, bound, limit and unit."""
    assert judged(AROUND_HALF, max=0.4).message == (
        "over budget: energy_per_output_token_j 0.5132 [0.4768, 0.5524] > max 0.4 J/token"
    )
    assert judged(AROUND_HALF, min=0.4).message == (
        "within budget: energy_per_output_token_j 0.5132 [0.4768, 0.5524] >= min 0.4 J/token"
    )


@pytest.mark.parametrize(("limit", "lead"), [(0.49, "over budget"), (0.54, "within budget")])
def test_an_inconclusive_message_says_what_would_tell(limit: float, lead: str) -> None:
    """Where the interval straddles the limit the line says so, and that more cycles would decide."""
    message = judged(AROUND_HALF, max=limit).message
    assert message.startswith(f"{lead}, not for certain: ")
    assert message.endswith("; more cycles would tell")


@pytest.mark.parametrize(("limit", "outcome"), [(0.55, "met"), (0.45, "over")])
def test_below_three_cycles_the_mean_is_judged(limit: float, outcome: str) -> None:
    """Without an interval the mean decides, and the message says that it did."""
    verdict = judged((0.49, 0.51), max=limit)
    assert verdict.outcome == outcome
    assert verdict.message.endswith("(n = 2: judged on the mean)")


def test_a_modelled_energy_is_judged_behind_its_mark() -> None:
    """An estimate is no measurement: its verdict shows it as `~`."""
    observations = cycles([{ENERGY: 0.5}] * 3, sources={ENERGY: "model"})
    (verdict,) = verdicts(observations, ENERGY, Budget(max=0.4))
    assert "energy_per_output_token_j ~0.5 [" in verdict.message


def test_a_budget_without_a_value_fails_with_the_reason() -> None:
    """A budget on a metric that nobody measured is not kept: it cannot be judged, and says why."""
    (verdict,) = verdicts(cycles([250.0] * 3), ENERGY, Budget(max=0.4))
    assert (verdict.outcome, verdict.failed) == ("no_value", True)
    assert "no energy_per_output_token_j here" in verdict.message


def test_mixed_sources_cannot_be_judged() -> None:
    """Modelled and measured cycles have no common mean, so their budget has no value."""
    observations = [
        observation({ENERGY: 0.3}, cycle=1, sources={ENERGY: "model"}),
        observation({ENERGY: 0.3}, cycle=2, sources={ENERGY: "rapl"}),
    ]
    (verdict,) = verdicts(observations, ENERGY, Budget(max=0.4))
    assert verdict.outcome == "no_value"
    assert "values from model and rapl" in verdict.message


def test_both_bounds_are_judged() -> None:
    """A budget with a maximum and a minimum has two verdicts."""
    observations = cycles([250.0] * 3)
    found = verdicts(observations, THROUGHPUT, Budget(max=300, min=260))
    assert [(v.bound, v.limit, v.outcome) for v in found] == [("max", 300, "met"), ("min", 260, "over")]


def test_a_constant_at_its_limit_is_within_budget() -> None:
    """A metric that is exactly its limit in every cycle keeps it: no rounding of logs breaks a budget."""
    for bounds in ({"max": 6.0}, {"min": 6.0}):
        verdict = judged((6.0, 6.0, 6.0), **bounds)
        assert (verdict.outcome, verdict.failed) == ("met", False)
        assert verdict.message.startswith("within budget: energy_per_output_token_j 6 [6, 6]")


def test_what_has_not_run_is_not_judged() -> None:
    """A configuration that was deselected has no verdict; one whose cycles all failed has one, and fails."""
    assert verdicts([], THROUGHPUT, Budget(min=1)) == ()
    (verdict,) = verdicts(cycles([None] * 3, failure="oom"), THROUGHPUT, Budget(min=1))
    assert (verdict.outcome, verdict.failed) == ("no_value", True)


@settings(deadline=None)
@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=6), st.floats(0.05, 20))
def test_a_budget_fails_exactly_if_the_mean_is_beyond_it(energies: list[float], limit: float) -> None:
    """Noise buys no pass: the session fails if the mean breaks the bound, however wide the interval is."""
    observations = cycles([{ENERGY: energy} for energy in energies], sources={ENERGY: "rapl"})
    (row,) = summarise(
        observations,
        expected("a"),
        confidence=Confidence(resamples=99),
        budgets={ENERGY: Budget(max=limit)},
    ).rows
    center = row.metrics[ENERGY].center
    assert center is not None
    assert row.budgets[0].failed == (center > limit)


def test_few_good_campaigns_fail() -> None:
    """With 12 configurations, 3 cycles, a CV of 2 % and 3 % of headroom, under 12 % fail, not 92 %."""
    names = [f"c{index}" for index in range(12)]
    failures = 0
    for seed in range(60):
        noise = np.exp(np.random.default_rng(seed).normal(0, 0.02, (12, 3))).tolist()
        summary = summarise(
            [one for name, row in zip(names, noise, strict=True) for one in cycles(row, configuration=name)],
            expected(*names),
            confidence=Confidence(resamples=99),
            budgets={THROUGHPUT: Budget(min=0.97)},
        )
        failures += any(verdict.failed for row in summary.rows for verdict in row.budgets)
    assert failures < 0.12 * 60


def test_a_value_beside_its_limit_can_be_told_from_it() -> None:
    """Large numbers are written out, and near ones with as many digits as it takes."""
    (verdict,) = verdicts(cycles([39380.04]), THROUGHPUT, Budget(min=39380.1))
    assert verdict.message.startswith("over budget: output_tokens_per_second 39380 < min 39380.1 token/s")

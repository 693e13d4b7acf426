"""A run's budget: which cycle is the last."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import BEGIN, measurement, result
from pytest_llem.campaign.grid import Point
from pytest_llem.campaign.schedule import Experiment, order
from pytest_llem.campaign.schema import Campaign
from pytest_llem.records import Configuration, Result
from pytest_llem.runner import CampaignStopped
from pytest_llem.spending import Spending

EXPERIMENT_H = 0.25
WINDOW_KWH = 5270.0 / 3.6e6


class Run:
    """A run of two configurations, whose experiments all take a quarter of an hour and one window's energy."""

    def __init__(self, **execution: Any) -> None:
        settings = {"campaign_name": "sizes", "execution": {"structure": "interleaved"} | execution}
        self.campaign = Campaign.model_validate(settings)
        points = [
            Point(name, name, {}, Configuration(), f"hash of {name}", name, "valid", ()) for name in "ab"
        ]
        self.experiments = order(
            points, cycles=self.campaign.execution.cycles, structure=self.campaign.execution.structure, seed=1
        )
        self.said: list[str] = []
        self.now = BEGIN

    def session(self, done: list[Result], **facts: Any) -> tuple[Spending, list[Result]]:
        """Measure all that the budget allows, and return it with what was done before."""
        spending, done = Spending(self.campaign), list(done)
        for one in done:
            spending.add(one)
        keys = {(one.spec_hash, one.cycle) for one in done}
        left = [e for e in self.experiments if (e.point.spec_hash, e.cycle) not in keys]
        spending.follow(left)
        spending.say = self.said.append
        for experiment in left:
            if spending.allows(experiment):
                done.append(self.measure(experiment, **facts))
                spending.add(done[-1])
        return spending, done

    def measure(self, experiment: Experiment, **facts: Any) -> Result:
        began, self.now = self.now, self.now + timedelta(hours=EXPERIMENT_H)
        return result(
            experiment.point.id,
            experiment.cycle,
            gap_s=0.0,
            started_at=began,
            completed_at=self.now,
            measurement=measurement(warmup=None, energy_window_s=900.0, **facts),
        )


@pytest.mark.parametrize(
    ("budget_hours", "cycles"), [(0.1, 1), (0.9, 1), (1.0, 2), (1.4, 2), (2.5, 5), (99, 5)]
)
def test_a_cycle_that_would_be_too_much_is_not_begun(budget_hours: float, cycles: int) -> None:
    """Cycles of half an hour: as many as fit, and one in any case."""
    spending, done = Run(budget_hours=budget_hours).session([])
    assert len(done) == 2 * cycles
    assert (spending.stopped_by is None) is (cycles == 5)


@given(st.floats(0.01, 3), st.integers(1, 6), st.sampled_from(["interleaved", "grouped", "shuffled"]))
def test_a_run_keeps_its_budget_or_has_one_cycle(budget_hours: float, cycles: int, structure: str) -> None:
    """Whatever the budget, what is measured are whole cycles (configurations), within it but for the first."""
    run = Run(budget_hours=budget_hours, cycles=cycles, structure=structure)
    _, done = run.session([])
    at_a_time = cycles if structure == "grouped" else 2
    assert len(done) % at_a_time == 0
    assert len(done) * EXPERIMENT_H <= budget_hours + 1e-9 or len(done) == at_a_time
    more = (len(done) + at_a_time) * EXPERIMENT_H
    assert len(done) == len(run.experiments) or more > budget_hours


def test_energy_has_a_budget_too() -> None:
    """Room for the energy of two cycles and a half: two are measured."""
    spending, done = Run(budget_kwh=5 * WINDOW_KWH).session([])
    assert len(done) == 4
    assert spending.stopped_by
    assert spending.stopped_by.startswith("execution.budget_kwh")


def test_earlier_sessions_are_part_of_the_run() -> None:
    """A run that goes on has the rest of its budget, and all of a raised one."""
    run = Run(budget_hours=1.0)
    _, first = run.session([])
    _, again = run.session(first)
    assert (len(first), len(again)) == (4, 4)
    raised = Run(budget_hours=1.5)
    raised.now = run.now
    _, more = raised.session(first)
    assert len(more) == 6


def test_half_a_cycle_is_finished_if_it_fits() -> None:
    """A session that begins in the middle of a cycle needs room for the rest of it only."""
    run = Run(budget_hours=0.75)
    interrupted = [run.measure(experiment) for experiment in run.experiments[:1]]
    _, done = run.session(interrupted)
    assert len(done) == 2


def test_a_budget_of_energy_without_energy_is_an_error() -> None:
    """A limit that nothing can reach ends the session after its first cycle."""
    run = Run(budget_kwh=1.0)
    with pytest.raises(
        CampaignStopped, match=r"budget_kwh cannot be kept: no energy is known of 2 completed"
    ):
        run.session([], energy_source="unavailable")
    _, done = Run(budget_hours=1.0).session([], energy_source="unavailable")
    assert len(done) == 4


def test_a_line_is_said_between_cycles_alone() -> None:
    """Nothing at the start, a line after each cycle that another follows, nothing after the last."""
    run = Run(cycles=3)
    run.session([])
    assert [line.partition(":")[0] for line in run.said] == ["cycle 1 of 3 is over", "cycle 2 of 3 is over"]

"""What a campaign's keys make of results that are there: names, places, intervals, groups, budgets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import factories
from pytest_llem.analysis.summary import Summary
from pytest_llem.session import CampaignSession
from pytest_llem.settings import Settings

CAMPAIGN = """
campaign_name: sizes
model: some/model
grid:
  backends: [pytorch]
  shared:
    batch_size: [1, 8]
    fp_precision: [float16, bfloat16]
execution: {cycles: 5}
confidence: {resamples: 999}
"""

Summarise = Callable[..., Summary]


def session_at(folder: Path, *overrides: str) -> CampaignSession:
    (folder / "grid.yaml").write_text(CAMPAIGN)
    cache = folder / ".cache"
    return CampaignSession(Settings(folder / "grid.yaml", folder, overrides, cache, resume=True))


def measure(session: CampaignSession) -> None:
    """Record a result for every experiment; the energy differs from cycle to cycle and from point to point."""
    assert session.run is not None
    for experiment in session.experiments:
        point, cycle = experiment.point, experiment.cycle
        energy_j = 0.1 * (1 + 0.02 * cycle**2) * (1 + len(point.label))
        result = factories.result(
            point.label,
            cycle,
            spec_hash=point.spec_hash,
            axes=point.axes,
            experiment_id=experiment.id,
            measurement=factories.measurement({"energy_per_output_token_j": energy_j}),
        )
        session.run.record(result)


@pytest.fixture
def summarise(tmp_path: Path) -> Summarise:
    """Return a function that summarises one measured run, with further settings of the campaign."""
    first = session_at(tmp_path)
    measure(first)
    first.close()

    def summary(*overrides: str) -> Summary:
        session = session_at(tmp_path, *overrides)
        try:
            return session.conclude()
        finally:
            session.close()

    return summary


def interval(summary: Summary) -> Any:
    return summary.rows[0].metrics["energy_per_output_token_j"].interval


@pytest.mark.key("confidence.level")
def test_a_higher_level_is_a_wider_interval(summarise: Summarise) -> None:
    """The interval is that of the level, and says so."""
    usual, certain = interval(summarise()), interval(summarise("confidence.level=0.99"))
    assert (usual.level, certain.level) == (0.95, 0.99)
    assert certain.low < usual.low < usual.high < certain.high


@pytest.mark.key("confidence.method")
def test_the_method_makes_the_headline_interval(summarise: Summarise) -> None:
    """`auto` is Student's t at five cycles; a method that is asked for takes its place."""
    usual, other = interval(summarise()), interval(summarise("confidence.method=percentile"))
    assert (usual.method, other.method) == ("student", "percentile")
    assert (other.low, other.high) != (usual.low, usual.high)


@pytest.mark.key("confidence.resamples")
def test_the_number_of_resamples_moves_a_bootstrap(summarise: Summarise) -> None:
    """More resamples give other limits, on the same mean."""
    few, many = (
        interval(summarise("confidence.method=bca", f"confidence.resamples={count}"))
        for count in (99, 20_000)
    )
    assert few.center == many.center
    assert (few.low, few.high) != (many.low, many.high)


@pytest.mark.key("group_by")
def test_groups_are_the_values_of_an_axis(summarise: Summarise) -> None:
    """Without `group_by` there are no groups, with it one for each combination of values."""
    by_size = summarise("group_by=[batch_size]")
    by_both = summarise("group_by=[batch_size, fp_precision]")
    assert [len(found.groups) for found in (summarise(), by_size, by_both)] == [0, 2, 4]
    assert [group.axes for group in by_size.groups] == [{"batch_size": 1}, {"batch_size": 8}]


@pytest.mark.key("expect.*.max", "expect.*.min")
@pytest.mark.parametrize(
    ("budget", "over"),
    [
        ("expect.energy_j={max: 5300}", False),
        ("expect.energy_j={max: 5200}", True),
        ("expect.energy_j={min: 5200}", False),
        ("expect.energy_j={min: 5300}", True),
    ],
)
def test_a_budget_judges_every_configuration(summarise: Summarise, budget: str, over: bool) -> None:
    """An energy of 5270 J keeps a bound on its right side and fails one on its wrong side."""
    verdicts = [verdict for row in summarise(budget).rows for verdict in row.budgets]
    assert [verdict.failed for verdict in verdicts] == [over] * 4


@pytest.mark.key("campaign_name")
@pytest.mark.parametrize("name", ["sizes", "other"])
def test_the_summary_names_the_campaign(summarise: Summarise, tmp_path: Path, name: str) -> None:
    """Whoever gets the summary's file learns from which campaign it is."""
    summarise(f"campaign_name={name}")
    (path,) = tmp_path.glob("results/*/*/summary.json")
    assert json.loads(path.read_text())["campaign"] == name


@pytest.mark.key("io.results_dir")
@pytest.mark.parametrize("place", ["results", "elsewhere/numbers"])
def test_results_lie_where_the_campaign_says(tmp_path: Path, place: str) -> None:
    """Every file of a run lies below io.results_dir, which is below the root folder."""
    session = session_at(tmp_path, f"io.results_dir={place}")
    measure(session)
    session.conclude()
    session.close()
    folders = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*.json")}
    assert folders == {Path(place).parts[0]}
    assert len(list((tmp_path / place).glob("*/*/experiments/*/attempt-1.json"))) == 20

"""What is made of a daemon's rounds: their results are the test's, all else is as in a night."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

import factories
from pytest_llem.daemon import series as account
from pytest_llem.daemon.assignment import Assignment, CampaignChangedError
from pytest_llem.daemon.series import Series
from pytest_llem.series import SeriesReport
from pytest_llem.session import CampaignSession
from pytest_llem.settings import Settings

CAMPAIGN = """
campaign_name: nights
model: some/model
defaults: {prompts_file: prompts.txt}
grid:
  backends: [pytorch]
  shared:
    batch_size: [1, 8]
    fp_precision: [float16, bfloat16]
execution: {cycles: 2}
daemon: {enabled: true, interval: 1d}
"""


class Nights:
    """A campaign's series, begun as a daemon would.

    Args:
        folder: the project.
        more: of the campaign.
    """

    def __init__(self, folder: Path, more: str = "") -> None:
        self._folder = folder
        (folder / "grid.yaml").write_text(CAMPAIGN + more)
        (folder / "prompts.txt").write_text("Who goes there?\n")
        campaign = self.session()
        self.series = Series(
            id=account.new_id(time.time()),
            campaign=campaign.campaign.campaign_name,
            campaign_sha256=campaign.loaded.sha256,
            points_sha256=campaign.info.points_sha256,
            executor=campaign.executor.name,
            first_start=time.time(),
        )
        self.folder = campaign.series_folder / self.series.id
        self.folder.mkdir(parents=True)
        account.write(self.folder, self.series)

    def session(
        self, assigned: Assignment | None = None, *overrides: str, resume: bool = False
    ) -> CampaignSession:
        """Return a session of the campaign: of a round, or that becomes the daemon."""
        path, cache = self._folder / "grid.yaml", self._folder / ".cache"
        return CampaignSession(Settings(path, self._folder, overrides, cache, resume=resume, round=assigned))

    def begin_round(self) -> CampaignSession:
        """Return the session of the next round."""
        series = self.series
        begun = series.begin_round(time.time(), time.time())
        return self.session(
            Assignment(
                series=series.id,
                number=begun.number,
                run_id=begun.run_id,
                campaign_sha256=series.campaign_sha256,
                points_sha256=series.points_sha256,
                executor=series.executor,
                leash="leash",
                told="told",
            )
        )

    def pass_round(self) -> None:
        """Let a round complete all its experiments."""
        measure(self.begin_round())
        self.series.rounds[-1].end(time.time(), 600.0, 0, None)

    def lose_round(self) -> None:
        """Let a round be killed before it has written what its campaign asks for."""
        lost = self.begin_round()
        lost.close()
        (lost.results_folder / "campaign.yaml").unlink()
        self.series.rounds[-1].end(time.time(), 1.0, -9, None)

    def report(self) -> SeriesReport:
        """Return the analysis of the rounds so far."""
        account.write(self.folder, self.series)
        return SeriesReport(self.folder)


def measure(session: CampaignSession) -> None:
    """Record a result for every experiment, 0.2 J a token and a little that differs, and end the session."""
    assert session.run is not None
    for experiment in session.experiments:
        point, energy_j = experiment.point, 0.2 + 0.001 * experiment.cycle
        result = factories.result(
            point.label,
            experiment.cycle,
            spec_hash=point.spec_hash,
            axes=point.axes,
            experiment_id=experiment.id,
            attempt=session.run.results.next_attempt(experiment.id),
            measurement=factories.measurement({"energy_per_output_token_j": energy_j}),
        )
        session.run.record(result)
    session.close()


BeginSeries = Callable[..., Nights]


@pytest.fixture
def nights(tmp_path: Path) -> BeginSeries:
    """Return a function that begins the series of a campaign; its argument is added to the campaign."""
    return lambda more="": Nights(tmp_path, more)


@pytest.mark.parametrize("file", ["prompts.txt", "some/model/config.json"])
def test_a_round_that_would_measure_something_else_is_refused(
    nights: BeginSeries, tmp_path: Path, file: str
) -> None:
    """Other prompts, or a model's other files, under the same campaign file make no round of the series."""
    series = nights()
    series.pass_round()
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("{}")
    with pytest.raises(CampaignChangedError, match=r"what is measured \(by prompts, .*\) has changed"):
        series.begin_round()


def test_auto_keeps_the_executor_of_the_series(nights: BeginSeries) -> None:
    """Where `auto` would choose otherwise by now, rounds and a restarted daemon stay with the series' executor."""
    series = nights()
    assert series.series.executor == "local"
    series.series.executor = "compose"
    account.write(series.folder, series.series)
    again = series.session()
    assert again.executor.name == "compose"
    assert "as in the run or series that goes on" in again.executor.reason
    series.series.points_sha256 = again.info.points_sha256
    session = series.begin_round()
    assert session.executor.name == "compose"
    session.close()


def test_results_that_no_row_has_are_told(nights: BeginSeries, tmp_path: Path) -> None:
    """A round that somebody continued with other prompts takes nothing from the others, and is named."""
    series = nights()
    for _ in range(2):
        series.pass_round()
    (tmp_path / "prompts.txt").write_text("Nobody.\n")
    measure(series.session(None, "daemon.enabled=false", resume=True))
    report = series.report()
    assert [row.n for row in report.summary.rows] == [2] * 4
    (said,) = [message for message in report.summary.messages if "not in the table" in message]
    assert said.startswith("round 2 has 4 configurations that the first round had not")


def test_groups_are_averaged_within_each_round(nights: BeginSeries) -> None:
    """`group_by` makes a group of a batch size over both precisions, with the round as its block."""
    series = nights("group_by: [batch_size]\n")
    for _ in range(3):
        series.pass_round()
    groups = series.report().summary.groups
    assert [(group.axes, group.n, group.of) for group in groups] == [
        ({"batch_size": 1}, 3, 3),
        ({"batch_size": 8}, 3, 3),
    ]


@pytest.mark.parametrize(("bound_j", "fails"), [(0.3, False), (0.1, True)])
def test_budgets_are_judged_over_the_rounds(nights: BeginSeries, bound_j: float, fails: bool) -> None:
    """`expect` is held against the interval over rounds, which are 0.2 J a token, and decides on the exit code."""
    series = nights(f"expect: {{energy_per_output_token_j: {{max: {bound_j}}}}}\n")
    for _ in range(3):
        series.pass_round()
    report = series.report()
    assert [verdict.failed for row in report.summary.rows for verdict in row.budgets] == [fails] * 4
    assert report.has_failed is fails


@pytest.mark.parametrize("lost", [1, 3])
def test_a_lost_round_does_not_take_the_budgets_away(nights: BeginSeries, lost: int) -> None:
    """Whichever round was killed before it wrote anything, what the campaign asks for is known from another."""
    series = nights("expect: {energy_per_output_token_j: {max: 0.1}}\n")
    for number in (1, 2, 3):
        (series.lose_round if number == lost else series.pass_round)()
    report = series.report()
    assert [row.n for row in report.summary.rows] == [2] * 4
    assert report.has_failed

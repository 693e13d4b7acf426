"""How far a run has come, in the memory of one session. Knows no pytest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pytest_llem.analysis.expenses import Book
from pytest_llem.analysis.observations import Observation
from pytest_llem.campaign.schedule import Experiment
from pytest_llem.campaign.schema import Campaign
from pytest_llem.executors.idle_book import IdleBook
from pytest_llem.records import Result
from pytest_llem.runner import Identity, identity
from pytest_llem.spending import Spending
from pytest_llem.state.run import Standing


class Progress:
    """What is done, what failed before, what was observed, and what all of it took.

    Args:
        campaign: the resolved campaign.

    Attributes:
        observations: of each result that takes part in the analysis.
        spending: of all attempts.
        idle: the idle powers that earlier experiments found.
    """

    def __init__(self, campaign: Campaign) -> None:
        self.observations: list[Observation] = []
        self.spending = Spending(campaign)
        self.idle = IdleBook()
        self._done: set[Identity] = set()
        self._failed_before: set[Identity] = set()

    def take_up(self, standing: Standing) -> None:
        """Begin where the earlier sessions of the run have ended."""
        self._failed_before = set(standing.having("failed"))
        for result in standing.load_others():
            self.spending.add(result)
        for result in standing.load_completed():
            self.add(result)
            if result.measurement:
                self.idle.learn(result.configuration.backend, result.measurement.idle.values())

    def add(self, result: Result) -> None:
        """Take in a result."""
        self.spending.add(result)
        self.observations.append(Observation.of(result))
        if result.status == "completed":
            self._done.add((result.spec_hash, result.cycle))

    def retake(self, results: Iterable[Result]) -> Iterator[Result]:
        """Take in all results of the run anew, and pass each on: whole, 100,000 of them would take gigabytes."""
        self.observations = []
        self.spending.book = Book()
        for result in results:
            self.add(result)
            yield result

    def is_done(self, experiment: Experiment) -> bool:
        """Return whether the run has a completed result for it already."""
        return identity(experiment) in self._done

    def pending(self, experiments: Iterable[Experiment]) -> list[Experiment]:
        """Return those that are not done."""
        return [experiment for experiment in experiments if not self.is_done(experiment)]

    def has_failed(self, experiment: Experiment) -> bool:
        """Return whether an earlier session has tried it, and the run has no completed result."""
        return identity(experiment) in self._failed_before

"""What a run takes, told where a cycle is over, and held against the run's budget. Knows no pytest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from pytest_llem.analysis.expenses import Bill, Book, Expenses, SpendingReport, bill, expenses, together
from pytest_llem.campaign.schedule import Experiment
from pytest_llem.campaign.schema import Campaign
from pytest_llem.records import Result
from pytest_llem.reporting import outlook
from pytest_llem.reporting.export import SUMMARY_JSON
from pytest_llem.runner import CampaignStopped, Identity, identity
from pytest_llem.state.run import Standing

Block = int | str
"""What a session finishes before it looks at the budget: a cycle, under `grouped` a configuration."""


class Spending:
    """The expenses of one run in one session.

    Args:
        campaign: the resolved campaign.

    Attributes:
        say: is told where a cycle is over; by default nobody is.
        book: what the run has taken so far.
        stopped_by: why the budget of the run ended the session; None: it did not.
    """

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self._pending: dict[Identity, Experiment] = {}
        self._block: Block | None = None
        self.say: Callable[[str], None] = _nobody
        self.book = Book()
        self.stopped_by: str | None = None

    def follow(self, experiments: Iterable[Experiment]) -> None:
        """Take over what this session has to measure."""
        self._pending = {identity(experiment): experiment for experiment in experiments}

    def add(self, result: Result) -> None:
        """Count an attempt."""
        self.book.add(result)
        self._pending.pop((result.spec_hash, result.cycle), None)

    def allows(self, experiment: Experiment) -> bool:
        """Return whether the budget leaves room for an experiment; asked where a cycle begins, it holds for all of it.

        Raises:
            CampaignStopped: there is a budget of energy, and no experiment has any.
        """
        block = self._block_of(experiment)
        if self.stopped_by is None and block != self._block:
            if self._block is not None:
                self.say(outlook.boundary(self._what_is_over(), self.report(self._pending.values())))
            self._block = block
            self.stopped_by = self._over_budget(block)
        return self.stopped_by is None

    def report(self, pending: Iterable[Experiment]) -> SpendingReport:
        """Return what the run has taken, and will have when `pending` is measured too."""
        left = [experiment.point.spec_hash for experiment in pending]
        so_far, ahead = self.book.so_far(), self.book.ahead(left) if left else None
        cost = self._campaign.cost
        return SpendingReport(
            domains=tuple(self.book.domains),
            so_far=bill(so_far, cost),
            in_all=bill(together(so_far, ahead), cost) if ahead else None,
            stopped_by=self.stopped_by,
        )

    @property
    def _is_grouped(self) -> bool:
        return self._campaign.execution.structure == "grouped"

    @property
    def _noun(self) -> str:
        return "configuration" if self._is_grouped else "cycle"

    def _block_of(self, experiment: Experiment) -> Block:
        return experiment.point.id if self._is_grouped else experiment.cycle

    def _what_is_over(self) -> str:
        if isinstance(self._block, str):
            return self._block
        return f"cycle {self._block} of {self._campaign.execution.cycles}"

    def _over_budget(self, block: Block) -> str | None:
        """Return why the next block is too much; None where it is not, or nothing is known of it yet."""
        execution, so_far = self._campaign.execution, self.book.so_far()
        ahead = self.book.ahead(
            one.point.spec_hash for one in self._pending.values() if self._block_of(one) == block
        )
        if execution.budget_kwh is not None and self.book.completed and so_far.energy_j is None:
            raise CampaignStopped(
                f"execution.budget_kwh cannot be kept: no energy is known of {self.book.completed} completed"
                " experiments; the rest is pending: remove the budget or see to the meters, and go on with --lf"
            )
        limits = (
            ("execution.budget_hours", execution.budget_hours, "h", _hours),
            ("execution.budget_kwh", execution.budget_kwh, "kWh", _kwh),
        )
        for key, limit, unit, amount in limits:
            if limit is None or ahead is None:
                continue
            used, needed = amount(so_far), amount(ahead)
            if used + needed > limit:
                done = self.book.configurations if self._is_grouped else self.book.cycles
                needs = outlook.Needs(key, unit, limit, used, needed)
                return outlook.over_budget(needs, self._noun, is_first=len(done) == 1)
        return None


def _nobody(_line: str) -> None:
    """Hear nothing."""


def _hours(taken: Expenses) -> float:
    return taken.seconds / 3600


def _kwh(taken: Expenses) -> float:
    return taken.energy_kwh or 0.0


def durations_s(standing: Standing) -> dict[str, float]:
    """Return how long the completed experiments of a run took on average, from order to answer, by spec hash."""
    found: dict[str, list[float]] = {}
    for (spec_hash, _), status in standing.having("completed").items():
        if status.started_at and status.completed_at:
            seconds = (status.completed_at - status.started_at).total_seconds()
            found.setdefault(spec_hash, []).append(seconds)
    return {spec_hash: sum(seconds) / len(seconds) for spec_hash, seconds in found.items()}


def expenses_of(standing: Standing) -> Expenses | None:
    """Return what a run had taken when it was last summarised; None: it never was, or it took nothing."""
    try:
        said = json.loads((standing.results.folder / SUMMARY_JSON).read_bytes())["spending"]["so_far"]
        found = expenses(Bill.model_validate(said))
    except (
        OSError,
        LookupError,
        TypeError,
        ValueError,
    ):  # a summary is for people: without it no word of energy
        return None
    return found if found.seconds else None

"""Keeps the files beside a run's results current while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_llem.analysis.expenses import SpendingReport
from pytest_llem.campaign.schema import Campaign
from pytest_llem.records import Result
from pytest_llem.reporting.export import (
    RESULTS_CSV,
    ResultsCsv,
    SummaryFacts,
    write_campaign,
    write_summary,
)
from pytest_llem.state.health import HealthTally
from pytest_llem.state.results import ResultStore
from pytest_llem.state.run_info import RunInfo

if TYPE_CHECKING:
    from pytest_llem.analysis.summary import Summary

SUMMARY_INTERVAL_S = 30.0
"""A summary is rewritten when a cycle is over, and no more often than this."""


class RunFiles:
    """results.csv, summary.csv, summary.json and campaign.yaml of one run.

    Args:
        results: the run's store.
        campaign: the resolved campaign.
        info: of the run.
        axes: short names of the campaign's axes.
        commit: of the project, if it is a git checkout.
    """

    def __init__(
        self,
        results: ResultStore,
        campaign: Campaign,
        info: RunInfo,
        axes: Sequence[str],
        commit: str | None,
    ) -> None:
        self._results = results
        self._campaign = campaign
        self._info = info
        self._commit = commit
        self._csv = ResultsCsv(results.folder / RESULTS_CSV, axes)
        self._environments: dict[str, None] = {}
        self._last_cycle: int | None = None
        self._summary_s = time.monotonic()

    def begin(self) -> None:
        """Write the campaign as it was resolved.

        Raises:
            StorageError: the disk refuses, here and in all that follows.
        """
        write_campaign(self._results, self._campaign)

    def add(self, result: Result) -> None:
        """Append a result's row."""
        self._note(result)
        self._csv.append(result)

    def rebuild(self, results: Iterable[Result]) -> None:
        """Write results.csv anew, so that its rows are the attempts on disk."""
        self._csv.rebuild(self._noted(results))

    def summary_is_due(self, result: Result) -> bool:
        """Return whether a cycle is over and the last summary is old enough."""
        is_new_cycle = self._last_cycle not in (None, result.cycle)
        self._last_cycle = result.cycle
        return is_new_cycle and time.monotonic() - self._summary_s >= SUMMARY_INTERVAL_S

    def write_summary(self, summary: Summary, health: HealthTally, spending: SpendingReport) -> None:
        """Write summary.json and summary.csv."""
        self._summary_s = time.monotonic()
        environments = tuple(self._environments)
        facts = SummaryFacts(self._campaign, self._info, environments, self._commit, health, spending)
        write_summary(self._results, summary, facts)

    def _noted(self, results: Iterable[Result]) -> Iterator[Result]:
        for result in results:
            self._note(result)
            yield result

    def _note(self, result: Result) -> None:
        if result.environment_hash is not None:
            self._environments[result.environment_hash] = None

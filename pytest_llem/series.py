"""A daemon's series, from its rounds' results to its summary: joins state, analysis and reporting."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Container, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from pytest_llem.analysis.observations import Expected, Observation
from pytest_llem.analysis.rounds import merge
from pytest_llem.analysis.summary import Summary, summarise
from pytest_llem.campaign.schema import Budget, Confidence, Execution
from pytest_llem.daemon import series as account
from pytest_llem.daemon.assignment import NOT_IN_THE_CAMPAIGN
from pytest_llem.daemon.series import Round, Series
from pytest_llem.records import Record
from pytest_llem.reporting import terminal
from pytest_llem.reporting.export import read_campaign
from pytest_llem.reporting.names import counted
from pytest_llem.reporting.rounds import RoundLine, rounds_table, write_series_summary
from pytest_llem.reporting.table import table
from pytest_llem.state.environments import Environments
from pytest_llem.state.results import ResultStore
from pytest_llem.state.run import Runs
from pytest_llem.state.run_info import RunInfo


class Asked(Record):
    """The sections of a campaign that its analysis needs."""

    confidence: Confidence = Confidence()
    group_by: tuple[str, ...] = ()
    expect: dict[str, Budget] = Field(default_factory=dict)
    execution: Execution = Execution()


@dataclass(frozen=True, slots=True)
class _Measured:
    """What one round's run holds; no `info`: it never began."""

    info: RunInfo | None
    observations: list[Observation]
    axes: dict[str, dict[str, Any]]
    environments: dict[str, dict[str, Any]]


class SeriesReport:
    """The analysis of one series with the round as its unit.

    Args:
        folder: of the series, `<results>/<campaign key>/series/<id>`.

    Raises:
        SeriesError, DamagedFileError: its files are not what was written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._series: Series = account.read(folder)
        campaign_folder = folder.absolute().parents[1]
        self._runs = Runs(None, campaign_folder.parent, campaign_folder.name)
        self._measured = [self._read(one) for one in self._series.rounds]
        self.rounds = [_line(*pair) for pair in zip(self._series.rounds, self._measured, strict=True)]
        self.summary = self._summarise()

    @property
    def has_failed(self) -> bool:
        """Whether an experiment was tried and never completed in its round, or a budget is not kept on all rounds."""
        over_budget = any(verdict.failed for row in self.summary.rows for verdict in row.budgets)
        return over_budget or any(one.failed for one in self.rounds)

    def write(self) -> None:
        """Write the summary beside the account of the series.

        Raises:
            StorageError: the disk refuses.
        """
        origin = {
            "campaign": self._series.campaign,
            "campaign_key": self._runs.campaign_key,
            "campaign_sha256": self._series.campaign_sha256,
            "series_id": self._series.id,
        }
        write_series_summary(ResultStore(self._folder), self.summary, self.rounds, origin)

    def lines(self) -> Iterator[str]:
        """Yield what is shown: the rounds with their times, and the table over them."""
        yield f"campaign {self._series.campaign}, series {self._series.id}"
        yield from rounds_table(self.rounds)
        yield ""
        if any(row.n for row in self.summary.rows):
            yield table(self.summary, width=shutil.get_terminal_size().columns)
            yield from terminal.messages(self.summary)
        else:
            yield "no experiment was completed"
        yield f"series: {self._folder}"

    def _read(self, one: Round) -> _Measured:
        results = self._runs.results(one.run_id)
        found = _Measured(self._runs.info(one.run_id), [], {}, Environments(results).known())
        for _, result in results.scan():
            found.observations.append(Observation.of(result))
            found.axes[result.spec_hash] = result.axes
        return found

    def _summarise(self) -> Summary:
        first = next((one.info for one in self._measured if one.info), None)
        asked = self._asked()
        axes = {key: values for one in self._measured for key, values in one.axes.items()}
        points = first.points if first else {}
        pairs = zip(self._series.rounds, self._measured, strict=True)
        summary = summarise(
            [merged for one, found in pairs for merged in merge(found.observations, one.number)],
            [Expected(key, label, axes.get(key, {}), len(self.rounds)) for key, label in points.items()],
            confidence=asked.confidence,
            group_by=asked.group_by,
            budgets=asked.expect,
            structure=asked.execution.structure,
            seed=first.seed if first else 0,
            environments={key: value for one in self._measured for key, value in one.environments.items()},
            unit="round",
        )
        return summary.model_copy(update={"messages": (*summary.messages, *self._left_out(points))})

    def _left_out(self, points: Container[str]) -> Iterator[str]:
        """Yield a sentence on each round with results that no row has: somebody continued it after an edit."""
        for one, found in zip(self._series.rounds, self._measured, strict=True):
            others = {o.configuration for o in found.observations if o.configuration not in points}
            if others:
                yield (
                    f"round {one.number} has {counted(len(others), 'configuration')} that the first round had not,"
                    f" not in the table: the campaign, {NOT_IN_THE_CAMPAIGN} made the difference"
                )

    def _asked(self) -> Asked:
        """Return what the campaign asks for, as the first round that got as far wrote it; the defaults if none did."""
        for one in self._series.rounds:
            with contextlib.suppress(OSError):
                said = read_campaign(self._runs.results(one.run_id))
                return Asked.model_validate({name: said[name] for name in Asked.model_fields})
        return Asked()


def _line(one: Round, measured: _Measured) -> RoundLine:
    completed = {(o.configuration, o.cycle) for o in measured.observations if o.status == "completed"}
    tried = {(o.configuration, o.cycle) for o in measured.observations}
    info = measured.info
    return RoundLine(
        number=one.number,
        run_id=one.run_id,
        due=_utc(one.due),
        started_at=_utc(one.started_at),
        ended_at=_utc(one.ended_at) if one.ended_at is not None else None,
        ran_s=one.ran_s,
        completed=len(completed),
        failed=len(tried - completed),
        asked=len(info.points) * info.cycles if info else None,
        outcome=one.how(),
        exit_code=one.exit_code,
    )


def _utc(moment_s: float) -> datetime:
    return datetime.fromtimestamp(moment_s, UTC)

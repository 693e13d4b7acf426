"""One session at a campaign, from its options to its summary. Knows no pytest.

The plugin asks it what to collect, tells it what is left after selection, and has it measure; it joins the rooms:
campaign (what), state (what has run), executor and runner (how), analysis and reporting (what it means).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llem.analysis.expenses import SpendingReport
from pytest_llem.analysis.observations import Expected
from pytest_llem.backends.registry import registered
from pytest_llem.campaign.forecast import forecast
from pytest_llem.campaign.loader import LoadedCampaign, load
from pytest_llem.campaign.schedule import Experiment, order, plan
from pytest_llem.daemon.series import SERIES_FOLDER, unfinished
from pytest_llem.executors.base import Observer
from pytest_llem.executors.compose.executor import ComposeSetup
from pytest_llem.progress import Progress
from pytest_llem.records import Result
from pytest_llem.reporting.export import git_commit
from pytest_llem.reporting.files import RunFiles
from pytest_llem.reporting.outlook import Prospect
from pytest_llem.run_choice import choose_run
from pytest_llem.runner import Identity, identity
from pytest_llem.settings import Seat, Settings
from pytest_llem.spending import durations_s, expenses_of
from pytest_llem.state.environments import Environments
from pytest_llem.state.health import HealthTally
from pytest_llem.state.results import DamagedFileError, StorageError
from pytest_llem.state.run import Run, Runs, Standing
from pytest_llem.state.run_info import Difference, compare
from pytest_llem.station import Station
from pytest_llem.venue import settle

if TYPE_CHECKING:
    from pytest_llem.analysis.summary import Summary


class CampaignSession:
    """A campaign, loaded and expanded, at one run.

    Raises:
        CampaignError: the campaign is not valid.
        CampaignChangedError: this is a round of another campaign, or would measure something else.
        SeriesError: the account of the daemon's series cannot be read.
        RunBusyError, StorageError, DamagedFileError: the run cannot be opened.
        ExecutorError: a GPU is named that is not here.
    """

    def __init__(self, settings: Settings, seat: Seat | None = None) -> None:
        self.backends = registered()
        self.loaded: LoadedCampaign = load(settings.path, settings.rootdir, settings.overrides)
        self.campaign = self.loaded.campaign
        self.hands_over = self.campaign.daemon.enabled and settings.round is None
        self.settings = settings = replace(settings, dry=True) if self.hands_over else settings
        if settings.round is not None:
            settings.round.check_campaign(self.loaded.sha256)
        self._runs = Runs(settings.cache, self._results_dir(), self.loaded.key)
        chosen = choose_run(self._runs, settings, seat)
        self.older_run, self.older, self.resumed = chosen.older_run, chosen.older, chosen.resumed
        self.older_trouble = chosen.trouble
        self.executor, self.expansion, self.placement = settle(
            self.loaded, self.backends, settings, continued=chosen.executor or self._executor_of_series()
        )
        self.info = chosen.info(settings, self.loaded, self.expansion, self.executor.name)
        if settings.round is not None:
            settings.round.check_points(self.info.points_sha256)
        self.experiments: list[Experiment] = order(
            self.expansion.points,
            cycles=self.campaign.execution.cycles,
            structure=self.campaign.execution.structure,
            seed=self.info.seed,
            force_cold_start=self.campaign.cold_start.force_cold_start,
        )
        self.standing: Standing | None = None
        self.run: Run | None = None
        self._attempts: dict[Identity, int] = {}
        self._older_results: dict[Identity, str] | None = None
        self._latest: Result | None = None
        self.summary: Summary | None = None
        self._station: Station | None = None
        self.progress = Progress(self.campaign)
        results = self._runs.results(self.info.run_id)
        commit = None if settings.dry else git_commit(settings.rootdir)
        self._environments = Environments(results, commit)
        self._files = RunFiles(
            results,
            self.campaign,
            self.info,
            sorted({name for point in self.expansion.points for name in point.axes}),
            commit,
        )
        self._take_up(seat)

    def _executor_of_series(self) -> str | None:
        """Return where the daemon's series runs that this session is a round of, or will go on with."""
        if self.settings.round is not None:
            return self.settings.round.executor
        series = unfinished(self.series_folder) if self.hands_over else None
        return series.executor if series and series.campaign_sha256 == self.loaded.sha256 else None

    # --- Before anything runs ---

    def needed_backends(self) -> list[str]:
        """Return the backends that have experiments."""
        return sorted({point.configuration.backend for point in self.expansion.points})

    @property
    def difference(self) -> Difference | None:
        """What an edit of the campaign changed since the latest session of the run that is continued."""
        return compare(self.older.points, self.info.points) if self.resumed and self.older else None

    def older_counts(self) -> tuple[int, int] | None:
        """Return how many experiments of the newest older run were completed and how many had failed."""
        if self._earlier is None:
            return None
        return len(self._earlier.having("completed")), len(self._earlier.having("failed"))

    @cached_property
    def _earlier(self) -> Standing | None:
        """How far the newest older run got, if that can be read; before a daemon's round that is another round."""
        run_id = self.older_run or self._runs.newest()
        try:
            return self._runs.survey(run_id) if run_id else None
        except DamagedFileError as error:
            self.older_trouble = str(error)
            return None

    @property
    def results_folder(self) -> Path:
        """Where this run's results are."""
        return self._runs.results(self.info.run_id).folder

    @property
    def series_folder(self) -> Path:
        """Where the daemon's series of this campaign are."""
        return self._results_dir() / self.loaded.key / SERIES_FOLDER

    def expected(self) -> list[Expected]:
        """Return what the campaign asks of each configuration."""
        cycles = self.campaign.execution.cycles
        return [Expected(p.spec_hash, p.label, p.axes, cycles) for p in self.expansion.points]

    @cached_property
    def prospect(self) -> Prospect:
        """What the experiments will take that are pending before the session starts, by the newest older run."""
        earlier = self._earlier
        known_s = durations_s(earlier) if earlier else {}
        stops, has_gpus = plan(self.pending(), self.campaign), bool(self.placement.session.visible)
        found = forecast(stops, self.campaign, known_s, has_instruments=has_gpus)
        return Prospect(
            found,
            run_id=earlier.results.folder.name if earlier else None,
            earlier=expenses_of(earlier) if earlier else None,
            cost=self.campaign.cost,
        )

    def seat(self, writer: str) -> Seat:
        """Return what an xdist worker is told."""
        return Seat(self.info.model_dump_json(), self.resumed, writer)

    def _results_dir(self) -> Path:
        folder = self.settings.rootdir / self.campaign.io.results_dir
        if folder.exists() and not folder.is_dir():
            raise StorageError(
                f"results have no place, {folder}: Not a directory; io.results_dir names another one"
            )
        return folder

    def _take_up(self, seat: Seat | None) -> None:
        """Find out how far the run got, and unless this is a dry run take it over."""
        if self.settings.dry:
            self.standing = self._runs.survey(self.info.run_id) if self.resumed else None
        elif seat:
            self.run = self._runs.join(self.info, seat.writer)
            self.standing = self._runs.survey(self.info.run_id) if self.resumed else None
        else:
            self.run, self.standing = self._runs.open(self.info)
            self._files.begin()
        if self.standing is not None:
            self.progress.take_up(self.standing)

    # --- Measuring ---

    def start(
        self, experiments: Sequence[Experiment], observer: Observer, setup: ComposeSetup | None
    ) -> None:
        """Plan the session from the experiments that are left after selection.

        Args:
            experiments: in order.
            observer: is told what goes on.
            setup: the containers, where experiments run in some.

        Raises:
            NotReadyError: a backend, model or dataset of theirs is not to be had here.
            CampaignStopped: nothing can be started here.
        """
        assert self.run is not None
        self._station = Station(
            self.settings,
            self.campaign,
            self.placement,
            run=self.run,
            environments=self._environments,
            idle=self.progress.idle,
        )
        self._station.open(experiments, observer, setup)
        self.progress.spending.follow(self.progress.pending(experiments))

    def may_begin(self, experiment: Experiment) -> bool:
        """Return whether the run's budget allows an experiment; what is done needs none."""
        return self.progress.is_done(experiment) or self.progress.spending.allows(experiment)

    def prepare(self, experiment: Experiment) -> None:
        """Carry out what stands before an experiment."""
        assert self._station is not None
        if not self.progress.is_done(experiment):
            self._station.runner.prepare(experiment)

    def measure(self, experiment: Experiment) -> tuple[Result, bool]:
        """Return the experiment's result, and whether it was measured just now: it is once a session."""
        assert self._station is not None
        key = identity(experiment)
        if self.progress.is_done(experiment) or key in self._attempts:
            return self._stored(experiment), False
        result = self._station.runner.measure(experiment)
        self._latest = result
        self._attempts[key] = result.attempt
        self.progress.add(result)
        self._files.add(result)
        if self._files.summary_is_due(result):
            self.summarise()
        return result, True

    def stop_services(self) -> None:
        """Stop everything that was started."""
        if self._station is not None:
            self._station.close()
            self._station = None

    def close(self) -> None:
        """Stop the services and let other sessions in."""
        self.stop_services()
        if self.run is not None:
            self.run.close()

    # --- Afterwards ---

    def summarise(self) -> Summary:
        """Summarise what the run has so far, and write the summary's files."""
        from pytest_llem.analysis.summary import summarise  # noqa: PLC0415 - numpy and scipy: not to collect

        campaign = self.campaign
        self.summary = summarise(
            self.progress.observations,
            self.expected(),
            confidence=campaign.confidence,
            group_by=campaign.group_by,
            budgets=campaign.expect,
            structure=campaign.execution.structure,
            recycle_cycles=campaign.execution.recycle_cycles,
            seed=self.info.seed,
            environments=self._environments.known(),
        )
        self._files.write_summary(self.summary, self.health, self.spent())
        return self.summary

    def conclude(self) -> Summary:
        """Take in what other processes have measured for this session, and summarise for the last time."""
        assert self.run is not None
        if self.resumed or not self._attempts:
            self._files.rebuild(self.progress.retake(result for _, result in self.run.results.scan()))
        if not self._attempts and self.settings.cache is not None:
            self.run.health = self._runs.survey(self.info.run_id).health
        return self.summarise()

    @property
    def health(self) -> HealthTally:
        """What happened to the services, over all sessions of the run."""
        assert self.run is not None
        return self.run.health

    def spent(self) -> SpendingReport:
        """Return what the run has taken, and will have when nothing is pending any more."""
        return self.progress.spending.report(self.pending())

    def is_over_budget(self) -> bool:
        """Return whether a budget of `expect` is not kept."""
        return self.summary is not None and any(v.failed for row in self.summary.rows for v in row.budgets)

    def pending(self) -> list[Experiment]:
        """Return the experiments of the campaign that the run still lacks."""
        return self.progress.pending(self.experiments)

    def failed_results(self) -> list[Result]:
        """Return the newest result of each experiment that has failed and was never completed."""
        assert self.run is not None
        if all(one.status == "completed" for one in self.progress.observations):
            return []
        failed = self._runs.survey(self.info.run_id).having("failed")
        asked = {identity(experiment) for experiment in self.experiments}
        return [
            self.run.results.read(self.run.results.folder / str(s.result))
            for k, s in failed.items()
            if k in asked
        ]

    def _stored(self, experiment: Experiment) -> Result:
        """Return a result of this run; the latest one, which several tests may ask for, without reading it."""
        latest = self._latest
        if latest is None or (latest.spec_hash, latest.cycle) != identity(experiment):
            assert self.run is not None
            latest = self._latest = self.run.results.read(self._path(experiment))
        return latest

    def _path(self, experiment: Experiment) -> Path:
        """Return where the result of an experiment lies that this session, or one before it, has measured."""
        assert self.run is not None
        key = identity(experiment)
        if key in self._attempts:
            return self.run.results.path_of(experiment.id, self._attempts[key])
        if self._older_results is None:
            found = self._runs.survey(self.info.run_id).having("completed")
            self._older_results = {done: str(status.result) for done, status in found.items()}
        return self.run.results.folder / self._older_results[key]

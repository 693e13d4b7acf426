"""What a session occupies while it measures: the slot, the services, and the runner that uses them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from pytest_llem.campaign.schedule import Experiment, plan
from pytest_llem.campaign.schema import Campaign
from pytest_llem.executors.base import ExecutorError, Observer
from pytest_llem.executors.compose.executor import ComposeExecutor, ComposeSetup
from pytest_llem.executors.compose.owner import tidy_up
from pytest_llem.executors.factory import Workplace, in_child_processes, in_containers
from pytest_llem.executors.gpus import memory, temperatures_c
from pytest_llem.executors.idle_book import IdleBook
from pytest_llem.executors.placement import Placement
from pytest_llem.executors.slots import Slot
from pytest_llem.runner import Runner
from pytest_llem.settings import Settings
from pytest_llem.state import traces
from pytest_llem.state.environments import Environments
from pytest_llem.state.run import Run


class NotReadyError(Exception):
    """Something that the experiments need is not there; one line each."""


class Station:
    """The slot, services and runner of one session; nothing is taken before `open`.

    Args:
        settings: of the session.
        campaign: the resolved campaign.
        placement: which GPUs services and configurations work on.
        run: where results and journal go.
        environments: learns where the experiments ran.
        idle: the idle powers that are known.

    Attributes:
        runner: carries out the plan, once the station is open.
    """

    runner: Runner

    def __init__(
        self,
        settings: Settings,
        campaign: Campaign,
        placement: Placement,
        *,
        run: Run,
        environments: Environments,
        idle: IdleBook,
    ) -> None:
        self._settings = settings
        self._campaign = campaign
        self._placement = placement
        self._run = run
        self._environments = environments
        self._idle = idle
        self._slot: Slot | None = None

    def open(self, experiments: Sequence[Experiment], observer: Observer, setup: ComposeSetup | None) -> None:
        """Take the slot that these experiments need, wait while another session holds it, and plan them.

        Args:
            experiments: in order.
            observer: is told what goes on.
            setup: the containers, where experiments run in some.

        Raises:
            NotReadyError: a GPU, backend, model or dataset of theirs is not to be had here.
            CampaignStopped: nothing can be started here.
        """
        needed = sorted({experiment.point.configuration.backend for experiment in experiments})
        uuids = self._placement.uuids(needed)
        workplace = self._workplace(experiments, observer, setup)
        self.runner = Runner(
            campaign=self._campaign,
            executor=workplace.executor,
            orders=workplace.orders,
            run=self._run,
            environments=self._environments,
            idle=self._idle,
            observer=observer,
            memory=partial(memory, uuids),
            temperatures_c=partial(temperatures_c, uuids),
            require_measured=self._settings.require_measured,
        )
        self.runner.follow(plan(list(experiments), self._campaign))
        self._refuse(self._placement.problems_of(one.point.configuration for one in experiments))
        self._refuse(workplace.executor.problems(needed))  # not after hours of waiting for the slot
        if needed:
            self._occupy(uuids, observer)
            self._refuse(workplace.executor.make_ready(needed))
            self.runner.note_residents()
        elif self._run.info.executor == ComposeExecutor.name:
            tidy_up(observer.note)
        if uuids and not traces.can_be_parquet() and any(map(_saves_trace, experiments)):
            observer.note(traces.INSTALL)
        self._refuse(self.runner.check_hub(fetch=self._settings.fetch))

    def close(self) -> None:
        """Stop the services and give the slot back."""
        self.runner.close()
        if self._slot is not None:
            self._slot.release()
            self._slot = None

    def _workplace(
        self, experiments: Sequence[Experiment], observer: Observer, setup: ComposeSetup | None
    ) -> Workplace:
        points = list({e.point.spec_hash: e.point for e in experiments}.values())
        where = self._campaign, self._settings.rootdir, points, self._placement
        if setup is None:
            return in_child_processes(*where)
        return in_containers(*where, setup=setup, session_id=self._run.info.session.id, say=observer.note)

    def _occupy(self, uuids: Sequence[str], observer: Observer) -> None:
        """Take the slot, and wait while another session holds it."""
        slot = Slot(uuids, self._campaign.campaign_name)
        told: list[str] = []

        def on_wait(sentence: str) -> None:
            if not told:
                observer.note(sentence)
            told.append(sentence)
            observer.phase("slot", sentence)

        try:
            slot.acquire(on_wait)
        except ExecutorError as error:
            raise NotReadyError(str(error)) from error
        if told:
            observer.phase("slot", "")
        self._slot = slot

    def _refuse(self, problems: Sequence[str]) -> None:
        if problems:
            raise NotReadyError("\n".join(problems))


def _saves_trace(experiment: Experiment) -> bool:
    wanted = experiment.point.configuration.timeseries
    return wanted.enabled and wanted.save

"""Carries out the schedule's steps: wait, end the old engine, dispatch, record. Knows no pytest.

Whatever happens to one experiment becomes a result with a class, and the campaign goes on. Only when nothing can
be right any more (the disk is full, failure after failure) does `CampaignStopped` end the session.
"""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from typing import Protocol

from pytest_llem import __version__
from pytest_llem.campaign.schedule import Condition, EndLaunch, Experiment, Gap, Stop
from pytest_llem.campaign.schema import Campaign
from pytest_llem.executors.base import Executor, ExecutorError, PreparationFailed
from pytest_llem.executors.hub import Hub
from pytest_llem.executors.orders import OrderBook, Supplies
from pytest_llem.records import MEASURED_ENERGY, Failure, Result
from pytest_llem.state.environments import Environments
from pytest_llem.state.results import StorageError, atomic_write
from pytest_llem.state.run import Run
from pytest_llem.worker.protocol import Answer

TICK_S = 1.0
"""How often a countdown is shown."""


class CampaignStopped(Exception):
    """The session must end here; the message says why and what to type next."""


class Observer(Protocol):
    """Someone who shows what goes on."""

    def waiting(self, what: str, left_s: float) -> None:
        """A gap: `left_s` seconds to go, 0 when it is over."""

    def phase(self, what: str, phase: str) -> None:
        """An experiment, a launch or a download enters a phase; an empty one when it is over."""


class Runner:
    """Measures the experiments of one session.

    Args:
        stops: what to do, in order; computed from the experiments that are left.
        campaign: the resolved campaign.
        executor: where experiments run.
        orders: writes their orders.
        run: where results and journal go.
        observer: is told what goes on.
        require_measured: an experiment whose energy no instrument measured fails.
    """

    def __init__(
        self,
        *,
        campaign: Campaign,
        executor: Executor,
        orders: OrderBook,
        run: Run,
        observer: Observer,
        require_measured: bool = False,
    ) -> None:
        self._campaign = campaign
        self._executor = executor
        self._orders = orders
        self._hub = Hub(executor, orders, lambda phase: observer.phase("hub", phase))
        self._run = run
        self._observer = observer
        self._require_measured = require_measured
        self._stops: dict[Identity, Stop] = {}
        self._environments = Environments(run.results)
        self._live_backend: str | None = None
        self._gap_s = 0.0
        self._prepared: set[Identity] = set()
        self._failures_in_a_row = 0

    def follow(self, stops: list[Stop]) -> None:
        """Take over the plan of this session."""
        self._stops = {identity(stop.experiment): stop for stop in stops}

    def check_hub(self, *, fetch: bool) -> list[str]:
        """Check, and with `fetch` download, what the plan needs from a hub; return one sentence a problem."""
        points = {stop.experiment.point.spec_hash: stop.experiment.point for stop in self._stops.values()}
        try:
            return self._hub.check(points.values(), fetch=fetch)
        finally:
            self._observer.phase("hub", "")

    def prepare(self, experiment: Experiment) -> None:
        """Carry out what stands before an experiment: downloads, gaps, the end of the old launch, conditioning.

        Raises:
            CampaignStopped: too many experiments in a row have failed.
        """
        key = identity(experiment)
        if key in self._prepared or key not in self._stops:
            return
        self._prepared.add(key)
        self._stop_if_hopeless()
        self._gap_s = 0.0
        with contextlib.suppress(ExecutorError):  # the experiment itself tries again, and says what is wrong
            self._hub.ensure(experiment.point)
        for step in self._stops[key].before:
            match step:
                case Gap():
                    self._gap_s += self._wait(step)
                case EndLaunch():
                    self._end_launch()
                case Condition():
                    self._condition(self._stops[key])

    def measure(self, experiment: Experiment) -> Result:
        """Measure one experiment and store what came of it; the result is on disk when this returns.

        Raises:
            CampaignStopped: the result cannot be stored.
        """
        self.prepare(experiment)
        started_at = datetime.now(UTC)
        attempt = self._run.begin(experiment.id, *identity(experiment))
        answer = self._dispatch(experiment)
        result = self._result(experiment, attempt, started_at, answer)
        self._store(result, answer.log)
        del self._stops[identity(experiment)]  # a plan of 100,000 is let go as it is carried out
        self._prepared.discard(identity(experiment))
        self._failures_in_a_row = 0 if result.status == "completed" else self._failures_in_a_row + 1
        return result

    def close(self) -> None:
        """Stop the services."""
        self._executor.close()

    def _dispatch(self, experiment: Experiment) -> Answer:
        backend = experiment.point.configuration.backend
        launch = self._launch_id(self._stops[identity(experiment)].launch)
        try:
            supplies = self._hub.ensure(experiment.point)
            order = self._orders.order(
                experiment.point, experiment_id=experiment.id, launch=launch, supplies=supplies
            )
            self._live_backend = backend
            answer = self._executor.dispatch(backend, order, lambda phase: self._show(experiment.id, phase))
            return _with_revision(answer, supplies)
        except PreparationFailed as error:
            return Answer(failure=Failure(kind="invalid_config", message=str(error)))
        except ExecutorError as error:
            return Answer(failure=Failure(kind="engine_start", message=str(error)))
        except (OSError, ValueError) as error:  # a prompts file that is gone or not readable
            return Answer(failure=Failure(kind="invalid_config", message=str(error)))

    def _condition(self, stop: Stop) -> None:
        """Run one unmeasured pass in a launch of its own, so that the first experiment is no colder."""
        point = stop.experiment.point
        try:
            order = self._orders.order(
                point,
                experiment_id=f"conditioning before {stop.experiment.id}",
                launch=self._launch_id(0),
                supplies=self._hub.ensure(point),
                measured=False,
            )
        except (ExecutorError, OSError, ValueError):
            return  # the experiment itself will say so
        self._live_backend = point.configuration.backend
        answer = self._executor.dispatch(
            self._live_backend, order, lambda phase: self._show("conditioning", phase)
        )
        problem = answer.failure.message if answer.failure else None
        self._run.journal.append("conditioning", problem=problem)

    def _end_launch(self) -> None:
        if self._live_backend is not None:
            self._executor.end_launch(self._live_backend)

    def _wait(self, gap: Gap) -> float:
        """Wait for a gap and return how long it really was, in seconds."""
        begin_s = time.monotonic()
        while (left_s := gap.seconds - (time.monotonic() - begin_s)) > 0:
            self._observer.waiting(f"{gap.kind} gap", left_s)
            time.sleep(min(left_s, TICK_S))
        self._observer.waiting(f"{gap.kind} gap", 0.0)
        waited_s = time.monotonic() - begin_s
        self._run.journal.append("gap", kind=gap.kind, asked_s=gap.seconds, waited_s=waited_s)
        return waited_s

    def _show(self, what: str, phase: str) -> None:
        self._observer.phase(what, phase)

    def _launch_id(self, ordinal: int) -> str:
        return f"{self._run.info.session.id}-{ordinal}"

    def _stop_if_hopeless(self) -> None:
        limit = self._campaign.execution.max_consecutive_failures
        if self._failures_in_a_row >= limit:
            raise CampaignStopped(
                f"{limit} experiments in a row have failed (execution.max_consecutive_failures);"
                " the rest is pending: mend the cause and go on with --lf"
            )

    def _result(self, experiment: Experiment, attempt: int, started_at: datetime, answer: Answer) -> Result:
        failure = answer.failure or self._not_measured(answer)
        backend = experiment.point.configuration.backend
        return Result(
            tool_version=__version__,
            campaign=self._campaign.campaign_name,
            run_id=self._run.info.run_id,
            session_id=self._run.info.session.id,
            experiment_id=experiment.id,
            label=experiment.point.label,
            axes=dict(experiment.point.axes),
            spec_hash=experiment.point.spec_hash,
            engine_key=experiment.point.engine_key,
            cycle=experiment.cycle,
            position=experiment.position,
            attempt=attempt,
            executor=self._executor.name,
            environment_hash=self._environment_hash(backend),
            status="failed" if failure else "completed",
            started_at=started_at,
            completed_at=datetime.now(UTC),
            gap_s=self._gap_s,
            configuration=experiment.point.configuration,
            measurement=answer.measurement,
            failure=failure,
        )

    def _not_measured(self, answer: Answer) -> Failure | None:
        assert answer.measurement is not None
        total = answer.measurement.energy_j["total"]
        if not self._require_measured or total.source in MEASURED_ENERGY:
            return None
        found = f"its source is {total.source}" + (f" ({total.note})" if total.note else "")
        return Failure(kind="not_measured", message=f"energy was not measured: {found}")

    def _environment_hash(self, backend: str) -> str | None:
        try:
            return self._environments.add(self._executor.service(backend).environment)
        except ExecutorError:
            return None

    def _store(self, result: Result, log: str) -> None:
        """Put result and log on disk: what is measured is there before anyone is told."""
        try:
            path = self._run.record(result)
            if log:
                atomic_write(path.with_suffix(".log"), log.encode())
        except StorageError as error:
            raise CampaignStopped(str(error)) from error


def _with_revision(answer: Answer, supplies: Supplies) -> Answer:
    """Return the answer with the commit of a model from a hub; the engine sees a folder and does not know it."""
    if answer.measurement is None:
        return answer
    revision = supplies.model.revision if supplies.model else None
    effective = answer.measurement.effective | {"model_revision": revision}
    return answer.model_copy(
        update={"measurement": answer.measurement.model_copy(update={"effective": effective})}
    )


Identity = tuple[str, int]


def identity(experiment: Experiment) -> Identity:
    """Return what a resume knows an experiment by: (spec hash, cycle)."""
    return experiment.point.spec_hash, experiment.cycle

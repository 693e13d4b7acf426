"""Carries out the schedule's steps: wait, end the old engine, check, dispatch, record. Knows no pytest.

Whatever happens to one experiment becomes a result with a class, and the campaign goes on. Only when nothing can
be right any more (the disk is full, failure after failure, no Docker engine) does `CampaignStopped` end the session.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from pytest_llem.campaign.schedule import Check, Condition, EndLaunch, Experiment, Gap, Renew, Step, Stop
from pytest_llem.campaign.schema import Campaign
from pytest_llem.executors.base import Executor, ExecutorError, Observer, PreparationFailed
from pytest_llem.executors.device_memory import ReadMemory
from pytest_llem.executors.gaps import Gaps, Temperatures
from pytest_llem.executors.health import PATIENCE, Health, HostGone, Patience
from pytest_llem.executors.hub import Hub
from pytest_llem.executors.idle_book import IdleBook
from pytest_llem.executors.isolation import DeviceWatch, flagged, refusal
from pytest_llem.executors.orders import OrderBook, Supplies
from pytest_llem.records import MEASURED_ENERGY, Environment, Failure, Result
from pytest_llem.state.attempt import Attempt, Circumstances
from pytest_llem.state.environments import Environments
from pytest_llem.state.results import StorageError
from pytest_llem.state.run import Run
from pytest_llem.worker.protocol import Answer


class CampaignStopped(Exception):
    """The session must end here; the message says why and what to type next."""


class Runner:
    """Measures the experiments of one session.

    Args:
        campaign: the resolved campaign.
        executor: where experiments run.
        orders: writes their orders.
        run: where results and journal go.
        environments: learns where the experiments ran.
        observer: is told what goes on.
        memory: reads who uses the GPUs of the slot; empty where there is none.
        temperatures_c: reads how warm they are.
        idle: the idle powers that are known.
        require_measured: an experiment whose energy no instrument measured fails.
        patience: how long to wait for what should come by itself.
    """

    def __init__(
        self,
        *,
        campaign: Campaign,
        executor: Executor,
        orders: OrderBook,
        run: Run,
        environments: Environments,
        observer: Observer,
        memory: ReadMemory,
        temperatures_c: Callable[[], Temperatures],
        idle: IdleBook,
        require_measured: bool = False,
        patience: Patience = PATIENCE,
    ) -> None:
        self._campaign = campaign
        self._executor = executor
        self._orders = orders
        self._hub = Hub(executor, orders, lambda phase: observer.phase("hub", phase))
        self._health = Health(
            executor,
            campaign.health_check,
            memory=memory,
            observer=observer,
            note=self._note,
            patience=patience,
        )
        self._watch = DeviceWatch(memory, executor.pids)
        self._idle = idle
        self._gaps = Gaps(temperatures_c, observer)
        self._run = run
        self._observer = observer
        self._require_measured = require_measured
        self._stops: dict[Identity, Stop] = {}
        self._environments = environments
        self._live_backend: str | None = None
        self._cycle = 0
        self._found = Circumstances()
        self._refusal: Failure | None = None
        self._prepared: set[Identity] = set()
        self._failures_in_a_row = 0

    def follow(self, stops: list[Stop]) -> None:
        """Take over the plan of this session."""
        self._stops = {identity(stop.experiment): stop for stop in stops}

    def note_residents(self) -> None:
        """Name who uses the GPUs of the slot before anything of this session does."""
        residents = self._watch.note_residents()
        if residents:
            self._note("residents", processes=[str(process) for process in residents])
            self._observer.note(f"residents, part of every number: {'; '.join(map(str, residents))}")

    def check_hub(self, *, fetch: bool) -> list[str]:
        """Check, and with `fetch` download, what the plan needs from a hub; return one sentence a problem.

        The services that ask it come up for that, and the experiments find them.

        Raises:
            CampaignStopped: nothing can be started here.
        """
        points = {stop.experiment.point.spec_hash: stop.experiment.point for stop in self._stops.values()}
        with _stopping():
            refusals = [self._health.admit(backend) for backend in self._hub.backends(points.values())]
        if problems := [refusal.message for refusal in refusals if refusal]:
            return problems
        try:
            return self._hub.check(points.values(), fetch=fetch)
        finally:
            self._observer.phase("hub", "")

    def prepare(self, experiment: Experiment) -> None:
        """Carry out what stands before an experiment: the end of the old launch, checks, gaps, downloads.

        Raises:
            CampaignStopped: too many experiments in a row have failed, or nothing can be started here.
        """
        key = identity(experiment)
        if key in self._prepared or key not in self._stops:
            return
        self._prepared.add(key)
        self._stop_if_hopeless()
        self._cycle, self._found = experiment.cycle, Circumstances()
        with _stopping():
            self._refusal = self._health.admit(_backend(experiment))
            if self._refusal is None:
                with contextlib.suppress(ExecutorError):  # the experiment itself tries again, and says why
                    self._hub.ensure(experiment.point)
            for step in self._stops[key].before:
                self._carry_out(step, self._stops[key])
        self._gaps.note_start()

    def measure(self, experiment: Experiment) -> Result:
        """Measure one experiment and store what came of it; the result is on disk when this returns.

        Raises:
            CampaignStopped: the result cannot be stored, or nothing can be started here.
        """
        self.prepare(experiment)
        attempt = Attempt(
            self._run,
            experiment,
            campaign=self._campaign.campaign_name,
            executor=self._executor.name,
            note=self._observer.note,
        )
        with _stopping():
            answer = self._dispatch(experiment)
            failure = answer.failure or self._not_measured(answer) or self._not_isolated()
            self._found.service_start_s = self._health.take_start_s(_backend(experiment))
            result = attempt.finish(
                answer.measurement, failure, self._found, trace=answer.trace, log=answer.log
            )
            self._environments.save()  # after the result, which is worth more if the disk refuses
        del self._stops[identity(experiment)]  # a plan of 100,000 is let go as it is carried out
        self._prepared.discard(identity(experiment))
        self._count(result)
        return result

    def close(self) -> None:
        """Stop the services."""
        self._executor.close()

    def _carry_out(self, step: Step, stop: Stop) -> None:
        backend = _backend(stop.experiment)
        match step:
            case EndLaunch():
                self._end_launch()
            case Check():
                self._health.check(step.reason)
            case _ if self._refusal or backend in self._health.given_up:
                pass  # for an experiment that will not run nothing is made ready
            case Renew():
                self._health.renew(backend)
            case Gap():
                self._wait(step)
            case Condition():
                self._condition(stop)

    def _dispatch(self, experiment: Experiment) -> Answer:
        """Have an experiment carried out, unless its service cannot be used."""
        refusal = self._refusal or self._health.admit(_backend(experiment))
        try:
            return Answer(failure=refusal) if refusal else self._carried_out(experiment)
        finally:
            self._show(experiment.id, "")

    def _carried_out(self, experiment: Experiment) -> Answer:
        backend = _backend(experiment)
        launch = self._launch_id(self._stops[identity(experiment)].launch)
        try:
            environment = self._executor.service(backend).environment
            self._found.environment_hash = self._environments.add(environment)
            supplies = self._hub.ensure(experiment.point)
            order = self._orders.order(
                experiment.point, experiment_id=experiment.id, launch=launch, supplies=supplies
            )
            self._live_backend = backend
            with self._watch.watching() as look:

                def on_phase(phase: str) -> None:
                    look.enter(phase)
                    self._show(experiment.id, phase)

                answer = self._idle.dispatch(self._executor, backend, order, on_phase)
            self._found.environment_hash = self._environments.remember(_as_set(environment, answer))
            found = self._found.isolation = look.found()
            return _with_revision(flagged(answer, found), supplies)
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
        answer = self._idle.dispatch(
            self._executor, self._live_backend, order, lambda phase: self._show("conditioning", phase)
        )
        problem = answer.failure.message if answer.failure else None
        self._note(
            "conditioning", problem=problem, service_start_s=self._health.take_start_s(self._live_backend)
        )

    def _end_launch(self) -> None:
        if self._live_backend is not None:
            self._health.end_launch(self._live_backend)
            self._live_backend = None

    def _wait(self, gap: Gap) -> None:
        """Wait for a gap and note how long it really was."""
        waited = self._gaps.wait(gap)
        self._found.gap_s += waited.seconds
        self._found.thermal_gap = waited.thermal
        thermal = waited.thermal.model_dump() if waited.thermal else None
        self._note("gap", kind=gap.kind, asked_s=gap.seconds, waited_s=waited.seconds, thermal=thermal)

    def _note(self, event: str, /, **facts: Any) -> None:
        self._run.note(event, cycle=self._cycle, **facts)

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

    def _count(self, result: Result) -> None:
        """Count failures in a row; those of an unhealthy service do not stop the others."""
        if result.status == "completed":
            self._failures_in_a_row = 0
        elif result.failure and (result.failure.kind != "unhealthy" or not self._others_can_go_on()):
            self._failures_in_a_row += 1

    def _others_can_go_on(self) -> bool:
        return any(_backend(stop.experiment) not in self._health.given_up for stop in self._stops.values())

    def _not_measured(self, answer: Answer) -> Failure | None:
        assert answer.measurement is not None
        total = answer.measurement.energy_j["total"]
        if not self._require_measured or total.source in MEASURED_ENERGY:
            return None
        found = f"its source is {total.source}" + (f" ({total.note})" if total.note else "")
        return Failure(kind="not_measured", message=f"energy was not measured: {found}")

    def _not_isolated(self) -> Failure | None:
        found = self._found.isolation
        return refusal(found) if found and self._campaign.isolation == "fail" else None


def _as_set(environment: Environment, answer: Answer) -> Environment:
    """Return the environment of a service as it was set when the experiment began: it may have changed since."""
    return environment.model_copy(update=dict(answer.settings or {}))


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


def _backend(experiment: Experiment) -> str:
    return experiment.point.configuration.backend


@contextlib.contextmanager
def _stopping() -> Iterator[None]:
    """End the session when nothing more can be started or stored."""
    try:
        yield
    except (HostGone, StorageError) as error:
        raise CampaignStopped(str(error)) from error

"""One attempt at an experiment, from its first line in the journal to its result on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from pytest_llem import __version__
from pytest_llem.campaign.schedule import Experiment
from pytest_llem.records import Failure, Isolation, Measurement, Result, ThermalGap
from pytest_llem.state import traces
from pytest_llem.state.results import StorageError, atomic_write
from pytest_llem.state.run import Run


@dataclass(slots=True)
class Circumstances:
    """Under what an experiment ran.

    Attributes:
        gap_s: really waited before it.
        service_start_s: how long its service took to come up for it; None if it was up.
        environment_hash: key in environment.json; None if it did not get as far as a service.
        thermal_gap: how the GPUs cooled down in the gap; None where it was a fixed time.
        isolation: who else used the devices; None if it did not get as far as a service.
    """

    gap_s: float = 0.0
    service_start_s: float | None = None
    environment_hash: str | None = None
    thermal_gap: ThermalGap | None = None
    isolation: Isolation | None = None


class Attempt:
    """An attempt that begins now.

    Args:
        run: that it belongs to.
        experiment: what is attempted.
        campaign: the campaign's name.
        executor: name of the executor.
        note: is told what a reader of the session should know beside the result.
    """

    def __init__(
        self,
        run: Run,
        experiment: Experiment,
        *,
        campaign: str,
        executor: str,
        note: Callable[[str], None],
    ) -> None:
        self._run = run
        self._experiment = experiment
        self._campaign = campaign
        self._executor = executor
        self._note = note
        self._started_at = datetime.now(UTC)
        point = experiment.point
        self._number = run.begin(experiment.id, point.spec_hash, experiment.cycle)

    def finish(
        self,
        measurement: Measurement | None,
        failure: Failure | None,
        found: Circumstances,
        *,
        trace: bytes | None,
        log: str,
    ) -> Result:
        """Put result, trace and log on disk and return the result: what is measured is there before anyone is told.

        Raises:
            StorageError: the disk refuses.
        """
        path = self._run.results.path_of(self._experiment.id, self._number)
        traced, problem = None, None
        try:
            traced = traces.write(path, trace, self._note).name if trace else None
        except StorageError as error:  # there may still be room for the result, which is worth more
            problem = error
        result = self._result(measurement, failure, found).model_copy(update={"trace": traced})
        self._run.record(result)
        if problem:
            raise problem
        if log:
            atomic_write(path.with_suffix(".log"), log.encode())
        return result

    def _result(
        self, measurement: Measurement | None, failure: Failure | None, found: Circumstances
    ) -> Result:
        experiment, point = self._experiment, self._experiment.point
        return Result(
            tool_version=__version__,
            campaign=self._campaign,
            run_id=self._run.info.run_id,
            session_id=self._run.info.session.id,
            round=self._run.info.round.number if self._run.info.round else None,
            experiment_id=experiment.id,
            label=point.label,
            axes=dict(point.axes),
            spec_hash=point.spec_hash,
            engine_key=point.engine_key,
            cycle=experiment.cycle,
            position=experiment.position,
            attempt=self._number,
            executor=self._executor,
            environment_hash=found.environment_hash,
            status="failed" if failure else "completed",
            started_at=self._started_at,
            completed_at=datetime.now(UTC),
            gap_s=found.gap_s,
            thermal_gap=found.thermal_gap,
            service_start_s=found.service_start_s,
            isolation=found.isolation,
            configuration=point.configuration,
            measurement=measurement,
            failure=failure,
        )

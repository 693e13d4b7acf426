"""Public fixtures. `experiment` turns any test into a budget on the campaign's experiments.

def test_budget(experiment):
assert experiment.run().energy_per_output_token_j < 0.4
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_llem.campaign.schedule import Experiment
    from pytest_llem.records import Configuration, Quantity, Result

WITHOUT_CAMPAIGN = "needs a campaign: run pytest --campaign FILE"


class ExperimentFailed(Exception):
    """The experiment has no measurement. Its class, message and log tail are in `result.failure`."""

    def __init__(self, result: Result) -> None:
        assert result.failure is not None
        super().__init__(f"{result.failure.kind}: {result.failure.message}")
        self.result = result


class NotMeasured(AttributeError):
    """The metric has no value; the message says why."""


class Measured:
    """What a test sees of a completed experiment: each metric of `records.METRICS` as an attribute.

    An attribute is a float in the metric's unit; `metrics` holds the quantities with source and resolution.
    """

    def __init__(self, result: Result) -> None:
        assert result.measurement is not None
        self.result = result
        self.metrics: dict[str, Quantity] = result.measurement.metrics

    def __getattr__(self, name: str) -> float:
        if name.startswith("_") or name == "metrics":
            raise AttributeError(name)
        quantity = self.metrics.get(name)
        if quantity is None:
            raise NotMeasured(f"this experiment has no metric {name!r}; it has {', '.join(self.metrics)}")
        if quantity.value is None:
            raise NotMeasured(f"{name} is unavailable: {quantity.note}")
        return quantity.value


class ExperimentHandle:
    """One experiment of the campaign, as the `experiment` fixture hands it to a test.

    Attributes:
        id: as in the node id.
        cycle: from 1.
        configuration: what is asked for.
    """

    def __init__(self, experiment: Experiment, run: Callable[[Experiment], Result]) -> None:
        self._experiment = experiment
        self._run = run
        self.id = experiment.id
        self.cycle = experiment.cycle
        self.configuration: Configuration = experiment.point.configuration

    def run(self) -> Measured:
        """Measure, or return what this session or the run that it continues has measured already.

        Raises:
            ExperimentFailed: there is no measurement.
        """
        result = self._run(self._experiment)
        if result.status != "completed":
            raise ExperimentFailed(result)
        return Measured(result)

    def __repr__(self) -> str:
        return f"<experiment {self.id}>"


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> ExperimentHandle:
    """One experiment of the campaign; a test that asks for it runs once for each."""
    campaign: Any = request.config.pluginmanager.get_plugin("llem-campaign")
    if campaign is None:
        pytest.skip(WITHOUT_CAMPAIGN)
    wanted: Experiment = getattr(request, "param", None) or request.node.experiment
    handle: ExperimentHandle = campaign.handle(wanted, request.node)
    return handle

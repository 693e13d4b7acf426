"""The campaign file as a pytest collector: experiments become items.

A `pytest.Module` on the YAML gives all fixture scopes; its module holds one test function, and all items share
that function's fixture information, which halves the time to collect.
"""

from __future__ import annotations

import shlex
import types
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from pytest_llem.campaign.schedule import Experiment
from pytest_llem.command_line import CommandLine
from pytest_llem.fixtures import ExperimentFailed, ExperimentHandle


def test_experiment(experiment: ExperimentHandle) -> None:
    """The body of every experiment item."""
    experiment.run()


MODULE = types.ModuleType("llem_campaign")
MODULE.test_experiment = test_experiment  # type: ignore[attr-defined]


class ExperimentItem(pytest.Function):
    """One experiment as a test item; `experiment` is what it measures."""

    experiment: Experiment

    def iter_markers(self, name: str | None = None) -> Iterator[pytest.Mark]:
        """Yield the `campaign` marker, made when asked for: 100,000 items would keep 100,000 of them."""
        if name in (None, "campaign"):
            yield pytest.mark.campaign(**marker_arguments(self.experiment)).mark
        yield from super().iter_markers(name)

    def iter_markers_with_node(self, name: str | None = None) -> Iterator[tuple[Any, pytest.Mark]]:
        """See `iter_markers`."""
        if name in (None, "campaign"):
            yield self, pytest.mark.campaign(**marker_arguments(self.experiment)).mark
        yield from super().iter_markers_with_node(name)

    def repr_failure(  # type: ignore[override]
        self, excinfo: pytest.ExceptionInfo[BaseException]
    ) -> Any:
        """Show class, message and log tail of a failed experiment instead of our own call stack."""
        if not isinstance(excinfo.value, ExperimentFailed):
            return super().repr_failure(excinfo)
        failure = excinfo.value.result.failure
        assert failure is not None
        lines = [f"{failure.kind}: {failure.message}"]
        if failure.log_tail:
            lines += ["", "end of its log:", *(f"    {line}" for line in failure.log_tail.splitlines())]
        assert isinstance(self.parent, CampaignFile)
        return "\n".join([*lines, "", f"again: {self.parent.commands.again(self.experiment.id)}"])

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Point at the campaign file."""
        return self.path, None, self.name


class CampaignFile(pytest.Module):
    """The collector of a campaign file."""

    experiments: Iterable[Experiment] = ()
    commands: CommandLine

    def _getobj(self) -> types.ModuleType:
        return MODULE

    def collect(self) -> Iterable[pytest.Item]:
        """Yield the items in the order of the run."""
        fixtureinfo = None
        for experiment in self.experiments:
            item = ExperimentItem.from_parent(
                self, name=experiment.id, callobj=test_experiment, fixtureinfo=fixtureinfo
            )
            item.experiment = experiment
            fixtureinfo = item._fixtureinfo  # noqa: SLF001 - sharing it is what makes 10,000 items cheap
            yield item


def marker_arguments(experiment: Experiment) -> dict[str, Any]:
    """Return what `-m 'campaign(...)'` can select by: each axis by its short name, backend, model, cycle."""
    arguments = {name.replace(".", "_"): value for name, value in experiment.point.axes.items()}
    return {**arguments, "cycle": experiment.cycle}


def experiment_of(item: pytest.Item) -> Experiment | None:
    """Return the experiment that an item measures or asserts on, if any."""
    found: Experiment | None = getattr(item, "experiment", None)
    if found is None and (callspec := getattr(item, "callspec", None)):
        found = callspec.params.get("experiment")
    return found


def in_schedule_order(items: list[pytest.Item], failed_first: Mapping[str, Any] | None = None) -> None:
    """Sort the items that measure into the order of the schedule, keeping all others in their places.

    A shuffled order is part of the campaign, drawn from its stored seed; a plugin that shuffles tests must not
    undo it. With `failed_first` those node ids come before the others.
    """
    places = [index for index, item in enumerate(items) if experiment_of(item) is not None]

    def key(item: pytest.Item) -> tuple[bool, int]:
        experiment = experiment_of(item)
        assert experiment is not None
        later = failed_first is not None and item.nodeid not in failed_first
        return later, experiment.position

    for place, item in zip(places, sorted((items[i] for i in places), key=key), strict=True):
        items[place] = item


class NoCampaign:
    """The hooks of a session in which YAML files are named that are no campaigns; other plugins may collect them.

    Args:
        names: of the files, as they were typed.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        """Where nobody collects them, say what would make one a campaign."""
        try:
            return (yield)
        except pytest.UsageError as error:
            hints = (
                f"{name}: no line begins with campaign_name: so it is no campaign;"
                f" pytest --campaign {shlex.quote(name)} says what is wrong with it"
                for name in self._names
            )
            raise pytest.UsageError(*error.args, *hints) from error

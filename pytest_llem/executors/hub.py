"""Models and datasets that come from a hub: checked before the first experiment, fetched before they are needed.

Downloads happen outside of every timeout and every measurement.
"""

from __future__ import annotations

from collections.abc import Iterable

from pytest_llem.campaign.grid import Point
from pytest_llem.executors.base import Executor, OnPhase, PreparationFailed
from pytest_llem.executors.orders import OrderBook, bare_name
from pytest_llem.worker.protocol import Preparation, PrepareDataset, PrepareModel


class Hub:
    """What a campaign needs from a hub.

    Args:
        executor: its workers ask the hub, because the files are needed beside the model.
        orders: is told where a fetched model lies.
    """

    def __init__(self, executor: Executor, orders: OrderBook, on_phase: OnPhase) -> None:
        self._executor = executor
        self._orders = orders
        self._on_phase = on_phase
        self._there: set[Preparation] = set()

    def check(self, points: Iterable[Point], *, fetch: bool) -> list[str]:
        """Check access, size and free disk of everything that the points need, and with `fetch` download it.

        Returns:
            One sentence a problem.
        """
        problems = {}
        for point in points:
            for need in self._needs(point):
                if need not in self._there and need not in problems:
                    try:
                        self._carry_out(point, need, fetch=fetch)
                    except PreparationFailed as error:
                        problems[need] = str(error)
        return list(problems.values())

    def ensure(self, point: Point) -> None:
        """Fetch what a point needs and does not have yet.

        Raises:
            PreparationFailed: it cannot be had.
        """
        for need in self._needs(point):
            if need not in self._there:
                self._carry_out(point, need, fetch=True)

    def _needs(self, point: Point) -> list[Preparation]:
        wanted = point.configuration
        needs: list[Preparation] = []
        if self._orders.is_on_hub(wanted):
            name = bare_name(wanted.model_name)
            revision = wanted.parameters.get("revision")
            needs.append(PrepareModel(name=name, revision=revision, weights=name == wanted.model_name))
        if wanted.dataset is not None:
            needs.append(PrepareDataset(dataset=wanted.dataset))
        return needs

    def _carry_out(self, point: Point, need: Preparation, *, fetch: bool) -> None:
        request = need.model_copy(update={"fetch": fetch})
        facts = self._executor.prepare(point.configuration.backend, request, self._on_phase)
        if "path" in facts:
            self._orders.snapshots[point.configuration.model_name] = facts["path"]
        if fetch or facts.get("cached"):
            self._there.add(need)

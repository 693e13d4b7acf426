"""Models and datasets that come from a hub: checked before the first experiment, fetched before they are needed.

Downloads happen outside of every timeout and every measurement.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from pytest_llem.campaign.grid import Point
from pytest_llem.executors.base import Executor, ExecutorError, OnPhase, PreparationFailed
from pytest_llem.executors.orders import OrderBook, Snapshot
from pytest_llem.worker.protocol import Preparation, PrepareDataset, PrepareModel


class _Need(NamedTuple):
    """Something from a hub, and the backend whose worker must have it."""

    backend: str
    what: Preparation


class Hub:
    """What a campaign needs from a hub.

    Args:
        executor: its workers ask the hub, because the files are needed beside the model.
        orders: knows what is a folder or file of ours.
        on_phase: is told what is being checked or fetched.
    """

    def __init__(self, executor: Executor, orders: OrderBook, on_phase: OnPhase) -> None:
        self._executor = executor
        self._orders = orders
        self._on_phase = on_phase
        self._there: dict[_Need, Snapshot | None] = {}

    def check(self, points: Iterable[Point], *, fetch: bool) -> list[str]:
        """Check access, size and free disk of everything that the points need, and with `fetch` download it.

        Nothing is downloaded unless everything can be had and there is room for all of it together.

        Returns:
            One sentence a problem.
        """
        needs = dict.fromkeys(need for point in points for need in self._lacking(point))
        absent: dict[_Need, dict[str, Any]] = {}
        problems: dict[str, None] = {}
        for need in needs:
            try:
                facts = self._ask(need, fetch=False)
            except ExecutorError as error:
                problems[str(error)] = None
            else:
                absent |= {} if need in self._there else {need: facts}
        problems |= dict.fromkeys(_too_large(absent))
        if not problems and fetch:
            problems |= dict.fromkeys(self._fetch(absent))
        return list(problems)

    def ensure(self, point: Point) -> Snapshot | None:
        """Fetch what a point needs and does not have yet; return where its model lies if it is from a hub.

        Raises:
            PreparationFailed: it cannot be had.
        """
        for need in self._lacking(point):
            self._ask(need, fetch=True)
        model = self._model(point)
        return self._there[model] if model else None

    def _fetch(self, needs: Iterable[_Need]) -> list[str]:
        problems = []
        for need in needs:
            try:
                self._ask(need, fetch=True)
            except PreparationFailed as error:
                problems.append(str(error))
        return problems

    def _lacking(self, point: Point) -> list[_Need]:
        needs = [self._model(point), self._dataset(point)]
        return [need for need in needs if need is not None and need not in self._there]

    def _model(self, point: Point) -> _Need | None:
        wanted = point.configuration
        name = self._orders.hub_id(wanted)
        if name is None:
            return None
        model = PrepareModel(
            name=name,
            revision=wanted.parameters.get("revision"),
            weights=name == wanted.model_name,
            tokenizer=wanted.dataset is not None or wanted.prompts_file is not None,
        )
        return _Need(wanted.backend, model)

    def _dataset(self, point: Point) -> _Need | None:
        dataset = self._orders.dataset(point.configuration)
        return _Need(point.configuration.backend, PrepareDataset(dataset=dataset)) if dataset else None

    def _ask(self, need: _Need, *, fetch: bool) -> dict[str, Any]:
        """Have the worker check or fetch something, and note it if it is there now."""
        request = need.what.model_copy(update={"fetch": fetch})
        facts = self._executor.prepare(need.backend, request, self._on_phase)
        if "path" in facts:
            self._there[need] = Snapshot(facts["path"], facts["revision"])
        elif fetch:
            self._there[need] = None
        return facts


def _too_large(absent: dict[_Need, dict[str, Any]]) -> list[str]:
    """Return a sentence for each cache whose disk lacks the room for all that is to go there."""
    by_cache: dict[str, dict[Preparation, dict[str, Any]]] = defaultdict(dict)
    for need, facts in absent.items():
        by_cache[facts["cache"]][need.what] = facts
    problems = []
    for cache, wanted in by_cache.items():
        needed_bytes = sum(facts["size_bytes"] for facts in wanted.values())
        free_bytes = min(facts["free_bytes"] for facts in wanted.values())
        if needed_bytes > free_bytes:
            names = " and ".join(what.name for what, facts in wanted.items() if facts["size_bytes"])
            problems.append(
                f"{names}: {needed_bytes / 1e9:.1f} GB to download, and the disk of {cache} has"
                f" {free_bytes / 1e9:.1f} GB free: free some space or set HF_HOME to a larger disk"
            )
    return problems

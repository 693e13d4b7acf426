"""Models and datasets that come from a hub: checked before the first experiment, fetched before they are needed.

Downloads happen outside of every timeout and every measurement.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from pytest_llem.campaign.grid import Point
from pytest_llem.executors.base import Executor, ExecutorError, OnPhase
from pytest_llem.executors.orders import OrderBook, Snapshot, Supplies
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
        self._models: dict[_Need, Snapshot] = {}
        self._texts: dict[_Need, tuple[str, ...]] = {}

    def backends(self, points: Iterable[Point]) -> list[str]:
        """Return the backends whose workers have something to ask the hub for, in the order of the points."""
        return list(dict.fromkeys(need.backend for point in points for need in self._lacking(point)))

    def check(self, points: Iterable[Point], *, fetch: bool) -> list[str]:
        """Check access, size and free disk of everything that the points need, and with `fetch` download it.

        Nothing is downloaded unless everything can be had and there is room for all of it together.

        Returns:
            One sentence a problem.
        """
        needs = dict.fromkeys(need for point in points for need in self._lacking(point))
        facts, problems = self._ask_for_all(needs, fetch=False)
        absent = {need: facts[need] for need in facts if not self._has(need)}
        problems += _too_large(absent, self._executor.more_room)
        if fetch and not problems:
            _, problems = self._ask_for_all(absent, fetch=True)
        return list(dict.fromkeys(problems))

    def ensure(self, point: Point) -> Supplies:
        """Fetch what a point needs and does not have yet, and return it.

        Raises:
            PreparationFailed: it cannot be had.
        """
        for need in self._lacking(point):
            self._ask(need, fetch=True)
        model, dataset = self._model(point), self._dataset(point)
        return Supplies(self._models[model] if model else None, self._texts[dataset] if dataset else None)

    def _ask_for_all(
        self, needs: Iterable[_Need], *, fetch: bool
    ) -> tuple[dict[_Need, dict[str, Any]], list[str]]:
        """Return the facts by need, and a sentence for each that cannot be had."""
        facts, problems = {}, []
        for need in needs:
            try:
                facts[need] = self._ask(need, fetch=fetch)
            except ExecutorError as error:
                problems.append(str(error))
        return facts, problems

    def _lacking(self, point: Point) -> list[_Need]:
        needs = [self._model(point), self._dataset(point)]
        return [need for need in needs if need is not None and not self._has(need)]

    def _has(self, need: _Need) -> bool:
        return need in self._models or need in self._texts

    def _model(self, point: Point) -> _Need | None:
        wanted = point.configuration
        name = self._orders.hub_id(wanted)
        if name is None:
            return None
        has_weights = name == wanted.model_name
        has_texts = wanted.dataset is not None or wanted.prompts_file is not None
        model = PrepareModel(
            name=name,
            revision=wanted.parameters.get("revision"),
            weights=has_weights,
            tokenizer=has_texts and not has_weights,
        )
        return _Need(wanted.backend, model)

    def _dataset(self, point: Point) -> _Need | None:
        dataset = self._orders.dataset(point.configuration)
        if dataset is None:
            return None
        count = point.configuration.num_input_prompts
        return _Need(point.configuration.backend, PrepareDataset(dataset=dataset, count=count))

    def _ask(self, need: _Need, *, fetch: bool) -> dict[str, Any]:
        """Have the worker check or fetch something, and note it if it is there now."""
        request = need.what.model_copy(update={"fetch": fetch})
        facts = self._executor.prepare(need.backend, request, self._on_phase)
        if "path" in facts:
            self._models[need] = Snapshot(facts["path"], facts["revision"])
        elif "texts" in facts:
            self._texts[need] = tuple(facts["texts"])
        return facts


def _too_large(absent: dict[_Need, dict[str, Any]], more_room: str) -> list[str]:
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
                f" {free_bytes / 1e9:.1f} GB free: free some space or {more_room}"
            )
    return problems

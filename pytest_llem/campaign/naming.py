"""What points are called: by their backend and by what varies over the campaign, and by nothing else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache

from pytest_llem.campaign.drafts import Draft
from pytest_llem.campaign.schema import Scalar
from pytest_llem.records import RANDOM_WEIGHTS

ALWAYS = ("backend", "model", "config_name")
"""Axes that every campaign has; no other axis gets one of these names."""


class Names:
    """The names of one campaign's points and axes.

    Args:
        parts: for each part of the campaign the values that its points take, by axis.
        own: backend and own name of each explicit experiment.
    """

    def __init__(
        self, parts: Iterable[Mapping[str, Collection[Scalar]]], own: Iterable[tuple[str, str | None]]
    ) -> None:
        values: dict[str, set[Scalar]] = {"model": set()}
        holders: Counter[tuple[Scalar, str]] = Counter()
        for part in parts:
            (backend,) = part["backend"]
            holders.update((backend, name) for name in part)
            for name, taken in part.items():
                values.setdefault(name, set()).update(taken)
        self.short = _short_axes(values)
        self._varying = {name for name, taken in values.items() if len(taken) > 1 and name not in ALWAYS}
        # An axis that some points of a backend leave at its default varies as well.
        self._varying |= {name for (backend, name), n in holders.items() if n < holders[backend, "backend"]}
        self._models = _short_models(values["model"])
        self._own = Counter(own)

    def axes(self, draft: Draft) -> dict[str, Scalar]:
        """Return backend, model, an own name and every axis that varies, by short name."""
        axes: dict[str, Scalar] = {"backend": draft.spec.name, "model": draft.axes["model"]}
        if draft.config_name is not None:
            axes["config_name"] = draft.config_name
        for name, value in draft.axes.items():
            if name in self._varying:
                axes[self.short[name]] = value
        return axes

    def words(self, draft: Draft) -> list[str]:
        """Return the words of a point's label, such as `pytorch` and `batch_size=8`.

        An own name that no other experiment of the backend has stands for model and axes.
        """
        words = [draft.spec.name]
        if draft.config_name is not None:
            words.append(draft.config_name)
            if self._own[draft.spec.name, draft.config_name] == 1:
                return words
        if len(self._models) > 1:
            words.append(self._models[draft.axes["model"]])
        facts = [
            _fact(self.short[name], value) for name, value in draft.axes.items() if name in self._varying
        ]
        return [*words, *facts]


def _short_axes(names: Iterable[str]) -> dict[str, str]:
    """Return the last part of each dotted name, or the whole with underscores where others share that."""
    names = list(names)
    holders = Counter(name.rpartition(".")[2] for name in names) + Counter(ALWAYS)
    last = {name: name.rpartition(".")[2] for name in names}
    return {name: last[name] if holders[last[name]] == 1 else name.replace(".", "_") for name in names}


def _short_models(models: Iterable[Scalar]) -> dict[Scalar, str]:
    """Return the last part of each model's path, or the whole where others share that."""
    short = {}
    for model in models:
        path = str(model).rstrip("/")
        random = RANDOM_WEIGHTS if path.startswith(RANDOM_WEIGHTS) else ""
        short[model] = random + path.removeprefix(random).rpartition("/")[2]
    holders = Counter(short.values())
    return {model: name if holders[name] == 1 else str(model) for model, name in short.items()}


@lru_cache(maxsize=4096, typed=True)
def _fact(name: str, value: Scalar) -> str:
    """Return `name=value` with the value as YAML has it: `true`, `null`, `0.9`."""
    text = json.dumps(value) if value is None or isinstance(value, bool) else str(value)
    return f"{name}={text}"

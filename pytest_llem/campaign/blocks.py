"""A grid as blocks of points: one backend and one model each, a full product of axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.drafts import Draft, GridError, common, layered, shown
from pytest_llem.campaign.entries import nest
from pytest_llem.campaign.findings import did_you_mean
from pytest_llem.campaign.keys import resolve_axis
from pytest_llem.campaign.schema import Campaign, Fragment, Grid, Scalar


class Choice(NamedTuple):
    """One value of an axis: how it is shown and what it sets."""

    axis: str
    value: Scalar
    sets: Fragment


Axis = tuple[Choice, ...]


class Exclusion(NamedTuple):
    """One entry of `grid.exclude`: the values that drop a point, by axis."""

    where: str
    conditions: dict[str, frozenset[Scalar]]

    @property
    def reason(self) -> str:
        """What is said of the points that it drops."""
        return f"excluded by {self.where}"

    def drops(self, place: Mapping[str, Scalar]) -> bool:
        """Return whether a place on the axes matches all conditions."""
        return all(name in place and place[name] in values for name, values in self.conditions.items())


class Block(NamedTuple):
    """The part of a grid with one backend and one model: a full product of axes."""

    spec: BackendSpec
    base: Fragment
    shared: tuple[Axis, ...]
    bundles: tuple[Axis, ...]
    overrides: tuple[Axis, ...]

    @property
    def axes(self) -> tuple[Axis, ...]:
        """All axes, the slowest first."""
        return (*self.shared, *self.bundles, *self.overrides)

    @property
    def size(self) -> int:
        """The number of its points."""
        return math.prod(map(len, self.axes))

    def values(self) -> dict[str, set[Scalar]]:
        """Return all values that its points take, by axis."""
        models = {choice.sets.get("model_name", "") for axis in self.axes for choice in axis}
        models = (models | {self.base["model_name"]}) - {""} or {""}
        origin: dict[str, set[Scalar]] = {"backend": {self.spec.name}, "model": models}
        return origin | {axis[0].axis: {choice.value for choice in axis} for axis in self.axes}

    def drafts(self, exclusions: Sequence[Exclusion]) -> Iterator[Draft]:
        """Yield its points, the first axis slowest."""
        for shared, bundles, overrides in product(
            *(product(*axes) for axes in (self.shared, self.bundles, self.overrides))
        ):
            by_precedence = [choice.sets for choice in (*bundles, *shared, *overrides)]
            fragment = layered(self.base, *by_precedence)
            place: dict[str, Scalar] = {"backend": self.spec.name, "model": fragment["model_name"]}
            place |= {choice.axis: choice.value for choice in (*shared, *bundles, *overrides)}
            yield Draft(
                where="grid",
                spec=self.spec,
                fragment=fragment,
                axes=place,
                excluded=tuple(entry.reason for entry in exclusions if entry.drops(place)),
            )


def blocks(campaign: Campaign, backends: Mapping[str, BackendSpec]) -> list[Block]:
    """Return the blocks of a campaign's grid: backend by backend, within it model by model."""
    grid = campaign.grid
    if grid is None:
        return []
    base = common(campaign)
    base.pop("backend", None)
    found: list[Block] = []
    for spec in (backends[name] for name in grid.backends):
        shared, overrides = _axes(grid, spec)
        bundles = tuple(
            axis for name, labels in grid.bundles.items() if (axis := _bundle(name, labels, spec, backends))
        )
        models = grid.models or (base.get("model_name", ""),)
        found += [Block(spec, base | {"model_name": model}, shared, bundles, overrides) for model in models]
    return found


def _axes(grid: Grid, spec: BackendSpec) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
    """Return the shared axes and the overrides of a backend; an override takes the place of a shared axis.

    A fixed override is an axis of one value.
    """
    overrides = grid.backend_overrides.get(spec.name, {})
    paths = {path: name for name in grid.shared if (path := resolve_axis(name, spec))}
    shared = (
        _axis(name, path, grid.shared[name], spec) for path, name in paths.items() if path not in overrides
    )
    instead = (_axis(paths.get(path, path), path, values, spec) for path, values in overrides.items())
    return tuple(shared), tuple(instead)


def _axis(name: str, path: str, values: Sequence[Any], spec: BackendSpec) -> Axis:
    name = "model" if path == "model_name" else name.removeprefix(f"{spec.name}.")
    return tuple(Choice(name, shown(value), nest({path: value})) for value in values)


def _bundle(name: str, labels: Mapping[str, Fragment], spec: BackendSpec, backends: Iterable[str]) -> Axis:
    """Return the axis of a bundle, empty when no label sets anything for this backend."""
    foreign = set(backends) - {spec.name}
    choices = tuple(
        Choice(name, label, {key: value for key, value in sets.items() if key not in foreign})
        for label, sets in labels.items()
    )
    return choices if any(choice.sets for choice in choices) else ()


def exclusions(grid: Grid, found: Iterable[Block]) -> list[Exclusion]:
    """Return the entries of `grid.exclude`.

    Raises:
        GridError: an entry names no axis of the grid.
    """
    names = {"backend": "backend", "model": "model", "model_name": "model"}
    for block in found:
        for axis in block.axes:
            name = axis[0].axis
            names |= {name.rpartition(".")[2]: name, name: name, f"{block.spec.name}.{name}": name}
    return [_exclusion(f"grid.exclude[{i}]", entry, names) for i, entry in enumerate(grid.exclude)]


def _exclusion(where: str, entry: Fragment, names: Mapping[str, str]) -> Exclusion:
    conditions = {}
    for key, values in entry.items():
        if key not in names:
            raise GridError(f"{where}: {key!r} is no axis of the grid{did_you_mean(key, names)}")
        conditions[names[key]] = frozenset(map(shown, values))
    return Exclusion(where, conditions)

"""A grid as blocks of points: one backend and one model each, a full product of axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import product
from typing import Any, NamedTuple

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.drafts import Draft, GridError, common, known_backend, layered, over, shown
from pytest_llem.campaign.entries import nest
from pytest_llem.campaign.findings import did_you_mean
from pytest_llem.campaign.keys import experiment_keys, resolve_axis
from pytest_llem.campaign.schema import Campaign, Fragment, Grid, Scalar
from pytest_llem.campaign.tables import Table


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

    def drops(self, axes: Mapping[str, Scalar]) -> bool:
        """Return whether a place on the axes matches all conditions."""
        return all(name in axes and axes[name] in values for name, values in self.conditions.items())


class Block(NamedTuple):
    """The part of a grid with one backend and one model: a full product of axes."""

    spec: BackendSpec
    base: Fragment
    shared: tuple[Axis, ...]
    bundles: tuple[Axis, ...]
    overrides: tuple[Axis, ...]

    @property
    def size(self) -> int:
        """The number of its points."""
        return math.prod(len(axis) for axis in (*self.shared, *self.bundles, *self.overrides))

    def values(self) -> dict[str, set[Scalar]]:
        """Return all values that its points take, by axis."""
        axes = (*self.shared, *self.bundles, *self.overrides)
        return {name: {value} for name, value in self._origin().items()} | {
            axis[0].axis: {choice.value for choice in axis} for axis in axes
        }

    def drafts(self, exclusions: Sequence[Exclusion]) -> Iterator[Draft]:
        """Yield its points, the first axis slowest."""
        origin = self._origin()
        for shared, bundles, overrides in product(
            *(product(*axes) for axes in (self.shared, self.bundles, self.overrides))
        ):
            by_precedence = (choice.sets for choice in (*bundles, *shared, *overrides))
            place = origin | {choice.axis: choice.value for choice in (*shared, *bundles, *overrides)}
            yield Draft(
                where="grid",
                spec=self.spec,
                fragment=layered(self.base, reduce(over, by_precedence, {})),
                axes=place,
                excluded=tuple(entry.reason for entry in exclusions if entry.drops(place)),
            )

    def _origin(self) -> dict[str, Scalar]:
        return {"backend": self.spec.name, "model": self.base["model_name"]}


def blocks(campaign: Campaign, backends: Mapping[str, BackendSpec]) -> list[Block]:
    """Return the blocks of a campaign's grid: backend by backend, within it model by model."""
    if campaign.grid is None:
        return []
    base, table = common(campaign), experiment_keys(backends)
    base.pop("backend", None)
    found = []
    for name in campaign.grid.backends:
        spec = known_backend(name, backends, "grid.backends")
        axes = _Axes(campaign.grid, spec, table)
        for model in campaign.grid.models or (base.get("model_name", ""),):
            model_base = {**base, "model_name": model}
            found.append(Block(spec, model_base, axes.shared(), axes.bundles(), axes.overrides()))
    return found


class _Axes:
    """The axes of a grid as one backend sees them. An override takes the place of a shared axis."""

    def __init__(self, grid: Grid, spec: BackendSpec, table: Table) -> None:
        self._spec = spec
        self._table = table
        self._bundles = grid.bundles
        self._overrides = dict(self._leaves(grid.backend_overrides.get(spec.name, {})))
        paths = ((resolve_axis(name, spec), name, values) for name, values in grid.shared.items())
        self._shared = {path: (name, values) for path, name, values in paths if path}

    def shared(self) -> tuple[Axis, ...]:
        return tuple(
            self._axis(name, path, values)
            for path, (name, values) in self._shared.items()
            if path not in self._overrides
        )

    def bundles(self) -> tuple[Axis, ...]:
        axes = (
            tuple(Choice(name, label, self._sets(settings)) for label, settings in labels.items())
            for name, labels in self._bundles.items()
        )
        return tuple(axis for axis in axes if any(choice.sets for choice in axis))

    def overrides(self) -> tuple[Axis, ...]:
        """Return one axis for each override; one of a single value names what is fixed."""
        return tuple(
            self._axis(self._shared.get(path, (path,))[0], path, self._values(path, value))
            for path, value in self._overrides.items()
        )

    def _axis(self, name: str, path: str, values: Sequence[Any]) -> Axis:
        if not values:
            raise GridError(f"grid: the axis {name!r} has no values")
        name = "model" if path == "model_name" else name.removeprefix(f"{self._spec.name}.")
        return tuple(Choice(name, shown(value), _fragment({path: value})) for value in values)

    def _values(self, path: str, value: Any) -> Sequence[Any]:
        """Return the values of an override: those of a list, unless its parameter itself takes a list."""
        if not isinstance(value, list | tuple):
            return (value,)
        key = self._table.keys.get(path)
        one = key is not None and key.takes_list and not all(isinstance(each, list | tuple) for each in value)
        return (value,) if one else value

    def _sets(self, settings: Fragment) -> Fragment:
        return _fragment(dict(self._leaves(settings)))

    def _leaves(self, settings: Fragment) -> Iterator[tuple[str, Any]]:
        """Yield dotted path and value of what a mapping, dotted or nested, sets for the backend."""
        for name, value in settings.items():
            path = resolve_axis(name, self._spec)
            if path in self._table.sections and isinstance(value, dict):
                yield from self._leaves({f"{path}.{inner}": leaf for inner, leaf in value.items()})
            elif path:
                yield path, value


def _fragment(values: Mapping[str, Any]) -> Fragment:
    """Return values by dotted path as a fragment; a data set may be given by its name alone."""
    return nest(
        {
            "dataset.name" if path == "dataset" and isinstance(value, str) else path: value
            for path, value in values.items()
        }
    )


def exclusions(grid: Grid, found: Iterable[Block]) -> list[Exclusion]:
    """Return the entries of `grid.exclude`.

    Raises:
        GridError: an entry names no axis of the grid.
    """
    names = {name: name for name in ("backend", "model")}
    for block in found:
        for axis in (*block.shared, *block.bundles, *block.overrides):
            name = axis[0].axis
            names |= {name.rpartition(".")[2]: name, name: name, f"{block.spec.name}.{name}": name}
    return [_exclusion(f"grid.exclude[{i}]", entry, names) for i, entry in enumerate(grid.exclude)]


def _exclusion(where: str, entry: Fragment, names: Mapping[str, str]) -> Exclusion:
    conditions = {}
    for key, value in entry.items():
        if key not in names:
            raise GridError(f"{where}: {key!r} is no axis of the grid{did_you_mean(key, names)}")
        values = value if isinstance(value, list | tuple) else (value,)
        conditions[names[key]] = frozenset(map(shown, values))
    return Exclusion(where, conditions)

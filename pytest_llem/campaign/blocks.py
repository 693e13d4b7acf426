"""A grid as blocks of points: one backend and one model each, a full product of axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from operator import itemgetter
from typing import Any, NamedTuple

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.drafts import Draft, common, layered, shown, whole
from pytest_llem.campaign.entries import nest
from pytest_llem.campaign.findings import Findings, did_you_mean
from pytest_llem.campaign.keys import resolve_axis
from pytest_llem.campaign.loader import LoadedCampaign
from pytest_llem.campaign.parts import Parts, parts_of
from pytest_llem.campaign.schema import Campaign, Fragment, Grid, Scalar

REMEMBERED = 4096
"""Values of a field that are kept: those of points that come close together."""


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
    """The part of a grid with one backend and one model: a full product of axes.

    Attributes:
        backends: names of all that are installed.
        base: what the axes are laid over.
    """

    spec: BackendSpec
    backends: frozenset[str]
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
        fixed = parts_of(self.base, self.spec, self.backends)
        fields = [_Field(self, key, axes) for key, axes in self._deciding().items()]
        names = ("backend", "model", *(axis[0].axis for axis in self.axes))
        for places in product(*(range(len(axis)) for axis in self.axes)):
            parts = dict(fixed)
            for field in fields:
                parts.update(field.at(places))
            values = [axis[place].value for axis, place in zip(self.axes, places, strict=True)]
            at = dict(zip(names, (self.spec.name, parts["model_name"].value, *values), strict=True))
            excluded = tuple(entry.reason for entry in exclusions if entry.drops(at))
            yield Draft(spec=self.spec, parts=parts, axes=at, excluded=excluded)

    def layer(self, places: Mapping[int, int]) -> Fragment:
        """Return what holds at these places on some of its axes: bundles below shared axes below overrides."""
        first_bundle, first_override = len(self.shared), len(self.shared) + len(self.bundles)
        by_precedence = sorted(places, key=lambda axis: (axis >= first_override, axis < first_bundle, axis))
        return layered(self.base, *(self.axes[axis][places[axis]].sets for axis in by_precedence))

    def _deciding(self) -> dict[str, list[int]]:
        """Return for each key that is not the same everywhere the axes that decide it."""
        deciding: dict[str, list[int]] = {}
        for number, axis in enumerate(self.axes):
            keys = {key for choice in axis for key in choice.sets}
            if "dataset" in keys:  # its size is also a number of prompts
                keys.add("num_input_prompts")
            for key in keys:
                deciding.setdefault(key, []).append(number)
        return deciding


class _Field:
    """One key of a block's points. It is layered and checked once for all points that agree in what decides it."""

    def __init__(self, block: Block, key: str, axes: Sequence[int]) -> None:
        self._block = block
        self._key = key
        self._axes = axes
        self._pick = itemgetter(*axes)
        self._checked = lru_cache(maxsize=REMEMBERED)(self._check)

    def at(self, places: Sequence[int]) -> Parts:
        """Return the part at these places on all axes of the block; nothing where no layer sets it."""
        return self._checked(self._pick(places))

    def _check(self, picked: int | tuple[int, ...]) -> Parts:
        places = picked if isinstance(picked, tuple) else (picked,)
        fragment = self._block.layer(dict(zip(self._axes, places, strict=True)))
        own = {key: value for key, value in fragment.items() if key == self._key}
        return parts_of(own, self._block.spec, self._block.backends)


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
        bases = (whole(base | {"model_name": model}, spec) for model in models)
        found += [Block(spec, frozenset(backends), each, shared, bundles, overrides) for each in bases]
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


def exclusions(loaded: LoadedCampaign, found: Iterable[Block]) -> list[Exclusion]:
    """Return the entries of `grid.exclude`.

    Raises:
        CampaignError: an entry names no axis of the grid.
    """
    names = _axis_names(found)
    findings = Findings()
    entries = loaded.campaign.grid.exclude if loaded.campaign.grid else ()
    for i, entry in enumerate(entries):
        for key in entry:
            if key not in names:
                place = loaded.document.place("grid", "exclude", i, key)
                hint = did_you_mean(key, names)
                findings.problem(place, f"grid.exclude[{i}]: {key!r} is no axis of the grid{hint}")
    findings.raise_any()
    return [
        Exclusion(
            f"grid.exclude[{i}]",
            {names[key]: frozenset(map(shown, values)) for key, values in entry.items()},
        )
        for i, entry in enumerate(entries)
    ]


def _axis_names(found: Iterable[Block]) -> dict[str, str]:
    """Return all that axes may be called, with the name that points know them by."""
    names = {"backend": "backend", "model": "model", "model_name": "model"}
    for block in found:
        for axis in block.axes:
            name = axis[0].axis
            names |= {name.rpartition(".")[2]: name, name: name, f"{block.spec.name}.{name}": name}
    return names

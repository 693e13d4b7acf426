"""The blocks that a row of the summary stands on: of one configuration, or of a group block by block."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llem.analysis.observations import Expected, Observation

Block = tuple[Observation, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """What becomes one row of the summary.

    Attributes:
        key: spec hash of the configuration, or the group's values.
        of: how many blocks were asked for.
        observations: one an experiment, completed or failed.
        blocks: completed ones, in order of time; in each, one observation for every configuration of the row.
        left_out: blocks that some configuration of the group did not complete.
        size: number of configurations.
    """

    key: str
    label: str
    axes: Mapping[str, Any]
    of: int
    observations: tuple[Observation, ...]
    blocks: tuple[Block, ...]
    left_out: int
    size: int

    @property
    def completed(self) -> list[Observation]:
        """The observations that have a measurement."""
        return [one for one in self.observations if one.status == "completed"]

    @property
    def note(self) -> str | None:
        """What a reader of the row must know about its blocks."""
        if not self.left_out:
            return None
        return (
            f"{self.left_out} of {self.left_out + len(self.blocks)} blocks left out: "
            f"not all {self.size} configurations of the group completed them"
        )


def configuration_rows(observations: Sequence[Observation], expected: Sequence[Expected]) -> list[Row]:
    """Return one row a configuration, in the order of `expected`."""
    found = _by_configuration(observations)
    return [_row(one.configuration, one.label, one.axes, [one], found[one.configuration]) for one in expected]


def group_rows(
    observations: Sequence[Observation], expected: Sequence[Expected], paths: Sequence[str]
) -> list[Row]:
    """Return one row for each combination of values on the axes `paths`, in order of first appearance."""
    groups: defaultdict[str, list[Expected]] = defaultdict(list)
    for one in expected:
        groups[group_label(one.axes, paths)].append(one)
    found = _by_configuration(observations)
    return [
        _row(
            label,
            label,
            {path: members[0].axes.get(path) for path in paths},
            members,
            [observation for member in members for observation in found[member.configuration]],
        )
        for label, members in groups.items()
    ]


def group_label(axes: Mapping[str, Any], paths: Sequence[str]) -> str:
    """Return the name of the group that a configuration with these axes is in."""
    return ", ".join(f"{path}={axes.get(path)}" for path in paths)


def _by_configuration(observations: Sequence[Observation]) -> defaultdict[str, list[Observation]]:
    found: defaultdict[str, list[Observation]] = defaultdict(list)
    for observation in observations:
        found[observation.configuration].append(observation)
    return found


def _row(
    key: str,
    label: str,
    axes: Mapping[str, Any],
    members: Sequence[Expected],
    observations: Sequence[Observation],
) -> Row:
    started: defaultdict[tuple[int, str], list[Observation]] = defaultdict(list)
    for observation in sorted(observations, key=lambda one: one.started_at):
        if observation.status == "completed":
            started[observation.block].append(observation)
    blocks = tuple(tuple(block) for block in started.values() if len(block) == len(members))
    return Row(
        key=key,
        label=label,
        axes=axes,
        of=min(member.experiments for member in members),
        observations=tuple(observations),
        blocks=blocks,
        left_out=len(started) - len(blocks),
        size=len(members),
    )

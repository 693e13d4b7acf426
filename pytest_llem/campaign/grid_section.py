"""The `grid` section: each value of each axis is checked where it is written, for the grid's backends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign import v1
from pytest_llem.campaign.document import Mark, Node
from pytest_llem.campaign.entries import Entry, checked, flat, nest
from pytest_llem.campaign.files import Reading
from pytest_llem.campaign.findings import did_you_mean
from pytest_llem.campaign.fragments import from_root, items, remember, section_values
from pytest_llem.campaign.keys import BATCH_SIZE, resolve_axis
from pytest_llem.campaign.schema import Fragment
from pytest_llem.campaign.tables import Key
from pytest_llem.campaign.words import expected
from pytest_llem.records import Configuration

_ELSEWHERE = {
    "backend": "write grid.backends",
    "backends": "write grid.backends",
    "model": "write grid.models",
    "models": "write grid.models",
    "config_name": "points of a grid are named by their axes; remove it",
}
"""What is no shared axis although one could think so."""


@dataclass
class GridSection:
    """The parts of a grid beside `backends` and `models`, as they are read.

    Args:
        reading: takes the problems.
        specs: the backends of the grid.
    """

    reading: Reading
    specs: Sequence[BackendSpec]
    shared: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    bundles: dict[str, dict[str, Fragment]] = field(default_factory=dict)

    def read_shared(self, node: Node, path: str) -> None:
        """Read the shared axes; one that varies the data set becomes a bundle."""
        for written, mark, child in self._mapping(node, path):
            entry = Entry(v1.RENAMED.get(written, written), f"{path}.{written}", mark, child)
            if entry.name != written:
                self.reading.findings.v1_keys.add(entry.path)
            values = self._list(entry)
            if entry.name in ("dataset", "dataset.name"):
                self.bundles["dataset"] = self._datasets(values, entry.path)
            elif keys := self._keys(entry):
                self.shared[entry.name] = tuple(self._values(keys, values, entry.path))

    def read_bundles(self, node: Node, path: str) -> None:
        """Read the bundles: each label with all that it sets."""
        for name, mark, labels in self._mapping(node, path):
            here = f"{path}.{name}"
            if name in self.shared or name in self.bundles or name in _ELSEWHERE:
                self._problem(mark, f"{here}: another axis has this name")
            if labels.value in (None, {}):
                self._problem(mark, f"{here}: a bundle needs a label with what it sets")
            self.bundles[name] = {
                label: nest(section_values(child, f"{here}.{label}", self.reading, self.specs))
                for label, _, child in self._mapping(labels, here)
            }

    def overrides(self, node: Node, path: str) -> dict[str, Fragment]:
        """Return for each backend the values of each key by dotted name, as a list even if there is one."""
        found: dict[str, Fragment] = {}
        for name, mark, child in self._mapping(node, path):
            here = f"{path}.{name}"
            if spec := self.reading.backends.get(name):
                found[name] = dict(self._overrides_of(spec, child, here))
                if spec not in self.specs:
                    self.reading.findings.notes.append(
                        f"{here} has no effect: grid.backends does not name it"
                    )
            else:
                hint = did_you_mean(name, self.reading.backends)
                self._problem(mark, f"{here}: no such backend is installed{hint}")
        return found

    def exclusions(self, node: Node, path: str) -> tuple[Fragment, ...]:
        """Return the entries of `exclude`, each with a list of values for each axis; read the axes first."""
        found = []
        for position, item in enumerate(items(node, path, self.reading.findings)):
            here = f"{path}[{position}]"
            entries = [
                Entry(name, f"{here}.{name}", mark, child) for name, mark, child in self._mapping(item, here)
            ]
            if not entries:
                self._problem(item.mark, f"{here}: an entry needs an axis with the values to drop")
            found.append({entry.name: self._excluded(entry) for entry in entries})
        return tuple(found)

    # --- Axes ---

    def _keys(self, entry: Entry) -> list[Key]:
        """Return the keys that an axis sets, one for each backend where they differ."""
        table = self.reading.table
        names = dict.fromkeys(resolve_axis(entry.name, spec) for spec in self.specs)
        keys = [table.keys[name] for name in names if name and name in table.keys]
        first = entry.name.partition(".")[0]
        message = None
        if entry.name in _ELSEWHERE:
            message = f"not a shared axis; {_ELSEWHERE[entry.name]}"
        elif entry.name in table.sections:
            example = next(iter(table.below(entry.name)), BATCH_SIZE)
            message = f"a section is no axis; write one such as {entry.name}.{example}, or a bundle"
        elif not keys and first in self.reading.backends and entry.name in table.keys:
            message = f"{first} is not in grid.backends"
        elif not keys:
            message = table.unknown(entry.name)
        if message:
            self._problem(entry.mark, f"{entry.path}: {message}")
        return [] if message else keys

    def _values(self, keys: Sequence[Key], nodes: Sequence[Node], path: str) -> Iterator[Any]:
        """Yield the checked values of an axis; each must suit every key that it sets."""
        findings = self.reading.findings
        for position, node in enumerate(nodes):
            values: list[Any] = []
            for key in keys:
                placed = from_root(node, self.reading) if key.name == "prompts_file" else node
                values = checked(key, placed, f"{path}[{position}]", findings)
                if not values:
                    break
                remember(key, values[0], findings)
            yield from values

    def _datasets(self, nodes: Sequence[Node], path: str) -> dict[str, Fragment]:
        """Return an axis of data sets as a bundle, since more than the name belongs to one."""
        found = {}
        for position, node in enumerate(nodes):
            wrapped = Node({"dataset": node}, node.mark)
            fragment = nest(section_values(wrapped, f"{path}[{position}]", self.reading, ()))
            found[node.text or str((fragment.get("dataset") or {}).get("name"))] = fragment
        return found

    # --- Overrides and exclusions ---

    def _overrides_of(self, spec: BackendSpec, node: Node, path: str) -> Iterator[tuple[str, list[Any]]]:
        table = self.reading.table
        prefix = f"{spec.name}."
        sections = table.sections | v1.SECTIONS
        own = {name.removeprefix(prefix) for name in sections if name.startswith(prefix)}
        self._mapping(node, path)
        written = flat(node, sections | own, path)
        named = [entry._replace(name=_in_section(entry.name, spec)) for entry in written]
        for entry in v1.modernise(named, [spec], table, self.reading.findings):
            name = resolve_axis(entry.name, spec) or entry.name
            if key := table.keys.get(name):
                yield name, list(self._values([key], self._choices(key, entry), entry.path))
            else:
                self._problem(entry.mark, f"{entry.path}: {table.unknown(name)}")

    def _choices(self, key: Key, entry: Entry) -> Sequence[Node]:
        """Return the values of a key: a list is an axis, unless the key itself takes one."""
        value = entry.node.value
        if not isinstance(value, list):
            return [entry.node]
        one = key.takes_list and not all(isinstance(each.value, list) for each in value)
        return [entry.node] if one else self._list(entry)

    def _excluded(self, entry: Entry) -> list[Any]:
        """Return the checked values of one axis in an entry of `exclude`."""
        nodes = entry.node.value if isinstance(entry.node.value, list) else [entry.node]
        name = v1.RENAMED.get(entry.name, entry.name)
        if name == "backend" or name in self.bundles:
            names = list(self.bundles.get(name, [spec.name for spec in self.specs]))
            return [node.text for node in nodes if self._is_one_of(names, node, entry.path)]
        by_last_part = {axis.rpartition(".")[2]: axis for axis in self.shared}
        name = "model_name" if name == "model" else by_last_part.get(name, name)
        keys = self._keys(entry._replace(name=name))
        return list(self._values(keys[:1], nodes, entry.path))

    def _is_one_of(self, names: Sequence[str], node: Node, path: str) -> bool:
        if not isinstance(node.value, list | dict) and node.text in names:
            return True
        words = expected("one of " + ", ".join(names), node)
        self._problem(node.mark, f"{path}: {words}{did_you_mean(node.text, names)}")
        return False

    # --- Shapes ---

    def _mapping(self, node: Node, path: str) -> Iterator[tuple[str, Mark, Node]]:
        """Return the entries of a mapping; anything else but null is a problem."""
        if node.value is not None and not isinstance(node.value, dict):
            self._problem(node.mark, f"{path}: {expected('a mapping', node)}")
        return node.entries()

    def _list(self, entry: Entry) -> Sequence[Node]:
        """Return the values of an axis: a list with at least one."""
        value = entry.node.value
        if isinstance(value, list) and value:
            return value
        words = "an axis needs at least one value" if value == [] else expected("a list", entry.node)
        self._problem(entry.node.mark, f"{entry.path}: {words}")
        return []

    def _problem(self, mark: Mark, message: str) -> None:
        self.reading.findings.problem(mark, message)


def _in_section(name: str, spec: BackendSpec) -> str:
    """Return a name with the backend's prefix, unless it has one or is a key that all backends share."""
    first = name.partition(".")[0]
    common = first in Configuration.model_fields or first in v1.SECTIONS or name in v1.RENAMED
    return name if first == spec.name or name == BATCH_SIZE or common else f"{spec.name}.{name}"

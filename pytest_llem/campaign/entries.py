"""From nodes to checked values: the entries of a mapping by dotted name, checked where they are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from pytest_llem.campaign.document import Mark, Node, dotted
from pytest_llem.campaign.findings import Findings
from pytest_llem.campaign.tables import Key, Table
from pytest_llem.campaign.words import complaints, expected


class Entry(NamedTuple):
    """One key with its value.

    Attributes:
        name: dotted path of the key.
        path: the same as written, with what leads to it, for messages.
        mark: where the key is written.
    """

    name: str
    path: str
    mark: Mark
    node: Node


def flat(node: Node, sections: frozenset[str], path: str = "", name: str = "") -> Iterator[Entry]:
    """Yield the entries of a mapping and of the sections in it; keys may be dotted themselves.

    Args:
        node: a mapping.
        sections: dotted names of the mappings to go into.
        path: what leads to the mapping in its document.
        name: what the names start with.
    """
    for key, mark, child in node.entries():
        inner_name = f"{name}.{key}" if name else key
        inner_path = f"{path}.{key}" if path else key
        if inner_name in sections and isinstance(child.value, dict):
            yield from flat(child, sections, inner_path, inner_name)
        else:
            yield Entry(inner_name, inner_path, mark, child)


def settle(entries: Iterable[Entry], table: Table, findings: Findings) -> dict[str, Any]:
    """Return the checked values of entries by dotted name; what is wrong goes to the findings."""
    values: dict[str, Any] = {}
    first: dict[str, Entry] = {}
    for entry in entries:
        if entry.name in first:
            message = f"{entry.path}: already set by {first[entry.name].path} at {first[entry.name].mark}"
            findings.problem(entry.mark, message)
        elif key := table.keys.get(entry.name):
            first[entry.name] = entry
            for value in checked(key, entry.node, entry.path, findings):
                values[entry.name] = value
        elif entry.name in table.sections:
            values |= _whole_section(entry, table, findings)
        else:
            findings.problem(entry.mark, f"{entry.path}: {table.unknown(entry.name)}")
    return values


def checked(key: Key, node: Node, path: str, findings: Findings) -> list[Any]:
    """Return the one checked value of a key, or nothing when it is wrong."""
    try:
        return [key.check(node.plain())]
    except ValidationError as error:
        for inside, value, words in complaints(error, node):
            findings.problem(value.mark, f"{dotted((path, *inside))}: {words}")
        return []


def _whole_section(entry: Entry, table: Table, findings: Findings) -> dict[str, Any]:
    """Return what a section says that is no mapping: null where that is a value, else nothing."""
    if entry.node.value is None:
        return {entry.name: None} if entry.name in table.optional else {}
    keys = ", ".join(table.below(entry.name)[:4])
    findings.problem(
        entry.node.mark, f"{entry.path}: {expected(f'a mapping with keys such as {keys}', entry.node)}"
    )
    return {}


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by dotted name as nested mappings."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *sections, last = name.split(".")
        mapping = nested
        for section in sections:
            if not isinstance(mapping.get(section), dict):
                mapping[section] = {}
            mapping = mapping[section]
        mapping[last] = value
    return nested


def overlay(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by dotted name with those of `top` laid over; a null section gives way as a whole."""
    sections = {name for name in top if any(below.startswith(f"{name}.") for below in base)}
    kept = {
        name: value
        for name, value in base.items()
        if name.rpartition(".")[0] not in sections and not any(above.startswith(f"{name}.") for above in top)
    }
    return kept | dict(top)


def cut(fragment: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return nested values without those of these dotted names; a section's name stands for all of it."""
    fixed = set(names)
    kept: dict[str, Any] = {}
    for key, value in fragment.items():
        if isinstance(value, dict) and key not in fixed:
            inner = {name: each for name, each in value.items() if f"{key}.{name}" not in fixed}
            if inner or not value:
                kept[key] = inner
        elif key not in fixed:
            kept[key] = value
    return kept

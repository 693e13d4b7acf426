"""What experiments say: `defaults`, experiment files with their overrides, experiments written in place."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign import v1
from pytest_llem.campaign.document import Node
from pytest_llem.campaign.entries import Entry, cut, flat, nest, overlay, settle
from pytest_llem.campaign.files import Reading, experiment_file
from pytest_llem.campaign.findings import Findings, UnreadableError
from pytest_llem.campaign.keys import BATCH_SIZE
from pytest_llem.campaign.schema import NOT_YET, ExperimentEntry, Fragment
from pytest_llem.campaign.tables import Key
from pytest_llem.campaign.words import expected

DEFAULT_BACKEND = "pytorch"
"""What an experiment without `backend` runs on, as in llenergymeasure v1."""


@dataclass(frozen=True, slots=True)
class SourcedFragment:
    """One explicit experiment with the place to name when something is wrong with it."""

    fragment: Fragment
    where: str


# --- Values ---


def values_of(node: Node, path: str, reading: Reading, targets: Sequence[BackendSpec]) -> dict[str, Any]:
    """Return what one mapping of experiment keys says, by dotted name.

    Args:
        node: a mapping.
        path: what leads to it in its document, for messages.
        reading: takes the problems.
        targets: the backends that it is for, unless it names one itself.
    """
    table, findings = reading.table, reading.findings
    entries = list(flat(node, table.sections | v1.SECTIONS, path))
    own = reading.specs(entry.node.value for entry in entries if entry.name == "backend" and entry.node.text)
    targets = own or targets
    entries = v1.modernise(entries, targets, table, findings)
    entries = [plain for entry in entries for plain in _without_short_forms(entry, targets, reading)]
    values = settle(entries, table, findings)
    for name, value in values.items():
        remember(table.keys.get(name), value, findings)
    return complete_dataset(values)


def section_values(node: Node, path: str, reading: Reading, targets: Sequence[BackendSpec]) -> dict[str, Any]:
    """Return `values_of` a node that should be a mapping; null says nothing."""
    if node.value is not None and not isinstance(node.value, dict):
        reading.findings.problem(node.mark, f"{path}: {expected('a mapping', node)}")
    return values_of(node, path, reading, targets)


def _without_short_forms(entry: Entry, targets: Sequence[BackendSpec], reading: Reading) -> Iterator[Entry]:
    if entry.name == BATCH_SIZE:
        for spec in targets:
            yield entry._replace(name=f"{spec.name}.{spec.batch_parameter}")
    elif entry.name == "dataset" and isinstance(entry.node.value, str):
        yield entry._replace(name="dataset.name")
    elif entry.name == "prompts_file":
        yield entry._replace(node=from_root(entry.node, reading))
    else:
        yield entry


def from_root(node: Node, reading: Reading) -> Node:
    """Return the path of a prompts file as one from the root folder; it starts at the file that names it."""
    if not isinstance(node.value, str) or node.value.startswith("~"):
        return node
    folder = (reading.rootdir / node.mark.source).parent if node.mark.line else reading.rootdir
    path = reading.name(Path(os.path.normpath(folder / node.value)))
    return Node(path, node.mark, path)


def remember(key: Key | None, value: Any, findings: Findings) -> None:
    """Keep that an experiment key is written, and whether it has no effect yet."""
    if key is None:
        return
    findings.written.add(key.name)
    if f"defaults.{key.name}" in NOT_YET and value != key.default:
        findings.not_yet[f"defaults.{key.name}"] = None


def complete_dataset(values: dict[str, Any]) -> dict[str, Any]:
    """Say all that belongs to a data set's name, so that a lower layer's column does not stay behind.

    v1's short names become what they stand for.
    """
    if not isinstance(name := values.get("dataset.name"), str):
        return values
    blank = {"name": name, "split": "train", "subset": None, "column": None}
    whole = {f"dataset.{key}": value for key, value in (blank | dict(v1.DATASETS.get(name, {}))).items()}
    return values | whole | values | {"dataset.name": whole["dataset.name"]}


# --- Experiments ---


def configs(
    node: Node, reading: Reading, targets: Sequence[BackendSpec]
) -> list[tuple[str, SourcedFragment]]:
    """Return the entries of `configs`, each as written and as the experiment in that file."""
    found: list[tuple[str, SourcedFragment]] = []
    for position, item in enumerate(items(node, "configs", reading.findings)):
        if base := _file_values(item, f"configs[{position}]", reading, targets):
            name, values = base
            found.append((item.text, SourcedFragment(nest(values), name)))
    return found


def experiments(
    node: Node, reading: Reading, targets: Sequence[BackendSpec]
) -> list[tuple[ExperimentEntry, SourcedFragment]]:
    """Return the entries of `experiments`, each as the schema has it and as the experiment that it makes."""
    found: list[tuple[ExperimentEntry, SourcedFragment]] = []
    for position, item in enumerate(items(node, "experiments", reading.findings)):
        path = f"experiments[{position}]"
        if not isinstance(item.value, dict) or not item.value:
            message = expected("`config` with a file, or the keys of an experiment", item)
            reading.findings.problem(item.mark, f"{path}: {message}")
        elif "config" in item.value or "overrides" in item.value:
            found += _file_entry(item, path, reading, targets)
        else:
            inline = nest(values_of(item, path, reading, targets))
            found.append((ExperimentEntry(inline=inline), SourcedFragment(inline, str(item.mark))))
    return found


def items(node: Node, path: str, findings: Findings) -> list[Node]:
    """Return the items of a list; anything else but null is a problem."""
    if node.value is None or isinstance(node.value, list):
        return node.value or []
    findings.problem(node.mark, f"{path}: {expected('a list', node)}")
    return []


def _file_entry(
    item: Node, path: str, reading: Reading, targets: Sequence[BackendSpec]
) -> Iterator[tuple[ExperimentEntry, SourcedFragment]]:
    """Yield the experiment of one `{config, overrides}`, if it can be read."""
    findings = reading.findings
    parts = {key: child for key, _, child in item.entries() if child.value is not None}
    for key, mark, _ in item.entries():
        if key not in ("config", "overrides"):
            findings.problem(mark, f"{path}.{key}: beside `config` stands `overrides` alone; write it there")
    config = parts.get("config", Node(None, item.mark))
    overrides = parts.get("overrides", Node({}, item.mark))
    if not isinstance(overrides.value, dict):
        findings.problem(overrides.mark, f"{path}.overrides: {expected('a mapping', overrides)}")
    base = _file_values(config, f"{path}.config", reading, targets)
    own = reading.specs([base[1].get("backend")]) if base else []
    top = values_of(overrides, f"{path}.overrides", reading, own or targets)
    if base:
        name, values = base
        entry = ExperimentEntry(config=str(config.value), overrides=nest(top))
        yield entry, SourcedFragment(nest(overlay(values, top)), name)


def _file_values(
    config: Node, path: str, reading: Reading, targets: Sequence[BackendSpec]
) -> tuple[str, dict[str, Any]] | None:
    """Return name and values of an experiment file, or None when it cannot be read."""
    if not isinstance(config.value, str):
        message = expected("text, the path of an experiment file", config)
        reading.findings.problem(config.mark, f"{path}: {message}")
        return None
    try:
        file, node = experiment_file(config, path, reading)
    except UnreadableError:
        return None
    return reading.name(file), values_of(node, "", reading, targets)


_PROMPTS = {"dataset": ("dataset",), "num_samples": ("num_input_prompts", "dataset.sample_size")}
"""What the campaign's short forms for the prompts set in an experiment."""


def let_campaign_win(
    fragments: Sequence[SourcedFragment], campaign: Mapping[str, Any], reading: Reading
) -> list[SourcedFragment]:
    """Return explicit experiments without the prompts that v1 took from the campaign instead.

    Here an experiment file wins over the campaign's `dataset` and `num_samples`, in v1 it lost. A campaign of
    v1 still means what it meant; for any other campaign a note says who wins.
    """
    names = [name for key, names in _PROMPTS.items() if campaign.get(key) is not None for name in names]
    from_files = [each for each in fragments if each.where in reading.files]
    differ = dict.fromkeys(each.where for each in from_files if cut(each.fragment, names) != each.fragment)
    if not differ:
        return list(fragments)
    files, notes = ", ".join(differ), reading.findings.notes
    if not reading.findings.v1_keys:
        notes.append(f"dataset and num_samples give way to what these files say: {files}")
        return list(fragments)
    notes.append(f"dataset and num_samples win, as in llenergymeasure v1, over what these files say: {files}")
    return [
        replace(each, fragment=cut(each.fragment, names)) if each in from_files else each
        for each in fragments
    ]

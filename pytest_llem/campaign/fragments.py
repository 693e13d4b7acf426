"""What experiments say: `defaults`, experiment files with their overrides, experiments written in place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign import v1
from pytest_llem.campaign.document import Mark, Node, compose
from pytest_llem.campaign.entries import Entry, flat, nest, overlay, settle
from pytest_llem.campaign.findings import Findings, UnreadableError
from pytest_llem.campaign.keys import BATCH_SIZE, experiment_keys
from pytest_llem.campaign.schema import NOT_YET, ExperimentEntry, Fragment
from pytest_llem.campaign.tables import Key, Table
from pytest_llem.campaign.words import expected

DEFAULT_BACKEND = "pytorch"
"""What an experiment without `backend` runs on, as in llenergymeasure v1."""

MAX_FILE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class SourcedFragment:
    """One explicit experiment with the place to name when something is wrong with it."""

    fragment: Fragment
    where: str


@dataclass(frozen=True)
class Reading:
    """What every part of reading a campaign needs.

    Attributes:
        rootdir: pytest's root folder; files are named from there.
        folder: where the campaign lies; its paths start there.
        backends: by name.
        files: the documents that were read, by name.
    """

    rootdir: Path
    folder: Path
    backends: Mapping[str, BackendSpec]
    findings: Findings
    files: dict[str, Node] = field(default_factory=dict)

    @property
    def table(self) -> Table:
        """The experiment keys."""
        return experiment_keys(self.backends)

    def specs(self, names: Iterable[Any]) -> list[BackendSpec]:
        """Return the specs of those names that are backends."""
        return [self.backends[name] for name in names if name in self.backends]

    def name(self, path: Path) -> str:
        """Return a path as messages show it: from the root folder where it lies below."""
        return path.relative_to(self.rootdir).as_posix() if path.is_relative_to(self.rootdir) else str(path)


# --- Documents ---


def read_document(path: Path, reading: Reading, where: object) -> Node:
    """Return the mapping in a file.

    Args:
        path: absolute.
        reading: takes the document and the problems.
        where: who asks for the file; a missing one is a problem there.

    Raises:
        UnreadableError: there is no mapping to go on with.
    """
    findings, name = reading.findings, reading.name(path)
    node = compose(_text(path, name, findings, where), name, findings)
    if node is None or node.value is None:
        findings.stop(name, "the file is empty")
    if not isinstance(node.value, dict):
        findings.stop(node.mark, expected("a mapping with keys", node))
    reading.files[name] = node
    return node


def _text(path: Path, name: str, findings: Findings, where: object) -> str:
    """Return the text of a regular file of sensible size."""
    try:
        if path.is_dir():
            findings.stop(where, f"{name} is a folder, not a file")
        if path.exists() and not path.is_file():
            findings.stop(where, f"{name} is not a regular file")
        if path.stat().st_size > MAX_FILE_BYTES:
            findings.stop(where, f"{name} is larger than {MAX_FILE_BYTES >> 20} MiB; that is no campaign")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        findings.stop(where, f"there is no file {name}")
    except UnicodeDecodeError as error:
        findings.stop(name, f"not UTF-8 text: byte 0x{error.object[error.start]:02x} at offset {error.start}")
    except (OSError, ValueError) as error:
        findings.stop(where, f"{name} cannot be read: {getattr(error, 'strerror', None) or error}")


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
    entries = [short for entry in entries for short in _without_short_forms(entry, targets)]
    values = settle(entries, table, findings)
    for name, value in values.items():
        remember(table.keys.get(name), value, findings)
    return complete_dataset(_prompts_from_root(values, node.mark, reading))


def _without_short_forms(entry: Entry, targets: Sequence[BackendSpec]) -> Iterator[Entry]:
    if entry.name == BATCH_SIZE:
        for spec in targets:
            yield entry._replace(name=f"{spec.name}.{spec.batch_parameter}")
    elif entry.name == "dataset" and isinstance(entry.node.value, str):
        yield entry._replace(name="dataset.name")
    else:
        yield entry


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
    return whole | values | {"dataset.name": whole["dataset.name"]}


def _prompts_from_root(values: dict[str, Any], mark: Mark, reading: Reading) -> dict[str, Any]:
    """Let a relative `prompts_file` start at the root folder instead of at the file that names it."""
    if not isinstance(prompts := values.get("prompts_file"), str):
        return values
    folder = (reading.rootdir / mark.source).parent if mark.line else reading.rootdir
    path = Path(os.path.normpath(folder / Path(prompts).expanduser()))
    return values | {"prompts_file": reading.name(path)}


# --- Experiments ---


def configs(node: Node, reading: Reading) -> list[SourcedFragment]:
    """Return the experiments of `configs`, a list of files."""
    found = []
    for position, item in enumerate(items(node, "configs", reading.findings)):
        path = f"configs[{position}]"
        if isinstance(item.value, str):
            found += _from_file(item, path, {}, reading)
        else:
            reading.findings.problem(item.mark, f"{path}: {expected('text, the path of an experiment file', item)}")
    return found


def experiments(
    node: Node, reading: Reading, targets: Sequence[BackendSpec]
) -> list[tuple[ExperimentEntry, SourcedFragment]]:
    """Return the entries of `experiments`, each as the schema has it and as the experiment that it makes."""
    found = []
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
    """Yield the experiment of one `{config, overrides}`."""
    children = {key: child for key, _, child in item.entries()}
    for key, mark, _ in item.entries():
        if key not in ("config", "overrides"):
            reading.findings.problem(mark, f"{path}.{key}: beside `config` stands `overrides` alone; put it there")
    config, overrides = children.get("config"), children.get("overrides")
    top = {}
    if overrides is not None and isinstance(overrides.value, dict):
        top = values_of(overrides, f"{path}.overrides", reading, targets)
    elif overrides is not None and overrides.value is not None:
        reading.findings.problem(overrides.mark, f"{path}.overrides: {expected('a mapping', overrides)}")
    if config is None or not isinstance(config.value, str):
        what = expected("text, the path of an experiment file", config or Node(None, item.mark))
        reading.findings.problem((config or item).mark, f"{path}.config: {what}")
        return
    for sourced in _from_file(config, f"{path}.config", top, reading, targets):
        yield ExperimentEntry(config=config.value, overrides=nest(top)), sourced


def _from_file(
    item: Node, path: str, top: Mapping[str, Any], reading: Reading, targets: Sequence[BackendSpec] = ()
) -> list[SourcedFragment]:
    """Return the experiment in a file with `top` laid over, or nothing when it cannot be read."""
    try:
        file = _located(str(item.value), item.mark, path, reading)
        values = overlay(_file_values(file, item.mark, reading, ()), top)
    except UnreadableError:
        return []
    return [SourcedFragment(nest(values), reading.name(file))]

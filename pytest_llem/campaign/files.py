"""The files of a campaign: found below the root folder, read once, each with its places."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.document import Node, compose
from pytest_llem.campaign.findings import Findings
from pytest_llem.campaign.keys import experiment_keys
from pytest_llem.campaign.tables import Table
from pytest_llem.campaign.words import expected

MAX_FILE_BYTES = 4 << 20


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


def read_document(path: Path, reading: Reading, where: object, key: str = "") -> Node:
    """Return the mapping in a file.

    Args:
        path: absolute.
        reading: takes the document and the problems.
        where: who asks for the file; a missing one is a problem there.
        key: the dotted key that names the file, if one does.

    Raises:
        UnreadableError: there is no mapping to go on with.
    """
    findings, name = reading.findings, reading.name(path)
    asked = f"{key}: {name} " if key else ""
    node = compose(_text(path, name, findings, (where, asked)), name, findings)
    if node is None or node.value is None:
        findings.stop(name, "the file is empty")
    if not isinstance(node.value, dict):
        findings.stop(node.mark, expected("a mapping with keys", node))
    reading.files[name] = node
    return node


def _text(path: Path, name: str, findings: Findings, asked: tuple[object, str]) -> str:
    """Return the text of a regular file of sensible size; `asked` says where and as what it was asked for."""
    where, what = asked
    try:
        if path.is_dir():
            findings.stop(where, f"{what}is a folder, not a file")
        if path.exists() and not path.is_file():
            findings.stop(where, f"{what}is not a regular file")
        if path.stat().st_size > MAX_FILE_BYTES:
            findings.stop(where, f"{what}is larger than {MAX_FILE_BYTES >> 20} MiB; that is no campaign")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        findings.stop(where, f"{what}does not exist{_near(path)}")
    except UnicodeDecodeError as error:
        findings.stop(name, f"not UTF-8 text: byte 0x{error.object[error.start]:02x} at offset {error.start}")
    except (OSError, ValueError) as error:
        findings.stop(where, f"{what}cannot be read: {getattr(error, 'strerror', None) or error}")


def _near(path: Path) -> str:
    """Return `; did you mean 'x'?` for a file beside it of nearly its name, else the empty string."""
    beside = [file.name for file in path.parent.glob("*.y*ml")]
    near = difflib.get_close_matches(path.name, beside, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def settled_below(path: Path, rootdir: Path) -> Path | None:
    """Return `path` without `..`, spelled from the root folder on, or None when it lies elsewhere.

    Symbolic links are followed only where the plain spelling leads outside.
    """
    plain = Path(os.path.normpath(path))
    if plain.is_relative_to(rootdir):
        return plain
    try:
        return rootdir / path.resolve().relative_to(rootdir.resolve())
    except (OSError, RuntimeError, ValueError):
        return None


def outside(path: Path, rootdir: Path) -> str:
    """Return what to do about a campaign outside the root folder."""
    return (
        f"lies outside the root folder {rootdir}, so its results would have no place; "
        f"type `cd {shlex.quote(str(path.parent))}` first, or name a folder above it with --rootdir"
    )


def experiment_file(node: Node, path: str, reading: Reading) -> tuple[Path, Node]:
    """Return place and content of an experiment file, laid over the one that it `_extends`.

    A relative path starts at the campaign's folder; where there is no such file, at the root folder, since
    llenergymeasure v1 was run from the top of a project.

    Raises:
        UnreadableError: there is no such file, or no experiment in it.
    """
    file = _found(node, path, (reading.folder, reading.rootdir), reading)
    return file, _extended(file, node, path, reading)


def _found(node: Node, path: str, folders: Iterable[Path], reading: Reading) -> Path:
    """Return the first existing file that a path may mean."""
    findings = reading.findings
    if not node.text.isprintable():
        findings.stop(node.mark, f"{path}: {node.text!r} is no path")
    candidates = [settled_below(folder / node.text, reading.rootdir) for folder in folders]
    inside = [candidate for candidate in candidates if candidate is not None]
    if not inside:
        findings.stop(node.mark, f"{path}: {node.text} lies outside the root folder {reading.rootdir}")
    found = next((candidate for candidate in inside if os.path.lexists(candidate)), None)
    if found is None:
        findings.stop(node.mark, f"{path}: {reading.name(inside[0])} does not exist")
    return found


def _extended(file: Path, asks: Node, key: str, reading: Reading, below: tuple[Path, ...] = ()) -> Node:
    node = read_document(file, reading, asks.mark, key)
    children = {key: child for key, _, child in node.entries()}
    if "campaign_name" in children:
        reading.findings.stop(
            node.marks["campaign_name"], "this is a campaign; an experiment file is expected"
        )
    base = children.pop("_extends", None)
    if base is None or base.value is None:
        return node
    own = Node(dict(children), node.mark, marks=node.marks)
    path = _found(base, "_extends", (file.parent,), reading)
    if path in (file, *below):
        reading.findings.stop(base.mark, f"_extends: {reading.name(path)} extends itself")
    return _laid_over(_extended(path, base, "_extends", reading, (file, *below)), own)


def _laid_over(base: Node, top: Node) -> Node:
    """Return two mappings as one; mappings in both are joined, else the upper one counts."""
    if not (isinstance(base.value, dict) and isinstance(top.value, dict)):
        return top
    joined = dict(base.value)
    for key, child in top.value.items():
        joined[key] = _laid_over(base.value[key], child) if key in base.value else child
    return Node(joined, top.mark, marks=base.marks | top.marks)

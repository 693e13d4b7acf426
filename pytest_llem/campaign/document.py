"""YAML with places: every value knows the file, line and column where it was written.

The parser's events are composed here rather than by PyYAML's composer, which keeps the last of two equal keys
without a word, nests and expands aliases without a limit, and reads `12:30` as 750.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import yaml

from pytest_llem.campaign.findings import Findings
from pytest_llem.campaign.scalars import Scalar, expand, resolve

MAX_DEPTH = 32
"""Levels of nesting; the deepest campaign key is at 8."""

MAX_NODES = 100_000
"""Values in one document, counted after aliases are expanded."""

KeyPath = tuple[str | int, ...]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DATED: KeyPath = ("schema_version",)
"""The one key where an unquoted date is taken for its text."""

_KNOWN_TAGS = (None, "!", "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_NOT_TEXT = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Mark(NamedTuple):
    """A place, counted from 1; line 0 stands for a source without lines, such as an option."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(slots=True)
class Node:
    """One value of a document.

    Attributes:
        text: a scalar as written, after expansion.
        marks: where each key of a mapping is written.
        size: the number of values in it, itself included, as if every alias were written out.
    """

    value: Scalar | list[Node] | dict[str, Node]
    mark: Mark
    text: str = ""
    marks: dict[str, Mark] = field(default_factory=dict)
    size: int = 1

    def plain(self) -> Any:
        """Return the value without its places."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def entries(self) -> Iterator[tuple[str, Mark, Node]]:
        """Yield key, place of the key and value of a mapping; nothing for any other value."""
        if isinstance(self.value, dict):
            for key, child in self.value.items():
                yield key, self.marks.get(key, child.mark), child

    def follow(self, path: Iterable[str | int]) -> tuple[KeyPath, Node]:
        """Go along `path` as far as it leads; return the part that was gone and the value there."""
        gone: KeyPath = ()
        node = self
        for step in path:
            if isinstance(node.value, dict) and step in node.value:
                node = node.value[str(step)]
            elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
            else:
                break
            gone = (*gone, step)
        return gone, node

    def place(self, *path: str | int) -> Mark:
        """Return where the key or item at `path` is written, or else what is nearest above it."""
        gone, node = self.follow(path)
        if not gone:
            return node.mark
        _, above = self.follow(gone[:-1])
        return above.marks.get(str(gone[-1]), node.mark)


def node_of(value: Any, mark: Mark) -> Node:
    """Return a plain value as a node that lies at one place."""
    if isinstance(value, dict):
        return Node({str(key): node_of(child, mark) for key, child in value.items()}, mark)
    if isinstance(value, list | tuple):
        return Node([node_of(child, mark) for child in value], mark)
    return Node(value, mark, "" if value is None else str(value))


def dotted(path: Iterable[str | int]) -> str:
    """Return `grid.shared.batch_size[2]` for a path of keys and positions."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def compose(text: str, source: str, findings: Findings, *, lines: bool = True) -> Node | None:
    """Return the one document in `text`, None if there is none.

    Args:
        text: YAML.
        source: what places are called.
        findings: takes what is wrong.
        lines: False for a source without lines, such as an option.

    Raises:
        UnreadableError: behind a problem that ends the reading.
    """
    composer = _Composer(text, source, findings, lines)
    if bad := _NOT_TEXT.search(text):
        line, column = text.count("\n", 0, bad.start()), bad.start() - text.rfind("\n", 0, bad.start()) - 1
        findings.stop(composer.place(line, column), f"the character {bad[0]!a} is not text")
    try:
        return composer.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = composer.place(mark.line, mark.column) if mark else source
        findings.stop(place, f"not valid YAML: {_syntax(error, text)}")
    except yaml.YAMLError as error:
        findings.stop(source, f"not valid YAML: {' '.join(str(error).split())}")


def _syntax(error: yaml.MarkedYAMLError, text: str) -> str:
    """Return what libyaml says, with the two slips that it says in riddles put in plain words."""
    lines = text.splitlines()
    mark = error.problem_mark
    rest = lines[mark.line][mark.column :] if mark and mark.line < len(lines) else ""
    if rest.startswith("\t"):
        return "a tab; YAML is indented with spaces"
    if rest[:1] in ("@", "`", "%"):
        return f"a value that starts with {rest[0]} must be quoted"
    return ", ".join(part for part in (error.problem, error.context) if part)


class _Composer:
    """Turns one stream of parser events into nodes."""

    def __init__(self, text: str, source: str, findings: Findings, lines: bool) -> None:
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=_LOADER))
        self._source = source
        self._findings = findings
        self._lines = lines
        self._anchors: dict[str, Node | None] = {}

    def place(self, line: int, column: int) -> Mark:
        return Mark(self._source, line + 1, column + 1) if self._lines else Mark(self._source)

    def document(self) -> Node | None:
        next(self._events)
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        node = self._node(next(self._events), ())
        next(self._events)
        if not isinstance(event := next(self._events), yaml.StreamEndEvent):
            self._findings.stop(self._mark(event), "a second document starts here; a file holds one")
        return node

    def _mark(self, event: Any) -> Mark:
        return self.place(event.start_mark.line, event.start_mark.column)

    def _node(self, event: Any, path: KeyPath) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event)
        if len(path) > MAX_DEPTH:
            self._findings.stop(self._mark(event), f"nested deeper than {MAX_DEPTH} levels")
        if event.tag not in _KNOWN_TAGS:
            self._findings.problem(
                self._mark(event), f"{dotted(path)}: the tag {event.tag} means nothing here; remove it"
            )
        if event.anchor:
            self._anchors[event.anchor] = None
        node = self._built(event, path)
        if node.size > MAX_NODES:
            self._findings.stop(node.mark, f"{dotted(path)}: more than {MAX_NODES:,} values")
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _built(self, event: Any, path: KeyPath) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(event, path)
        return self._mapping(event, path)

    def _aliased(self, event: Any) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            inside = event.anchor in self._anchors
            why = "stands inside the value that it names" if inside else "names no anchor before it"
            self._findings.stop(self._mark(event), f"the alias *{event.anchor} {why}")
        return node

    def _scalar(self, event: Any, path: KeyPath) -> Node:
        mark, text = self._mark(event), event.value
        if "$" in text:
            try:
                text = expand(text)
            except ValueError as error:
                self._findings.problem(mark, f"{dotted(path)}: {error}")
                return Node(None, mark)
        value = resolve(text) if event.implicit[0] else text
        if not isinstance(value, datetime):
            return Node(value, mark, text)
        if path != _DATED:
            words = f'the date {text} is no value; quote it if text is meant: "{text}"'
            self._findings.problem(mark, f"{dotted(path)}: {words}")
        return Node(text, mark, text)

    def _sequence(self, event: Any, path: KeyPath) -> Node:
        children: list[Node] = []
        while not isinstance(item := next(self._events), yaml.SequenceEndEvent):
            children.append(self._node(item, (*path, len(children))))
        return Node(children, self._mark(event), size=1 + sum(child.size for child in children))

    def _mapping(self, event: Any, path: KeyPath) -> Node:
        own: dict[str, Node] = {}
        marks: dict[str, Mark] = {}
        merged: list[Node] = []
        while not isinstance(item := next(self._events), yaml.MappingEndEvent):
            key, mark = self._key(item, path), self._mark(item)
            child = self._node(next(self._events), (*path, key or "?"))
            if key == "<<" and item.implicit[0]:
                merged += self._merged(child, path)
            elif key in own:
                where = f"{dotted((*path, key))}: written twice; first at {marks[key]}"
                self._findings.problem(mark, where)
            elif key is not None:
                own[key], marks[key] = child, mark
        return self._folded(own, marks, merged, self._mark(event))

    def _key(self, event: Any, path: KeyPath) -> str | None:
        if isinstance(event, yaml.ScalarEvent):
            return str(event.value)
        self._findings.problem(self._mark(event), f"{dotted((*path, '?'))}: a key must be plain text")
        self._node(event, (*path, "?"))
        return None

    def _merged(self, child: Node, path: KeyPath) -> list[Node]:
        """Return the mappings behind a merge key `<<`."""
        sources = child.value if isinstance(child.value, list) else [child]
        if all(isinstance(source.value, dict) for source in sources):
            return sources
        self._findings.problem(child.mark, f"{dotted((*path, '<<'))}: only mappings can be merged")
        return []

    @staticmethod
    def _folded(own: dict[str, Node], marks: dict[str, Mark], merged: list[Node], mark: Mark) -> Node:
        """Return a mapping whose own keys win over the merged ones, and earlier merged ones over later."""
        children: dict[str, Node] = {}
        places: dict[str, Mark] = {}
        for source in merged:
            for key, place, child in source.entries():
                children.setdefault(key, child)
                places.setdefault(key, place)
        children |= own
        size = 1 + sum(child.size for child in children.values())
        return Node(children, mark, marks=places | marks, size=size)

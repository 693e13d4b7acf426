"""Load a campaign file: all that is wrong at once, each problem with file, line, column and dotted key."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pytest_llem.backends.base import BackendSpec
from pytest_llem.backends.registry import registered
from pytest_llem.campaign import options, v1
from pytest_llem.campaign.checks import check_whole
from pytest_llem.campaign.document import Node
from pytest_llem.campaign.entries import Entry, cut, flat, nest, overlay, settle
from pytest_llem.campaign.files import Reading, outside, read_document, settled_below
from pytest_llem.campaign.findings import CampaignError, Findings, Problem, UnreadableError
from pytest_llem.campaign.fragments import (
    DEFAULT_BACKEND,
    SourcedFragment,
    configs,
    experiments,
    let_campaign_win,
    section_values,
)
from pytest_llem.campaign.grid_section import GridSection
from pytest_llem.campaign.keys import campaign_keys
from pytest_llem.campaign.notes import notes_on
from pytest_llem.campaign.schema import Campaign
from pytest_llem.campaign.sniff import looks_like_campaign
from pytest_llem.campaign.words import complaints

__all__ = ["CampaignError", "LoadedCampaign", "Problem", "SourcedFragment", "load", "looks_like_campaign"]

_READ_APART = frozenset(
    {"defaults", "dataset", "configs", "experiments"}
    | {f"grid.{name}" for name in ("shared", "bundles", "backend_overrides", "exclude")}
)
"""Keys whose values depend on the installed backends, on files, or on each other."""

_KEY_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class LoadedCampaign:
    """A campaign with all that belongs to it.

    Attributes:
        campaign: every value checked; an override is a list of values even where it has one.
        path: absolute, as is `rootdir`.
        rootdir: pytest's root folder; relative paths in the campaign start there.
        key: its folder's name among the results: the path below `rootdir` as a slug, and part of its hash.
        fragments: the explicit experiments, files read and overrides laid over; `configs` come first.
        notes: for the header, a line each.
        sha256: of what campaign, experiment files and options say, after expansion.
        document: the campaign as it is written, with what options put in, for places.
    """

    campaign: Campaign
    path: Path
    rootdir: Path
    key: str
    fragments: tuple[SourcedFragment, ...]
    notes: tuple[str, ...]
    sha256: str
    document: Node


def load(
    path: Path,
    rootdir: Path,
    overrides: Sequence[str] = (),
    *,
    backends: Mapping[str, BackendSpec] | None = None,
) -> LoadedCampaign:
    """Return the campaign in a file.

    Args:
        path: of the campaign.
        rootdir: pytest's root folder.
        overrides: `KEY=VALUE` of each `--campaign-set`.
        backends: those that a campaign may name; None: the installed ones.

    Raises:
        CampaignError: it is not valid.
    """
    findings = Findings()
    known = registered() if backends is None else backends
    try:
        return _Loader(path, rootdir, known, findings).load(overrides)
    except UnreadableError:
        raise CampaignError(findings.problems) from None


class _Loader:
    """One campaign while it is read."""

    def __init__(
        self, path: Path, rootdir: Path, backends: Mapping[str, BackendSpec], findings: Findings
    ) -> None:
        root, absolute = rootdir.absolute(), path.absolute()
        placed = settled_below(absolute, root)
        if placed is None:
            findings.stop(path, outside(absolute, root))
        self._reading = Reading(root, placed.parent, backends, findings)
        self._findings = findings
        self._path = placed
        self._name = self._reading.name(placed)
        self._table = campaign_keys(tuple(backends))
        self._apart: dict[str, Entry] = {}

    def load(self, overrides: Sequence[str]) -> LoadedCampaign:
        """Read the file, put the options in, check everything."""
        reading, findings = self._reading, self._findings
        keys, fixed = options.parse(overrides, reading.table, findings)
        root = options.one_spelling(read_document(self._path, reading, self._name), findings)
        for key, value in keys.items():
            root = options.put(root, key, value, findings)
        reading.files[self._name], reading.files[options.OPTION] = root, fixed
        parts, fragments = self._read(root, fixed)
        check_whole(root, parts, fragments, reading)
        findings.raise_any()
        campaign = _validated(parts, root, findings)
        return LoadedCampaign(
            campaign=campaign,
            path=self._path,
            rootdir=reading.rootdir,
            key=campaign_key(self._name),
            fragments=tuple(fragments),
            notes=notes_on(campaign, findings, (self._table, reading.table)),
            sha256=_digest(reading.files),
            document=root,
        )

    def _read(self, root: Node, fixed: Node) -> tuple[dict[str, Any], list[SourcedFragment]]:
        """Return the campaign as its schema has it, and the explicit experiments."""
        reading = self._reading
        settings = self._settings(root)
        specs = reading.specs(settings.get("grid.backends", ())) or list(reading.backends.values())
        winning = section_values(fixed, "", reading, specs)
        defaults, dataset = self._defaults()
        targets = reading.specs([defaults.get("backend", DEFAULT_BACKEND)])
        files = configs(self._node("configs"), reading, targets)
        entries = experiments(self._node("experiments"), reading, targets)
        fragments = [sourced for _, sourced in (*files, *entries)]
        parts = nest(settings | dataset) | {
            "defaults": nest(overlay(defaults, winning)),
            "configs": tuple(name for name, _ in files),
            "experiments": tuple(entry for entry, _ in entries),
        }
        if parts.get("grid") is not None or any(name.startswith("grid.") for name in self._apart):
            grid = parts.get("grid") or {}
            parts["grid"] = options.without(grid | self._axes(specs), winning, specs)
        fragments = let_campaign_win(fragments, parts, reading)
        return parts, [replace(each, fragment=cut(each.fragment, winning)) for each in fragments]

    def _settings(self, root: Node) -> dict[str, Any]:
        """Return the checked values of the keys that stand for themselves; keep the others."""
        plain = []
        for entry in v1.campaign_entries(flat(root, self._table.sections), self._findings):
            if entry.name in self._apart:
                first = self._apart[entry.name].mark
                self._findings.problem(entry.mark, f"{entry.path}: already set at {first}")
            elif entry.name in _READ_APART:
                self._apart[entry.name] = entry
            else:
                plain.append(entry)
        settings = settle(plain, self._table, self._findings)
        self._findings.written |= settings.keys()
        return settings

    def _node(self, name: str) -> Node:
        entry = self._apart.get(name)
        return Node(None, self._reading.files[self._name].mark) if entry is None else entry.node

    def _defaults(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return `defaults` by dotted name, joined by what the campaign's `dataset` says beside a name."""
        everyone = list(self._reading.backends.values())
        defaults = section_values(self._node("defaults"), "defaults", self._reading, everyone)
        if "dataset" not in self._apart:
            return defaults, {}
        entry = self._apart["dataset"]
        wrapped = Node({"dataset": entry.node}, entry.mark, marks={"dataset": entry.mark})
        values = section_values(wrapped, "", self._reading, ())
        name = values.pop("dataset.name", None)
        keys = self._reading.table.keys
        more = {key: value for key, value in values.items() if key in keys and value != keys[key].default}
        return overlay(more, defaults) if "dataset.name" not in defaults else defaults, {"dataset": name}

    def _axes(self, specs: Sequence[BackendSpec]) -> dict[str, Any]:
        section = GridSection(self._reading, specs)
        section.read_shared(self._node("grid.shared"), "grid.shared")
        section.read_bundles(self._node("grid.bundles"), "grid.bundles")
        return {
            "shared": section.shared,
            "bundles": section.bundles,
            "backend_overrides": section.overrides(
                self._node("grid.backend_overrides"), "grid.backend_overrides"
            ),
            "exclude": section.exclusions(self._node("grid.exclude"), "grid.exclude"),
        }


def _validated(parts: Mapping[str, Any], root: Node, findings: Findings) -> Campaign:
    """Return the campaign as a schema object; what only the whole schema objects to is placed as well."""
    try:
        return Campaign.model_validate(parts)
    except ValidationError as error:
        for path, node, words in complaints(error, root):
            findings.problem(node.mark, f"{'.'.join(map(str, path)) or 'campaign'}: {words}")
    raise UnreadableError


def campaign_key(name: str) -> str:
    """Return the name of a campaign's folder among results and cache.

    Args:
        name: the path below the root folder, with `/`.
    """
    stem = name.removesuffix(Path(name).suffix)
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")[:_KEY_CHARACTERS]
    return f"{slug}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:6]}".lstrip("-")


def _digest(files: Mapping[str, Node]) -> str:
    said = json.dumps({name: node.plain() for name, node in files.items()})
    return hashlib.sha256(said.encode()).hexdigest()

"""What can only be judged of a campaign as a whole: something to measure, a model, names that exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_llem.campaign.document import Mark, Node
from pytest_llem.campaign.files import Reading, settled_below
from pytest_llem.campaign.findings import did_you_mean
from pytest_llem.campaign.fragments import SourcedFragment
from pytest_llem.campaign.schema import Fragment
from pytest_llem.records import METRICS

_SOURCES = ("grid", "configs", "experiments")


def check_whole(
    root: Node, parts: Mapping[str, Any], fragments: Sequence[SourcedFragment], reading: Reading
) -> None:
    """Keep what is wrong between the keys of a campaign.

    Args:
        root: the document, for places and for what was written.
        parts: the campaign as its schema has it, without what is wrong in itself.
        fragments: the explicit experiments.
        reading: takes the problems.
    """
    written = {key: child for key, _, child in root.entries() if child.value is not None}
    _name(root, written, reading)
    _sources(root, written, reading)
    _models(root, written, parts, fragments, reading)
    _metrics(written.get("expect"), reading)
    _results_dir(root, parts.get("io", {}).get("results_dir"), reading)


def _name(root: Node, written: Mapping[str, Node], reading: Reading) -> None:
    if any(key == "campaign_name" for key, _, _ in root.entries()):
        return
    hint = ""
    if "model_name" in written or "config_name" in written:
        hint = "; this looks like an experiment file: name it under `configs` of a campaign"
    reading.findings.problem(root.mark, f"campaign_name: the key is missing{hint}")


def _sources(root: Node, written: Mapping[str, Node], reading: Reading) -> None:
    findings = reading.findings
    if not any(child.value and key.partition(".")[0] in _SOURCES for key, child in written.items()):
        example = f"`grid: {{backends: [{next(iter(reading.backends), 'pytorch')}]}}`"
        findings.problem(root.mark, f"nothing to measure: add {example}, or `experiments`, or `configs`")
    elif "grid" in written or "grid.backends" in written:
        _backends(root, written, reading)


def _backends(root: Node, written: Mapping[str, Node], reading: Reading) -> None:
    """Look for unknown names in `grid.backends`, which may be written with a dot."""
    steps, backends = root.follow(("grid", "backends"))
    backends = backends if len(steps) == 2 else written.get("grid.backends", Node(None, root.mark))
    if len(steps) < 2 and "grid.backends" not in written:
        reading.findings.problem(root.marks["grid"], "grid.backends: the key is missing; name one or more")
    for position, item in enumerate(backends.value if isinstance(backends.value, list) else ()):
        if isinstance(item.value, str) and item.value not in reading.backends:
            message = f"no such backend is installed{did_you_mean(item.value, reading.backends)}"
            reading.findings.problem(item.mark, f"grid.backends[{position}]: {message}")


def _models(
    root: Node,
    written: Mapping[str, Node],
    parts: Mapping[str, Any],
    fragments: Sequence[SourcedFragment],
    reading: Reading,
) -> None:
    """Look for a model for the grid and for each explicit experiment."""
    if "model" in written or parts["defaults"].get("model_name"):
        return
    add = "add `model:` with a hub id or a folder"
    grid = parts.get("grid")
    if grid and not _sets_model(grid):
        reading.findings.problem(
            root.marks.get("grid", root.mark), f"grid: no model is given; {add}, or grid.models"
        )
    for each in fragments:
        if not each.fragment.get("model_name"):
            reading.findings.problem(each.where, f"model_name: no model is given; write it here, or {add}")


def _sets_model(grid: Mapping[str, Any]) -> bool:
    def all_set(fragments: Sequence[Fragment]) -> bool:
        return bool(fragments) and all(fragment.get("model_name") for fragment in fragments)

    bundled = any(all_set(list(labels.values())) for labels in grid["bundles"].values())
    return bool(grid.get("models") or "model_name" in grid["shared"] or bundled) or all_set(
        list(grid["backend_overrides"].values())
    )


def _metrics(expect: Node | None, reading: Reading) -> None:
    for name, mark, _ in expect.entries() if expect else ():
        if name not in METRICS:
            reading.findings.problem(mark, f"expect.{name}: no such metric{did_you_mean(name, METRICS)}")


def _results_dir(root: Node, results_dir: str | None, reading: Reading) -> None:
    """Results lie below the root folder, or anywhere if the path is absolute."""
    if results_dir is None:
        return
    place = root.follow(("io", "results_dir"))[1].mark if root.follow(("io",))[0] else Mark("io.results_dir")
    message = None
    if not results_dir.strip() or not results_dir.isprintable():
        message = "write the path of a folder"
    elif results_dir.startswith("~"):
        message = "'~' is not expanded; write ${HOME} or the whole path"
    elif not Path(results_dir).is_absolute() and not settled_below(
        reading.rootdir / results_dir, reading.rootdir
    ):
        message = f"{results_dir} leads out of the root folder; write a path below it, or an absolute one"
    if message:
        reading.findings.problem(place, f"io.results_dir: {message}")

"""`--campaign-set KEY=VALUE`: a key of the campaign, or an experiment key that wins over all in the file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign import v1
from pytest_llem.campaign.document import Mark, Node, compose
from pytest_llem.campaign.entries import cut
from pytest_llem.campaign.findings import Findings, UnreadableError, did_you_mean
from pytest_llem.campaign.keys import BATCH_SIZE, resolve_axis
from pytest_llem.campaign.schema import Campaign
from pytest_llem.campaign.tables import Table

OPTION = "--campaign-set"
_ELSEWHERE = {"backend": "set grid.backends", "config_name": "it names one experiment"}
_SHORT_FORMS = {"model": "model_name", "num_samples": "num_input_prompts", "dataset": "dataset"}


def parse(overrides: Iterable[str], experiment: Table, findings: Findings) -> tuple[dict[str, Node], Node]:
    """Return the campaign keys that options set, and the experiment keys as one mapping.

    Args:
        overrides: each `KEY=VALUE`, the value as YAML would have it.
        experiment: the experiment keys.
        findings: takes what is wrong, at the option.
    """
    campaign: dict[str, Node] = {}
    keys = Node({}, Mark(OPTION))
    for override in overrides:
        key, equals, text = override.partition("=")
        mark = Mark(f"{OPTION} {key}")
        if not equals or not key:
            findings.problem(f"{OPTION} {override}", "write KEY=VALUE, such as execution.cycles=7")
            continue
        if not text.strip():
            findings.problem(mark, "the value is empty; null sets the default")
            continue
        try:
            value = compose(text, mark.source, findings, lines=False) or Node(None, mark)
        except UnreadableError:
            continue
        name = _SHORT_FORMS.get(key, key)
        first = key.partition(".")[0]
        if name in _ELSEWHERE:
            findings.problem(mark, f"{key}: not as an option; {_ELSEWHERE[name]}")
        elif first in Campaign.model_fields and first not in _SHORT_FORMS:
            campaign[key] = value
        elif _is_experiment_key(name, experiment):
            assert isinstance(keys.value, dict)
            keys.value[name], keys.marks[name] = value, mark
        else:
            known = [*Campaign.model_fields, *experiment.keys]
            findings.problem(mark, f"{key}: unknown key{did_you_mean(key, known)}")
    return campaign, keys


def one_spelling(root: Node, findings: Findings) -> Node:
    """Return a campaign in which `grid.axes` is spelled `grid.shared`."""
    grid = root.follow(("grid",))[1]
    if grid is root or not isinstance(grid.value, dict) or "axes" not in grid.value:
        return root
    if "shared" in grid.value:
        findings.problem(
            grid.marks["axes"], "grid.axes: another name for grid.shared; put all axes into one of them"
        )
    children = {_spelled(key): child for key, child in grid.value.items()}
    marks = {_spelled(key): mark for key, mark in grid.marks.items()}
    return put(root, "grid", Node(children, grid.mark, marks=marks), findings)


def _spelled(key: str) -> str:
    return "shared" if key == "axes" else key


def _is_experiment_key(name: str, table: Table) -> bool:
    first = name.partition(".")[0]
    return name == BATCH_SIZE or name in v1.RENAMED or first in table.sections or first in table.keys


def put(root: Node, key: str, value: Node, findings: Findings) -> Node:
    """Return a document in which a dotted key has another value; the given one is left as it is."""
    axis = re.fullmatch(r"grid\.(?:shared|axes)\.(.+)", key)
    return _put(root, ["grid", "shared", axis[1]] if axis else key.split("."), value, findings)


def _put(node: Node, steps: Sequence[str], value: Node, findings: Findings) -> Node:
    if not steps:
        return value
    if isinstance(node.value, list):
        findings.problem(value.mark, f"only a whole list can be set; leave out '.{'.'.join(steps)}'")
        return node
    children = dict(node.value) if isinstance(node.value, dict) else {}
    whole = ".".join(steps)
    step, rest = (whole, []) if whole in children else (steps[0], steps[1:])
    children[step] = _put(children.get(step, Node(None, value.mark)), rest, value, findings)
    return Node(children, node.mark, marks={**node.marks, step: node.marks.get(step, value.mark)})


def without(grid: Mapping[str, Any], names: Iterable[str], specs: Iterable[BackendSpec]) -> dict[str, Any]:
    """Return the keys of a grid without the axes that options have fixed.

    Args:
        grid: as the schema has it, values checked.
        names: dotted names of the experiment keys that options set.
        specs: the backends of the grid.
    """
    fixed, specs = set(names), list(specs)
    shared = {
        axis: values
        for axis, values in grid.get("shared", {}).items()
        if not {path for spec in specs if (path := resolve_axis(axis, spec))} <= fixed
    }
    bundles = {
        axis: {label: cut(settings, fixed) for label, settings in labels.items()}
        for axis, labels in grid.get("bundles", {}).items()
    }
    overrides = {
        backend: {name: values for name, values in keys.items() if name not in fixed}
        for backend, keys in grid.get("backend_overrides", {}).items()
    }
    models = None if "model_name" in fixed else grid.get("models")
    return {**grid, "models": models, "shared": shared, "bundles": bundles, "backend_overrides": overrides}

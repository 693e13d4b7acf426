"""What the header says of a valid campaign: keys without effect, and where v1's defaults were others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pytest_llem.campaign import v1
from pytest_llem.campaign.findings import Findings
from pytest_llem.campaign.schema import NOT_YET, Campaign, Notify
from pytest_llem.campaign.tables import Table


def notes_on(campaign: Campaign, findings: Findings, tables: Iterable[Table]) -> tuple[str, ...]:
    """Return all notes, one sentence each.

    Args:
        campaign: as it was read.
        findings: of the reading.
        tables: of the campaign's and of the experiments' keys.
    """
    notes = [*_not_yet(campaign, findings), *findings.notes]
    if campaign.cold_start.restart_container and not campaign.cold_start.force_cold_start:
        notes.append("cold_start.restart_container has no effect without cold_start.force_cold_start")
    if campaign.notify.on != Notify().on and campaign.notify.webhook_url is None:
        notes.append("notify.on has no effect without notify.webhook_url")
    if findings.without_effect:
        keys = ", ".join(findings.without_effect)
        notes.append(f"without effect here, known from llenergymeasure v1: {keys}")
    if findings.v1_keys and (others := list(_other_defaults(campaign, findings, tables))):
        notes.append(f"defaults that differ from llenergymeasure v1's: {', '.join(others)}")
    return tuple(notes)


def _not_yet(campaign: Campaign, findings: Findings) -> Iterator[str]:
    """Yield one note for all keys that wait for the same thing."""
    waiting: dict[str, list[str]] = {}
    changed = (*_changed(campaign.model_dump(), Campaign(campaign_name="-").model_dump()), *findings.not_yet)
    for name in changed:
        if reason := NOT_YET.get(_pattern(name)):
            waiting.setdefault(reason, []).append(name.removeprefix("defaults."))
    for reason, names in waiting.items():
        verb, pronoun = ("has", "it comes") if len(names) == 1 else ("have", "they come")
        yield f"{', '.join(names)} {verb} no effect yet: {pronoun} with {reason}"


def _pattern(name: str) -> str:
    """Return a key as `NOT_YET` writes it."""
    return re.sub(r"^services\.[^.]*\.([^.]*)$", r"services.*.\1", name)


def _changed(values: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of the values that are not the default."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and key != "defaults":
            yield from _changed(value, defaults.get(key) or {}, f"{name}.")
        elif value != defaults.get(key) and value not in (None, (), {}):
            yield name


def _other_defaults(campaign: Campaign, findings: Findings, tables: Iterable[Table]) -> Iterator[str]:
    """Yield both defaults of what was left open, the parameters of a backend only where that is used."""
    defaults = {name: key.default for table in tables for name, key in table.keys.items()}
    prompts_counted = findings.written & {"num_samples", "dataset.sample_size"}
    sections = {
        *(campaign.grid.backends if campaign.grid else ()),
        *(name.partition(".")[0] for name in findings.written),
    }
    for name, theirs in v1.DEFAULTS.items():
        if name in findings.written or (name == "num_input_prompts" and prompts_counted):
            continue
        if not name.startswith("vllm.") or "vllm" in sections:
            yield f"{name} {_shown(defaults[name])} (v1: {_shown(theirs)})"


def _shown(value: Any) -> str:
    return (
        f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    )

"""The points of a campaign before they are judged: the parts of each, with its place on every axis.

Parts are made of a fragment. That is built from the general to the particular: the short forms `model`,
`dataset` and `num_samples`, then `defaults`, then an experiment's own keys, or in a grid (`blocks`) bundles,
shared axes and overrides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.fragments import DEFAULT_BACKEND
from pytest_llem.campaign.loader import LoadedCampaign
from pytest_llem.campaign.parts import Parts, parts_of
from pytest_llem.campaign.schema import Campaign, Fragment, Scalar


class Draft(NamedTuple):
    """A point before it is judged.

    Attributes:
        parts: what it sets.
        axes: `backend`, `model`, then its value on every axis, by the name without the backend's prefix.
        config_name: an explicit experiment's own name.
        sections: backends whose sections an explicit experiment sets itself.
        excluded: by which entries of `grid.exclude`.
    """

    spec: BackendSpec
    parts: Parts
    axes: dict[str, Scalar]
    config_name: str | None = None
    sections: frozenset[str] = frozenset()
    excluded: tuple[str, ...] = ()


# --- Layers ---


def over(base: Fragment, *fragments: Fragment) -> Fragment:
    """Return `base` with the keys of one fragment after the other laid over it.

    Mappings of fields (`decoder`, a backend's section) are joined; a mapping that is itself a value, such as
    `pytorch.quantization_config`, is replaced.
    """
    joined = dict(base)
    for fragment in fragments:
        for key, value in fragment.items():
            below = joined.get(key)
            joined[key] = {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value
    return joined


def layered(base: Fragment, *layer: Fragment) -> Fragment:
    """Return `over(base, *layer)`, where `dataset.sample_size` also sets the number of prompts.

    That is unless the same layer sets `num_input_prompts`.
    """
    joined = over(base, *layer)
    if not any("num_input_prompts" in fragment for fragment in layer):
        for fragment in layer:
            if size := (fragment.get("dataset") or {}).get("sample_size"):
                joined["num_input_prompts"] = size
    return joined


def common(campaign: Campaign) -> Fragment:
    """Return what holds for every point: the short forms and `defaults`, but for a name."""
    short = {
        "model_name": campaign.model,
        "dataset": campaign.dataset and {"name": campaign.dataset},
        "num_input_prompts": campaign.num_samples,
    }
    base = layered({key: value for key, value in short.items() if value is not None}, campaign.defaults)
    base.pop("config_name", None)
    return base


def whole(fragment: Fragment, spec: BackendSpec) -> Fragment:
    """Return a fragment that names its backend and has a section for it."""
    return {**fragment, "backend": spec.name, spec.name: fragment.get(spec.name, {})}


# --- Explicit experiments ---

IDENTIFIERS = {"config_name", "backend", "model_name"}
"""Keys of an experiment that are no axes."""


def explicit(loaded: LoadedCampaign, backends: Mapping[str, BackendSpec]) -> list[Draft]:
    """Return the experiments that the campaign spells out, in the order of the file.

    Every key that one of them sets is an axis of all of them.
    """
    base = common(loaded.campaign)
    names: dict[str, None] = {}
    drafts = []
    for sourced in loaded.fragments:
        fragment = layered(base, sourced.fragment)
        spec = backends[fragment.pop("backend", DEFAULT_BACKEND)]
        names |= dict.fromkeys(_flat(sourced.fragment, spec, backends))
        drafts.append(
            Draft(
                spec=spec,
                axes=_flat(fragment, spec, backends),
                config_name=fragment.pop("config_name", None),
                parts=parts_of(whole(fragment, spec), spec, backends),
                sections=frozenset(backends.keys() & sourced.fragment.keys()),
            )
        )
    return [draft._replace(axes=_chosen(draft, names)) for draft in drafts]


def _flat(fragment: Fragment, spec: BackendSpec, backends: Mapping[str, BackendSpec]) -> dict[str, Scalar]:
    """Return the keys that matter to a backend by dotted name, those of its own section without prefix."""
    flat: dict[str, Scalar] = {}
    for key, value in fragment.items():
        if key == spec.name:
            flat |= {name: shown(inner) for name, inner in value.items()}
        elif isinstance(value, dict) and key not in backends:
            flat |= {f"{key}.{name}": shown(inner) for name, inner in value.items()}
        elif key not in backends and key not in IDENTIFIERS:
            flat[key] = shown(value)
    return flat


def _chosen(draft: Draft, names: Iterable[str]) -> dict[str, Scalar]:
    model = draft.parts["model_name"].value if "model_name" in draft.parts else ""
    place: dict[str, Scalar] = {"backend": draft.spec.name, "model": model}
    return place | {name: draft.axes[name] for name in names if name in draft.axes}


def shown(value: Any) -> Scalar:
    """Return a value as tables show it: a list or a mapping becomes JSON."""
    return value if isinstance(value, Scalar) else json.dumps(value, separators=(",", ":"))

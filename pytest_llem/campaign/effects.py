"""Leaves out of points what has no effect in them, so that points which differ in nothing else are one."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_llem.campaign.drafts import Draft
from pytest_llem.campaign.parts import reset
from pytest_llem.campaign.rules import Idle, place_of


def without(draft: Draft, idle: Sequence[Idle]) -> Draft:
    """Return a draft in which these keys have their defaults and are no axes."""
    by_part: dict[str, set[str]] = {}
    for one in idle:
        if one.value is not None:
            name, key = place_of(one.key)
            by_part.setdefault(name, set()).add(key)
    named = {one.key for one in idle if one.key in draft.axes}
    if not by_part and not named:
        return draft
    changed = {
        name: reset(draft.parts[name], name, frozenset(keys), draft.spec) for name, keys in by_part.items()
    }
    axes = {name: value for name, value in draft.axes.items() if name not in named}
    return draft._replace(parts={**draft.parts, **changed}, axes=axes)


def difference(some: Sequence[Idle], others: Sequence[Idle]) -> str:
    """Return the keys in which two points differ that else are equal, and why they have no effect; "" for none."""
    values = {one.key: one.value for one in others}
    differing = [one for one in some if one.value != values.get(one.key)]
    return " and ".join(f"{one.key}, which has no effect {one.why}" for one in differing)

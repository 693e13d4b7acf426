"""The backends that are installed, found by their entry points."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from pytest_llem.backends.base import BackendSpec

GROUP = "pytest_llem.backends"


@cache
def registered() -> dict[str, BackendSpec]:
    """Return every registered backend by name, in the order of names.

    A spec that cannot be imported raises: a plug-in that is installed and broken should be heard.
    """
    specs = {point.name: point.load() for point in entry_points(group=GROUP)}
    return dict(sorted(specs.items()))

"""How long the windows of an experiment last, as far as a campaign says so before anything is measured."""

from __future__ import annotations

from pytest_llem.campaign.schema import Window
from pytest_llem.records import Configuration


def least_s(wanted: Configuration, window: Window) -> float:
    """Return how long they last at least: the requests that `load.requests` waits for may all be complete at once."""
    return 0.0 if wanted.load.requests else wanted.windows * window.seconds


def likely_s(wanted: Configuration, window: Window) -> float | None:
    """Return how long they are likely to last.

    Until `load.requests` have come where those decide; None: they come as fast as the engine completes them, which
    is not known before it is measured.
    """
    load = wanted.load
    if load.requests is None:
        return wanted.windows * window.seconds
    return load.requests / load.rate if load.rate else None

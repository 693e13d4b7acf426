"""From a point to the order of a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_llem.backends.registry import registered
from pytest_llem.campaign.grid import Point
from pytest_llem.campaign.schema import Campaign
from pytest_llem.executors.orders import LEAST_RUN_TIMEOUT_S, OrderBook, Supplies
from pytest_llem.records import Configuration, Load, Prefill


def timeout_s(folder: Path, seconds: float, **settings: Any) -> float:
    """Return what an experiment with these settings has for its windows of `window.seconds`."""
    campaign = Campaign.model_validate({"campaign_name": "sizes", "window": {"seconds": seconds}})
    wanted = Configuration(backend="pytorch", model_name="random:nowhere", parameters={}, **settings)
    point = Point("a", "a", {}, wanted, spec_hash="a", engine_key="a", verdict="valid", reasons=())
    book = OrderBook(campaign, folder, registered())
    order = book.order(point, experiment_id="a", launch="a", supplies=Supplies(None, None))
    return order.timeouts.run_s


@pytest.mark.parametrize(
    ("seconds", "prefill", "run_s"),
    [(1, False, LEAST_RUN_TIMEOUT_S), (1, True, LEAST_RUN_TIMEOUT_S), (100, False, 1000), (100, True, 2000)],
)
def test_each_window_is_given_its_time(tmp_path: Path, seconds: float, prefill: bool, run_s: float) -> None:
    """Without a timeout of its own an experiment has ten times its windows, two with `prefill.enabled`."""
    assert timeout_s(tmp_path, seconds, prefill=Prefill(enabled=prefill)) == run_s


@pytest.mark.parametrize(
    ("load", "run_s"),
    [
        (Load(mode="constant", rate=1, requests=3600), 36_000),
        (Load(mode="constant", rate=1, requests=10), 1000),
        (Load(mode="closed", concurrency=1, requests=3600), 1000),
    ],
)
def test_requests_are_given_the_time_to_come(tmp_path: Path, load: Load, run_s: float) -> None:
    """A window that `load.requests` end has ten times the time in which they come, and no less than any other."""
    assert timeout_s(tmp_path, 100, load=load) == run_s

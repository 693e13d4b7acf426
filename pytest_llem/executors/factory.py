"""Makes the executor that a session has chosen, and the orders as its workers see the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pytest_llem.backends.registry import registered
from pytest_llem.campaign.grid import Point
from pytest_llem.campaign.schema import Campaign
from pytest_llem.executors.base import Executor
from pytest_llem.executors.compose.executor import ComposeExecutor, ComposeSetup
from pytest_llem.executors.compose.files import mounted
from pytest_llem.executors.local import LocalExecutor
from pytest_llem.executors.orders import OrderBook


class Workplace(NamedTuple):
    """Where the experiments of a session run, and who writes their orders."""

    executor: Executor
    orders: OrderBook


def in_child_processes(campaign: Campaign, rootdir: Path, points: Sequence[Point]) -> Workplace:
    """Return a workplace of child processes."""
    backends = registered()
    start_timeout_s = _start_timeout_s(campaign, points)
    executor = LocalExecutor(backends, campaign.services, start_timeout_s, rootdir)
    return Workplace(executor, OrderBook(campaign, rootdir, backends))


def in_containers(
    campaign: Campaign,
    rootdir: Path,
    points: Sequence[Point],
    *,
    setup: ComposeSetup,
    session_id: str,
    say: Callable[[str], None],
) -> Workplace:
    """Return a workplace of Compose services; see `ComposeExecutor`."""
    backends = registered()
    orders = OrderBook(campaign, rootdir, backends, place=mounted)
    executor = ComposeExecutor(
        setup,
        backends,
        campaign.services,
        start_timeout_s=_start_timeout_s(campaign, points),
        rootdir=rootdir,
        session_id=session_id,
        gpus=None,
        inputs=orders.inputs(points),
        say=say,
    )
    return Workplace(executor, orders)


def _start_timeout_s(campaign: Campaign, points: Sequence[Point]) -> float:
    backends = registered()
    slowest_s = max((backends[p.configuration.backend].engine_start_timeout_s for p in points), default=0.0)
    return campaign.execution.start_timeout_seconds or slowest_s

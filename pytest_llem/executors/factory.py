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
from pytest_llem.executors.gpu_choice import GpuChoice
from pytest_llem.executors.local import LocalExecutor
from pytest_llem.executors.orders import OrderBook
from pytest_llem.executors.placement import Placement


class Workplace(NamedTuple):
    """Where the experiments of a session run, and who writes their orders."""

    executor: Executor
    orders: OrderBook


def in_child_processes(
    campaign: Campaign, rootdir: Path, points: Sequence[Point], placement: Placement
) -> Workplace:
    """Return a workplace of child processes; see `LocalExecutor`."""
    backends = registered()
    executor = LocalExecutor(
        backends,
        campaign.services,
        _start_timeout_s(campaign, points),
        rootdir,
        visible=lambda backend: placement.of(backend).visible,
    )
    return Workplace(executor, OrderBook(campaign, rootdir, backends, devices=placement.devices))


def in_containers(
    campaign: Campaign,
    rootdir: Path,
    points: Sequence[Point],
    placement: Placement,
    *,
    setup: ComposeSetup,
    session_id: str,
    say: Callable[[str], None],
) -> Workplace:
    """Return a workplace of Compose services; see `ComposeExecutor`."""
    backends = registered()
    orders = OrderBook(campaign, rootdir, backends, place=mounted, devices=placement.devices)
    executor = ComposeExecutor(
        setup,
        backends,
        campaign.services,
        start_timeout_s=_start_timeout_s(campaign, points),
        rootdir=rootdir,
        session_id=session_id,
        gpus=lambda backend: _reserved(placement.of(backend)),
        inputs=orders.inputs(points),
        say=say,
    )
    return Workplace(executor, orders)


def _reserved(choice: GpuChoice) -> Sequence[str] | None:
    """Return the GPUs to reserve; None where this machine knows of none: the engine may be on another one."""
    return None if choice.visible is None else choice.uuids


def _start_timeout_s(campaign: Campaign, points: Sequence[Point]) -> float:
    backends = registered()
    slowest_s = max((backends[p.configuration.backend].engine_start_timeout_s for p in points), default=0.0)
    return campaign.execution.start_timeout_seconds or slowest_s

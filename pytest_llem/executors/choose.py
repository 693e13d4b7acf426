"""Which executor a session takes, and why, in words for the header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pytest_llem.campaign.schema import Service
from pytest_llem.executors.base import ExecutorError
from pytest_llem.executors.compose.executor import ComposeExecutor
from pytest_llem.executors.local import LocalExecutor

CHILD_PROCESSES = "child processes of this session"
CONTAINERS = "containers of this session"


class ExecutorChoice(NamedTuple):
    """The name of an executor, and where it runs experiments and why it was taken."""

    name: str
    reason: str


def choose(
    asked: str,
    backends: Sequence[str],
    rootdir: Path,
    services: Mapping[str, Service],
    *,
    continued: str | None,
) -> ExecutorChoice:
    """Return the executor for `--campaign-executor`.

    Args:
        asked: `local`, `compose`, or `auto`: compose if an engine and all images are here.
        backends: that have experiments.
        rootdir: of the project; its own Compose files and `.env` count.
        services: `services.<backend>` of the campaign.
        continued: the executor of the run or series that goes on: half of it here and half there would be two.
    """
    if asked == LocalExecutor.name:
        return ExecutorChoice(asked, CHILD_PROCESSES)
    if asked == ComposeExecutor.name:
        return ExecutorChoice(asked, CONTAINERS)
    if continued is not None:
        where = CONTAINERS if continued == ComposeExecutor.name else CHILD_PROCESSES
        return ExecutorChoice(continued, f"{where}; as in the run or series that goes on")
    obstacle = _obstacle(backends, rootdir, services)
    if obstacle is None:
        return ExecutorChoice(ComposeExecutor.name, f"{CONTAINERS}; auto: the engine and the images are here")
    return ExecutorChoice(LocalExecutor.name, f"{CHILD_PROCESSES}; auto: {obstacle}")


def _obstacle(backends: Sequence[str], rootdir: Path, services: Mapping[str, Service]) -> str | None:
    """Return why experiments cannot run in containers here, or None."""
    from pytest_llem.executors.compose import look  # noqa: PLC0415 - Docker is asked for `auto` alone

    try:
        return look.obstacle(backends, rootdir, services)
    except ExecutorError as error:
        return str(error)

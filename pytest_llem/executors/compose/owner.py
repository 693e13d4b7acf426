"""Whose a container is. Each carries its session's process in a label, so that leftovers of dead ones are found."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from pytest_llem.executors.compose.engine import DockerMissing, ask
from pytest_llem.executors.compose.project import client_of

if TYPE_CHECKING:
    import psutil
    from python_on_whales import Container, DockerClient

SESSION_LABEL = "org.pytest-llem.session"
OWNER_LABEL = "org.pytest-llem.owner"
KEEP_LABEL = "org.pytest-llem.keep"
"""On containers that `--campaign-keep-containers` leaves behind on purpose."""


class Owner(NamedTuple):
    """A process, told apart from later ones with its number.

    Attributes:
        host: name of the machine.
        pid_namespace: of the process; in another one its number means something else.
        pid, started: number and start time (s since the epoch, to 10 ms).
    """

    host: str
    pid_namespace: str
    pid: int
    started: str

    @classmethod
    def this_process(cls) -> Self:
        """Return ourselves."""
        import psutil  # noqa: PLC0415 - not to collect

        me = psutil.Process()
        return cls(socket.gethostname(), str(Path("/proc/self/ns/pid").readlink()), me.pid, _started(me))

    @classmethod
    def from_label(cls, label: str) -> Self | None:
        """Return who wrote a label; None for text that is none of ours."""
        parts = label.split(" ")
        if len(parts) != len(cls._fields) or not parts[2].isdigit():
            return None
        return cls(parts[0], parts[1], int(parts[2]), parts[3])

    def to_label(self) -> str:
        """Return the label's value."""
        return " ".join(map(str, self))

    def is_dead(self) -> bool:
        """Return whether it is sure that the process has ended. Of another machine's nobody here knows."""
        import psutil  # noqa: PLC0415 - not to collect

        mine = Owner.this_process()
        if (self.host, self.pid_namespace) != (mine.host, mine.pid_namespace):
            return False
        try:
            return _started(psutil.Process(self.pid)) != self.started
        except psutil.NoSuchProcess:
            return True


def _started(process: psutil.Process) -> str:
    return f"{process.create_time():.2f}"


def sweep(client: DockerClient, say: Callable[[str], None]) -> None:
    """Remove the containers of sessions that are dead and did not ask to keep them, and say so.

    What cannot be removed now is left to the next session.
    """
    from python_on_whales.exceptions import DockerException  # noqa: PLC0415 - for sessions in containers only

    ours: list[Container] = []
    with contextlib.suppress(DockerException):
        ours = client.container.list(all=True, filters=[("label", OWNER_LABEL)])
    for container in ours:
        with contextlib.suppress(DockerException):  # its session, or another one that sweeps, was quicker
            if _is_left(container):
                name = container.name
                container.remove(force=True, volumes=True)
                say(f"removed {name}, left by a session that is dead")


def tidy_up(say: Callable[[str], None]) -> None:
    """Sweep if there is an engine: for a session that continues a run in containers and has nothing to run."""
    with contextlib.suppress(DockerMissing):
        ask(client_of())
        sweep(client_of(), say)


def _is_left(container: Container) -> bool:
    labels = container.config.labels or {}
    owner = Owner.from_label(labels.get(OWNER_LABEL, ""))
    return owner is not None and owner.is_dead() and KEEP_LABEL not in labels

"""Whose a container is. Each carries its session's process in a label, so that leftovers of dead ones are found."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

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


def sweep(client: DockerClient) -> list[str]:
    """Remove the containers of sessions that are dead and did not ask to keep them; return their names."""
    from python_on_whales.exceptions import DockerException  # noqa: PLC0415 - for sessions in containers only

    removed = []
    for container in client.container.list(all=True, filters=[("label", OWNER_LABEL)]):
        with contextlib.suppress(DockerException):  # its session, or another one that sweeps, was quicker
            if _is_left(container):
                name = container.name
                client.container.remove(container, force=True, volumes=True)
                removed.append(name)
    return removed


def _is_left(container: Container) -> bool:
    labels = container.config.labels or {}
    owner = Owner.from_label(labels.get(OWNER_LABEL, ""))
    return owner is not None and owner.is_dead() and KEEP_LABEL not in labels

"""Whose a container is. Each carries its session's process in a label, so that leftovers of dead ones are found."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from pytest_llem.executors.compose.engine import DockerMissing, ask
from pytest_llem.executors.compose.project import client_of
from pytest_llem.worker.machine import boot_id

if TYPE_CHECKING:
    from python_on_whales import Container, DockerClient, Network

SESSION_LABEL = "org.pytest-llem.session"
OWNER_LABEL = "org.pytest-llem.owner"
KEEP_LABEL = "org.pytest-llem.keep"
"""On containers that `--campaign-keep-containers` leaves behind on purpose."""

PROJECT_LABEL = "com.docker.compose.project"
"""Compose's own, on all that it makes."""


class Owner(NamedTuple):
    """A process, told apart from later ones with its number.

    Attributes:
        host: name of the machine.
        pid_namespace: of the process; in another one its number means something else.
        pid: its number.
        started: the boot of the machine, and clock ticks from there to the process's start. Both stay what they
            are when the clock of the machine is set.
    """

    host: str
    pid_namespace: str
    pid: int
    started: str

    @classmethod
    def this_process(cls) -> Self:
        """Return ourselves."""
        pid = os.getpid()
        return cls(socket.gethostname(), str(Path("/proc/self/ns/pid").readlink()), pid, _started(pid))

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
        mine = Owner.this_process()
        if (self.host, self.pid_namespace) != (mine.host, mine.pid_namespace):
            return False
        try:
            return _started(self.pid) != self.started
        except OSError:  # it has ended, or `hidepid` hides it
            return not _exists(self.pid)


def _started(pid: int) -> str:
    """Return boot and start time of a process: field 22 of proc_pid_stat(5), where a name may hold anything."""
    _, _, after_name = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")
    return f"{boot_id()}+{after_name.split()[19]}"


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        pass
    return True


def tidy_up(say: Callable[[str], None]) -> None:
    """Remove the projects of sessions that are dead and did not ask to keep them, and say so.

    A project is its services, those that they depend on, and its networks; named volumes stay. What cannot be
    removed now is left to the next session.
    """
    from python_on_whales.exceptions import DockerException  # noqa: PLC0415 - for sessions in containers only

    client = client_of()
    with contextlib.suppress(DockerMissing, DockerException):
        ask(client)
        for project in _left(client):
            label = f"{PROJECT_LABEL}={project}"
            for container in client.container.list(all=True, filters=[("label", label)]):
                _remove(container, partial(container.remove, force=True, volumes=True), say)
            for network in client.network.list(filters=[("label", label)]):
                _remove(network, network.remove, say)


def _left(client: DockerClient) -> list[str]:
    """Return the projects of which no container has an owner that lives, or wants it kept."""
    from python_on_whales.exceptions import DockerException  # noqa: PLC0415 - see `tidy_up`

    left: dict[str, bool] = {}
    for container in client.container.list(all=True, filters=[("label", OWNER_LABEL)]):
        with contextlib.suppress(DockerException):  # it has just been removed
            labels = container.config.labels or {}
            project = labels.get(PROJECT_LABEL, "")
            left[project] = left.get(project, True) and _is_left(labels)
    return [project for project, is_left in left.items() if is_left]


def _is_left(labels: Mapping[str, str]) -> bool:
    owner = Owner.from_label(labels[OWNER_LABEL])
    return owner is not None and owner.is_dead() and KEEP_LABEL not in labels


def _remove(thing: Container | Network, remove: Callable[[], None], say: Callable[[str], None]) -> None:
    """Remove a thing and say so, unless its session, or another one that sweeps, is quicker."""
    from python_on_whales.exceptions import DockerException  # noqa: PLC0415 - see `tidy_up`

    with contextlib.suppress(DockerException):
        name = thing.name
        remove()
        say(f"removed {name}, left by a session that is dead")

"""How a container's processes are told as the host counts them: NVML names them so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from containers import Compose, missing

ASK = """
import json, sys
from pathlib import Path
from pytest_llem.executors.compose.project import Project, ProjectFiles
from pytest_llem.executors.compose.worker import ContainerWorker

project = Project(ProjectFiles("llem-tests", Path(), [], []))
worker = ContainerWorker(project, "abacus", "abacus", sys.argv[1], start_timeout_s=60, attach=False)
print(json.dumps([sorted(worker.on_host([worker.welcome.pid])), sorted(worker.pids())]))
"""


@pytest.fixture
def container(abacus_compose: Compose) -> Iterator[str]:
    """Give a container of the abacus."""
    with abacus_compose.running("abacus") as container:
        yield container


def seen_by(container: str, *under: str) -> tuple[set[int], set[int]]:
    """Return the server of a container and all its processes, by a process that is run under a command."""
    command = [*under, sys.executable, "-c", ASK, container]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    server, everyone = json.loads(done.stdout)
    return set(server), set(everyone)


def test_a_process_of_a_container_is_told_as_the_host_counts_it(container: str) -> None:
    """The number that a worker gives for itself leads to one process of this machine."""
    server, everyone = seen_by(container)
    (pid,) = server
    assert server < everyone
    assert "pytest_llem.worker" in psutil.Process(pid).cmdline()


def test_where_the_containers_processes_are_hidden_all_of_them_stand_for_one(container: str) -> None:
    """A session in a container of its own, which sees no processes of others, takes no engine for a stranger."""
    if os.geteuid() != 0:
        missing("root alone can make a PID namespace")
    server, everyone = seen_by(container, "unshare", "--pid", "--fork", "--mount-proc")
    assert server == everyone != set()

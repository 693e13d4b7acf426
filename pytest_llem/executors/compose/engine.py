"""Is there a Docker engine with Compose, may we use it, and does it know NVIDIA GPUs? One clear line each."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pytest_llem.executors.base import ExecutorError
from pytest_llem.executors.compose.ping import pings

if TYPE_CHECKING:
    from python_on_whales import DockerClient

NVIDIA_HOOK = "nvidia-container-runtime-hook"
"""Beside this program an engine serves `driver: nvidia` without a runtime of that name (moby, nvidia_linux.go)."""

OLDEST_COMPOSE = (2, 24, 4)
"""The first that knows `!override` (Compose file reference, "Merge Compose files")."""

ANSWER_WITHIN_S = 10.0
"""An engine that is well answers in milliseconds, under any load in seconds."""

NO_SUCH_COMMAND = ("is not a docker command", "unknown command: docker compose")
"""What docker commands say without Compose v2: older ones, and that of Docker 28."""


class DockerMissing(ExecutorError):
    """There is no engine to use; the sentence says what to do."""


class Engine(NamedTuple):
    """A Docker engine that answers.

    Attributes:
        version: of the server.
        has_nvidia: whether it can give GPUs to containers.
    """

    version: str
    has_nvidia: bool


def ask(client: DockerClient) -> Engine:
    """Return the engine that the docker client reaches.

    Raises:
        DockerMissing: there is no client, no engine, no permission, or no Compose plugin that is new enough.
    """
    from python_on_whales.exceptions import DockerException  # noqa: PLC0415 - for sessions in containers only

    if shutil.which("docker") is None:
        raise DockerMissing(
            "there is no `docker` command here: install Docker, or use --campaign-executor local"
        )
    if problem := is_gone():
        raise DockerMissing(problem)
    try:
        info = client.system.info()
        compose = client.compose.version()
    except DockerException as error:
        raise DockerMissing(_what_is_missing(error.stderr, error.return_code)) from error
    if problem := _too_old(compose):
        raise DockerMissing(problem)
    runtimes = info.runtimes or {}
    return Engine(info.server_version or "?", "nvidia" in runtimes or shutil.which(NVIDIA_HOOK) is not None)


def is_gone() -> str | None:
    """Return why the engine does not answer at this moment, or None.

    This is asked before python-on-whales is, which waits without end for an engine that hangs, and before each
    experiment: the engine's own ping takes a millisecond, a docker command fifty.
    """
    socket_path = _socket_path(os.environ.get("DOCKER_HOST"), os.environ.get("DOCKER_CONTEXT"))
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        if socket_path is not None and pings(socket_path, ANSWER_WITHIN_S):
            return None
        done = subprocess.run(  # noqa: S603 - no shell
            command, capture_output=True, check=False, text=True, timeout=ANSWER_WITHIN_S
        )
    except (TimeoutError, subprocess.TimeoutExpired):
        restart = "restart it (`sudo systemctl restart docker`)"
        return f"the Docker engine{_where()} says nothing for {ANSWER_WITHIN_S:g} s: {restart}"
    return _what_is_missing(done.stderr, done.returncode) if done.returncode else None


@lru_cache
def _socket_path(*_of: str | None) -> str | None:
    """Return the Unix socket behind the docker command's host or context; None where it has another way, or none."""
    command = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    try:
        done = subprocess.run(  # noqa: S603 - no shell
            command, capture_output=True, check=False, text=True, timeout=ANSWER_WITHIN_S
        )
    except subprocess.TimeoutExpired:
        return None
    scheme, _, path = done.stdout.strip().partition("://")
    return path if scheme == "unix" else None


def last_line(said: str | None, code: int) -> str:
    """Return what docker said last on its stderr, the reason after its progress; of silence, how it ended."""
    lines = [line.strip() for line in (said or "").splitlines() if line.strip()]
    return lines[-1] if lines else f"docker ended with {code}"


def _too_old(said: str) -> str | None:
    """Return why the Compose that says this of its version cannot be used, or None; a development build can."""
    found = re.search(r"\d+\.\d+\.\d+", said)
    if found is None or tuple(map(int, found[0].split("."))) >= OLDEST_COMPOSE:
        return None
    oldest = ".".join(map(str, OLDEST_COMPOSE))
    return f"Compose {found[0]} is too old: update the package docker-compose-plugin to {oldest} or newer"


def _what_is_missing(stderr: str | None, code: int) -> str:
    said = stderr or ""
    if "permission denied" in said:
        return (
            "no permission for the Docker engine's socket: run as a member of the group docker"
            " (`sudo usermod -aG docker $USER`, then log in again)"
        )
    if any(words in said for words in NO_SUCH_COMMAND):
        return "the docker command has no Compose v2: install the package docker-compose-plugin"
    if "Cannot connect" in said or "Is the docker daemon running" in said or "dial" in said:
        return f"no Docker engine answers{_where()}: start it (`sudo systemctl start docker`)"
    return f"the Docker engine cannot be used: {last_line(said, code)}"


def _where() -> str:
    return f" at {os.environ['DOCKER_HOST']}" if "DOCKER_HOST" in os.environ else ""

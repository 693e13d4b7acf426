"""Is there a Docker engine with Compose, may we use it, and does it know NVIDIA GPUs? One clear line each."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

from pytest_llem.executors.base import ExecutorError

if TYPE_CHECKING:
    from python_on_whales import DockerClient
    from python_on_whales.exceptions import DockerException

NVIDIA_HOOK = "nvidia-container-runtime-hook"
"""Beside this program an engine serves `driver: nvidia` without a runtime of that name (moby, nvidia_linux.go)."""


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
        DockerMissing: there is no client, no engine, no permission, or no Compose plugin.
    """
    from python_on_whales.exceptions import DockerException  # noqa: PLC0415 - for sessions in containers only

    if shutil.which("docker") is None:
        raise DockerMissing(
            "there is no `docker` command here: install Docker, or use --campaign-executor local"
        )
    try:
        info = client.system.info()
        client.compose.version()
    except DockerException as error:
        raise DockerMissing(_what_is_missing(error)) from error
    runtimes = info.runtimes or {}
    return Engine(info.server_version or "?", "nvidia" in runtimes or shutil.which(NVIDIA_HOOK) is not None)


def is_gone(client: DockerClient) -> str | None:
    """Return why the engine does not answer at this moment, or None."""
    try:
        ask(client)
    except DockerMissing as error:
        return str(error)
    return None


def last_line(error: DockerException) -> str:
    """Return what docker said last: the reason, after its progress."""
    lines = [line.strip() for line in (error.stderr or "").splitlines() if line.strip()]
    return lines[-1] if lines else f"docker ended with {error.return_code}"


def _what_is_missing(error: DockerException) -> str:
    said = (error.stderr or "") + (error.stdout or "")
    if "permission denied" in said:
        return (
            "no permission for the Docker engine's socket: run as a member of the group docker"
            " (`sudo usermod -aG docker $USER`, then log in again)"
        )
    if "compose" in error.docker_command and any(words in said for words in NO_SUCH_COMMAND):
        return "the docker command has no Compose v2: install the package docker-compose-plugin"
    if "Cannot connect" in said or "Is the docker daemon running" in said or "dial" in said:
        where = f" at {os.environ['DOCKER_HOST']}" if "DOCKER_HOST" in os.environ else ""
        return f"no Docker engine answers{where}: start it (`sudo systemctl start docker`)"
    return f"the Docker engine cannot be used: {last_line(error)}"

"""A real Docker engine as tests see it: whether it is there, its images, its containers."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

import psutil
import pytest

import pytest_llem
from pytest_llem.worker import client
from pytest_llem.worker.protocol import AnyRequest

PACKAGE = Path(pytest_llem.__file__).parent
SHIPPED = PACKAGE / "containers" / "docker-compose.yml"
CLIENT = Path(client.__file__).read_text()

BUILD_LIMIT_S = 3600
LIMIT_S = 120


class DockerError(AssertionError):
    """A docker command failed; the message is what it said last."""


def docker(
    *words: str,
    variables: Mapping[str, str] | None = None,
    folder: Path | None = None,
    limit_s: float = LIMIT_S,
) -> str:
    """Run a docker command and return its standard output."""
    done = subprocess.run(
        ["docker", *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=limit_s,
        env={**os.environ, **(variables or {})},
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise DockerError(f"docker {' '.join(words[:6])} ... ended with {done.returncode}:\n{said}")
    return done.stdout


def missing(what: str) -> NoReturn:
    """Skip where the tests run on somebody's machine; CI brings everything up (`.ci/run`)."""
    if os.environ.get("CI"):
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


def obstacle() -> str | None:
    """Return why no containers can be had here, or None."""
    try:
        docker("version", "--format", "{{.Server.Version}}")
        docker("compose", "version")
    except (OSError, DockerError, subprocess.TimeoutExpired) as error:
        return f"no Docker engine with Compose v2: {str(error).splitlines()[-1]}"
    return None


def has_image(name: str) -> bool:
    """Return whether an image is here or comes from its registry."""
    for command in ("image inspect", "pull"):
        with contextlib.suppress(DockerError):
            docker(*command.split(), name, limit_s=BUILD_LIMIT_S)
            return True
    return False


class Compose:
    """Compose for some files.

    Args:
        files: Compose files, later ones override.
        variables: for the files, beside those of this process.
    """

    def __init__(self, *files: Path, variables: Mapping[str, str] | None = None) -> None:
        self._files = [word for file in files for word in ("--file", str(file))]
        self._variables = {"LLEM_PACKAGE": str(PACKAGE), **(variables or {})}

    def __call__(self, *words: str, project: str = "llem-tests", limit_s: float = LIMIT_S) -> str:
        """Run a Compose command and return its standard output."""
        command = ["compose", "--project-name", project, *self._files, *words]
        return docker(*command, variables=self._variables, limit_s=limit_s)

    def services(self) -> dict[str, dict[str, Any]]:
        """Return the services that the files amount to."""
        found: dict[str, dict[str, Any]] = json.loads(self("config", "--format", "json"))["services"]
        return found

    def build(self, service: str) -> str:
        """Build a service's image and return the image's name; seconds where nothing has changed."""
        self("build", service, limit_s=BUILD_LIMIT_S)
        return str(self.services()[service]["image"])

    @contextlib.contextmanager
    def running(self, service: str) -> Iterator[str]:
        """Run a service's container, in a project of its own, and give its id."""
        project = f"llem-tests-{uuid.uuid4().hex[:8]}"
        try:
            self("up", "--detach", "--no-build", "--pull", "never", service, project=project)
            yield self("ps", "--all", "--quiet", service, project=project).strip()
        finally:
            self("down", "--timeout", "0", project=project)


@contextlib.contextmanager
def conversation(container: str, request: AnyRequest, within_s: float = 60) -> Iterator[IO[str]]:
    """Ask the worker in a container and give its lines; leaving the conversation cancels what was asked.

    A worker that is still starting is waited for.
    """
    command = ["docker", "exec", "-i", container, "python3", "-S", "-E", "-c", CLIENT]
    command += [client.DEFAULT_SOCKET, f"{within_s:g}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as talk:
        assert talk.stdin is not None
        assert talk.stdout is not None
        talk.stdin.write(request.model_dump_json() + "\n")
        talk.stdin.flush()
        yield talk.stdout


def containers(*labels: str) -> list[str]:
    """Return the ids of all containers with these labels, `key` or `key=value`, whether they run or not."""
    filters = [word for label in labels for word in ("--filter", f"label={label}")]
    return docker("ps", "--all", "--quiet", "--no-trunc", *filters).split()


def containers_of(root: Path) -> list[str]:
    """Return the ids of all containers of sessions with this rootdir, whether they run or not."""
    return containers(f"com.docker.compose.project.working_dir={root}")


def inspect(container: str) -> dict[str, Any]:
    """Return the engine's facts about a container."""
    facts: dict[str, Any] = json.loads(docker("inspect", container))[0]
    return facts


def engines_in(container: str) -> list[psutil.Process]:
    """Return the engine processes of a container: what its forkserver has forked."""
    inside = psutil.Process(inspect(container)["State"]["Pid"]).children(recursive=True)
    servers = {process.pid for process in inside if "forkserver" in " ".join(process.cmdline())}
    return [process for process in inside if process.ppid() in servers]

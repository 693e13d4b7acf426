"""One session's Compose project: its services come up, are inspected, and go down with it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llem.executors.base import ExecutorError
from pytest_llem.executors.compose.engine import ANSWER_WITHIN_S, is_gone, last_line
from pytest_llem.worker.protocol import PROTOCOL_VERSION

if TYPE_CHECKING:
    from python_on_whales import Container, DockerClient

BUILD_PROJECT = "pytest-llem"

PROTOCOL_LABEL = "org.pytest-llem.protocol"
"""Of the shipped images, so that a stale one is known before it is started."""

STOP_S = 1
"""How long Compose waits for a worker after SIGTERM; a cancelled CI job has 10 s in all."""


@dataclass(frozen=True, slots=True)
class ProjectFiles:
    """What makes a project.

    Attributes:
        name: of the project, hence of its containers.
        directory: where relative paths of the files begin.
        compose: the Compose files, later ones override.
        environment: files with the variables that they use, later ones win.
        override: what the session adds to them.
    """

    name: str
    directory: Path
    compose: Sequence[Path]
    environment: Sequence[Path]
    override: Path | None = None


class Project:
    """A Compose project on the engine.

    Raises:
        ExecutorError: in all methods, when Compose refuses; with its own last line.
    """

    def __init__(self, files: ProjectFiles) -> None:
        self.files = files
        self._client = client_of(files)

    def images(self) -> dict[str, str]:
        """Return the image of each service; this also finds errors in the files."""
        with _refusals(f"the Compose files are not valid ({', '.join(map(str, self.files.compose))})"):
            config = self._client.compose.config(return_json=True)
        return {name: service.get("image", "") for name, service in config["services"].items()}

    def has_image(self, image: str) -> bool:
        """Return whether the engine has an image."""
        return bool(image) and self._client.image.exists(image)

    def is_stale(self, image: str) -> bool:
        """Return whether an image's worker speaks another protocol, as its label says; one without is believed."""
        with _refusals(f"the image {image} cannot be looked at"):
            labels = self._client.image.inspect(image).config.labels or {}
        return labels.get(PROTOCOL_LABEL) not in (None, str(PROTOCOL_VERSION))

    def image_id(self, container: str) -> str:
        """Return the digest of a container's image."""
        with _refusals("the container is gone"):
            return str(self._client.container.inspect(container).image)

    def build(self, services: Sequence[str]) -> Iterator[str]:
        """Build the services' images and yield the output, line by line.

        Compose writes the project's name into an image, so the project is the same for all sessions here: an
        unchanged image keeps its digest.
        """
        client = client_of(replace(self.files, name=BUILD_PROJECT))
        with _refusals(f"the image of {' and '.join(services)} cannot be built"):
            output = client.compose.build(list(services), progress="plain", stream_logs=True)
            for _, line in output or ():
                yield line.decode(errors="replace").rstrip()

    def up(self, service: str) -> str:
        """Bring a service up in a new container and return the container's id."""
        with _refusals(f"the service {service} does not start"):
            self._client.compose.up(
                [service], detach=True, no_build=True, force_recreate=True, pull="never", quiet=True
            )
            found = self._client.compose.ps([service], all=True)
        if not found:
            raise ExecutorError(f"the service {service} does not start: Compose lists no container of it")
        return found[0].id

    def running(self, service: str) -> str | None:
        """Return the id of a service's running container, or None."""
        with _refusals(f"the service {service} cannot be looked at"):
            found = self._client.compose.ps([service])
        return found[0].id if found else None

    def remove(self, service: str) -> None:
        """Remove a service's container, running or not."""
        with _refusals(f"the container of {service} cannot be removed"):
            self._client.compose.rm([service], stop=True)

    def inspect(self, container: str) -> Container | None:
        """Return a container's facts, or None: it is gone, or the engine is."""
        with contextlib.suppress(ExecutorError), _refusals("the container cannot be looked at"):
            return self._client.container.inspect(container)
        return None

    def log_tail(self, container: str, lines: int) -> str:
        """Return the end of what a container's main process has printed; '' if it is gone, or the engine is."""
        with contextlib.suppress(ExecutorError), _refusals("the container's log cannot be read"):
            return str(self._client.container.logs(container, tail=lines)).strip()
        return ""

    def host_pids(self, container: str) -> list[int]:
        """Return the processes of a container, as the host counts them; none if it is gone, or the engine is."""
        command = ["docker", "top", container, "-eo", "pid"]  # python-on-whales has no `top` yet
        try:
            top = subprocess.run(  # noqa: S603 - no shell
                command, capture_output=True, check=False, text=True, timeout=ANSWER_WITHIN_S
            )
        except subprocess.TimeoutExpired:
            return []
        return [int(line) for line in top.stdout.splitlines()[1:]]

    def down(self) -> None:
        """Stop and remove the project's containers. Named volumes stay: they hold the models."""
        with _refusals(f"the containers of {self.files.name} cannot be removed"):
            self._client.compose.down(timeout=STOP_S, quiet=True)


def client_of(files: ProjectFiles | None = None) -> DockerClient:
    """Return a docker client, for a project or for none."""
    from python_on_whales import DockerClient  # noqa: PLC0415 - 0.2 s, for sessions in containers only

    if files is None:
        return DockerClient()
    override = [files.override] if files.override else []
    return DockerClient(
        compose_files=[*files.compose, *override],
        compose_env_files=list(files.environment),
        compose_project_name=files.name,
        compose_project_directory=files.directory,
    )


@contextlib.contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Turn what docker says into our own words, and do not ask an engine that would not answer."""
    from python_on_whales.exceptions import DockerException  # noqa: PLC0415 - see `client_of`

    if problem := is_gone():
        raise ExecutorError(f"{what}: {problem}")
    try:
        yield
    except DockerException as error:
        raise ExecutorError(f"{what}: {last_line(error.stderr, error.return_code)}") from error


def variables(package: Path, tag: str, token_file: Path | None, powercap: Path) -> Mapping[str, str]:
    """Return the variables of the packaged Compose file.

    Args:
        package: this package's folder, the context of image builds.
        tag: of the images.
        token_file: holds the Hugging Face token, if there is one.
        powercap: RAPL's folder; a machine without one has nothing to mount.
    """
    return {
        "LLEM_PACKAGE": str(package),
        "LLEM_TAG": tag,
        "LLEM_HF_TOKEN_FILE": str(token_file or "/dev/null"),
        "LLEM_POWERCAP": str(powercap if powercap.is_dir() else "/dev/null"),
    }

"""What a session says of the docker command that it finds, and of an engine that says nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_llem.executors.base import ExecutorError
from pytest_llem.executors.compose import engine, project
from pytest_llem.executors.compose.engine import DockerMissing, ask
from pytest_llem.executors.compose.project import Project, ProjectFiles, client_of

DOCKER = """#!/bin/sh
case "$*" in
  *"compose version"*) echo 'Docker Compose version {version}';;
  *) echo '{{"ServerVersion": "28.0.0"}}';;
esac
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a docker command that is to be written."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    path = tmp_path / "docker"
    path.touch(mode=0o755)
    return path


@pytest.mark.parametrize("version", ["2.20.2", "v2.24.3", "2.24.3-1", "v2.9.10"])
def test_a_compose_that_is_too_old_is_named(docker: Path, version: str) -> None:
    """One sentence says which version is here and which is wanted, before Compose meets a tag it does not know."""
    docker.write_text(DOCKER.format(version=version))
    with pytest.raises(DockerMissing) as caught:
        ask(client_of())
    number = version.removeprefix("v").removesuffix("-1")
    assert str(caught.value) == (
        f"Compose {number} is too old: update the package docker-compose-plugin to 2.24.4 or newer"
    )


@pytest.mark.parametrize("version", ["v2.24.4", "2.26.1-4", "v5.0.0", "v2.40.3-desktop.1", "dev"])
def test_a_newer_compose_is_used(docker: Path, version: str) -> None:
    """From the oldest that is enough on all are, however a distribution writes the number."""
    docker.write_text(DOCKER.format(version=version))
    assert ask(client_of()).version == "28.0.0"


@pytest.fixture
def hanging(docker: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An engine that takes commands and never answers; return what is said of it."""
    docker.write_text("#!/bin/sh\nexec sleep 60\n")
    for module in (engine, project):
        monkeypatch.setattr(module, "ANSWER_WITHIN_S", 0.2)
    monkeypatch.delenv("DOCKER_HOST")
    return r"the Docker engine says nothing for 0\.2 s: restart it \(`sudo systemctl restart docker`\)"


def test_an_engine_that_hangs_is_named(hanging: str) -> None:
    """A session says at its begin that the engine does not answer, and what to do."""
    with pytest.raises(DockerMissing, match=hanging):
        ask(client_of())


def test_an_engine_that_hangs_holds_nobody_up(hanging: str, tmp_path: Path) -> None:
    """What is asked of a project while the engine hangs comes back: with nothing, or with the reason."""
    ours = Project(ProjectFiles("llem-tests", tmp_path, [], []))
    assert ours.inspect("some") is None
    assert ours.log_tail("some", 1) == ""
    assert ours.host_pids("some") == []
    with pytest.raises(ExecutorError, match=f"the containers of llem-tests cannot be removed: {hanging}"):
        ours.down()

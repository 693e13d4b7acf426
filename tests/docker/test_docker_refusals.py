"""What is not there, not allowed or not valid is said in one line before any experiment, and nothing is started."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from containers import containers_of, docker, missing
from runs import results_of
from sessions import slot_held

Campaign = Callable[..., Path]

SESSION = (sys.executable, "-m", "pytest", "--campaign=grid.yaml", "--campaign-executor=compose")


@pytest.fixture
def rootdir(pytester: pytest.Pytester, docker_campaign: Campaign) -> Path:
    """Return the folder of a campaign that could run."""
    docker_campaign()
    return pytester.path


def refuses(pytester: pytest.Pytester, line: str, *command: str) -> None:
    """Hold a session to its refusal: this line alone, exit code 4, nothing measured."""
    outcome = pytester.run(*command, timeout=120)
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    assert len([text for text in outcome.errlines if text]) == 1
    outcome.stderr.fnmatch_lines([f"ERROR: {line}"])
    outcome.stdout.no_fnmatch_line("*cannot be removed*")
    assert results_of(pytester.path) == []


# --- The Compose file ---


@pytest.mark.parametrize(
    ("good", "bad", "line"),
    [
        ("init: true", "init: [", "the Compose files are not valid (*/docker-compose.yml): yaml: line *"),
        ("init: true", "initial: true", "the Compose files are not valid (*): *initial*not allowed*"),
        ("  abacus:", "  beads:", "* has no service abacus: declare it in */docker-compose.yml"),
    ],
)
def test_a_compose_file_with_an_error(
    pytester: pytest.Pytester, rootdir: Path, good: str, bad: str, line: str
) -> None:
    """Text that is no YAML, an unknown key and a service that is not declared are named with their file."""
    path = rootdir / "docker-compose.yml"
    path.write_text(path.read_text().replace(good, bad))
    refuses(pytester, line, *SESSION)
    assert containers_of(rootdir) == []


# --- The image ---


@pytest.fixture
def absent() -> Iterator[str]:
    """Give the name of an image that is not here, and remove what a test has built under it."""
    name = f"pytest-llem/abacus:test-{uuid.uuid4().hex[:8]}"
    yield name
    if docker("image", "ls", "--quiet", name):
        docker("image", "rm", name)


def test_an_image_that_is_not_here(pytester: pytest.Pytester, rootdir: Path, absent: str) -> None:
    """The refusal says what to type."""
    line = (
        f"the image {absent} of the service abacus is not here:"
        f" build it with --campaign-build, or `docker pull {absent}` if it comes from a registry"
    )
    refuses(pytester, line, *SESSION, f"--campaign-set=services.abacus.image={absent}")


def test_an_image_that_is_not_here_is_missed_before_the_slot_is_free(
    pytester: pytest.Pytester, rootdir: Path, absent: str
) -> None:
    """A session whose image is absent does not wait for hours until another one leaves the slot to hear it."""
    options = ("--campaign-gpus=none", f"--campaign-set=services.abacus.image={absent}")
    with slot_held():
        refuses(pytester, f"the image {absent} of the service abacus is not here: *", *SESSION, *options)


def build(folder: Path, name: str, *lines: str) -> None:
    """Make an image from that of the abacus."""
    (folder / "Dockerfile").write_text("\n".join(["FROM pytest-llem/abacus:test", *lines, ""]))
    docker("build", "--tag", name, str(folder))


def test_an_image_of_another_version(pytester: pytest.Pytester, rootdir: Path, absent: str) -> None:
    """An image whose label says that its worker speaks another protocol is refused before it is started."""
    build(rootdir, absent, "LABEL org.pytest-llem.protocol=0")
    line = (
        f"the image {absent} of the service abacus has another version of pytest-llem: build it anew"
        f" with --campaign-build, or `docker pull {absent}` if it comes from a registry"
    )
    refuses(pytester, line, *SESSION, f"--campaign-set=services.abacus.image={absent}")


def test_an_image_of_another_version_without_a_label(
    pytester: pytest.Pytester, rootdir: Path, absent: str
) -> None:
    """A worker whose hello is not understood fails its experiments with a sentence, and leaves no container."""
    build(
        rootdir,
        absent,
        "RUN sed -i s/start_method_reason/start_reason/ /opt/llem/lib/pytest_llem/worker/*.py",
    )
    outcome = pytester.run(*SESSION, f"--campaign-set=services.abacus.image={absent}")
    outcome.assert_outcomes(failed=4)
    where = "the image of abacus (--campaign-build builds it anew) has another version of pytest-llem"
    outcome.stdout.fnmatch_lines([f"*the worker of abacus speaks another protocol: {where}*"])
    assert containers_of(rootdir) == []


def test_an_image_is_built_when_that_is_asked_for(
    pytester: pytest.Pytester, rootdir: Path, absent: str
) -> None:
    """--campaign-build makes the image that is not here, shows how, and the campaign runs."""
    image = f"--campaign-set=services.abacus.image={absent}"
    outcome = pytester.run(*SESSION, image, "--campaign-build")
    outcome.assert_outcomes(passed=4)
    outcome.stdout.fnmatch_lines(["*RUN python3 -m venv /opt/llem*", "cycle 1/2  abacus *"])


def test_an_image_that_cannot_be_built(pytester: pytest.Pytester, rootdir: Path, absent: str) -> None:
    """The build's output is shown and its last line is the reason."""
    (rootdir / "Dockerfile.broken").write_text("FROM scratch\nCOPY nothing-like-that /\n")
    path = rootdir / "docker-compose.yml"
    path.write_text(
        path.read_text().replace("${LLEM_TESTS}/docker/abacus/Dockerfile", f"{rootdir}/Dockerfile.broken")
    )
    image = f"--campaign-set=services.abacus.image={absent}"
    refuses(
        pytester,
        "the image of abacus cannot be built: *nothing-like-that*",
        *SESSION,
        image,
        "--campaign-build",
    )


# --- Docker itself ---


def test_no_docker_command(
    pytester: pytest.Pytester, rootdir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A machine without Docker is told the other executor."""
    monkeypatch.setenv("PATH", str(tmp_path))
    line = "there is no `docker` command here: install Docker, or use --campaign-executor local"
    refuses(pytester, line, *SESSION)


def test_no_engine(pytester: pytest.Pytester, rootdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that does not answer is named by its address."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    line = "no Docker engine answers at unix:///nowhere/docker.sock: start it (`sudo systemctl start docker`)"
    refuses(pytester, line, *SESSION)


def test_no_compose_plugin(pytester: pytest.Pytester, rootdir: Path) -> None:
    """A docker command without Compose v2 is told the package."""
    if os.geteuid() != 0:
        missing("root alone can hide the plugin, in a mount namespace of its own")
    plugins = json.loads(docker("info", "--format", "{{json .ClientInfo.Plugins}}"))
    (path,) = [plugin["Path"] for plugin in plugins if plugin["Name"] == "compose"]
    hide = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(Path(path).parent))
    line = "the docker command has no Compose v2: install the package docker-compose-plugin"
    refuses(pytester, line, *hide, *SESSION)


def test_a_compose_plugin_that_is_too_old(
    pytester: pytest.Pytester, rootdir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A Compose that does not know the tags of a session's own file is told which version does."""
    old = f"""#!/bin/sh
    case "$*" in *"compose version"*) echo Docker Compose version 2.20.2;; *) exec {shutil.which("docker")} "$@";; esac
    """
    (tmp_path / "docker").write_text(old)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    line = "Compose 2.20.2 is too old: update the package docker-compose-plugin to 2.24.4 or newer"
    refuses(pytester, line, *SESSION)


def test_no_permission_for_the_socket(
    pytester: pytest.Pytester, rootdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user whom the engine's socket does not let in is told the group."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "docker.sock"
        listener.bind(str(path))
        path.chmod(0)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        as_any_user = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
        line = "no permission for the Docker engine's socket: run as a member of the group docker *"
        refuses(pytester, line, *as_any_user, *SESSION)

"""Ctrl-C, SIGTERM, SIGKILL and a second session: what becomes of containers and results."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from containers import containers_of, docker, engines_in, inspect
from runs import completed, events, results_of
from sessions import HANG_SECOND, TWO_SIZES, WATCH_PHASES, phases, start_session, wait_until

Campaign = Callable[..., Path]

COMPOSE = "--campaign-executor=compose"

HOLD = """
import time
from pathlib import Path

def pytest_llem_result(config, result):
    deadline_s = time.monotonic() + 120
    while not Path("go").exists() and time.monotonic() < deadline_s:
        time.sleep(0.02)
"""
"""A conftest.py that holds a session after its first experiment; a file `go` lets it go on."""

KILL_AFTER_LAST = """
import os, signal

def pytest_llem_result(config, result):
    if result.position == 3:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def is_running(container: str) -> bool:
    return bool(inspect(container)["State"]["Running"])


def start_and_wait_for_second(pytester: pytest.Pytester, *options: str) -> subprocess.Popen[str]:
    """Return a session whose first experiment is done, and whose second one hangs until somebody ends it."""
    pytester.makeconftest(HANG_SECOND)
    session = start_session(pytester.path, "grid.yaml", COMPOSE, *options)
    wait_until(lambda: len(events(pytester.path, "running")) == 2, "the second experiment runs")
    return session


def interrupt(session: subprocess.Popen[str]) -> None:
    """Press Ctrl-C: the terminal tells pytest and the docker commands that it runs."""
    os.killpg(session.pid, signal.SIGINT)


def terminate(session: subprocess.Popen[str]) -> None:
    """End pytest alone, as a job scheduler does."""
    session.terminate()


@pytest.mark.parametrize("end", [interrupt, terminate])
def test_an_interrupted_session_leaves_no_container(
    pytester: pytest.Pytester, docker_campaign: Campaign, end: Callable[[subprocess.Popen[str]], None]
) -> None:
    """Ctrl-C and SIGTERM take the containers down and exit with 2; results are kept, and --lf does the rest."""
    root = pytester.path
    docker_campaign(grid=TWO_SIZES)
    session = start_and_wait_for_second(pytester)
    end(session)
    output, _ = session.communicate(timeout=60)
    assert session.returncode == pytest.ExitCode.INTERRUPTED
    assert containers_of(root) == []
    assert len(results_of(root)) == len(completed(root)) == 1
    assert "3 experiments remain: pytest --campaign=grid.yaml --lf" in output
    (root / "mood").write_text("")
    pytester.runpytest_subprocess("--campaign=grid.yaml", "--lf").assert_outcomes(passed=3, deselected=1)
    assert len(set(completed(root))) == len(completed(root)) == 4


def test_a_session_that_is_interrupted_while_a_service_starts_leaves_no_container(
    pytester: pytest.Pytester, docker_campaign: Campaign
) -> None:
    """Ctrl-C between the creation of a container and the first answer from it takes it down too."""
    root = pytester.path
    docker_campaign("services: {abacus: {env: {ABACUS_IMPORT_S: '3600'}}}\n")
    session = start_session(root, "grid.yaml", COMPOSE)
    wait_until(lambda: containers_of(root), "the container is there")
    interrupt(session)
    session.communicate(timeout=60)
    assert session.returncode == pytest.ExitCode.INTERRUPTED
    assert containers_of(root) == []


def test_a_killed_session_leaves_no_work_behind(pytester: pytest.Pytester, docker_campaign: Campaign) -> None:
    """SIGKILL: the container ends by itself, --lf removes it and says so, and nothing is measured twice."""
    root = pytester.path
    docker_campaign(grid=TWO_SIZES)
    session = start_and_wait_for_second(pytester)
    (container,) = containers_of(root)
    session.kill()
    session.communicate()
    wait_until(lambda: not is_running(container), "the container has ended")
    name = inspect(container)["Name"].removeprefix("/")
    (root / "mood").write_text("")
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "--lf")
    done.assert_outcomes(passed=3, deselected=1)
    done.stdout.fnmatch_lines([f"removed {name}, left by a session that is dead"])
    assert len(set(completed(root))) == len(completed(root)) == len(results_of(root)) == 4
    assert containers_of(root) == []


def test_a_session_that_finds_nothing_to_do_removes_what_is_left(
    pytester: pytest.Pytester, docker_campaign: Campaign
) -> None:
    """What a session leaves that is killed when all is measured goes with --lf, which then measures nothing."""
    root = pytester.path
    docker_campaign()
    pytester.makeconftest(KILL_AFTER_LAST)
    pytester.runpytest_subprocess("--campaign=grid.yaml", COMPOSE)
    assert len(containers_of(root)) == 1
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "--lf")
    done.assert_outcomes(deselected=4)
    done.stdout.fnmatch_lines(["removed llem-*, left by a session that is dead"])
    assert containers_of(root) == []


WITH_DEPENDENCY = """
services:
  abacus:
    network_mode: !reset null
    depends_on: [notary]
  notary:
    image: pytest-llem/abacus:test
    command: [sleep, "3600"]
"""


def test_what_a_service_depends_on_is_removed_with_it(
    pytester: pytest.Pytester, docker_campaign: Campaign
) -> None:
    """Of a killed session's project nothing is left, neither other containers nor networks: --lf removes them too."""
    root = pytester.path
    docker_campaign()
    (root / "docker-compose.override.yml").write_text(WITH_DEPENDENCY)
    pytester.makeconftest(KILL_AFTER_LAST)
    pytester.runpytest_subprocess("--campaign=grid.yaml", COMPOSE)
    found = [inspect(container)["Config"]["Labels"] for container in containers_of(root)]
    assert {labels["com.docker.compose.service"] for labels in found} == {"abacus", "notary"}
    project = f"label=com.docker.compose.project={found[0]['com.docker.compose.project']}"
    assert docker("network", "ls", "--quiet", "--filter", project)
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "--lf")
    done.stdout.fnmatch_lines(["removed llem-*_default, left by a session that is dead"])
    assert containers_of(root) == []
    assert docker("network", "ls", "--quiet", "--filter", project) == ""


def test_containers_can_be_kept(pytester: pytest.Pytester, docker_campaign: Campaign) -> None:
    """--campaign-keep-containers leaves them running for later sessions too, and what it says to type removes them."""
    root = pytester.path
    docker_campaign()
    kept = pytester.runpytest_subprocess("--campaign=grid.yaml", COMPOSE, "--campaign-keep-containers")
    kept.assert_outcomes(passed=4)
    (container,) = containers_of(root)
    pytester.runpytest_subprocess("--campaign=grid.yaml", COMPOSE).assert_outcomes(passed=4)
    assert containers_of(root) == [container]
    assert is_running(container)
    said = re.search(r"containers kept; to remove them: docker (.+)", kept.stdout.str())
    assert said
    docker(*shlex.split(said[1]), folder=root)
    assert containers_of(root) == []


def test_containers_can_be_kept_when_the_session_is_interrupted(
    pytester: pytest.Pytester, docker_campaign: Campaign
) -> None:
    """With --campaign-keep-containers Ctrl-C ends the work inside the container, and the container stays."""
    root = pytester.path
    docker_campaign(grid=TWO_SIZES)
    session = start_and_wait_for_second(pytester, "--campaign-keep-containers")
    (container,) = containers_of(root)
    try:
        interrupt(session)
        output, _ = session.communicate(timeout=60)
        assert "containers kept" in output
        assert is_running(container)
        wait_until(lambda: not engines_in(container), "the engine has ended")
    finally:
        docker("rm", "--force", container)


# --- Two sessions at once ---


@pytest.fixture
def projects(pytester: pytest.Pytester, docker_campaign: Campaign) -> tuple[Path, Path]:
    """Two projects with the same campaign; a session in the first one is held."""
    docker_campaign()
    folders = pytester.mkdir("one"), pytester.mkdir("two")
    for folder in folders:
        for name in ("grid.yaml", "docker-compose.yml", "pytest.ini"):
            shutil.copy(pytester.path / name, folder)
    for folder, conftest in zip(folders, (HOLD, WATCH_PHASES), strict=True):
        (folder / "conftest.py").write_text(conftest)
    return folders


def test_a_second_session_waits_for_the_slot(projects: tuple[Path, Path]) -> None:
    """Of two sessions that want one slot the second says whom it waits for, and begins when the first has ended."""
    one, two = projects
    first = start_session(one, "grid.yaml", COMPOSE)
    wait_until(lambda: events(one, "running"), "the first session measures")
    second = start_session(two, "grid.yaml", COMPOSE)
    held = f"held by {pwd.getpwuid(os.geteuid()).pw_name} (process {first.pid} on "
    wait_until(lambda: held in "".join(phases(two)), "the second session waits")
    (one / "go").touch()
    first.communicate(timeout=60)
    output, _ = second.communicate(timeout=60)
    assert held in output
    assert len(completed(one)) == len(completed(two)) == 4
    assert results_of(one)[-1]["completed_at"] < results_of(two)[0]["started_at"]


def test_a_session_leaves_the_containers_of_others_alone(
    projects: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a session finds when it begins is swept only if its owner is dead."""
    one, two = projects
    first = start_session(one, "grid.yaml", COMPOSE)
    wait_until(lambda: completed(one), "the first session is held")
    monkeypatch.setenv("LLEM_SLOTS_DIR", str(tmp_path))  # as if it had a GPU of its own
    second = start_session(two, "grid.yaml", COMPOSE)
    second.communicate(timeout=60)
    assert len(completed(one)) == 1
    (one / "go").touch()
    first.communicate(timeout=60)
    assert first.returncode == second.returncode == pytest.ExitCode.OK
    assert events(one, "restart") == events(two, "restart") == []
    assert containers_of(one) == containers_of(two) == []

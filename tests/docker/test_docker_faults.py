"""What can happen to a container, the worker and the engine in it while a campaign runs, and that it goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from containers import containers_of, docker, engines_in
from runs import events, results_of, summary
from sessions import HANG_SECOND, TWO_SIZES, WATCH_PHASES, phases, start_session, wait_until

Campaign = Callable[..., Path]

COMPOSE = "--campaign-executor=compose"
LOST = "it does not run any more"

ONE_MOODY = """
    backends: [abacus]
    backend_overrides: {abacus: {mood_file: [mood, fine]}}
"""

AFTER_EACH = """
import subprocess

DOCKER = {commands}

def pytest_llem_result(config, result):
    ours = ["ps", "--all", "--quiet", "--filter", "label=org.pytest-llem.session=" + result.session_id]
    containers = docker(*ours).split()
    if result.position < len(DOCKER):
        docker(DOCKER[result.position], *containers)

def docker(*words):
    return subprocess.run(["docker", *words], check=True, stdout=subprocess.PIPE, text=True).stdout
"""
"""A conftest.py that gives the session's containers, after the n-th experiment, the n-th docker command."""


def run(pytester: pytest.Pytester, *settings: str) -> pytest.RunResult:
    words = [f"--campaign-set={setting}" for setting in settings]
    return pytester.runpytest_subprocess("--campaign=grid.yaml", COMPOSE, *words)


def kinds(root: Path, backend: str = "abacus") -> list[str | None]:
    """Return the failure classes of a backend's results, in order of time."""
    mine = [result for result in results_of(root) if result["configuration"]["backend"] == backend]
    return [result["failure"] and result["failure"]["kind"] for result in mine]


def kinds_by_mood(root: Path) -> dict[str, set[str | None]]:
    """Return the failure classes that the configurations of `ONE_MOODY` came to."""
    found: dict[str, set[str | None]] = {}
    for result in results_of(root):
        mood = result["configuration"]["parameters"]["mood_file"]
        found.setdefault(mood, set()).add(result["failure"] and result["failure"]["kind"])
    return found


# --- The container is killed ---


@pytest.mark.parametrize("phase", ["warm-up", "window"])
def test_a_container_that_is_killed_takes_one_experiment_along(
    pytester: pytest.Pytester, docker_campaign: Campaign, phase: str
) -> None:
    """`docker kill` in warm-up or window: that experiment is lost, the rest is measured in a new container."""
    root = pytester.path
    docker_campaign(grid=TWO_SIZES)
    pytester.makeconftest(WATCH_PHASES + HANG_SECOND)
    warmup = f"{{enabled: {str(phase == 'warm-up').lower()}, convergence_detection: false}}"
    session = start_session(root, "grid.yaml", COMPOSE, f"--campaign-set=defaults.warmup={warmup}")
    wait_until(lambda: phases(root).count(phase) == 2, f"the second experiment is in its {phase}")
    (container,) = containers_of(root)
    (root / "mood").write_text("")
    docker("kill", container)
    output, _ = session.communicate(timeout=60)
    assert kinds(root) == [None, "lost", None, None]
    assert results_of(root)[1]["failure"]["message"] == "the container of abacus ended with 137"
    assert [(event["why"], event["problem"]) for event in events(root, "restart")] == [(LOST, None)]
    assert "1 restart of abacus" in output
    assert containers_of(root) == []


def test_a_container_that_is_killed_between_experiments_takes_none_along(
    pytester: pytest.Pytester, docker_campaign: Campaign
) -> None:
    """`docker kill` in a gap: the service is restarted, and every experiment is measured."""
    docker_campaign(grid=TWO_SIZES)
    pytester.makeconftest(AFTER_EACH.format(commands=["kill"]))
    run(pytester, "execution.config_gap_seconds=1").assert_outcomes(passed=4)
    assert [event["why"] for event in events(pytester.path, "restart")] == [LOST]


# --- Something in the container ends ---


@pytest.mark.parametrize(
    ("mood", "expected"),
    [
        ("pass-orphan", {"lost"}),
        ("pass-lose", {"crashed", "lost"}),
        ("pass-die", {"crashed"}),
        ("pass-eat", {"oom"}),
    ],
)
def test_what_ends_in_a_container_ends_one_experiment(
    pytester: pytest.Pytester,
    docker_campaign: Campaign,
    monkeypatch: pytest.MonkeyPatch,
    mood: str,
    expected: set[str],
) -> None:
    """The server, the forkserver or the engine is killed, or the engine eats all memory: the next one is measured."""
    monkeypatch.setenv("ABACUS_MEMORY", "256m")
    (pytester.path / "mood").write_text(mood)
    docker_campaign(grid=ONE_MOODY)
    run(pytester).assert_outcomes(passed=2, failed=2)
    found = kinds_by_mood(pytester.path)
    assert found["fine"] == {None}
    assert found["mood"] <= expected
    assert containers_of(pytester.path) == []


def test_a_container_is_not_said_to_run_out_of_memory_for_an_engine_that_did(
    pytester: pytest.Pytester, docker_campaign: Campaign
) -> None:
    """The engine marks a container in which a process ran out of memory; killed later on, it is lost all the same."""
    root = pytester.path
    grid = "backends: [abacus]\nbackend_overrides: {abacus: {mood_file: [eats, hangs]}}\n"
    docker_campaign(grid=grid, execution="structure: interleaved")
    (root / "eats").write_text("pass-eat")
    (root / "hangs").write_text("pass-hang")
    pytester.makeconftest(WATCH_PHASES)
    session = start_session(root, "grid.yaml", COMPOSE, "--campaign-set=execution.cycles=1")
    wait_until(lambda: phases(root).count("window") == 2, "the second experiment hangs")
    docker("kill", *containers_of(root))
    session.communicate(timeout=60)
    assert kinds(root) == ["oom", "lost"]


def test_a_hang_is_ended_inside_the_container(pytester: pytest.Pytester, docker_campaign: Campaign) -> None:
    """At the timeout the engine process in the container is gone, and the container serves the next experiment."""
    root = pytester.path
    docker_campaign(grid=ONE_MOODY, execution="structure: interleaved\ntimeout_seconds: 3")
    (root / "mood").write_text("pass-hang")
    pytester.makeconftest(WATCH_PHASES)
    session = start_session(root, "grid.yaml", COMPOSE, "--campaign-set=execution.cycles=1")
    wait_until(lambda: "window" in phases(root), "the engine hangs")
    (container,) = containers_of(root)
    (engine,) = engines_in(container)
    wait_until(lambda: results_of(root), "the first experiment is over")
    assert not engine.is_running()
    session.communicate(timeout=60)
    assert kinds(root) == ["timeout", None]
    assert events(root, "restart") == []


# --- A service that is not healthy ---


@pytest.mark.parametrize("commands", [["pause", "unpause"], ["kill", "start"]])
def test_a_service_that_comes_back_is_used_again(
    pytester: pytest.Pytester, docker_campaign: Campaign, commands: list[str]
) -> None:
    """What happens to a container from outside makes its experiments unhealthy, until it is undone."""
    docker_campaign(grid=TWO_SIZES)
    pytester.makeconftest(AFTER_EACH.format(commands=commands))
    done = run(pytester, "health_check.restart_on_failure=false", "health_check.interval_experiments=1")
    done.assert_outcomes(passed=3, failed=1)
    assert kinds(pytester.path) == [None, "unhealthy", None, None]
    assert len(events(pytester.path, "recovered")) == 1
    assert events(pytester.path, "restart") == []
    done.stdout.fnmatch_lines(["the service of abacus is healthy again and is used again"])


@pytest.fixture
def two_services(
    docker_campaign: Campaign, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> Campaign:
    """Add a backend `counter`, the abacus under another name, with a service of its own."""
    root = pytester.path
    about = pytester.mkdir("counter-1.0.dist-info")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: counter\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[pytest_llem.backends]\ncounter = counter:SPEC\n")
    pytester.makepyfile(
        counter="""
        from dataclasses import replace

        from abacus.spec import SPEC

        SPEC = replace(SPEC, name="counter")
        """
    )
    monkeypatch.setenv("PYTHONPATH", str(root), prepend=":")
    compose = root / "docker-compose.yml"
    abacus = yaml.safe_load(compose.read_text())["services"]["abacus"]
    services = {"abacus": {**abacus, "image": "${ABACUS_IMAGE}"}, "counter": abacus}
    compose.write_text(yaml.safe_dump({"services": services}))
    (root / ".env").write_text(f"ABACUS_IMAGE={abacus['image']}\n")
    return docker_campaign


def test_other_services_go_on_beside_one_that_does_not_come_up_again(
    pytester: pytest.Pytester, two_services: Campaign
) -> None:
    """Beyond max_restarts a service's experiments are unhealthy at once, and the other service's are measured."""
    two_services(grid="backends: [abacus, counter]\nshared: {batch_size: [1, 2]}\n")
    pytester.makeconftest(
        AFTER_EACH.format(commands=["kill"])
        + """
def pytest_runtest_teardown():
    with open(".env", "w") as file:
        file.write("ABACUS_IMAGE=pytest-llem/nowhere")
"""
    )
    done = run(pytester, "execution.structure=interleaved", "health_check.max_restarts=2")
    done.assert_outcomes(passed=5, failed=3)
    assert kinds(pytester.path, "abacus") == [None, "unhealthy", "unhealthy", "unhealthy"]
    assert kinds(pytester.path, "counter") == [None] * 4
    assert [event["backend"] for event in events(pytester.path, "restart")] == ["abacus"] * 2
    assert "No such image" in summary(pytester.path)["health"]["unhealthy"]["abacus"]["problem"]
    assert containers_of(pytester.path) == []

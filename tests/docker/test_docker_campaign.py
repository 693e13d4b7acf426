"""Campaigns in containers: what a user sees, what the containers get, and that nothing is left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from containers import containers_of, docker
from runs import completed, events, launches, results_of, rows, run_folders, summary

Campaign = Callable[..., Path]

COMPOSE = "--campaign-executor=compose"

WATCH = """
    import json
    import subprocess
    from pathlib import Path

    def pytest_llem_result(config, result):
        ids = subprocess.run(
            ["docker", "ps", "-q", "--filter", "label=org.pytest-llem.session=" + result.session_id],
            capture_output=True, text=True,
        ).stdout.split()
        facts = subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True).stdout
        with Path("containers.jsonl").open("a") as file:
            file.write(json.dumps(json.loads(facts)) + "\\n")
"""


READ_MODEL = """
    import subprocess
    from pathlib import Path

    def docker(*words):
        return subprocess.run(["docker", *words], check=True, stdout=subprocess.PIPE, text=True).stdout

    def pytest_llem_result(config, result):
        ours = "label=org.pytest-llem.session=" + result.session_id
        (container,) = docker("ps", "-q", "--filter", ours).split()
        model = result.measurement.effective["model"]
        Path("read").write_text(docker("exec", container, "cat", f"{model}/config.json"))
"""


def observed(root: Path) -> list[list[dict[str, Any]]]:
    """Return the session's containers as `WATCH` saw them at each result."""
    return [json.loads(line) for line in (root / "containers.jsonl").read_text().splitlines()]


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("--campaign=grid.yaml", *options)


def test_a_campaign_runs_in_one_container_and_leaves_none(
    pytester: pytest.Pytester, docker_campaign: Campaign
) -> None:
    """The service comes up once, serves every experiment, and is gone at the end."""
    docker_campaign()
    pytester.makeconftest(WATCH)
    outcome = run(pytester, COMPOSE)
    outcome.assert_outcomes(passed=4)
    seen = observed(pytester.path)
    assert len({container["Id"] for found in seen for container in found}) == 1
    assert containers_of(pytester.path) == []
    outcome.stdout.fnmatch_lines(["executor: compose (containers of this session)"])
    assert {r["executor"] for r in results_of(pytester.path)} == {"compose"}


def test_the_summary_has_the_same_shape_under_both_executors(
    pytester: pytest.Pytester, docker_campaign: Campaign
) -> None:
    """Local and compose write the same columns and keys, and neither run continues the other."""
    docker_campaign()

    def shape(executor: str) -> tuple[object, ...]:
        run(pytester, f"--campaign-executor={executor}").assert_outcomes(passed=4)
        found = summary(pytester.path)
        return sorted(found), sorted(found["rows"][0]), list(rows(pytester.path)[0])

    local, compose = shape("local"), shape("compose")
    assert local == compose
    assert len(run_folders(pytester.path)) == 2


def test_auto_takes_containers_where_they_are_and_says_why(
    pytester: pytest.Pytester, docker_campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With engine and image, auto is compose; without one of them it is local, with the reason."""
    docker_campaign()
    run(pytester, "--collect-only").stdout.fnmatch_lines(
        ["executor: compose (*the engine and the images are here)"]
    )
    with monkeypatch.context() as without_engine:
        without_engine.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
        run(pytester, "--collect-only").stdout.fnmatch_lines(["executor: local (*no Docker engine answers*)"])
    file = pytester.path / "docker-compose.yml"
    file.write_text(file.read_text().replace("pytest-llem/abacus:test", "pytest-llem/no-such-image:1"))
    run(pytester, "--collect-only").stdout.fnmatch_lines(["executor: local (*no image for abacus)"])


def test_auto_leaves_an_image_of_another_version_alone(
    pytester: pytest.Pytester, docker_campaign: Campaign
) -> None:
    """An image whose worker speaks another protocol is no place to run, and auto says how it becomes one."""
    docker_campaign()
    dockerfile = pytester.path / "Dockerfile"
    dockerfile.write_text("FROM pytest-llem/abacus:test\nLABEL org.pytest-llem.protocol=0\n")
    docker("build", "--tag", "pytest-llem/abacus:stale", str(pytester.path))
    file = pytester.path / "docker-compose.yml"
    file.write_text(file.read_text().replace("pytest-llem/abacus:test", "pytest-llem/abacus:stale"))
    run(pytester, "--collect-only").stdout.fnmatch_lines(
        ["executor: local (*the image of abacus is of another version: --campaign-build)"]
    )
    docker("image", "rm", "pytest-llem/abacus:stale")


def test_auto_judges_the_image_that_the_campaign_names(
    pytester: pytest.Pytester, docker_campaign: Campaign
) -> None:
    """What `services.<backend>.image` says is what would run, whether or not the Compose file's own image is here."""
    docker_campaign()
    file = pytester.path / "docker-compose.yml"
    named = "--campaign-set=services.abacus.image=pytest-llem/"
    run(pytester, "--collect-only", f"{named}no-such-image:1").stdout.fnmatch_lines(
        ["executor: local (*no image for abacus)"]
    )
    file.write_text(file.read_text().replace("pytest-llem/abacus:test", "pytest-llem/no-such-image:1"))
    run(pytester, "--collect-only", f"{named}abacus:test").stdout.fnmatch_lines(["executor: compose (*)"])


def test_the_projects_env_file_is_read(pytester: pytest.Pytester, docker_campaign: Campaign) -> None:
    """A variable in `.env` wins over this package's default, for `auto` too, and a fixture's value over both."""
    docker_campaign()
    file = pytester.path / "docker-compose.yml"
    file.write_text(file.read_text().replace("pytest-llem/abacus:test", "pytest-llem/abacus:${LLEM_TAG}"))
    env = pytester.path / ".env"
    env.write_text("LLEM_TAG=test\n")
    run(pytester, "--collect-only").stdout.fnmatch_lines(["executor: compose (*)"])
    run(pytester, COMPOSE, "-k", "c1").assert_outcomes(passed=2, deselected=2)
    env.write_text("LLEM_TAG=absent\n")
    run(pytester, "--collect-only").stdout.fnmatch_lines(["executor: local (*no image for abacus)"])
    pytester.makeconftest("""
    import pytest

    @pytest.fixture(scope="session")
    def llem_compose_environment():
        return {"LLEM_TAG": "test"}
    """)
    run(pytester, COMPOSE, "-k", "c1").assert_outcomes(passed=2, deselected=2)


def test_a_run_goes_on_where_it_began(
    pytester: pytest.Pytester, docker_campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under --lf, auto keeps to the run's executor instead of measuring the rest elsewhere."""
    docker_campaign()
    run(pytester, COMPOSE, "-k", "c1").assert_outcomes(passed=2, deselected=2)
    with monkeypatch.context() as without_engine:
        without_engine.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
        outcome = run(pytester, "--lf")
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["ERROR: no Docker engine answers*"])
    run(pytester, "--lf").assert_outcomes(passed=2, deselected=2)
    assert len(completed(pytester.path)) == 4


@pytest.mark.key("services.*.image")
def test_the_campaign_names_the_image(pytester: pytest.Pytester, docker_campaign: Campaign) -> None:
    """`services.<backend>.image` is what the container runs, and its digest is in the environment."""
    docker("tag", "pytest-llem/abacus:test", "pytest-llem/abacus:other")
    docker_campaign("services: {abacus: {image: 'pytest-llem/abacus:other'}}\n")
    pytester.makeconftest(WATCH)
    run(pytester, COMPOSE).assert_outcomes(passed=4)
    (container,) = observed(pytester.path)[0]
    assert container["Config"]["Image"] == "pytest-llem/abacus:other"
    environments = json.loads((run_folders(pytester.path)[-1] / "environment.json").read_text())
    assert container["Image"] in json.dumps(environments)


@pytest.mark.key("services.*.devices")
def test_the_campaign_passes_device_files(pytester: pytest.Pytester, docker_campaign: Campaign) -> None:
    """A path among `services.<backend>.devices` is a device of the container."""
    docker_campaign("services: {abacus: {devices: ['/dev/null:/dev/llem'], env: {ABACUS_WOOD: 'o$k'}}}\n")
    pytester.makeconftest(WATCH)
    run(pytester, COMPOSE).assert_outcomes(passed=4)
    (container,) = observed(pytester.path)[0]
    assert [d["PathInContainer"] for d in container["HostConfig"]["Devices"]] == ["/dev/llem"]
    assert {r["measurement"]["effective"]["wood"] for r in results_of(pytester.path)} == {"o$k"}


def test_the_fixtures_say_which_containers(pytester: pytest.Pytester, docker_campaign: Campaign) -> None:
    """Compose files, project name, environment and services come from fixtures that a conftest.py may override."""
    docker_campaign()
    declared = yaml.safe_load((pytester.path / "docker-compose.yml").read_text())
    declared["services"] = {"my-abacus": declared["services"]["abacus"]}
    declared["services"]["my-abacus"]["hostname"] = "${MY_NAME}"
    (pytester.path / "docker-compose.yml").unlink()
    (pytester.path / "mine.yml").write_text(yaml.safe_dump(declared))
    pytester.makeconftest(
        WATCH
        + """
    import pytest

    @pytest.fixture(scope="session")
    def llem_compose_files(llem_compose_files, pytestconfig):
        return [pytestconfig.rootpath / "mine.yml"]

    @pytest.fixture(scope="session")
    def llem_compose_project_name(llem_compose_project_name):
        return "mine-" + llem_compose_project_name

    @pytest.fixture(scope="session")
    def llem_compose_environment(llem_compose_environment):
        return {**llem_compose_environment, "MY_NAME": "it's-mine"[-4:]}

    @pytest.fixture(scope="session")
    def llem_compose_services():
        return {"abacus": "my-abacus"}
    """
    )
    run(pytester, COMPOSE).assert_outcomes(passed=4)
    (container,) = observed(pytester.path)[0]
    assert container["Config"]["Hostname"] == "mine"
    assert container["Name"].startswith("/mine-llem-")


def test_a_fixture_that_fails_is_a_usage_error(pytester: pytest.Pytester, docker_campaign: Campaign) -> None:
    """An error in an overridden fixture ends the session before any experiment, and names the fixture."""
    docker_campaign()
    pytester.makeconftest("""
    import pytest

    @pytest.fixture(scope="session")
    def llem_compose_environment():
        raise RuntimeError("no vault today")
    """)
    outcome = run(pytester, COMPOSE)
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["ERROR: *no vault today*"])
    assert results_of(pytester.path) == []


@pytest.mark.key("cold_start.restart_container")
def test_a_cold_start_can_be_a_new_container(pytester: pytest.Pytester, docker_campaign: Campaign) -> None:
    """With restart_container each experiment has a container of its own, and says how long that took to come up."""
    docker_campaign("cold_start: {force_cold_start: true, restart_container: true}\n")
    pytester.makeconftest(WATCH)
    run(pytester, COMPOSE).assert_outcomes(passed=4)
    ids = [found[0]["Id"] for found in observed(pytester.path)]
    assert len(set(ids)) == 4
    assert len(launches(pytester.path)) == 4


def test_a_dataset_and_a_model_of_this_machine_are_mounted(
    pytester: pytest.Pytester, docker_campaign: Campaign
) -> None:
    """A local folder that a configuration names is in the container, read-only."""
    docker_campaign()
    weights = pytester.mkdir("weights")
    (weights / "config.json").write_text("{}")
    pytester.makeconftest(WATCH)
    run(pytester, COMPOSE, "--campaign-set", "model=weights").assert_outcomes(passed=4)
    (container,) = observed(pytester.path)[0]
    (mount,) = [m for m in container["Mounts"] if m["Source"] == str(weights)]
    assert mount["RW"] is False
    assert {r["measurement"]["effective"]["model"] for r in results_of(pytester.path)} == {
        mount["Destination"]
    }


def test_a_model_in_the_hubs_cache_can_be_read_in_a_container(
    pytester: pytest.Pytester, docker_campaign: Campaign
) -> None:
    """A snapshot that a configuration names by its folder links to files beside it, and they are there too."""
    docker_campaign()
    blobs, snapshot = (pytester.path / "models--org--tiny" / name for name in ("blobs", "snapshots/abc"))
    for folder in (blobs, snapshot):
        folder.mkdir(parents=True)
    (blobs / "0123").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/0123")
    pytester.makeconftest(READ_MODEL)
    run(pytester, COMPOSE, f"--campaign-set=model={snapshot}").assert_outcomes(passed=4)
    assert (pytester.path / "read").read_text() == "{}"


def test_health_checks_are_told(pytester: pytest.Pytester, docker_campaign: Campaign) -> None:
    """Checks at cycle boundaries ask the container and are events of the run."""
    docker_campaign()
    run(pytester, COMPOSE).assert_outcomes(passed=4)
    checks = events(pytester.path, "health_check")
    assert checks
    assert {check["problem"] for check in checks} == {None}

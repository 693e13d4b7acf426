"""`--campaign-gpus`, `services.<backend>.devices`, `gpus` of an experiment, and the slot that a session holds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runs import launches, results_of
from sessions import slot_held, start_session, wait_until
from standin.build import Gpu, build_nvml, environment, uuid

Campaign = Callable[..., Path]


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Give this machine two GPUs and return their UUIDs."""
    folder = tmp_path_factory.mktemp("nvml")
    for name, value in environment(build_nvml(folder), folder / "script", [Gpu(), Gpu()]).items():
        monkeypatch.setenv(name, value)
    return [uuid(0), uuid(1)]


def seen_by_engines(root: Path) -> set[str]:
    """Return what CUDA_VISIBLE_DEVICES was in the engine processes."""
    return {result["measurement"]["effective"]["gpus"] for result in results_of(root)}


def test_the_option_chooses_the_gpu(
    pytester: pytest.Pytester, campaign: Campaign, two_gpus: list[str]
) -> None:
    """Engines see the GPU that was asked for and no other, and the header names it."""
    campaign("services: {abacus: {devices: ['0']}}\n")
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "--campaign-gpus=1")
    done.assert_outcomes(passed=4)
    done.stdout.fnmatch_lines([f"devices: GPU 1 (*{two_gpus[1]}): as --campaign-gpus says"])
    assert seen_by_engines(pytester.path) == {two_gpus[1]}


def test_none_hides_all_gpus(pytester: pytest.Pytester, campaign: Campaign, two_gpus: list[str]) -> None:
    """`--campaign-gpus none` measures on the CPU."""
    campaign()
    pytester.runpytest_subprocess("--campaign=grid.yaml", "--campaign-gpus=none").assert_outcomes(passed=4)
    assert seen_by_engines(pytester.path) == {""}


def test_a_gpu_that_is_not_here_is_a_usage_error(
    pytester: pytest.Pytester, campaign: Campaign, two_gpus: list[str]
) -> None:
    """A wrong index ends the session before anything starts, with what there is."""
    campaign()
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "--campaign-gpus=7")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([f"ERROR: --campaign-gpus names '7', which is not here:*{two_gpus[0]}*"])


@pytest.mark.key("services.*.devices")
def test_a_service_has_gpus_of_its_own(
    pytester: pytest.Pytester, campaign: Campaign, two_gpus: list[str]
) -> None:
    """`services.<backend>.devices` chooses that backend's GPU."""
    for index in (0, 1):
        campaign(f"services: {{abacus: {{devices: ['{index}']}}}}\n")
        pytester.runpytest_subprocess("--campaign=grid.yaml").assert_outcomes(passed=4)
        assert two_gpus[index] in seen_by_engines(pytester.path)
        shutil.rmtree(pytester.path / "results")


ON_EITHER = """
    experiments:
      - {config_name: left, backend: abacus, gpus: [0]}
      - {config_name: right, backend: abacus, gpus: [GPU-standin-1]}
      - {config_name: both, backend: abacus, gpus: [0, 1]}
    """


@pytest.mark.key("defaults.gpus")
@pytest.mark.parametrize("options", [["--campaign-gpus=0,1"], []])
def test_an_experiment_has_gpus_of_its_own(
    pytester: pytest.Pytester, campaign: Campaign, two_gpus: list[str], options: list[str]
) -> None:
    """Its engine sees the GPUs that it names, and their energy alone is counted, named by an option or by nobody."""
    campaign(ON_EITHER, grid="backends: [abacus]\n", execution="cycles: 1\n".replace("cycles: 1\n", ""))
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", *options)
    done.assert_outcomes(passed=8)
    left, right = two_gpus
    expected = {"left": [left], "right": [right], "both": [left, right]}
    for result in results_of(pytester.path):
        name = result["configuration"]["config_name"]
        if name is None:
            continue
        found = result["measurement"]
        assert found["effective"]["gpus"] == ",".join(expected[name])
        devices = {domain: energy["value"] for domain, energy in found["energy_j"].items() if ":" in domain}
        assert devices.keys() == {f"gpu:{uuid}" for uuid in expected[name]}
        assert found["energy_j"]["gpu"]["value"] == pytest.approx(sum(devices.values()))
    assert len(launches(pytester.path)) == 8


def test_an_experiment_cannot_have_a_gpu_that_the_session_has_not(
    pytester: pytest.Pytester, campaign: Campaign, two_gpus: list[str]
) -> None:
    """A GPU beside those of the option is refused before anything starts; an experiment without it runs."""
    campaign(ON_EITHER)
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "--campaign-gpus=0")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: gpus of abacus names GPU 1 (*), which is not in use here*"])
    pytester.runpytest_subprocess("--campaign=grid.yaml", "--campaign-gpus=0", "-k", "left").assert_outcomes(
        passed=2
    )


def test_the_second_session_on_a_slot_waits_and_says_for_whom(
    pytester: pytest.Pytester, campaign: Campaign, two_gpus: list[str]
) -> None:
    """Two sessions on one GPU never overlap; one on the other GPU does not wait."""
    grid = "backends: [abacus]\nbackend_overrides: {abacus: {token_ms: 100}}\n"
    for name in ("first", "second", "beside"):
        campaign(f"io: {{results_dir: results-{name}}}\n", name=f"{name}.yaml", grid=grid)
    root = pytester.path
    first = start_session(root, "first.yaml", "--campaign-gpus=0")
    wait_until(lambda: list(root.glob("results-first/**/attempt-1.json")), "the first has a result")
    second = start_session(root, "second.yaml", "--campaign-gpus=0")
    beside = start_session(root, "beside.yaml", "--campaign-gpus=1")
    said = second.communicate(timeout=120)[0]
    for session in (first, beside):
        session.communicate(timeout=120)
    assert [session.returncode for session in (first, second, beside)] == [0, 0, 0]
    assert f"waiting for {two_gpus[0]}: held by" in said
    assert "campaign toy" in said
    ended = max(result["completed_at"] for result in results_of(root / "results-first"))
    assert min(result["started_at"] for result in results_of(root / "results-second")) > ended
    assert min(result["started_at"] for result in results_of(root / "results-beside")) < ended


def test_what_is_missing_is_said_before_the_slot_is_free(
    pytester: pytest.Pytester, campaign: Campaign, two_gpus: list[str]
) -> None:
    """A session that could not run is refused at once, not after hours in which another one has the slot."""
    campaign("services: {abacus: {python: /no/such/python}}\n")
    with slot_held(two_gpus[0]):
        done = pytester.runpytest_subprocess("--campaign=grid.yaml", "--campaign-gpus=0", timeout=60)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: services.abacus.python: /no/such/python is not there*"])

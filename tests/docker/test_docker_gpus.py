"""GPUs of this machine beside containers: whose processes are ours, and which GPU an engine sees."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runs import results_of
from standin.build import Gpu, build_nvml, environment, uuid

Campaign = Callable[..., Path]

LIST_CONTAINER = """
import os
import subprocess
from pathlib import Path

def pytest_llem_result(config, result):
    ours = ["ps", "--quiet", "--filter", "label=org.pytest-llem.session=" + result.session_id]
    (container,) = docker(*ours).split()
    inside = docker("top", container, "-eo", "pid").split()[1:]
    users = " ".join(f"C:{pid}:1" for pid in [*inside, *FOREIGN])
    Path(os.environ["NVML_STANDIN_MEMORY"]).write_text(f"80000 300 {users}\\n80000 300\\n")

def docker(*words):
    return subprocess.run(["docker", *words], check=True, stdout=subprocess.PIPE, text=True).stdout
"""
"""A conftest.py by which, after an experiment, NVML lists all processes of the container, and `FOREIGN`."""


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Give this machine, and not its containers, two idle GPUs."""
    (tmp_path / "memory").write_text("80000 300\n80000 300\n")
    monkeypatch.setenv("NVML_STANDIN_MEMORY", str(tmp_path / "memory"))
    for name, value in environment(build_nvml(tmp_path), tmp_path / "script", [Gpu(), Gpu()]).items():
        monkeypatch.setenv(name, value)
    return [uuid(0), uuid(1)]


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("--campaign=grid.yaml", "--campaign-executor=compose", *options)


def test_processes_of_our_container_are_ours_and_others_are_foreign(
    pytester: pytest.Pytester, docker_campaign: Campaign, two_gpus: list[str]
) -> None:
    """Of the host's process ids that NVML lists, those of `docker top` are ours; this test's own is not."""
    docker_campaign(grid="backends: [abacus]\n")
    pytester.makeconftest(f"FOREIGN = [{os.getpid()}]\n{LIST_CONTAINER}")
    run(pytester, "--campaign-gpus=0").assert_outcomes(passed=2)
    first, second = results_of(pytester.path)
    assert first["isolation"]["foreign"] == []
    assert [process["pid"] for process in second["isolation"]["foreign"]] == [os.getpid()]
    assert second["isolation"]["devices"] == two_gpus[:1]


def test_an_engine_in_a_container_sees_the_gpu_of_its_experiment(
    pytester: pytest.Pytester, docker_campaign: Campaign, two_gpus: list[str]
) -> None:
    """`gpus` reaches the engine process, by UUID, so that it means the same inside."""
    docker_campaign(
        """
        experiments:
          - {config_name: left, backend: abacus, gpus: [0]}
          - {config_name: right, backend: abacus, gpus: [1]}
        """,
        grid="backends: [abacus]\n",
    )
    run(pytester, "--campaign-gpus=0,1", "-k", "left or right").assert_outcomes(passed=4)
    seen = {
        r["configuration"]["config_name"]: r["measurement"]["effective"]["gpus"]
        for r in results_of(pytester.path)
    }
    assert seen == dict(zip(("left", "right"), two_gpus, strict=True))

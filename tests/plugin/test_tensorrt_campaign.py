"""Campaigns on TensorRT-LLM, played by a stand-in: an engine is built once, and its build is counted apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from sessions import wait_until
from standin.hub import Hub, Repository, commit
from trtllm import CAMPAIGN, Project, write_model

BUILD_S = READ_S = 0.5
"""Several ticks of the scripted GPU's counter."""


@pytest.fixture
def project(tmp_path: Path, nvml: Path) -> Project:
    """A folder with a model, on a machine with one GPU."""
    return Project(tmp_path, nvml)


def of_engines(*sections: Mapping[str, Any], **keys: Any) -> list[dict[str, Any]]:
    """Return an experiment for each section of parameters, with the same other keys."""
    return [{"backend": "tensorrt", "tensorrt": section, **keys} for section in sections]


def launches(project: Project) -> list[dict[str, Any]]:
    return [measurement["launch"] for measurement in project.measurements()]


def test_the_second_session_finds_the_engine_of_the_first(project: Project) -> None:
    """A build is measured where it takes place, by time and energy, and the next launch has none."""
    for _ in range(2):
        assert project.run(env={"TRTLLM_STANDIN_BUILD_S": str(BUILD_S)}) == 0, project.output
    first, second = project.measurements()
    assert (first["launch"]["engine_cache"], second["launch"]["engine_cache"]) == ("miss", "hit")
    assert first["launch"]["build_s"] >= BUILD_S
    assert first["metrics"]["engine_build_time_s"]["value"] == first["launch"]["build_s"]
    assert first["metrics"]["engine_build_energy_j"]["value"] > 0
    assert (second["launch"]["build_s"], second["launch"]["build_energy_j"]) == (None, None)
    assert not [name for name in second["metrics"] if name.startswith("engine_build")]
    assert len(project.calls("save")) == 1


def test_a_build_is_no_part_of_the_load(project: Project) -> None:
    """The load begins when the builder is gone, and cold start is the start and that load, in time and energy."""
    project.run(env={"TRTLLM_STANDIN_BUILD_S": str(BUILD_S), "TRTLLM_STANDIN_READ_S": str(READ_S)})
    (measurement,) = project.measurements()
    launch, metrics = measurement["launch"], measurement["metrics"]
    (builder,) = project.calls("shutdown")
    first_request = project.calls("generate_async")[0]
    assert builder["pid"] != first_request["pid"]
    assert launch["load_s"] <= first_request["at_s"] - builder["at_s"]
    assert metrics["model_load_time_s"]["value"] == launch["load_s"]
    assert metrics["cold_start_time_s"]["value"] == launch["start_s"] + launch["load_s"]
    parts = launch["start_energy_j"]["value"] + launch["load_energy_j"]["value"]
    assert launch["cold_start_energy_j"]["value"] == pytest.approx(parts)


@pytest.mark.key("tensorrt.force_rebuild")
def test_force_rebuild_builds_at_each_launch(project: Project) -> None:
    """The engine in the cache is replaced, and the build is counted again."""
    experiments = of_engines({"force_rebuild": True})
    for _ in range(2):
        project.run(experiments=experiments)
    assert [launch["engine_cache"] for launch in launches(project)] == ["miss", "miss"]
    assert len(list((project.folder / "engines").iterdir())) == 1


def test_a_cold_start_keeps_the_engine(project: Project) -> None:
    """A new process for each experiment finds what the first one built."""
    execution = {**CAMPAIGN["execution"], "cycles": 2}
    project.run(execution=execution, cold_start={"force_cold_start": True})
    found = launches(project)
    assert len({launch["id"] for launch in found}) == 2
    assert [(launch["engine_cache"], launch["warm"]) for launch in found] == [("miss", False), ("hit", False)]


def test_a_build_before_the_first_experiment_is_told_with_it(project: Project) -> None:
    """The conditioning builds the engine, and the first result has that build."""
    execution = {**CAMPAIGN["execution"], "conditioning": True}
    project.run(env={"TRTLLM_STANDIN_BUILD_S": str(BUILD_S)}, execution=execution)
    (launch,) = launches(project)
    assert len(project.calls("save")) == 1
    assert (launch["engine_cache"], launch["build_s"] >= BUILD_S) == ("miss", True)


def test_only_what_is_compiled_in_makes_another_engine(project: Project) -> None:
    """Two sizes are two engines; what the executor alone is told is another launch of the same engine."""
    sections: list[dict[str, Any]] = [{}, {"free_gpu_memory_fraction": 0.5}, {"max_batch_size": 4}]
    project.run(
        experiments=of_engines(*sections), execution={**CAMPAIGN["execution"], "structure": "grouped"}
    )
    assert [launch["engine_cache"] for launch in launches(project)] == ["miss", "hit", "miss"]
    engines = {measurement["effective"]["engine_path"] for measurement in project.measurements()}
    assert len(engines) == 2


def test_the_pytorch_backend_builds_nothing(project: Project) -> None:
    """With backend: pytorch the model itself is loaded, and there is no engine to speak of."""
    project.run(experiments=of_engines({"backend": "pytorch"}))
    (launch,) = launches(project)
    assert (launch["engine_cache"], launch["build_s"]) == (None, None)
    assert [call["model"] for call in project.calls("LLM")] == [str(project.model)]
    assert project.calls("_tensorrt_engine.LLM") == []


@pytest.mark.key("tensorrt.engine_path")
def test_an_engine_that_is_there_is_served_as_it_is(project: Project) -> None:
    """With engine_path nothing is built, and a folder without an engine is refused by name."""
    project.run()
    (built,) = (project.folder / "engines").iterdir()
    project.run(experiments=of_engines({"engine_path": str(built)}, {"engine_path": str(project.model)}))
    results = project.results()[1:]
    (served,) = (result["measurement"] for result in results if result["measurement"])
    (refused,) = (result["failure"] for result in results if result["failure"])
    assert served["launch"]["engine_cache"] is None
    assert served["effective"]["engine_path"] == str(built)
    assert refused["kind"] == "invalid_config"
    assert "holds no TensorRT engine: rank0.engine not found" in refused["message"]
    assert len(project.calls("save")) == 1


def test_requests_are_streamed_alone_and_under_load(project: Project) -> None:
    """Every token of every request has its time, in a pass and with clients that wait for their answers."""
    loaded = {"load": {"mode": "closed", "concurrency": 2, "requests": 60}}
    streamed = {"streaming": True, "num_input_prompts": 60}
    project.run(experiments=[*of_engines({}, **streamed), *of_engines({}, **loaded)], window={"seconds": 0})
    for measurement in project.measurements():
        for name in ("ttft_ms_p90", "tpot_ms_p90", "itl_ms_mean", "e2e_latency_ms_p90"):
            assert measurement["metrics"][name]["value"] > 0
    assert {call["streaming"] for call in project.calls("generate_async")} == {True}
    assert [measurement["passes"] for measurement in project.measurements()].count(0) == 1


@pytest.mark.key("tensorrt.engine_cache_dir")
def test_each_cache_has_its_own_engines(project: Project) -> None:
    """Another folder is another cache, in which the engine is built anew."""
    for name in ("engines", "elsewhere"):
        project.run(experiments=of_engines({"engine_cache_dir": name}))
        (engine,) = (project.folder / name).iterdir()
        assert project.measurements()[-1]["effective"]["engine_path"] == str(engine)
    assert [launch["engine_cache"] for launch in launches(project)] == ["miss", "miss"]


@pytest.mark.key("tensorrt.revision")
def test_each_revision_has_an_engine(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each revision of a model on a hub is fetched, and its own engine is built from its own files."""
    revisions = {
        name: write_model(project.folder / name, vocab_size=size) for name, size in (("v1", 50), ("v2", 60))
    }
    with Hub({"org/model": Repository(revisions)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("HF_HOME", str(project.folder / "hub"))
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        project.run(experiments=of_engines({"revision": "v1"}, {"revision": "v2"}), model="org/model")
    assert project.results(), project.output
    found = {measurement["effective"]["model_revision"] for measurement in project.measurements()}
    assert found == {commit(folder) for folder in revisions.values()}
    assert [launch["engine_cache"] for launch in launches(project)] == ["miss", "miss"]


@pytest.mark.parametrize(
    ("mood", "kind", "message"),
    [
        ("refuse-build", "invalid_config", "TensorRT-LLM refuses: the stand-in refuses to build"),
        ("oom-build", "oom", "out of memory"),
        ("die-build", "engine_start", "the process that builds the engine ended with 5"),
        ("refuse-load", "invalid_config", "TensorRT-LLM refuses: the stand-in refuses to load"),
    ],
)
def test_a_build_that_fails_ends_one_experiment(project: Project, mood: str, kind: str, message: str) -> None:
    """The failure has its class and says why, and no half of an engine stays in the cache."""
    assert project.run(env={"TRTLLM_STANDIN_MOOD": mood}) == 1
    (result,) = project.results()
    assert result["failure"]["kind"] == kind
    assert message in result["failure"]["message"]
    assert list((project.folder / "engines").iterdir()) == []


def test_a_build_ends_with_its_session(project: Project) -> None:
    """A session that is killed leaves no builder behind, which could go on for an hour."""
    session = project.start(env={"TRTLLM_STANDIN_BUILD_S": "600"})
    wait_until(lambda: project.calls("_tensorrt_engine.LLM"), "the build has begun")
    builder = psutil.Process(project.calls("_tensorrt_engine.LLM")[0]["pid"])
    session.kill()
    session.communicate()
    wait_until(lambda: not builder.is_running(), "the builder is gone")


def test_a_machine_without_a_gpu_is_told_so_before_anything_runs(project: Project) -> None:
    """Without a driver nothing is collected that could run, and the reason is one sentence."""
    session = project.start("--campaign-executor=local", gpus=())
    output, _ = session.communicate()
    assert session.returncode == 4, output
    assert "tensorrt needs an NVIDIA GPU, and this machine has none" in " ".join(output.split())
    assert project.calls("_tensorrt_engine.LLM") == []


def test_missing_libraries_are_named_with_what_to_install(project: Project) -> None:
    """Without TensorRT-LLM in sight the line that installs it is shown."""
    assert project.run("--campaign-executor=local", services={}) == 4
    output = " ".join(project.output.split())
    assert "the tensorrt backend needs tensorrt_llm in" in output
    assert "pip install 'tensorrt-llm==1.2.1'" in output

"""Who else uses the device: residents, foreign processes, CPU load, and what `isolation` makes of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runs import events, results_of, rows, summary
from standin.build import Gpu, build_nvml, environment, uuid

Campaign = Callable[..., Path]
CPUS = os.cpu_count() or 1

APPEARS_AFTER_THE_FIRST = """
    from pathlib import Path

    def pytest_llem_result(config, result):
        Path({memory!r}).write_text({line!r})
    """


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give this machine an idle GPU and return the file that says who uses it."""
    folder = tmp_path_factory.mktemp("nvml")
    for name, value in environment(build_nvml(folder), folder / "script", [Gpu()]).items():
        monkeypatch.setenv(name, value)
    memory = folder / "memory"
    memory.write_text("80000 300\n")
    monkeypatch.setenv("NVML_STANDIN_MEMORY", str(memory))
    return memory


def used_by(*processes: str) -> str:
    return f"80000 300 {' '.join(processes)}\n"


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("--campaign=grid.yaml", *options)


def test_alone_on_its_gpu_an_experiment_has_no_flag(
    pytester: pytest.Pytester, campaign: Campaign, one_gpu: Path
) -> None:
    """The result says which GPU was watched, and that nobody else was there."""
    campaign()
    run(pytester).assert_outcomes(passed=4)
    for result in results_of(pytester.path):
        assert result["measurement"]["flags"] == []
        assert result["isolation"] == {
            "devices": [uuid(0)],
            "residents": [],
            "foreign": [],
            "foreign_cpu_share": None,
            "problem": None,
        }


@pytest.mark.key("isolation")
@pytest.mark.parametrize("kind", ["C", "G"])
@pytest.mark.parametrize("isolation", ["flag", "fail"])
def test_a_foreign_process_flags_or_fails(
    pytester: pytest.Pytester, campaign: Campaign, one_gpu: Path, isolation: str, kind: str
) -> None:
    """A process that computes or draws on the GPU after the first experiment is named in all that follow."""
    foreign = used_by(f"{kind}:{os.getpid()}:500")
    pytester.makeconftest(APPEARS_AFTER_THE_FIRST.format(memory=str(one_gpu), line=foreign))
    campaign(f"isolation: {isolation}\n")
    done = run(pytester)
    fails = isolation == "fail"
    done.assert_outcomes(passed=1 if fails else 4, failed=3 if fails else 0)
    first, *rest = results_of(pytester.path)
    assert first["isolation"]["foreign"] == []
    for result in rest:
        (process,) = result["isolation"]["foreign"]
        assert (process["pid"], process["devices"]) == (os.getpid(), [uuid(0)])
        assert "foreign_process" in result["measurement"]["flags"]
        assert (result["failure"] or {}).get("kind") == ("not_isolated" if fails else None)
    assert [row["flags"] for row in rows(pytester.path)] == ["", *["foreign_process"] * 3]
    said = f"not_isolated: *(process {os.getpid()}) on {uuid(0)}*" if fails else "! foreign process: *"
    done.stdout.fnmatch_lines([said])


def test_who_was_there_before_is_a_resident(
    pytester: pytest.Pytester, campaign: Campaign, one_gpu: Path
) -> None:
    """A process that was on the GPU when the session began is named at begin and end, and flags nothing."""
    one_gpu.write_text(used_by(f"C:{os.getpid()}:500"))
    campaign("isolation: fail\n")
    done = run(pytester)
    done.assert_outcomes(passed=4)
    named = f"residents, part of every number: *(process {os.getpid()}) on {uuid(0)}"
    done.stdout.fnmatch_lines([named, "*campaign toy*", named])
    assert [len(result["isolation"]["residents"]) for result in results_of(pytester.path)] == [1] * 4
    assert len(events(pytester.path, "residents")) == 1
    assert len(summary(pytester.path)["health"]["residents"]) == 1


def test_our_own_engine_is_not_foreign(pytester: pytest.Pytester, campaign: Campaign, one_gpu: Path) -> None:
    """The engine, which NVML lists under its own process id, is ours."""
    (pytester.path / "mood").write_text("load-compute")
    grid = "backends: [abacus]\nbackend_overrides: {abacus: {mood_file: mood}}\n"
    campaign("isolation: fail\n", grid=grid, execution="recycle_cycles: 0\n")
    run(pytester).assert_outcomes(passed=2)
    assert "C:" in one_gpu.read_text()
    assert [result["isolation"]["foreign"] for result in results_of(pytester.path)] == [[], []]


def test_processes_that_cannot_be_seen_are_judged_by_nobody(
    pytester: pytest.Pytester, campaign: Campaign, one_gpu: Path
) -> None:
    """Where the driver counts processes in another namespace nobody is accused, and the result says why."""
    nobody = 2**22 + 1  # above Linux' largest process id
    pytester.makeconftest(
        APPEARS_AFTER_THE_FIRST.format(memory=str(one_gpu), line=used_by(f"C:{nobody}:500"))
    )
    campaign("isolation: fail\n")
    run(pytester).assert_outcomes(passed=4)
    problems = [result["isolation"]["problem"] for result in results_of(pytester.path)]
    assert problems[0] is None
    assert all("cannot be seen from here" in problem for problem in problems[1:])


@pytest.fixture
def busy_cpus() -> Iterator[None]:
    """Keep more than a tenth of this machine's CPUs busy."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(CPUS // 8 + 1)]
    yield
    for burner in burners:
        burner.kill()
        burner.wait()


@pytest.mark.usefixtures("busy_cpus")
@pytest.mark.parametrize("isolation", ["flag", "fail"])
def test_without_a_gpu_the_load_of_others_counts(
    pytester: pytest.Pytester, campaign: Campaign, isolation: str
) -> None:
    """On a machine without a GPU nobody is watched on one; the CPU time of others in the window flags or fails."""
    campaign(f"isolation: {isolation}\n", grid="backends: [abacus]\n")
    run(pytester, "--campaign-set", "window.seconds=6", "--campaign-set", "execution.cycles=1")
    (result,) = results_of(pytester.path)
    found = result["isolation"]
    assert (found["devices"], found["foreign"]) == ([], [])
    assert 0.05 < found["foreign_cpu_share"] <= 1
    assert "foreign_cpu_load" in result["measurement"]["flags"]
    assert (result["failure"] or {}).get("kind") == ("not_isolated" if isolation == "fail" else None)


def test_a_short_window_is_not_judged(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """The CPU time of a window under 5 s is too coarse to tell ours from that of others."""
    campaign("isolation: fail\n")
    run(pytester).assert_outcomes(passed=4)
    assert [result["isolation"]["foreign_cpu_share"] for result in results_of(pytester.path)] == [None] * 4

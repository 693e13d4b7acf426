"""`execution.budget_hours` and `execution.budget_kwh`: a run stops before the cycle that would be too much."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runs import completed, results_of, summary
from scripted import Session
from standin.build import Gpu
from standin.curves import flat

Campaign = Callable[..., Path]

NOTHING = "1.0e-9"


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("--campaign=grid.yaml", *options)


def budget(key: str, value: object) -> tuple[str, str]:
    return "--campaign-set", f"execution.{key}={value}"


@pytest.mark.key("execution.budget_hours", "execution.budget_kwh")
@pytest.mark.parametrize(("key", "unit"), [("budget_hours", "h"), ("budget_kwh", "kWh")])
def test_a_run_ends_with_the_cycle_that_used_it_up(
    pytester: pytest.Pytester, campaign: Campaign, key: str, unit: str
) -> None:
    """A small budget leaves the first cycle whole and the rest pending, and says so; a large one changes nothing."""
    campaign()
    passes = ("--campaign-set", "window.passes=50")
    done = run(pytester, *passes, *budget(key, NOTHING))
    done.assert_outcomes(passed=2)
    assert {result["cycle"] for result in results_of(pytester.path)} == {1}
    done.stdout.fnmatch_lines(
        [
            f"stopped by execution.{key} (1e-09 {unit}): the first cycle alone took * {unit}; raise it to go on",
            "2 experiments remain: pytest --campaign=grid.yaml --lf *",
        ]
    )
    assert summary(pytester.path)["spending"]["stopped_by"].startswith(f"execution.{key}")
    run(pytester, *passes, *budget(key, 1000)).assert_outcomes(passed=4)
    assert summary(pytester.path)["spending"]["stopped_by"] is None


def test_a_stop_that_was_asked_for_is_no_failure(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """The exit code is 0 where all that ran is fine, and 1 where an experiment failed or `expect` is not kept."""
    campaign(grid="backends: [abacus]\nbackend_overrides: {abacus: {mood_file: mood}}\n")
    assert run(pytester, *budget("budget_hours", NOTHING)).ret == 0
    expect = ("--campaign-set", "expect.output_tokens_per_second.min=1e12")
    assert run(pytester, *budget("budget_hours", NOTHING), *expect).ret == pytest.ExitCode.TESTS_FAILED
    (pytester.path / "mood").write_text("pass-raise")
    done = run(pytester, *budget("budget_hours", NOTHING))
    done.assert_outcomes(failed=1)
    assert done.ret == pytest.ExitCode.TESTS_FAILED


def test_the_next_session_goes_on_with_more(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """--lf measures nothing while the budget is that of the run, and the rest when it is raised."""
    campaign()
    run(pytester, *budget("budget_hours", NOTHING))
    again = run(pytester, "--lf", *budget("budget_hours", NOTHING))
    again.assert_outcomes(deselected=2)
    assert again.ret == 0
    again.stdout.fnmatch_lines(["stopped by *", "2 experiments remain: *"])
    run(pytester, "--lf", *budget("budget_hours", 1)).assert_outcomes(passed=2, deselected=2)
    assert len(completed(pytester.path)) == 4


def test_the_time_of_failed_attempts_counts(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """What failed in an earlier session was paid for: the budget of the run is used up by it."""
    campaign(grid="backends: [abacus]\nbackend_overrides: {abacus: {mood_file: mood}}\n")
    (pytester.path / "mood").write_text("pass-raise")
    run(pytester).assert_outcomes(failed=2)
    (pytester.path / "mood").unlink()
    done = run(pytester, "--lf", *budget("budget_hours", NOTHING))
    done.assert_outcomes()
    assert completed(pytester.path) == []
    done.stdout.fnmatch_lines(["stopped by *"])


def test_a_grouped_run_ends_with_a_configuration(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Where configurations come one after the other, a whole one is measured and the others not at all."""
    campaign(execution="structure: grouped")
    done = run(pytester, *budget("budget_hours", NOTHING))
    assert [(r["label"], r["cycle"]) for r in results_of(pytester.path)] == [
        ("abacus batch_size=1", 1),
        ("abacus batch_size=1", 2),
    ]
    done.stdout.fnmatch_lines(["*the first configuration alone took*"])


def test_a_worker_of_xdist_stops_too(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Under -n 1 the cycle in the worker is the last, and the controller says why."""
    campaign()
    done = run(pytester, "-n", "1", *budget("budget_hours", NOTHING))
    done.assert_outcomes(passed=2)
    assert done.ret == 0
    done.stdout.fnmatch_lines(["stopped by execution.budget_hours*", "2 experiments remain: *"])


def test_a_worker_of_xdist_counts_earlier_sessions(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Under -n 1 too --lf measures nothing while the budget is that of the run."""
    campaign()
    run(pytester, *budget("budget_hours", NOTHING))
    run(pytester, "--lf", "-n", "1", *budget("budget_hours", NOTHING))
    assert len(completed(pytester.path)) == 2


def test_other_tests_of_the_session_run(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """A test that measures nothing runs although the budget is used up; one that would measure does not."""
    campaign()
    pytester.makepyfile(
        test_own="""
        def test_plain(): pass
        def test_budget(experiment): assert experiment.run().output_tokens_per_second > 0
        """
    )
    done = run(pytester, "grid.yaml", "test_own.py", *budget("budget_hours", NOTHING))
    done.assert_outcomes(passed=5)  # two experiments, their two tests, and the plain one
    assert len(completed(pytester.path)) == 2


def test_a_budget_of_energy_needs_energy(tmp_path: Path, nvml: Path) -> None:
    """Where the meters have nothing the session stops after its first cycle, says so, and fails."""
    lost = Gpu(flat(200), lost_after_s=0.0)
    session = Session(tmp_path, nvml, [lost], "execution.cycles=3", "execution.budget_kwh=1000")
    assert session.done.returncode == pytest.ExitCode.TESTS_FAILED
    assert len(session.results) == 1
    assert "execution.budget_kwh cannot be kept: no energy is known of 1 completed" in session.done.stdout
    assert "2 experiments remain" in session.done.stdout

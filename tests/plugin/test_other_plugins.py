"""Other plugins beside a campaign: xdist, randomly, and pytest's own ones switched off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runs import completed, results_of, summary

Campaign = Callable[..., Path]


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("--campaign=grid.yaml", *options)


def test_one_xdist_worker_measures_the_same(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """-n 1 measures in a worker process, and the controller summarises and knows that nothing is left."""
    campaign()
    done = run(pytester, "-n", "1")
    done.assert_outcomes(passed=4)
    done.stdout.no_fnmatch_line("*experiments remain*")
    assert [row["n"] for row in summary(pytester.path)["rows"]] == [2, 2]


def test_a_run_can_be_continued_under_xdist(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """--lf with -n 1 measures only what is left."""
    campaign()
    run(pytester, "-k", "c1")
    run(pytester, "-n", "1", "--lf").assert_outcomes(passed=2)
    assert sorted(set(completed(pytester.path))) == sorted(completed(pytester.path))
    assert len(completed(pytester.path)) == 4


@pytest.mark.parametrize("workers", ["2", "auto"])
def test_parallel_experiments_are_refused(
    pytester: pytest.Pytester, campaign: Campaign, workers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-n above 1 is a usage error that says why."""
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "2")
    campaign()
    done = run(pytester, "-n", workers)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*-n 2: experiments beside each other would share the device*"])


def test_randomly_does_not_undo_the_order(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """pytest-randomly shuffles tests, but the order of a campaign is drawn from its own seed."""
    campaign(
        grid="backends: [abacus]\nshared: {batch_size: [1, 2, 3, 4, 5]}\n", execution="structure: interleaved"
    )
    run(pytester, "-p", "randomly", "-p", "no:xdist").assert_outcomes(passed=10)
    positions = [result["position"] for result in results_of(pytester.path)]
    assert positions == sorted(positions)

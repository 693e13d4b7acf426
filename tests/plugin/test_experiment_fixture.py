"""The fixture `experiment` in a user's own tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runs import completed

Campaign = Callable[..., Path]

BUDGET = """
def test_rate(experiment):
    assert experiment.run().output_tokens_per_second > {rate}

def test_configuration(experiment):
    assert experiment.configuration.max_output_tokens == 4
    assert experiment.cycle in (1, 2)
"""


def test_a_users_test_runs_once_for_each_experiment(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """A test that asks for `experiment` is parametrized over the campaign and sees its numbers."""
    campaign()
    pytester.makepyfile(test_budget=BUDGET.format(rate=1))
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "test_budget.py")
    done.assert_outcomes(passed=8)
    assert len(completed(pytester.path)) == 4


def test_an_experiment_is_told_once(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Two tests of one experiment have a letter each of pytest's, and one line between them that counts it."""
    campaign()
    tests = "def test_rate(experiment): assert experiment.run().output_tokens_per_second > {}\n"
    pytester.makepyfile(test_budget=tests.format(1) + tests.replace("rate", "more").format(1e12))
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "test_budget.py")
    done.assert_outcomes(passed=4, failed=4)
    counts = [line.split("[")[1][:3] for line in done.outlines if "token/s" in line and "[" in line]
    assert counts == ["1/4", "2/4", "3/4", "4/4"]
    letters = [line for line in done.outlines if line.startswith("test_budget.py ")]
    assert sum(line.split()[1].count("F") for line in letters) == 4
    assert "[100%]" in letters[-1]


def test_an_experiment_is_measured_once_a_session(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """The campaign's own items and two tests of the user's share one measurement."""
    campaign()
    pytester.makepyfile(
        test_budget=BUDGET.format(rate=1) + BUDGET.replace("test_", "test_too_").format(rate=1)
    )
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "grid.yaml", "test_budget.py")
    done.assert_outcomes(passed=20)
    assert len(completed(pytester.path)) == 4


def test_a_failed_assertion_is_judged_again_without_measuring(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """Measured but over budget is completed: --lf judges again with the stored numbers."""
    campaign()
    pytester.makepyfile(test_budget=BUDGET.format(rate=1e12))
    pytester.runpytest_subprocess("--campaign=grid.yaml", "test_budget.py").assert_outcomes(
        passed=4, failed=4
    )
    pytester.makepyfile(test_budget=BUDGET.format(rate=1))
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "test_budget.py", "--lf")
    assert done.ret == 0
    assert done.parseoutcomes()["passed"] >= 4
    assert len(completed(pytester.path)) == 4


def test_without_a_campaign_such_tests_are_skipped_with_the_reason(pytester: pytest.Pytester) -> None:
    """A plain session skips the test and says what it needs."""
    pytester.makepyfile(BUDGET.format(rate=1))
    done = pytester.runpytest_subprocess("-rs")
    done.assert_outcomes(skipped=2)
    done.stdout.fnmatch_lines(["*needs a campaign: run pytest --campaign FILE*"])


def test_an_unavailable_metric_says_why(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Asking for a number that does not exist fails with the reason, not with None."""
    campaign()
    pytester.makepyfile(test_p99="def test_p99(experiment): experiment.run().ttft_ms_p99")
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "test_p99.py", "-k", "c1")
    done.stdout.fnmatch_lines(["*ttft_ms_p99 is unavailable: 20 distinct times; p99 needs 500*"])


def test_a_failed_experiment_raises_its_class(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """A user's test of an experiment that has no measurement fails with class and message."""
    (pytester.path / "mood").write_text("pass-oom")
    campaign(grid="backends: [abacus]\nbackend_overrides: {abacus: {mood_file: mood}}\n")
    pytester.makepyfile(test_it="def test_it(experiment): experiment.run()")
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "test_it.py")
    done.assert_outcomes(failed=2)
    done.stdout.fnmatch_lines(["*ExperimentFailed: oom: *no more beads*"])

"""`expect`: budgets judged at the end, on each configuration's interval."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runs import completed, summary

Campaign = Callable[..., Path]


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("--campaign=grid.yaml", *options)


def test_a_budget_that_is_kept_changes_nothing(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Within budget the exit code stays 0 and the verdict is in the summary."""
    campaign("expect: {output_tokens_per_second: {min: 1}}\n")
    done = run(pytester, "--campaign-set", "execution.cycles=3")
    assert done.ret == 0
    assert {v["outcome"] for row in summary(pytester.path)["rows"] for v in row["budgets"]} == {"met"}


@pytest.mark.key("expect.*.min", "expect.*.max")
@pytest.mark.parametrize(
    "budget", ["output_tokens_per_second: {min: 1.0e12}", "e2e_latency_ms_mean: {max: 1.0e-9}"]
)
def test_over_budget_every_experiment_passes_and_the_session_fails(
    pytester: pytest.Pytester, campaign: Campaign, budget: str
) -> None:
    """Measured but over budget is completed: all items pass, the exit code is 1, and a line names both numbers."""
    campaign(f"expect: {{{budget}}}\n")
    done = run(pytester)
    done.assert_outcomes(passed=4)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    metric = budget.partition(":")[0]
    done.stdout.fnmatch_lines([f"*{metric}*", "2 budgets of expect not kept: exit code 1"])


def test_lf_judges_again_without_measuring(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """After the budget is raised --lf measures nothing and succeeds; before, it fails again."""
    path = campaign("expect: {output_tokens_per_second: {min: 1.0e12}}\n")
    run(pytester)
    again = run(pytester, "--lf")
    assert again.ret == pytest.ExitCode.TESTS_FAILED
    path.write_text(path.read_text().replace("1.0e12", "1"))
    done = run(pytester, "--lf")
    assert done.ret == 0
    assert len(completed(pytester.path)) == 4


def test_a_budget_on_an_unknown_metric_is_refused(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """A misspelt metric is a usage error that names the nearest one."""
    campaign("expect: {output_tokens_per_secnd: {min: 1}}\n")
    done = run(pytester)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*output_tokens_per_secnd*output_tokens_per_second*"])


@pytest.mark.key("group_by")
def test_group_by_makes_one_row_a_group(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Configurations that differ in other axes share a row, averaged within each cycle."""
    grid = "backends: [abacus]\nshared: {batch_size: [1, 2], max_output_tokens: [4, 6]}\n"
    campaign("group_by: [batch_size]\n", grid=grid, execution="structure: interleaved")
    done = run(pytester, "--campaign-set", "execution.cycles=3")
    groups = summary(pytester.path)["groups"]
    assert [group["axes"] for group in groups] == [{"batch_size": 1}, {"batch_size": 2}]
    assert [group["n"] for group in groups] == [3, 3]
    done.stdout.fnmatch_lines(["*3 of 3*", "*3 of 3*"])


def test_three_cycles_have_an_interval_and_its_method(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """The table says Student t on logs, n = 3; one and two cycles say what is missing."""
    campaign()
    run(pytester, "--campaign-set", "execution.cycles=3").stdout.fnmatch_lines(["*Student t on logs, n = 3*"])
    run(pytester, "--campaign-set", "execution.cycles=2").stdout.fnmatch_lines(["*Two cycles: means only*"])
    run(pytester, "--campaign-set", "execution.cycles=1").stdout.fnmatch_lines(
        ["Single cycle: set execution.cycles to 3 or more for confidence intervals"]
    )

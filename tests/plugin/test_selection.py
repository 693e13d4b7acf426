"""pytest's own ways to select and to stop work on experiments as on any test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runs import completed

Campaign = Callable[..., Path]


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        (["-k", "batch_size-1"], {"abacus-batch_size-1-c1", "abacus-batch_size-1-c2"}),
        (["-m", 'campaign(backend="abacus", cycle=2)'], {"abacus-batch_size-1-c2", "abacus-batch_size-2-c2"}),
        (["-m", "campaign(batch_size=2)"], {"abacus-batch_size-2-c1", "abacus-batch_size-2-c2"}),
        (["-m", 'campaign(backend="pytorch")'], set()),
        (["-m", "not campaign"], set()),
        (["grid.yaml::abacus-batch_size-2-c1"], {"abacus-batch_size-2-c1"}),
        (
            ["--deselect", "grid.yaml::abacus-batch_size-2-c1", "-k", "c1"],
            {"abacus-batch_size-1-c1"},
        ),
    ],
)
def test_selection(
    pytester: pytest.Pytester, campaign: Campaign, options: list[str], chosen: set[str]
) -> None:
    """Only the selected experiments are measured."""
    campaign()
    pytester.runpytest_subprocess("--campaign=grid.yaml", *options)
    assert set(completed(pytester.path)) == chosen


def test_a_single_node_id_needs_no_option(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """A node id copied from a report reruns that experiment."""
    campaign()
    pytester.runpytest_subprocess("grid.yaml::abacus-batch_size-2-c1").assert_outcomes(passed=1)


@pytest.mark.parametrize(("option", "failures"), [("-x", 1), ("--maxfail=2", 2)])
def test_stopping_early(pytester: pytest.Pytester, campaign: Campaign, option: str, failures: int) -> None:
    """-x and --maxfail end the session; what has not run stays pending."""
    (pytester.path / "mood").write_text("pass-raise")
    campaign("", execution="", grid=GRUMPY)
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", option)
    done.assert_outcomes(failed=failures)
    assert done.ret == pytest.ExitCode.TESTS_FAILED


GRUMPY = """
    backends: [abacus]
    shared:
      batch_size: [1, 2]
    backend_overrides:
      abacus: {mood_file: mood}
"""


def test_durations_show_the_experiment_without_its_gap(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """--durations lists the calls, and a gap of 2 s before them is in none of its lines."""
    path = campaign()
    path.write_text(path.read_text().replace("gap_seconds: 0", "gap_seconds: 2"))
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "--durations=0", "-vv", "-k", "c1")
    lines = [line for line in done.stdout.lines if " setup " in line or " call " in line]
    assert len(lines) == 4
    assert all(float(line.split("s ")[0]) < 2 for line in lines)

"""Order, launches, gaps and conditioning, as a session really carries them out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from runs import completed, events, launches, results_of

Campaign = Callable[..., Path]

SIX = """
    backends: [abacus]
    shared:
      rods: [1, 2]
      batch_size: [1, 2, 4]
"""


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("--campaign=grid.yaml", *options)


def order(pytester: pytest.Pytester, *options: str) -> list[str]:
    lines = run(pytester, "--collect-only", "-q", *options).stdout.lines
    return [line.partition("::")[2] for line in lines if "::" in line]


@pytest.mark.key("cold_start.force_cold_start", "execution.recycle_cycles")
@pytest.mark.parametrize(
    ("options", "count"),
    [
        ([], 4),
        (["--force-cold-start"], 12),
        (["--campaign-set", "cold_start.force_cold_start=true"], 12),
        (["--campaign-set", "cold_start.force_cold_start=true", "--no-force-cold-start"], 4),
        (
            ["--campaign-set", "execution.recycle_cycles=0", "--campaign-set", "execution.structure=grouped"],
            2,
        ),
    ],
)
def test_launches_are_counted(
    pytester: pytest.Pytester, campaign: Campaign, options: list[str], count: int
) -> None:
    """2 engine keys x 3 batch sizes x 2 cycles are 4 launches, 12 with a forced cold start."""
    campaign(grid=SIX)
    run(pytester, "--campaign-set", "execution.conditioning=true", *options).assert_outcomes(passed=12)
    assert len(launches(pytester.path)) == count


def test_every_result_says_warm_or_cold(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """The first experiment of a launch is cold and has a load time; the others are warm and have none."""
    campaign(grid=SIX)
    run(pytester)
    for result in results_of(pytester.path):
        launch = result["measurement"]["launch"]
        assert ("model_load_time_s" in result["measurement"]["metrics"]) is not launch["warm"]
    cold = [r for r in results_of(pytester.path) if not r["measurement"]["launch"]["warm"]]
    assert len(cold) == len(launches(pytester.path))


@pytest.mark.key("execution.structure", "execution.seed")
def test_the_structure_decides_the_order(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Interleaved repeats the file's order, grouped runs a configuration's cycles together, shuffled draws."""
    campaign(grid=SIX)
    interleaved = order(pytester, "--campaign-set", "execution.structure=interleaved")
    grouped = order(pytester, "--campaign-set", "execution.structure=grouped")
    shuffled = order(pytester, "--campaign-set", "execution.seed=3")
    other = order(pytester, "--campaign-set", "execution.seed=4")
    assert [name[-1] for name in interleaved] == ["1"] * 6 + ["2"] * 6
    assert [name[-1] for name in grouped] == ["1", "2"] * 6
    assert sorted(shuffled) == sorted(interleaved)
    assert shuffled != other
    assert shuffled == order(pytester, "--campaign-set", "execution.seed=3")


@pytest.mark.key("execution.cycles")
def test_cycles_repeat_the_grid(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """execution.cycles says how often."""
    campaign()
    assert len(order(pytester)) == 4
    assert len(order(pytester, "--campaign-set", "execution.cycles=7")) == 14


@pytest.mark.key("execution.config_gap_seconds", "execution.cycle_gap_seconds")
def test_gaps_are_waited_and_recorded(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """The gap lies between the end of one experiment and the start of the next, and the result says how long."""
    path = campaign(execution="structure: interleaved")
    text = path.read_text().replace("config_gap_seconds: 0", "config_gap_seconds: 0.4")
    path.write_text(text.replace("cycle_gap_seconds: 0", "cycle_gap_seconds: 0.8"))
    run(pytester).assert_outcomes(passed=4)
    results = results_of(pytester.path)
    asked = [0, 0.4, 0.8, 0.4]
    assert [result["gap_s"] >= gap for result, gap in zip(results, asked, strict=True)] == [True] * 4
    for gap, (before, after) in zip(asked[1:], itertools.pairwise(results), strict=True):
        assert between_s(before, after) >= gap
    assert [event["asked_s"] for event in events(pytester.path, "gap")] == asked[1:]


def between_s(before: dict[str, Any], after: dict[str, Any]) -> float:
    end, begin = (datetime.fromisoformat(text) for text in (before["completed_at"], after["started_at"]))
    return (begin - end).total_seconds()


def test_gaps_follow_the_selection(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Gaps are computed from what is left: a single experiment waits for nothing."""
    path = campaign()
    path.write_text(path.read_text().replace("gap_seconds: 0", "gap_seconds: 3600"))
    run(pytester, "-k", "batch_size-1 and c2").assert_outcomes(passed=1)
    assert events(pytester.path, "gap") == []


@pytest.mark.key("execution.conditioning")
@pytest.mark.parametrize(("wanted", "count"), [("true", 1), ("false", 0)])
def test_conditioning_runs_once_a_session(
    pytester: pytest.Pytester, campaign: Campaign, wanted: str, count: int
) -> None:
    """One unmeasured pass at the start, in a launch of its own that is no result's."""
    campaign()
    run(pytester, "--campaign-set", f"execution.conditioning={wanted}").assert_outcomes(passed=4)
    assert len(events(pytester.path, "conditioning")) == count
    assert len(completed(pytester.path)) == 4


@pytest.mark.key("window.seconds", "window.passes")
def test_the_window_is_whole_passes_until_both_are_reached(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """window.passes asks for passes, window.seconds for time; every pass is whole."""
    campaign(grid="backends: [abacus]\nbackend_overrides: {abacus: {batch_size: 20}}\n")
    run(pytester, "--campaign-set", "window.passes=3", "-k", "c1")
    run(pytester, "--campaign-set", "window.seconds=0.3", "-k", "c1")
    by_passes, by_time = (result["measurement"] for result in results_of(pytester.path))
    assert by_passes["passes"] == 3
    assert by_time["passes"] > 3
    assert by_time["window_s"] >= 0.3
    assert [m["requests"] for m in (by_passes, by_time)] == [20 * m["passes"] for m in (by_passes, by_time)]

"""Sessions in surroundings that are not as they should be: what the user reads is a sentence, never a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runs import completed, run_folders, summary

Campaign = Callable[..., Path]

TRACEBACKS = ("*INTERNALERROR*", "*Traceback*", "*AssertionError*")

MOODY = "backends: [abacus]\nbackend_overrides: {abacus: {mood_file: mood}}\n"


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", *options)
    for traceback in TRACEBACKS:
        done.stdout.no_fnmatch_line(traceback)
        done.stderr.no_fnmatch_line(traceback)
    return done


def damage_run(folder: Path) -> None:
    (folder / "run.json").write_text("{}")


def age_journal(folder: Path) -> None:
    """Make the journal one of a future version."""
    cache = folder.parents[2] / ".pytest_cache/d/llem" / folder.parent.name / folder.name
    for journal in cache.glob("*.jsonl"):
        header, *events = journal.read_text().splitlines()
        journal.write_text(
            "\n".join([json.dumps(json.loads(header) | {"schema_version": 99}), *events]) + "\n"
        )


@pytest.mark.parametrize("damage", [damage_run, age_journal])
def test_an_older_run_that_cannot_be_read_is_no_obstacle_to_a_new_one(
    pytester: pytest.Pytester, campaign: Campaign, damage: Callable[[Path], None]
) -> None:
    """It is noted in the header; only --lf, which asks for it, is refused."""
    campaign()
    run(pytester, "-k", "c1")
    damage(run_folders(pytester.path)[-1])
    assert run(pytester, "--lf").ret == pytest.ExitCode.USAGE_ERROR
    assert run(pytester, "--collect-only").ret == 0
    done = run(pytester)
    assert done.ret == 0
    done.stdout.fnmatch_lines(["*note: an older run cannot be continued: *"])


def test_a_session_of_xdist_can_collect_only(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """With -n 1 the grid is validated as without."""
    campaign()
    assert run(pytester, "-n1", "--collect-only").ret == 0
    assert run_folders(pytester.path) == []


def test_a_broken_test_file_beside_it_may_be_passed_over(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """With --continue-on-collection-errors the experiments are measured."""
    campaign()
    pytester.makepyfile(test_broken="import nothing_of_that_name")
    options = ("grid.yaml", "test_broken.py", "--continue-on-collection-errors")
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", *options)
    done.stdout.no_fnmatch_line("*INTERNALERROR*")
    done.assert_outcomes(passed=4, errors=1)
    assert len(completed(pytester.path)) == 4


def test_a_cache_that_cannot_be_made_is_said(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Where pytest's cache has no place a session ends before it begins, and a grid can still be validated."""
    campaign()
    (pytester.path / ".pytest_cache").write_text("no folder")
    done = run(pytester)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: cannot write *.pytest_cache/d/llem: *"])
    assert run(pytester, "--collect-only", "-p", "no:cacheprovider").ret == 0


@pytest.mark.parametrize("options", [(), ("--collect-only",)])
def test_a_file_where_results_should_be_is_said(
    pytester: pytest.Pytester, campaign: Campaign, options: tuple[str, ...]
) -> None:
    """The message names the path."""
    campaign()
    (pytester.path / "results").write_text("no folder")
    done = run(pytester, *options)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: *results*: Not a directory*"])


def test_a_hook_that_raises_does_not_cost_the_table(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """The table stands, the hook's error is named below it, and the session has failed."""
    campaign()
    pytester.makeconftest("def pytest_llem_summary(summary): raise TypeError('none of that')")
    done = run(pytester)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(
        ["*abacus*2*of*2*", "pytest_llem_summary, *conftest.py: TypeError: none of that"]
    )
    assert all(row["n"] == 2 for row in summary(pytester.path)["rows"])


def record(pytester: pytest.Pytester) -> set[str]:
    """Return what pytest takes for failed."""
    return set(json.loads((pytester.path / ".pytest_cache/v/cache/lastfailed").read_text()))


def test_the_record_of_failures_holds_failures_only(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """After --lf pytest's own record has what failed, not what was left out or has never run."""
    campaign(grid=MOODY)
    run(pytester, "-k", "c1")
    (pytester.path / "mood").write_text("pass-raise")
    done = run(pytester, "--lf")
    done.stdout.no_fnmatch_line("*run-last-failure*")
    assert record(pytester) == {"grid.yaml::abacus-c2"}
    run(pytester, "--lf", "--collect-only")
    assert record(pytester) == {"grid.yaml::abacus-c2"}
    (pytester.path / "mood").unlink()
    assert run(pytester, "--lf").ret == 0
    assert record(pytester) == set()

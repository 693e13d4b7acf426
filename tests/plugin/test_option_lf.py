"""`--lf`: continue the newest run with exactly what it still lacks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runs import completed, events, results_of, run_folders, summary

Campaign = Callable[..., Path]

GRUMPY = """
    backends: [abacus]
    shared:
      batch_size: [1, 2]
    backend_overrides:
      abacus: {mood_file: mood}
"""


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("--campaign=grid.yaml", *options)


def test_only_what_failed_runs_again(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """After the cause is mended the failed experiments run a second attempt, the others none."""
    campaign(grid=GRUMPY)
    (pytester.path / "mood").write_text("pass-raise")
    run(pytester, "-k", "batch_size-1").assert_outcomes(failed=2, deselected=2)
    (pytester.path / "mood").unlink()
    done = run(pytester, "--lf")
    done.assert_outcomes(passed=4)
    done.stdout.fnmatch_lines(["*Resuming: 4 remaining (0 completed, 2 failed)*"])
    attempts = {(r["experiment_id"], r["attempt"]): r["status"] for r in results_of(pytester.path)}
    assert sorted(attempts.values()) == ["completed"] * 4 + ["failed"] * 2
    assert len(run_folders(pytester.path)) == 1


def test_nothing_left_is_success(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Where nothing is left the exit code is 0, and the table is shown again."""
    campaign()
    run(pytester)
    done = run(pytester, "--lf")
    assert done.ret == 0
    done.assert_outcomes(deselected=4)
    assert len(completed(pytester.path)) == 4
    done.stdout.fnmatch_lines(["*abacus*2*of*2*"])


def test_it_goes_on_after_x(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """What -x left pending is measured, and the failed one again."""
    campaign(grid=GRUMPY)
    (pytester.path / "mood").write_text("load-raise")
    run(pytester, "-x").assert_outcomes(failed=1)
    (pytester.path / "mood").unlink()
    run(pytester, "--lf").assert_outcomes(passed=4)


def test_a_new_point_is_measured_and_named(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """A point added to the grid runs; nothing that was done runs again, although ids may change."""
    path = campaign()
    run(pytester)
    path.write_text(path.read_text().replace("[1, 2]", "[1, 2, 4]"))
    done = run(pytester, "--lf")
    done.assert_outcomes(passed=2, deselected=4)
    done.stdout.fnmatch_lines(["*1 new*4*"])


def test_renamed_ids_rerun_nothing(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """A second model puts the model into every id, and what was measured stays measured."""
    path = campaign()
    run(pytester)
    path.write_text(
        path.read_text().replace("backends: [abacus]", "backends: [abacus]\n  models: [beads, pearls]")
    )
    done = run(pytester, "--lf")
    done.assert_outcomes(passed=4, deselected=4)
    assert any("pearls" in name for name in completed(pytester.path))


def test_a_changed_point_is_measured_again(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """A change of what is measured makes every configuration new; the old results stay on disk."""
    path = campaign()
    run(pytester)
    path.write_text(path.read_text().replace("max_output_tokens: 4", "max_output_tokens: 5"))
    done = run(pytester, "--lf")
    done.assert_outcomes(passed=4)
    done.stdout.fnmatch_lines(["*2 changed*"])
    assert len(completed(pytester.path)) == 8


def test_more_cycles_add_cycles(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Raising the number of cycles measures the added ones only."""
    campaign()
    run(pytester)
    run(pytester, "--lf", "--campaign-set", "execution.cycles=3").assert_outcomes(passed=2, deselected=4)
    assert [row["n"] for row in summary(pytester.path)["rows"]] == [3, 3]


def test_it_holds_after_cache_clear(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """--cache-clear loses the journal, and the results on disk still say what is done."""
    campaign()
    run(pytester, "-k", "c1")
    done = run(pytester, "--lf", "--cache-clear")
    done.assert_outcomes(passed=2, deselected=2)
    assert len(set(completed(pytester.path))) == len(completed(pytester.path)) == 4


def test_it_holds_in_a_fresh_checkout_with_the_results(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Results without any cache are enough to go on."""
    campaign()
    run(pytester, "-k", "c1")
    shutil.rmtree(pytester.path / ".pytest_cache")
    run(pytester, "--lf").assert_outcomes(passed=2, deselected=2)


@pytest.mark.parametrize("damage", ["lose", "truncate"])
def test_a_lost_or_damaged_result_is_measured_again(
    pytester: pytest.Pytester, campaign: Campaign, damage: str
) -> None:
    """A result that is gone or cut short counts as never measured, whatever the journal says."""
    campaign()
    run(pytester)
    victim = next(pytester.path.rglob("attempt-1.json"))
    if damage == "lose":
        victim.unlink()
    else:
        victim.write_text(victim.read_text()[:100])
    run(pytester, "--lf").assert_outcomes(passed=1, deselected=3)
    assert len(set(completed_whole(pytester.path))) == 4
    assert len(events(pytester.path, "lost")) == 1


def completed_whole(root: Path) -> list[str]:
    for path in root.rglob("attempt-*.json"):
        if len(path.read_text()) <= 100:
            path.unlink()
    return completed(root)


def test_with_no_run_to_continue_it_starts_one(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """The first session may say --lf too."""
    campaign()
    done = run(pytester, "--lf")
    done.assert_outcomes(passed=4)
    done.stdout.fnmatch_lines(["*new: there is none to continue*"])


def test_failures_of_other_tests_do_not_hide_the_campaign(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """A failing test elsewhere in the cache's last-failed set leaves the resume exact."""
    campaign()
    pytester.makepyfile(test_own="def test_own(): assert False")
    pytester.runpytest_subprocess("test_own.py").assert_outcomes(failed=1)
    run(pytester, "-k", "c1")
    run(pytester, "--lf").assert_outcomes(passed=2, deselected=2)


def test_the_seed_of_the_order_is_kept(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """A resumed session has the order of the run that it continues."""
    campaign(grid="backends: [abacus]\nshared: {batch_size: [1, 2, 3, 4, 5, 6, 7]}\n")
    first = ids(
        run(pytester, "--campaign-set", "execution.seed=5", "-k", "batch_size-1-c1", "--collect-only", "-q")
    )
    whole = ids(run(pytester, "--campaign-set", "execution.seed=5", "--collect-only", "-q"))
    run(pytester, "--campaign-set", "execution.seed=5", "-k", "batch_size-1-c1").assert_outcomes(passed=1)
    resumed = ids(run(pytester, "--collect-only", "-q", "--lf"))
    assert resumed == [name for name in whole if name not in first]


def ids(collected: pytest.RunResult) -> list[str]:
    return [line for line in collected.stdout.lines if "::" in line]


def test_without_a_cache_nothing_can_be_continued(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """-p no:cacheprovider measures, and says that this run cannot be continued."""
    campaign()
    done = run(pytester, "-p", "no:cacheprovider")
    done.assert_outcomes(passed=4)
    done.stdout.fnmatch_lines(["*cannot be continued*"])

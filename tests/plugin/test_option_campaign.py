"""`--campaign FILE`: what a user gets who types it, in each way it can be typed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_llem.records import METRICS
from runs import completed, results_of, rows, run_folders, summary, workers_alive

Campaign = Callable[..., Path]

METRICS_PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()


def test_it_measures_every_configuration_in_every_cycle(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """Two configurations over two cycles are four items, four results, and a table of two rows."""
    campaign()
    done = pytester.runpytest_subprocess("--campaign=grid.yaml")
    done.assert_outcomes(passed=4)
    assert done.ret == 0
    assert len(set(completed(pytester.path))) == 4
    assert [row["n"] for row in summary(pytester.path)["rows"]] == [2, 2]
    done.stdout.fnmatch_lines(
        ["*Generated 2 configurations: 2 valid, 0 filtered, 0 warned; 2 cycles = 4 exp*"]
    )


def test_both_spellings_share_one_cache(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """`--campaign FILE` in another folder has the rootdir and the cache of `--campaign=FILE`."""
    path = campaign()
    (pytester.path / "pytest.ini").unlink()
    folder = pytester.mkdir("sub")
    path.rename(folder / "grid.yaml")
    (folder / "pytest.ini").write_text("[pytest]\n")
    pytester.runpytest_subprocess("--campaign=sub/grid.yaml").assert_outcomes(passed=4)
    again = pytester.runpytest_subprocess("--campaign", "sub/grid.yaml", "--lf")
    assert again.ret == 0
    again.stdout.fnmatch_lines(["*Resuming: 0 remaining (4 completed, 0 failed)*"])
    assert len(run_folders(pytester.path)) == 1


def test_a_path_on_the_command_line_is_enough(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """`pytest grid.yaml` is the campaign, without the option."""
    campaign()
    pytester.runpytest_subprocess("grid.yaml").assert_outcomes(passed=4)


@pytest.mark.parametrize(
    "options",
    [
        ("--campaign=grid.yaml", "--campaign=b.yaml"),
        ("--campaign=grid.yaml", "b.yaml"),
        ("grid.yaml", "b.yaml"),
    ],
)
def test_two_campaigns_are_refused(
    pytester: pytest.Pytester, campaign: Campaign, options: tuple[str, ...]
) -> None:
    """However two are named, neither is left out in silence."""
    campaign()
    campaign(name="b.yaml")
    done = pytester.runpytest_subprocess(*options)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: one campaign a session, not 2: b.yaml, grid.yaml; *"])


def test_an_empty_name_is_refused(pytester: pytest.Pytester) -> None:
    """A variable of the shell that is not set runs no other tests in the campaign's place."""
    pytester.makepyfile("def test_it(): pass")
    done = pytester.runpytest_subprocess("--campaign=")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: --campaign: the name of its file is empty; *"])


def test_a_file_that_nearly_is_a_campaign_is_told_so(pytester: pytest.Pytester) -> None:
    """What nobody collects lacks the line by which a campaign is known, and the message says so."""
    pytester.makefile(".yaml", grid="campain_name: x")
    done = pytester.runpytest_subprocess("grid.yaml")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(
        ["ERROR: grid.yaml: no line begins with campaign_name: *--campaign grid.yaml *"]
    )


def test_an_empty_value_is_refused(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """`--campaign-set KEY=` does not set a key of the file back to its default."""
    campaign()
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "--campaign-set", "execution.cycles=")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: --campaign-set execution.cycles: the value is empty; *"])


def test_another_yaml_file_on_the_command_line_is_left_alone(pytester: pytest.Pytester) -> None:
    """A YAML file that is no campaign is none of our business."""
    pytester.makefile(".yaml", data="key: value")
    pytester.makeconftest(
        """
        import pytest

        class Item(pytest.Item):
            def runtest(self): pass

        class File(pytest.File):
            def collect(self):
                yield Item.from_parent(self, name="it")

        def pytest_collect_file(file_path, parent):
            if file_path.suffix == ".yaml":
                return File.from_parent(parent, path=file_path)
        """
    )
    done = pytester.runpytest_subprocess("data.yaml")
    done.assert_outcomes(passed=1)
    assert "campaign" not in done.stdout.str()


def test_testpaths_do_not_join_a_campaign(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """The project's own tests, named by testpaths, are not collected beside a campaign."""
    campaign()
    pytester.makepyfile(test_own="def test_own(): pass")
    (pytester.path / "pytest.ini").write_text("[pytest]\ntestpaths = .\n")
    pytester.runpytest_subprocess("--campaign=grid.yaml").assert_outcomes(passed=4)


def test_without_lf_a_new_run_starts_and_the_old_one_is_named(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """A second session measures anew, and its header says what the older run had done."""
    campaign()
    pytester.runpytest_subprocess("--campaign=grid.yaml")
    again = pytester.runpytest_subprocess("--campaign=grid.yaml")
    again.assert_outcomes(passed=4)
    again.stdout.fnmatch_lines(["*an older run, *, had 4 completed and 0 failed; --lf would continue it"])
    assert len(run_folders(pytester.path)) == 2


def test_results_csv_has_a_row_for_each_attempt(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """results.csv names each attempt on disk once."""
    campaign()
    pytester.runpytest_subprocess("--campaign=grid.yaml")
    on_disk = {(r["experiment_id"], str(r["attempt"])) for r in results_of(pytester.path)}
    assert {(row["experiment_id"], row["attempt"]) for row in rows(pytester.path)} == on_disk


def test_energy_carries_its_source(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """On a machine without counters energy is marked as modelled in the file and on the terminal."""
    campaign(grid="backends: [abacus]\n")
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "--campaign-set", "window.passes=20")
    energy = results_of(pytester.path)[0]["measurement"]["metrics"]["energy_per_output_token_j"]
    if energy["source"] == "model":
        assert "3.5 W" in energy["note"]
        done.stdout.fnmatch_lines(["*~*"])
    else:
        assert energy["source"] in {"rapl", "nvml_counter"}
    done.stdout.fnmatch_lines([f"sources: energy {energy['source']} ({' + '.join(energy['parts'])}); *"])


def test_any_other_number_has_the_source_that_is_documented(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """A metric that is neither energy nor power has the one source that docs/metrics.md names."""
    documented = dict(re.findall(r"^\| `(\w+)` \|.* \| (\w+) \|$", METRICS_PAGE, re.MULTILINE))
    campaign(grid="backends: [abacus]\n")
    pytester.runpytest_subprocess("--campaign=grid.yaml", "--campaign-set", "defaults.streaming=true")
    metrics = results_of(pytester.path)[0]["measurement"]["metrics"]
    known = {name: one["source"] for name, one in metrics.items() if one["value"] is not None}
    assert {"itl_ms_mean", "output_tokens_per_second", "cold_start_time_s"} <= known.keys()
    for name in known.keys() - {name for name, metric in METRICS.items() if metric.is_metered}:
        assert known[name] == documented[name], name


def test_nothing_runs_on_after_the_session(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """No worker and no engine outlives its session."""
    campaign()
    pytester.runpytest_subprocess("--campaign=grid.yaml")
    assert workers_alive(pytester.path) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("missing.yaml", None, "*missing.yaml*"),
        ("empty.yaml", "", "*empty.yaml*empty*"),
        ("list.yaml", "- 1\n", "*list.yaml:1:1*"),
        (
            "typo.yaml",
            "campaign_name: x\ngrid: {backends: [pytorch], sharde: {}}\n",
            "*typo.yaml:2:*grid.sharde*",
        ),
        ("type.yaml", "campaign_name: x\nexecution: {cycles: many}\n", "*type.yaml:2:*execution.cycles*"),
        (
            "none.yaml",
            "campaign_name: x\nmodel: m\ndefaults: {prompts_file: p.txt}\ngrid: {backends: [pytorch]}\n",
            "*none of 1 points can run: prompts_file cannot be read*",
        ),
        (
            "huge.yaml",
            "campaign_name: x\nmodel: m\nexecution: {max_experiments: 3}\ngrid: {backends: [pytorch]}\n",
            "*max_experiments*",
        ),
    ],
)
def test_an_invalid_campaign_is_a_usage_error(
    pytester: pytest.Pytester, name: str, text: str | None, message: str
) -> None:
    """Whatever is wrong with the file, the exit code is 4, the line says what, and there is no traceback."""
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    if text is not None:
        (pytester.path / name).write_text(text)
    done = pytester.runpytest_subprocess(f"--campaign={name}")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([message])
    assert "Traceback" not in done.stderr.str() + done.stdout.str()
    assert run_folders(pytester.path) == []


def test_a_campaign_outside_rootdir_is_refused_with_the_way_in(
    pytester: pytest.Pytester, campaign: Campaign, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A file that would have no node id is refused, and the message says where to go."""
    outside = tmp_path_factory.mktemp("elsewhere") / "grid.yaml"
    campaign().rename(outside)
    done = pytester.runpytest_subprocess(f"--campaign={outside}")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([f"*cd {outside.parent}*"])


def test_an_empty_directory_as_campaign_is_refused(pytester: pytest.Pytester) -> None:
    """A folder is not a campaign."""
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    pytester.mkdir("folder")
    assert pytester.runpytest_subprocess("--campaign=folder").ret == pytest.ExitCode.USAGE_ERROR

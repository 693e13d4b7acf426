"""What pytest's reports say of experiments: the terminal, JUnit XML, pytest-json-report."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from runs import results_of, run_folders

Campaign = Callable[..., Path]


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("--campaign=grid.yaml", *options)


def test_one_line_an_experiment(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """By default each experiment prints its headline numbers, its cycle and the time left."""
    campaign(execution="structure: interleaved")
    lines = [line for line in run(pytester).stdout.lines if "token/s" in line and "cycle" in line]
    assert len(lines) == 4
    assert "cycle 1/2" in lines[0]
    assert "cycle 2/2" in lines[3]


def test_verbose_shows_the_number_beside_passed(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """-v has pytest's own lines, with the headline number in the status."""
    campaign()
    run(pytester, "-v").stdout.fnmatch_lines(["grid.yaml::abacus-batch_size-1-c1 PASSED *"])


def test_quiet_has_dots_and_the_table(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """-q prints dots and still the table."""
    campaign()
    done = run(pytester, "-q")
    done.stdout.fnmatch_lines(["....*"])
    assert "token/s" in done.stdout.str()


def test_junit_xml_has_the_metrics_as_properties(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """--junitxml carries rate and energy with its source for each experiment."""
    campaign()
    run(pytester, "--junitxml=junit.xml")
    cases = ET.parse(pytester.path / "junit.xml").getroot().iter("testcase")
    for case in cases:
        names = {p.get("name"): p.get("value") for p in case.iter("property")}
        assert float(names["output_tokens_per_second"] or 0) > 0
        assert names["energy_source"]


def test_json_report_has_the_metrics_as_metadata(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """--json-report finds energy in each test's metadata."""
    campaign()
    run(pytester, "--campaign-set", "window.passes=50", "--json-report", "--json-report-file=report.json")
    tests = json.loads((pytester.path / "report.json").read_text())["tests"]
    assert len(tests) == 4
    assert all("energy_per_output_token_j" in test["metadata"] for test in tests)


def test_a_failure_shows_class_log_and_the_command_to_rerun(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """A failed experiment shows no stack of ours, but what happened and what to type; the command works."""
    (pytester.path / "mood").write_text("pass-raise")
    campaign(grid="backends: [abacus]\nbackend_overrides: {abacus: {mood_file: mood}}\n")
    done = run(pytester, "-k", "c1")
    text = done.stdout.str()
    assert "crashed: RuntimeError: a bead fell off" in text
    assert "campaign_plugin.py" not in text
    command = next(line for line in text.splitlines() if "again: pytest " in line or "rerun: pytest " in line)
    (pytester.path / "mood").unlink()
    pytester.runpytest_subprocess(*shlex.split(command)[2:]).assert_outcomes(passed=1)
    run(pytester, "--lf").assert_outcomes(passed=1, deselected=1)
    assert len(run_folders(pytester.path)) == 1


def test_printed_commands_go_on_with_the_same_measurements(
    pytester: pytest.Pytester, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is printed below the table repeats the options and works from the folder that the user is in."""
    campaign()
    monkeypatch.chdir(pytester.mkdir("below"))
    override = ("--campaign-set", "decoder.temperature=0.5", "--campaign-set", "campaign_name=a b")
    options = ("--campaign=../grid.yaml", "-k", "c1", "--force-cold-start", *override)
    done = pytester.runpytest_subprocess(*options)
    line = next(line for line in done.outlines if "experiments remain: " in line)
    command = shlex.split(line.partition(": ")[2])
    again = pytester.runpytest_subprocess(*command[1:])
    again.assert_outcomes(passed=2, deselected=2)
    results = results_of(pytester.path)
    assert {result["configuration"]["decoder"]["temperature"] for result in results} == {0.5}
    assert not any(result["measurement"]["launch"]["warm"] for result in results)


def test_the_user_hooks_are_called(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """A conftest.py sees each result and the summary."""
    campaign()
    pytester.makeconftest(
        """
        def pytest_llem_result(config, result):
            print("hook saw", result.experiment_id)

        def pytest_llem_summary(config, summary):
            print("hook saw", len(summary.rows), "rows")
        """
    )
    done = run(pytester, "-s")
    assert done.stdout.str().count("hook saw abacus") == 4
    done.stdout.fnmatch_lines(["*hook saw 2 rows*"])


def test_a_terminal_shows_what_an_experiment_is_doing(
    pytester: pytest.Pytester, campaign: Callable[..., Path]
) -> None:
    """On a terminal a line tells the phase while an experiment runs, past pytest's capture."""
    campaign()
    leader, follower = os.openpty()
    session = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--campaign=grid.yaml"],
        cwd=pytester.path,
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # how a pseudo-terminal says that its other end is closed
        while part := os.read(leader, 4096):
            shown += part
    os.close(leader)
    assert session.wait() == 0
    assert b"-c1: loading" in shown  # by whichever comes first: the order is drawn
    assert b"abacus-batch_size-1-c1: window" in shown

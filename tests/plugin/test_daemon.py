"""`daemon`: the same command repeats the campaign on a clock."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest

from daemons import (
    account,
    daemon,
    outcomes,
    rounds_alive,
    series_folders,
    series_summary,
    wait_until_it_waits,
)
from pytest_llem.campaign.loader import campaign_key
from runs import completed, events, results_of, run_folders
from sessions import wait_until

Campaign = Callable[..., Path]

TOY = Path(__file__).parents[1] / "toy"

CAMPAIGN = """
campaign_name: toy
model: beads
defaults:
  {max_input_tokens: 4, max_output_tokens: 4, num_input_prompts: 20, warmup: {enabled: false},
   baseline: {enabled: false}}
window: {seconds: 0, passes: 1}
grid: {backends: [abacus], shared: {batch_size: [1, 2]}}
execution: {cycles: 2, config_gap_seconds: 0, cycle_gap_seconds: 0, conditioning: false}
group_by: [batch_size]
expect: {output_tokens_per_second: {min: 1}}
daemon: {enabled: true, interval: 30s, total_duration: 89s}
"""


class Rounds:
    """Three rounds of two cycles on the real clock, and what their daemon printed."""

    def __init__(self, root: Path, printed: str, exit_code: int) -> None:
        self.root, self.printed, self.exit_code = root, printed, exit_code


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rounds]:
    """Let one daemon live; about a minute and a half."""
    root = tmp_path_factory.mktemp("three")
    (root / "pytest.ini").write_text("[pytest]\n")
    (root / "grid.yaml").write_text(CAMPAIGN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TOY))
        patch.setenv("LLEM_SLOTS_DIR", str(tmp_path_factory.mktemp("slots")))
        patch.setenv("COLUMNS", "120")
        with daemon(root, "--campaign-executor=local") as process:
            printed, _ = process.communicate(timeout=200)
            yield Rounds(root, printed, process.returncode)


@pytest.mark.key("daemon.enabled", "daemon.interval", "daemon.total_duration")
def test_it_repeats_the_campaign_until_its_time_is_over(three: Rounds) -> None:
    """30 s from start to start and 89 s in all are three rounds, on their ticks, each a run of its own."""
    rounds = account(three.root)["rounds"]
    due = [datetime.fromisoformat(one["due"]) for one in rounds]
    assert [later - due[0] for later in due] == [timedelta(seconds=30 * tick) for tick in range(3)]
    assert [one["outcome"] for one in rounds] == ["passed"] * 3
    assert [run.name for run in run_folders(three.root)] == [one["run_id"] for one in rounds]
    assert (three.exit_code, len(completed(three.root))) == (0, 12)


def test_the_unit_of_the_analysis_is_the_round(three: Rounds) -> None:
    """Three rounds of two cycles are n = 3, in the file and in the table."""
    summary = series_summary(three.root)
    assert summary["unit"] == "round"
    assert [(row["n"], row["of"]) for row in summary["rows"]] == [(3, 3)] * 2
    assert [row["metrics"]["output_tokens_per_second"]["interval"]["n"] for row in summary["rows"]] == [3, 3]
    assert [(group["axes"], group["n"]) for group in summary["groups"]] == [
        ({"batch_size": 1}, 3),
        ({"batch_size": 2}, 3),
    ]
    assert [row["budgets"][0]["failed"] for row in summary["rows"]] == [False] * 2
    assert "over rounds [95 % interval: Student t on logs, n = 3]" in three.printed
    with (series_folders(three.root)[0] / "summary.csv").open(newline="") as file:
        assert [row["n"] for row in csv.DictReader(file)] == ["3", "3"]


def test_the_rounds_are_shown_with_their_times(three: Rounds) -> None:
    """The table of rounds has start, length, experiments and outcome of each; the file has them in UTC."""
    shown = re.findall(
        r"^(\d) +\w{3} (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) .* 4 of 4 +passed", three.printed, re.MULTILINE
    )
    started = [datetime.fromisoformat(one["started_at"]) for one in series_summary(three.root)["rounds"]]
    assert shown == [(str(n), f"{s.astimezone():%Y-%m-%d %H:%M:%S}") for n, s in enumerate(started, 1)]


def test_results_say_of_which_round_they_are(three: Rounds) -> None:
    """Result, results.csv and run.json carry the round."""
    assert [result["round"] for result in results_of(three.root)] == [1] * 4 + [2] * 4 + [3] * 4
    for number, run in enumerate(run_folders(three.root), 1):
        series = account(three.root)["id"]
        assert json.loads((run / "run.json").read_text())["round"] == {"series": series, "number": number}
        with (run / "results.csv").open(newline="") as file:
            assert {row["round"] for row in csv.DictReader(file)} == {str(number)}


def test_quiet_is_a_line_an_event_and_a_log(three: Rounds) -> None:
    """The terminal gets a line an event, the log file that is named at the start gets the rounds' output too."""
    (log,) = re.findall(r"log: (.*)", three.printed)
    assert "round 2 passed after" in three.printed
    assert "round: 2 of series" not in three.printed
    text = Path(log).read_text()
    assert f"series {account(three.root)['id']} of toy: every" in text
    assert "round: 2 of series" in text
    assert "round 2 passed after" in text


def test_the_series_can_be_shown_again(three: Rounds) -> None:
    """`python -m pytest_llem rounds` shows the table of the newest series below a campaign's results."""
    folder = run_folders(three.root)[0].parent
    command = [sys.executable, "-m", "pytest_llem", "rounds", str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "120"}
    )
    assert "n = 3" in done.stdout
    assert done.stdout.splitlines()[2:5] == [line for line in three.printed.splitlines() if "4 of 4" in line]


@pytest.mark.key("daemon.quiet")
def test_not_quiet_lets_the_rounds_speak(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """With `quiet: false` the rounds' own output passes through, also with xdist's -n 1; there is no log."""
    campaign("daemon: {enabled: true, quiet: false}\n")
    with daemon(pytester.path, "-n", "1") as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "round: 1 of series" in output
    assert "4 passed" in output
    assert "1 of 1 rounds completed" in output
    assert list(pytester.path.rglob("daemon.log")) == []
    assert outcomes(pytester.path) == ["passed"]


@pytest.mark.key("daemon.at")
def test_it_waits_for_a_time_of_day(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """With `at` it waits asleep and in little memory; without it the first round starts at once."""
    later = datetime.now().astimezone() + timedelta(hours=2)
    campaign(f"daemon: {{enabled: true, at: '{later:%H:%M}'}}\n")
    with daemon(pytester.path) as process:
        wait_until_it_waits(pytester.path)
        assert rounds_alive(process) == []
        first = datetime.fromisoformat(account(pytester.path)["first_start"]).astimezone()
        assert first == later.replace(second=0, microsecond=0)
        waiting = psutil.Process(process.pid)
        assert "pytest_llem.daemon" in waiting.cmdline()
        assert waiting.memory_info().rss < 40e6
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "interrupted; the same command goes on with it: 0 of 0 rounds completed" in output


def test_the_waiting_daemon_imports_next_to_nothing() -> None:
    """Neither pytest nor pydantic nor anything of numbers is in the daemon's process."""
    program = "import sys, pytest_llem.daemon.__main__; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    tops = {name.partition(".")[0] for name in done.stdout.split()}
    assert not tops & {"pytest", "_pytest", "pydantic", "numpy", "scipy", "yaml", "rich", "psutil", "asyncio"}


def test_collect_only_prints_the_plan_and_starts_nothing(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """`--collect-only` validates, lists the starts and what they take in all, and leaves no file."""
    campaign("daemon: {enabled: true, at: 02:30, interval: 6h, total_duration: 1d}\n")
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "--collect-only")
    assert done.ret == 0
    done.stdout.fnmatch_lines(["daemon: every 6h for 1d*", "* 02:30:00 * (in *)", "* 08:30:00 * (in *)"])
    assert len([line for line in done.outlines if ":30:00" in line]) == 4
    done.stdout.fnmatch_lines(["4 rounds, about 0.* h in all"])
    assert not (pytester.path / "results").exists()


def test_starts_that_cannot_happen_are_said_to(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """If a round takes longer than the interval, the plan says which of its starts are left out."""
    campaign("daemon: {enabled: true, interval: 10m}\n")
    longer = ("--campaign-set", "window.seconds=600")  # of four experiments, and four starts of engines
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "--collect-only", *longer)
    left_out = "a round takes about 0.7? h, longer than daemon.interval: only one start in 5 happens"
    done.stdout.fnmatch_lines([left_out])


def test_an_invalid_campaign_never_becomes_a_daemon(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """What is wrong with the campaign is said at once, with exit code 4."""
    campaign("daemon: {enabled: true}\nexecution: {cycles: none}\n")
    done = pytester.runpytest_subprocess("--campaign=grid.yaml")
    assert done.ret == 4
    assert series_folders(pytester.path) == []


@pytest.mark.parametrize(
    ("option", "why"),
    [("--lf", "failed round add --campaign-set daemon.enabled=false"), ("-pno:cacheprovider", "continued")],
)
def test_options_that_a_daemon_cannot_have_are_refused(
    pytester: pytest.Pytester, campaign: Campaign, option: str, why: str
) -> None:
    """Each is a usage error that says why."""
    campaign("daemon: {enabled: true}\n")
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", option)
    assert done.ret == 4
    done.stderr.fnmatch_lines([f"ERROR: *{why}*"])


def test_a_program_that_calls_pytest_is_not_replaced(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Where pytest.main was called by a program, that program goes on, and the session is a usage error."""
    campaign("daemon: {enabled: true}\n")
    program = "import pytest; print('went on with', int(pytest.main(['--campaign=grid.yaml'])))"
    done = pytester.run(sys.executable, "-c", program)
    done.stdout.fnmatch_lines(["went on with 4"])
    done.stderr.fnmatch_lines(["ERROR: *pytest.main*"])


def test_what_selects_nothing_never_becomes_a_daemon(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """-k that leaves nothing ends as in any session, with exit code 5."""
    campaign("daemon: {enabled: true}\n")
    assert pytester.runpytest_subprocess("--campaign=grid.yaml", "-k", "nothing").ret == 5


def test_an_account_that_cannot_be_read_is_refused(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """A damaged account of the newest series is named, with what to do, before anything starts."""
    campaign("daemon: {enabled: true}\n")
    folder = pytester.path / "results" / campaign_key("grid.yaml") / "series/20260101-000000-aaaa"
    folder.mkdir(parents=True)
    (folder / "series.json").write_text("{")
    done = pytester.runpytest_subprocess("--campaign=grid.yaml")
    assert done.ret == 4
    done.stderr.fnmatch_lines(["ERROR: *series.json cannot be read*move its folder away*"])


def test_a_second_daemon_is_refused(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """One campaign has one daemon; the second is told the process that is the first."""
    campaign("daemon: {enabled: true, at: '00:00'}\n")
    with daemon(pytester.path) as first:
        wait_until(lambda: series_folders(pytester.path), "the first one waits")
        with daemon(pytester.path) as second:
            output, _ = second.communicate(timeout=30)
        assert second.returncode == 4
        assert f"repeated by process {first.pid} on " in output
        end = [sys.executable, "-m", "pytest_llem", "rounds", str(series_folders(pytester.path)[0]), "--end"]
        refused = subprocess.run(end, capture_output=True, text=True, check=False)
        assert (refused.returncode, str(first.pid) in refused.stderr) == (4, True)


def test_a_series_can_be_ended_to_begin_a_new_one(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """An unfinished series goes on and says how to end it; ended so, the same command begins another."""
    campaign("daemon: {enabled: true, at: '00:00'}\n")
    for daemons in (1, 2):
        with daemon(pytester.path) as process:
            wait_until_it_waits(pytester.path, daemons)
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=30)
        assert len(series_folders(pytester.path)) == 1
    (command,) = re.findall(r"end it first: python (-m .*)", output)
    assert "going on with series" in output
    subprocess.run([sys.executable, *command.split()], check=True)
    with daemon(pytester.path) as process:
        wait_until(lambda: len(series_folders(pytester.path)) == 2, "a new series begins")


def test_a_failed_experiment_fails_round_and_daemon(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """A round with a failed experiment is counted as completed and failed, and the daemon's exit code is 1."""
    (pytester.path / "mood").write_text("pass-raise")
    grid = "backends: [abacus]\nbackend_overrides: {abacus: {mood_file: mood}}\n"
    campaign("daemon: {enabled: true}\n", grid=grid)
    with daemon(pytester.path) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert outcomes(pytester.path) == ["failed"]
    assert "0 of 2, 2 failed" in output
    (log,) = pytester.path.rglob("daemon.log")
    (command,) = set(re.findall(r"experiments remain: pytest (.*)", log.read_text()))
    (pytester.path / "mood").unlink()
    pytester.runpytest_subprocess(*command.split()).assert_outcomes(passed=2)
    (run,) = run_folders(pytester.path)
    assert json.loads((run / "run.json").read_text())["round"]["number"] == 1
    assert [result["round"] for result in results_of(pytester.path)] == [1] * 4
    assert "1 of 1 rounds completed" in output


def test_total_duration_ends_after_the_experiment_in_progress(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """A round that is longer is cut between two experiments; what was begun is completed, and nobody has failed."""
    grid = "backends: [abacus]\nshared: {batch_size: [1, 2]}\nbackend_overrides: {abacus: {token_ms: 150}}\n"
    campaign("daemon: {enabled: true, total_duration: 5s}\n", grid=grid)
    with daemon(pytester.path) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert outcomes(pytester.path) == ["cut"]
    assert len(completed(pytester.path)) == len(events(pytester.path, "running")) < 4
    assert "daemon.total_duration is over" in output
    assert "0 of 1 rounds completed" in output

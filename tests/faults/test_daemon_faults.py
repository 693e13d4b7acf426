"""Daemons and their rounds, stopped and killed between and inside rounds."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from daemons import account, daemon, outcomes, rounds_alive, series_folders, series_summary, the_round
from runs import completed, events, results_of, run_folders, workers_alive
from sessions import wait_until

Campaign = Callable[..., Path]

SLOW = """
    backends: [abacus]
    shared:
      batch_size: [1, 2]
    backend_overrides:
      abacus: {token_ms: 20}
"""
"""Two configurations; an experiment takes a second or two."""

TWO_ROUNDS = ("--campaign-set=daemon.interval=45s", "--campaign-set=daemon.total_duration=89s")


def begun(root: Path) -> int:
    """Return how many experiments were begun."""
    return len(events(root, "running"))


ROW = ("key", "label", "n", "of", "launches", "failures")
ROUND = ("number", "completed", "failed", "asked", "outcome", "exit_code")


def without_times(summary: dict[str, Any]) -> dict[str, Any]:
    """Return what a series' summary says, apart from times, the numbers that they make, and names drawn anew."""
    return {
        "rows": [{key: row[key] for key in ROW} for row in summary["rows"]],
        "rounds": [{key: one[key] for key in ROUND} for one in summary["rounds"]],
        "n": [row["metrics"]["output_tokens_per_second"]["n"] for row in summary["rows"]],
        **{key: summary[key] for key in ("method", "unit", "messages", "campaign", "campaign_sha256")},
    }


def test_a_series_that_is_interrupted_once_ends_like_one_that_is_not(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """Two rounds, stopped in the middle of the first and started again: the summary is the same but for the times."""
    campaign("daemon: {enabled: true}\ncold_start: {force_cold_start: true}\n", grid=SLOW)
    with daemon(pytester.path, *TWO_ROUNDS) as whole:
        output, _ = whole.communicate(timeout=200)
        assert whole.returncode == 0, output
    expected = without_times(series_summary(pytester.path))
    with daemon(pytester.path, *TWO_ROUNDS) as first:
        wait_until(lambda: outcomes(pytester.path) == ["running"], "the second series has begun")
        wait_until(lambda: begun(pytester.path) == 8 + 2, "its second experiment runs")
        first.send_signal(signal.SIGTERM)
        output, _ = first.communicate(timeout=60)
        assert first.returncode == 2, output
        assert "interrupted; the same command goes on with it: 0 of 1 rounds completed" in output
    assert outcomes(pytester.path) == ["interrupted"]
    assert begun(pytester.path) == len(completed(pytester.path)) == 10
    with daemon(pytester.path, *TWO_ROUNDS) as second:
        output, _ = second.communicate(timeout=200)
        assert second.returncode == 0, output
    assert len(series_folders(pytester.path)) == 2
    assert without_times(series_summary(pytester.path)) == expected
    assert len(completed(pytester.path)) == 16


def test_a_stop_with_xdist_ends_the_experiment_too(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """With -n 1 the worker's experiment ends as well, the rest stays to be done, and nothing is left running."""
    campaign("daemon: {enabled: true}\n", grid=SLOW)
    with daemon(pytester.path, "-n", "1") as process:
        wait_until(lambda: begun(pytester.path) == 1, "the first experiment runs")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    assert outcomes(pytester.path) == ["interrupted"]
    assert begun(pytester.path) == len(completed(pytester.path)) < 4
    assert workers_alive(pytester.path) == []


def test_the_second_signal_stops_at_once(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """The first Ctrl-C waits for the experiment, the second interrupts it; nothing is left running, exit code 2."""
    campaign("daemon: {enabled: true}\n", grid=SLOW.replace("20}", "2000}"))
    with daemon(pytester.path) as process:
        wait_until(lambda: begun(pytester.path) == 1, "the first experiment runs")
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None
        assert len(rounds_alive(process)) == 1
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "stopping at once" in output
    assert completed(pytester.path) == []
    assert workers_alive(pytester.path) == []


def test_a_stop_during_a_gap_does_not_wait_for_it(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Where no experiment is in progress the first signal ends the round at once; a gap of an hour is not waited."""
    path = campaign("daemon: {enabled: true}\n")
    path.write_text(path.read_text().replace("gap_seconds: 0", "gap_seconds: 3600"))
    with daemon(pytester.path) as process:
        wait_until(lambda: len(completed(pytester.path)) == 1, "the first experiment is done")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 2
    assert outcomes(pytester.path) == ["interrupted"]


def test_a_killed_daemon_goes_on_between_rounds(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """SIGKILL during a wait loses nothing: the same command keeps series, rounds and starts."""
    campaign("daemon: {enabled: true, interval: 30s, total_duration: 59s}\n")
    with daemon(pytester.path) as process:
        wait_until(lambda: outcomes(pytester.path) == ["passed"], "the first round is over")
        process.kill()
    before = account(pytester.path)
    with daemon(pytester.path) as process:
        output, _ = process.communicate(timeout=120)
    after = account(pytester.path)
    assert process.returncode == 0, output
    assert f"going on with series {before['id']}" in output
    assert after["rounds"][0] == before["rounds"][0]
    assert (after["id"], after["first_start"]) == (before["id"], before["first_start"])
    assert outcomes(pytester.path) == ["passed", "passed"]
    assert len(completed(pytester.path)) == 8


def test_a_killed_daemon_goes_on_inside_a_round(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """SIGKILL during a round: its session ends with the experiment, and the next daemon waits for it and goes on."""
    campaign("daemon: {enabled: true}\n", grid=SLOW.replace("20}", "50}"))
    with daemon(pytester.path) as process:
        session = the_round(process)
        wait_until(lambda: begun(pytester.path) == 2, "the second experiment runs")
        process.kill()
        process.communicate()
        with daemon(pytester.path) as again:
            output, _ = again.communicate(timeout=120)
    assert not psutil.pid_exists(session.pid)
    assert again.returncode == 0, output
    assert "waiting for it" in output
    assert "round 1 was interrupted; it goes on with what it lacks" in output
    assert len(run_folders(pytester.path)) == 1
    assert begun(pytester.path) == len(set(completed(pytester.path))) == len(results_of(pytester.path)) == 4


def test_a_killed_round_does_not_end_the_daemon(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """A round that is killed is told as such, the next one runs in full, and the exit code is 1."""
    campaign("daemon: {enabled: true, interval: 30s, total_duration: 59s}\n", grid=SLOW)
    with daemon(pytester.path) as process:
        session = the_round(process)
        wait_until(lambda: begun(pytester.path) == 1, "its first experiment runs")
        session.kill()
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "round 1 killed by SIGKILL" in output
    assert outcomes(pytester.path) == ["crashed", "passed"]
    assert account(pytester.path)["rounds"][0]["exit_code"] == -signal.SIGKILL
    assert [row["n"] for row in series_summary(pytester.path)["rows"]] == [1, 1]


def test_a_round_that_crashes_at_its_start_does_not_end_the_daemon(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """A session that does not come up is told with its exit code; the next round, when it can, runs."""
    campaign("daemon: {enabled: true, interval: 30s, total_duration: 59s}\n")
    pytester.makeconftest(
        "import os, pathlib\n"
        "broken = pathlib.Path('broken')\n"
        "if 'LLEM_ROUND' in os.environ and not broken.exists():\n"
        "    broken.touch()\n"
        "    raise RuntimeError('not this time')\n"
    )
    with daemon(pytester.path) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "round 1 ended with pytest's exit code 4" in output
    assert outcomes(pytester.path) == ["crashed", "passed"]
    log = series_folders(pytester.path)[-1] / "daemon.log"
    assert "not this time" in log.read_text()


def test_an_edited_campaign_is_no_round_of_the_series(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """A campaign that is edited while its daemon waits is refused by the next round, and begins a series on restart."""
    path = campaign("daemon: {enabled: true, interval: 30s, total_duration: 59s}\n")
    with daemon(pytester.path) as process:
        wait_until(lambda: outcomes(pytester.path) == ["passed"], "the first round is over")
        path.write_text(path.read_text().replace("[1, 2]", "[1, 4]"))
        wait_until(lambda: "crashed" in outcomes(pytester.path), "the second round is over")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    log = series_folders(pytester.path)[-1] / "daemon.log"
    assert "the campaign has changed since series" in log.read_text()
    assert len(completed(pytester.path)) == 4

"""Each way in which an experiment can end, its class, and that the campaign goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runs import results_of, workers_alive

Campaign = Callable[..., Path]

GRUMPY = """
    backends: [abacus]
    shared:
      rods: [1, 2]
    backend_overrides:
      abacus: {mood_file: mood}
"""


def failures(root: Path) -> list[dict[str, Any]]:
    return [result["failure"] for result in results_of(root)]


@pytest.mark.parametrize(
    ("mood", "kind", "message"),
    [
        ("load-raise", "engine_start", "RuntimeError: a bead fell off"),
        ("load-refuse", "invalid_config", "the abacus refuses this configuration"),
        ("load-oom", "oom", "MemoryError: no more beads"),
        ("load-die", "crashed", "the engine process was killed by SIGKILL"),
        ("load-exit", "crashed", "the engine process exited with 3"),
        ("pass-raise", "crashed", "RuntimeError: a bead fell off"),
        ("pass-oom", "oom", "MemoryError: no more beads"),
        ("pass-die", "crashed", "the engine process was killed by SIGKILL"),
        ("pass-exit", "crashed", "the engine process exited with 3"),
    ],
)
def test_a_failure_has_its_class_and_the_campaign_goes_on(
    pytester: pytest.Pytester, campaign: Campaign, mood: str, kind: str, message: str
) -> None:
    """Every experiment is tried, each failure has class and sentence, the exit code is 1, nothing runs on."""
    (pytester.path / "mood").write_text(mood)
    campaign(grid=GRUMPY)
    done = pytester.runpytest_subprocess("--campaign=grid.yaml")
    done.assert_outcomes(failed=4)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    assert [(f["kind"], f["message"]) for f in failures(pytester.path)] == [(kind, message)] * 4
    assert workers_alive(pytester.path) == []


@pytest.mark.key("execution.timeout_seconds")
def test_a_hang_ends_at_its_timeout(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """An experiment that never ends is ended after execution.timeout_seconds, and the next one runs."""
    (pytester.path / "mood").write_text("pass-hang")
    campaign(grid=GRUMPY, execution="timeout_seconds: 0.5")
    pytester.runpytest_subprocess("--campaign=grid.yaml").assert_outcomes(failed=4)
    assert {f["kind"] for f in failures(pytester.path)} == {"timeout"}
    assert "did not" in failures(pytester.path)[0]["message"]
    assert workers_alive(pytester.path) == []


@pytest.mark.key("execution.silence_seconds")
def test_silence_ends_an_experiment(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """An engine that gives no sign of life for execution.silence_seconds is ended, long before its timeout."""
    (pytester.path / "mood").write_text("pass-hang")
    campaign(grid=GRUMPY, execution="silence_seconds: 0.5")
    pytester.runpytest_subprocess("--campaign=grid.yaml").assert_outcomes(failed=4)
    assert {f["message"] for f in failures(pytester.path)} == {"the engine gave no sign of life for 0.5 s"}


@pytest.mark.key("execution.start_timeout_seconds")
def test_a_load_that_hangs_ends_at_the_start_timeout(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """A load has its own patience, execution.start_timeout_seconds."""
    (pytester.path / "mood").write_text("load-hang")
    campaign(grid=GRUMPY, execution="start_timeout_seconds: 3")
    pytester.runpytest_subprocess("--campaign=grid.yaml", "-k", "c1").assert_outcomes(failed=2)
    assert {f["message"] for f in failures(pytester.path)} == {"the engine did not load in time"}


@pytest.mark.key("execution.max_consecutive_failures")
def test_failure_after_failure_stops_the_session(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """After max_consecutive_failures the rest stays pending, the exit code is 1, and the message says why."""
    (pytester.path / "mood").write_text("load-raise")
    campaign(grid=GRUMPY, execution="max_consecutive_failures: 3")
    done = pytester.runpytest_subprocess("--campaign=grid.yaml")
    done.assert_outcomes(failed=3)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(["*3 experiments in a row have failed (execution.max_consecutive_failures)*"])


def test_a_worker_that_dies_loses_one_experiment(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """When the parent of the engines is killed the experiment is classified and the next has a new one."""
    (pytester.path / "mood").write_text("pass-lose")
    campaign(grid=GRUMPY)
    pytester.runpytest_subprocess("--campaign=grid.yaml").assert_outcomes(failed=4)
    assert {f["kind"] for f in failures(pytester.path)} <= {"crashed", "lost"}
    assert workers_alive(pytester.path) == []


def test_the_log_of_the_engine_is_kept(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """What the engine printed lies beside its result, and its end is in the failure."""
    (pytester.path / "mood").write_text("pass-raise")
    campaign(grid=GRUMPY)
    pytester.runpytest_subprocess("--campaign=grid.yaml", "-k", "c1")
    logs = [path.read_text() for path in pytester.path.rglob("attempt-1.log")]
    assert len(logs) == 2
    assert all("abacus with" in log and "a bead fell off" in log for log in logs)
    assert "a bead fell off" in failures(pytester.path)[0]["log_tail"]


def test_require_measured_fails_what_no_instrument_measured(
    pytester: pytest.Pytester, campaign: Campaign, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """--campaign-require measured: modelled energy is a failure that keeps its measurement."""
    monkeypatch.setenv("LLEM_POWERCAP_ROOT", str(tmp_path / "no-rapl"))
    campaign()
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "--campaign-require=measured", "-k", "c1")
    done.assert_outcomes(failed=2)
    result = results_of(pytester.path)[0]
    assert result["failure"]["kind"] == "not_measured"
    assert result["measurement"]["output_tokens"] > 0

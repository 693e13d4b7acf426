"""Ctrl-C, SIGTERM and SIGKILL: what a session leaves behind, and that it can go on."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from runs import completed, events, workers_alive
from sessions import start_session, wait_until

Campaign = Callable[..., Path]

SLOW = """
    backends: [abacus]
    shared:
      batch_size: [1, 2]
    backend_overrides:
      abacus: {token_ms: 20}
"""


def processes_of(session: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(session.pid).children(recursive=True)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 2), (signal.SIGTERM, 2)])
def test_an_interrupted_session_cleans_up_and_can_go_on(
    pytester: pytest.Pytester, campaign: Campaign, number: signal.Signals, exit_code: int
) -> None:
    """Ctrl-C and SIGTERM end the engine, print the table so far, exit with 2, and --lf does the rest."""
    campaign(grid=SLOW)
    session = start_session(pytester.path, "grid.yaml")
    wait_until(lambda: len(completed(pytester.path)) == 1, "one experiment is done")
    wait_until(lambda: len(events(pytester.path, "running")) == 2, "the second one runs")
    session.send_signal(number)
    output, _ = session.communicate(timeout=30)
    assert session.returncode == exit_code
    assert "3 experiments remain: pytest --campaign=grid.yaml --lf" in output
    assert workers_alive(pytester.path) == []
    pytester.runpytest_subprocess("--campaign=grid.yaml", "--lf").assert_outcomes(passed=3, deselected=1)
    assert len(set(completed(pytester.path))) == len(completed(pytester.path)) == 4


def test_sigkill_of_the_session_ends_worker_and_engine(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """When pytest is killed in the middle of a window, its worker and engine go by themselves."""
    campaign(grid=SLOW)
    session = start_session(pytester.path, "grid.yaml")
    wait_until(lambda: len(events(pytester.path, "running")) == 2, "the second experiment runs")
    left = processes_of(session)
    assert left
    session.kill()
    session.communicate()
    _, alive = psutil.wait_procs(left, timeout=60)
    assert alive == []


def test_sigkill_of_the_worker_ends_the_engine(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """When the worker's server is killed its engine goes too, the experiment is lost, and the rest runs."""
    campaign(grid=SLOW)
    session = start_session(pytester.path, "grid.yaml")
    wait_until(lambda: len(completed(pytester.path)) == 1, "one experiment is done")
    wait_until(lambda: len(events(pytester.path, "running")) == 2, "the second one runs")
    (server,) = [p for p in processes_of(session) if "-m pytest_llem.worker" in " ".join(p.cmdline())]
    engines = server.children(recursive=True)
    assert engines
    server.kill()
    output, _ = session.communicate(timeout=60)
    assert session.returncode == pytest.ExitCode.TESTS_FAILED
    assert "3 passed" in output
    assert "lost" in output
    assert not [p for p in engines if p.is_running()]


def test_an_interrupt_during_a_gap_ends_the_wait(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """A gap of an hour can be interrupted."""
    path = campaign()
    path.write_text(path.read_text().replace("gap_seconds: 0", "gap_seconds: 3600"))
    session = start_session(pytester.path, "grid.yaml")
    wait_until(lambda: len(completed(pytester.path)) == 1, "the first experiment is done")
    time.sleep(0.5)
    session.send_signal(signal.SIGINT)
    session.communicate(timeout=20)
    assert session.returncode == pytest.ExitCode.INTERRUPTED

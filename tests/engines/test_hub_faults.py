"""Downloads that end before they are whole."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from hub_sessions import write
from runs import completed, results_of, workers_alive
from sessions import start_session, wait_until
from standin.hub import Hub, Repository
from standin.models import FILES, WEIGHTS


def test_a_download_that_breaks_off_fails_its_experiment(
    pytester: pytest.Pytester, hub: Hub, tiny: Path
) -> None:
    """A model that the hub stops giving after the check fails with the reason, and the campaign goes on."""
    hub.repositories["org/torn"] = Repository({"main": tiny}, withheld=frozenset({"tokenizer.json"}))
    write(pytester.path, models="[org/torn, org/small]")
    pytester.runpytest_subprocess("--campaign=c.yaml").assert_outcomes(passed=1, failed=1)
    torn, _ = results_of(pytester.path)
    assert torn["failure"]["message"] == "the download of org/torn broke off: the hub answers 403"
    assert torn["failure"]["kind"] == "invalid_config"


def in_a_download(root: Path, hub: Hub) -> subprocess.Popen[str]:
    """Start a session and return when it is in the middle of fetching its model."""
    hub.slow = True
    session = start_session(root, "c.yaml")
    wait_until(lambda: set(hub.fetched()) >= FILES, "all downloads have begun")
    return session


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_download_ends_with_its_session(
    pytester: pytest.Pytester, hub: Hub, number: signal.Signals
) -> None:
    """Ctrl-C and SIGKILL during a download leave no process, and half a model is not taken for a whole one."""
    write(pytester.path)
    session = in_a_download(pytester.path, hub)
    family = psutil.Process(session.pid).children(recursive=True)
    assert len(family) > 1
    session.send_signal(number)
    session.communicate(timeout=30)
    _, alive = psutil.wait_procs(family, timeout=15)
    assert alive == []
    assert workers_alive(pytester.path) == []
    assert session.returncode == (2 if number == signal.SIGINT else -signal.SIGKILL)
    hub.slow = False
    pytester.runpytest_subprocess("--campaign=c.yaml", "--lf").assert_outcomes(passed=1)
    assert len(completed(pytester.path)) == 1


def test_a_worker_that_dies_in_a_download(pytester: pytest.Pytester, hub: Hub) -> None:
    """The download ends with its worker, another worker begins it anew, and the experiment is measured."""
    write(pytester.path)
    session = in_a_download(pytester.path, hub)
    (worker,) = psutil.Process(session.pid).children()
    downloading = worker.children(recursive=True)
    worker.kill()
    wait_until(lambda: all(hub.fetched().count(name) == 2 for name in WEIGHTS), "a new download has begun")
    _, alive = psutil.wait_procs(downloading, timeout=15)
    assert alive == []
    hub.slow = False
    output, _ = session.communicate(timeout=60)
    assert session.returncode == pytest.ExitCode.OK, output

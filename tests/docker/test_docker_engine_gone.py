"""The Docker engine stops or hangs in the middle of a campaign: one is started for these tests, to be stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from containers import DockerError, containers_of, docker, missing
from runs import completed, events, results_of
from sessions import HANG_SECOND, TWO_SIZES, WATCH_PHASES, phases, start_session, wait_until

Campaign = Callable[..., Path]

COMPOSE = "--campaign-executor=compose"

IMPATIENT = """
from pytest_llem.executors.health import Patience
from pytest_llem.runner import Runner

Runner.__init__.__kwdefaults__["patience"] = Patience(host_s=2)
"""

FREEZE_ENGINE_ONCE = """
import os, signal

from pytest_llem.executors.compose import engine

engine.ANSWER_WITHIN_S = 3

def pytest_llem_result(config, result):
    if result.position == 0:
        os.kill({pid}, signal.SIGSTOP)
"""


class Dockerd:
    """A Docker engine beside the machine's own: its own network, its own everything.

    Args:
        folder: for all that it keeps; short, for the sake of its sockets.
    """

    def __init__(self, folder: Path) -> None:
        self.host = f"unix://{folder}/docker.sock"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it unless it runs, wake it if it is frozen, and return when it answers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            return
        where = [f"--{what}={self._folder / what}" for what in ("data-root", "exec-root", "pidfile")]
        # In a network namespace of its own: `--bridge=none` deletes docker0, which is that of the machine's engine.
        apart = [f"--containerd-{what}=llem-tests-{what}" for what in ("namespace", "plugins-namespace")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["unshare", "--net", "dockerd", f"--host={self.host}", *where, *apart],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, "the engine answers")

    @property
    def pid(self) -> int:
        """Its process, to be frozen."""
        assert self._process is not None
        return self._process.pid

    def end(self, number: signal.Signals) -> None:
        """End it and return when it is gone."""
        assert self._process is not None
        for one in (number, signal.SIGCONT):  # it may be frozen
            self._process.send_signal(one)
        self._process.wait(60)
        self._process = None

    def close(self) -> None:
        """End it if it runs, and undo the mounts that an engine leaves behind when it is killed."""
        if self._process is not None:
            self.end(signal.SIGTERM)
        mounts = [part.mountpoint for part in psutil.disk_partitions(all=True)]
        for mount in sorted((m for m in mounts if Path(m).is_relative_to(self._folder)), reverse=True):
            subprocess.run(["umount", mount], check=True)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
        with contextlib.suppress(DockerError):
            return bool(docker("--host", self.host, "version"))
        return False


@pytest.fixture(scope="module")
def dockerd(abacus_image: str) -> Iterator[Dockerd]:
    """An engine of these tests' own that has the abacus' image."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        missing("needs root and dockerd, for an engine that can be stopped")
    with tempfile.TemporaryDirectory(prefix="llem-") as folder:
        engine = Dockerd(Path(folder))
        engine.start()
        try:
            with subprocess.Popen(["docker", "save", abacus_image], stdout=subprocess.PIPE) as saved:
                subprocess.run(["docker", "--host", engine.host, "load"], stdin=saved.stdout, check=True)
            yield engine
        finally:
            engine.close()


@pytest.fixture
def gone_campaign(
    dockerd: Dockerd, docker_campaign: Campaign, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Write a campaign for that engine, whose second experiment waits to be ended; return its folder."""
    dockerd.start()  # a test that failed may have stopped it
    docker_campaign(grid=TWO_SIZES)
    monkeypatch.setenv("DOCKER_HOST", dockerd.host)
    return pytester.path


def wait_until_second_hangs(root: Path) -> None:
    wait_until(lambda: phases(root).count("window") == 2, "the second experiment hangs")
    (root / "mood").write_text("")


def test_an_engine_that_is_restarted_is_waited_for(
    pytester: pytest.Pytester, dockerd: Dockerd, gone_campaign: Path
) -> None:
    """The experiment under way is lost, the session waits for the engine, and the others are measured once."""
    pytester.makeconftest(WATCH_PHASES + HANG_SECOND)
    session = start_session(gone_campaign, "grid.yaml", COMPOSE)
    wait_until_second_hangs(gone_campaign)
    dockerd.end(signal.SIGTERM)
    away = f"no Docker engine answers at {dockerd.host}: start it (`sudo systemctl start docker`)"
    wait_until(lambda: away in phases(gone_campaign), "the session waits for the engine")
    dockerd.start()
    session.communicate(timeout=60)
    assert session.returncode == pytest.ExitCode.TESTS_FAILED
    results = results_of(gone_campaign)
    assert [result["failure"] and result["failure"]["kind"] for result in results] == [
        None,
        "lost",
        None,
        None,
    ]
    assert len({result["experiment_id"] for result in results}) == 4
    (wait,) = events(gone_campaign, "unavailable")
    assert (wait["problem"], wait["is_back"]) == (away, True)
    assert containers_of(gone_campaign) == []


def test_an_engine_that_crashes_and_stays_away_ends_the_session(
    pytester: pytest.Pytester, dockerd: Dockerd, gone_campaign: Path
) -> None:
    """When patience is over the session ends with 1; once the engine is back --lf sweeps and does the rest."""
    pytester.makeconftest(WATCH_PHASES + HANG_SECOND + IMPATIENT)
    session = start_session(gone_campaign, "grid.yaml", COMPOSE)
    wait_until_second_hangs(gone_campaign)
    dockerd.end(signal.SIGKILL)
    output, _ = session.communicate(timeout=60)
    assert session.returncode == pytest.ExitCode.TESTS_FAILED
    assert "waited 2 s for it. The rest is pending: go on with --lf" in output
    assert len(results_of(gone_campaign)) == 2
    dockerd.start()
    pytester.runpytest_subprocess("--campaign=grid.yaml", "--lf").assert_outcomes(passed=3, deselected=1)
    assert containers_of(gone_campaign) == []


def test_an_engine_that_hangs_is_waited_for(
    pytester: pytest.Pytester, dockerd: Dockerd, gone_campaign: Path
) -> None:
    """While the engine says nothing no experiment begins; then all are measured, in the same container."""
    pytester.makeconftest(WATCH_PHASES + FREEZE_ENGINE_ONCE.format(pid=dockerd.pid))
    session = start_session(gone_campaign, "grid.yaml", COMPOSE)
    silent = f"the Docker engine at {dockerd.host} says nothing for 3 s"
    wait_until(lambda: silent in "".join(phases(gone_campaign)), "the session waits for the engine")
    dockerd.start()
    session.communicate(timeout=60)
    assert session.returncode == pytest.ExitCode.OK
    assert len(completed(gone_campaign)) == 4
    assert [event["is_back"] for event in events(gone_campaign, "unavailable")] == [True]
    assert events(gone_campaign, "restart") == []
    assert containers_of(gone_campaign) == []


def test_an_engine_that_hangs_for_good_ends_the_session(
    pytester: pytest.Pytester, dockerd: Dockerd, gone_campaign: Path
) -> None:
    """When patience is over the session ends, though its containers cannot be removed; --lf does, and the rest."""
    pytester.makeconftest(FREEZE_ENGINE_ONCE.format(pid=dockerd.pid) + IMPATIENT)
    session = start_session(gone_campaign, "grid.yaml", COMPOSE)
    output, _ = session.communicate(timeout=60)
    assert session.returncode == pytest.ExitCode.TESTS_FAILED
    assert "waited 2 s for it. The rest is pending: go on with --lf" in output
    assert "the next session removes them" in output
    dockerd.start()
    (pytester.path / "conftest.py").unlink()
    pytester.runpytest_subprocess("--campaign=grid.yaml", "--lf").assert_outcomes(passed=3, deselected=1)
    assert containers_of(gone_campaign) == []

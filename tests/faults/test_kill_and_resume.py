"""SIGKILL at any moment: 60 seeded moments, then `--lf`, and every account agrees."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pytest_llem.state.manifest import fold
from runs import results_of, run_folders, summary

Campaign = Callable[..., Path]

CHAINS, KILLS = 10, 6
SEED = 20261122

GRID = """
    backends: [abacus]
    shared:
      batch_size: [1, 2]
      rods: [1, 2]
    backend_overrides:
      abacus: {token_ms: 5}
"""
EXPERIMENTS = 8

# Kills the session when a result's file has its name and its journal line is not yet written.
BETWEEN = """
import os, signal
from pathlib import Path
from pytest_llem.state.manifest import Journal

def extend(self, events, before=Journal.extend):
    events = list(events)
    if Path("between").exists() and any(event["event"] == "completed" for event in events):
        Path("between").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    before(self, events)

Journal.extend = extend
"""


def start(root: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pytest", "--campaign=grid.yaml", "-q", *options]
    with (root / "sessions.log").open("a") as log:
        return subprocess.Popen(command, cwd=root, stdout=log, stderr=log, start_new_session=True)


def kill_after(session: subprocess.Popen[bytes], seconds: float) -> list[psutil.Process]:
    """Kill a session in the middle and return what it had started."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        session.wait(seconds)
    try:
        started = psutil.Process(session.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        started = []
    session.kill()
    session.wait()
    return started


def accounts_agree(root: Path) -> None:
    """Hold attempts on disk, journal and summary against each other."""
    attempts = results_of(root)
    on_disk = Counter((a["spec_hash"], a["cycle"]) for a in attempts if a["status"] == "completed")
    assert len(on_disk) == EXPERIMENTS
    assert set(on_disk.values()) == {1}
    assert len(attempts) == EXPERIMENTS
    journalled = fold(root.rglob("d/llem/**/*.jsonl")).statuses()
    assert {key for key, status in journalled.items() if status.status == "completed"} == set(on_disk)
    assert [row["n"] for row in summary(root)["rows"]] == [2] * (EXPERIMENTS // 2)
    assert len([run for run in run_folders(root) if (run / "experiments").exists()]) == 1


@pytest.fixture
def duration_s(pytester: pytest.Pytester, campaign: Campaign) -> float:
    """How long an uninterrupted session takes here and now, in seconds."""
    campaign(grid=GRID)
    begin_s = time.monotonic()
    start(pytester.path, "-p", "no:cacheprovider", "--campaign-set", "io.results_dir=timing").wait()
    return time.monotonic() - begin_s


def test_every_account_agrees_after_kills_at_sixty_moments(
    pytester: pytest.Pytester, campaign: Campaign, duration_s: float
) -> None:
    """Wherever a session is killed, --lf ends with every experiment completed exactly once, nothing left alive."""
    moments = random.Random(SEED)
    pytester.makeconftest(BETWEEN)
    for chain in range(CHAINS):
        root = pytester.mkdir(f"chain{chain}")
        (root / "pytest.ini").write_text("[pytest]\n")
        (root / "grid.yaml").write_text(campaign(grid=GRID).read_text())
        (root / "conftest.py").write_text(BETWEEN)
        started = []
        for kill in range(KILLS):
            if kill == chain % KILLS:
                (root / "between").touch()
                started += kill_after(start(root, "--lf"), 10 * duration_s)
            else:
                started += kill_after(start(root, "--lf"), moments.uniform(0, duration_s))
        assert start(root, "--lf").wait() == 0, (root / "sessions.log").read_text()[-5000:]
        accounts_agree(root)
        _, alive = psutil.wait_procs(started, timeout=15)
        assert alive == []

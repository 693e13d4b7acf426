"""Sessions that are killed again and again and continued, and what must be true of their run in the end."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

from pytest_llem.state.manifest import fold
from runs import results_of, run_folders, summary

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
"""A conftest.py that kills the session when a result's file has its name and its journal line is not yet written."""


def survive_kills(project: Path, *options: str) -> Iterator[Path]:
    """Kill the sessions of a run at seeded moments, let the last one end, hold its accounts against each other.

    A session begins at once when the one before is killed; only the last one finds all that they started gone.

    Args:
        project: has the campaign of `GRID`, and `BETWEEN` as conftest.py; each run has a copy of it.
        options: of each session.

    Yields:
        The folder of each run that has survived.
    """
    moments = random.Random(SEED)
    duration_s = _duration_s(project, *options)
    for chain in range(CHAINS):
        root = _copy(project, f"chain{chain}")
        started = []
        for kill in range(KILLS):
            if kill == chain % KILLS:
                (root / "between").touch()
                started += _kill_after(_start(root, "--lf", *options), 10 * duration_s)
            else:
                started += _kill_after(_start(root, "--lf", *options), moments.uniform(0, duration_s))
        _, alive = psutil.wait_procs(started, timeout=15)
        assert alive == []
        assert _start(root, "--lf", *options).wait() == 0, (root / "sessions.log").read_text()[-5000:]
        _accounts_agree(root)
        yield root


def _copy(project: Path, name: str) -> Path:
    folder = project / name
    folder.mkdir()
    for path in project.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    return folder


def _duration_s(root: Path, *options: str) -> float:
    """Return how long an uninterrupted session takes here and now, in seconds."""
    begin_s = time.monotonic()
    _start(root, "-p", "no:cacheprovider", "--campaign-set", "io.results_dir=timing", *options).wait()
    return time.monotonic() - begin_s


def _start(root: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pytest", "--campaign=grid.yaml", "-q", *options]
    with (root / "sessions.log").open("a") as log:
        return subprocess.Popen(command, cwd=root, stdout=log, stderr=log, start_new_session=True)


def _kill_after(session: subprocess.Popen[bytes], seconds: float) -> list[psutil.Process]:
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


def _accounts_agree(root: Path) -> None:
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

"""Daemons as processes of their own, and what they leave behind."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from sessions import start_session, wait_until


@contextlib.contextmanager
def daemon(root: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start a daemon for `grid.yaml`; whatever a test finds, nothing of it stays."""
    process = start_session(root, "grid.yaml", "-p", "no:randomly", *options)
    try:
        yield process
    finally:
        for session in rounds_alive(process):
            with contextlib.suppress(psutil.NoSuchProcess):
                session.kill()
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def account(root: Path) -> dict[str, Any]:
    """Return the account of the newest series; without rounds while there is none."""
    found = sorted(root.rglob("series/*/series.json"))
    loaded: dict[str, Any] = json.loads(found[-1].read_text()) if found else {"rounds": []}
    return loaded


def outcomes(root: Path) -> list[str]:
    """Return how the rounds of the newest series went so far."""
    return [one["outcome"] for one in account(root)["rounds"]]


def wait_until_it_waits(root: Path, daemons: int = 1) -> None:
    """Wait until so many quiet daemons, one after the other, have announced a start of the newest series."""

    def announced() -> int:
        logs = sorted(root.rglob("series/*/daemon.log"))
        return logs[-1].read_text().count(" starts ") if logs else 0

    wait_until(lambda: announced() == daemons, f"daemon {daemons} waits")


def series_folders(root: Path) -> list[Path]:
    """Return the folders of all series, oldest first."""
    return sorted(path.parent for path in root.rglob("series/*/series.json"))


def series_summary(root: Path) -> dict[str, Any]:
    """Return the summary of the newest series."""
    loaded: dict[str, Any] = json.loads((series_folders(root)[-1] / "summary.json").read_text())
    return loaded


def rounds_alive(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the sessions of rounds that a daemon has running."""
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children()
        return [one for one in children if "--campaign=grid.yaml" in one.cmdline()]
    return []


def the_round(process: subprocess.Popen[str]) -> psutil.Process:
    """Return the session of the round that runs, once it does."""
    wait_until(lambda: rounds_alive(process), "a round runs")
    return rounds_alive(process)[0]

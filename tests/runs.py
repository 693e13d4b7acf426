"""Reading what a campaign left behind: results, journal, summary."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import psutil


def run_folders(root: Path, results: str = "results") -> list[Path]:
    """Return the folders of all runs below a results folder, oldest first."""
    return sorted(path.parent for path in (root / results).rglob("run.json"))


def results_of(root: Path) -> list[dict[str, Any]]:
    """Return every attempt on disk, in order of time."""
    found = [json.loads(path.read_text()) for path in root.rglob("attempt-*.json")]
    return sorted(found, key=lambda result: result["started_at"])


def completed(root: Path) -> list[str]:
    """Return the ids of completed attempts, in order of time."""
    return [r["experiment_id"] for r in results_of(root) if r["status"] == "completed"]


def launches(root: Path) -> set[str]:
    """Return the ids of the launches that served completed experiments."""
    return {r["measurement"]["launch"]["id"] for r in results_of(root) if r["status"] == "completed"}


def journal(root: Path) -> list[dict[str, Any]]:
    """Return every event of every journal below a project's cache, in order of time."""
    lines = [line for path in root.rglob("d/llem/**/*.jsonl") for line in path.read_text().splitlines()]
    return sorted((json.loads(line) for line in lines), key=lambda event: event["at"])


def events(root: Path, name: str) -> list[dict[str, Any]]:
    """Return the journal's events of one kind."""
    return [event for event in journal(root) if event["event"] == name]


def summary(root: Path) -> dict[str, Any]:
    """Return the newest run's summary."""
    loaded: dict[str, Any] = json.loads((run_folders(root)[-1] / "summary.json").read_text())
    return loaded


def rows(root: Path, name: str = "results.csv") -> list[dict[str, str]]:
    """Return the rows of one of the newest run's CSV files."""
    with (run_folders(root)[-1] / name).open(newline="") as file:
        return list(csv.DictReader(file))


def flags_of_meters(measurement: dict[str, Any]) -> set[str]:
    """Return a measurement's flags without that of other work on this machine, which tests cannot keep away."""
    return set(measurement["flags"]) - {"foreign_cpu_load"}


def workers_alive(root: Path) -> list[psutil.Process]:
    """Return processes of workers and engines that were started from below `root`."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        command = " ".join(process.info["cmdline"] or ())
        ours = "pytest_llem.worker" in command or "multiprocessing" in command
        if ours and str(process.info["cwd"]).startswith(str(root)):
            found.append(process)
    return found

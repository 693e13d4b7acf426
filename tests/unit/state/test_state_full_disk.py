"""A disk that is really full, or really read-only: tiny file systems in a mount namespace of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.state.manifest import Journal, fold
from pytest_llem.state.results import StorageError
from unit.state.state_samples import RUN_ID, a_result, run_info, the_runs

Facts = dict[str, Any]


def fill(folder: Path, leave: int) -> Path:
    """Fill the file system up to about `leave` bytes and return the ballast."""
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        file.write(b"\0" * max(0, shutil.disk_usage(folder).free - leave))
    return ballast


def record_until_refused(folder: Path) -> Facts:
    """Write results until the disk is full, make room, and go on in a second session."""
    runs = the_runs(folder)
    run, _ = runs.open(run_info())
    ballast = fill(folder, leave=32768)
    written, error = 0, ""
    while not error:
        try:
            run.begin(f"e{written}", f"hash of e{written}", 1)
            run.record(a_result(f"e{written}"))
            written += 1
        except StorageError as refusal:
            error = str(refusal)
    left = [path.name for path in folder.rglob("*.tmp")]
    run.close()
    ballast.unlink()
    run, standing = runs.open(run_info())
    run.record(a_result("after", 1))
    run.close()
    return {
        "error": error,
        "left": left,
        "written": written,
        "found": len(standing.having("completed")),
        "damaged": standing.damaged,
        "after": len(runs.survey(RUN_ID).having("completed")),
    }


def append_until_refused(folder: Path) -> Facts:
    """Append to a journal until the disk is full, make room, and append as the same and as a new writer."""
    path = folder / "main.jsonl"
    ballast = fill(folder, leave=8192)
    journal = Journal(path, {})
    appended, error = 0, ""
    while not error:
        try:
            journal.append("lost", spec_hash=f"s{appended}", cycle=1, experiment_id=f"e{appended}", attempt=1)
            appended += 1
        except StorageError as refusal:
            error = str(refusal)
    torn = not path.read_bytes().endswith(b"\n")
    ballast.unlink()
    journal.append("lost", spec_hash="same", cycle=1, experiment_id="same writer", attempt=1)
    journal.close()
    journal = Journal(path, {})
    journal.append("lost", spec_hash="new", cycle=1, experiment_id="new writer", attempt=1)
    journal.close()
    ledger = fold([path])
    names = [name for name, _ in ledger.attempts]
    return {
        "error": error,
        "torn": torn,
        "appended": appended,
        "names": names,
        "skipped": ledger.damaged_lines,
    }


def open_where_nothing_can_be_written(folder: Path) -> Facts:
    """Open a run on a file system that is mounted read-only, or has no room for another file."""
    for number in range(100):
        try:
            (folder / f"ballast-{number}").touch()
        except OSError:
            break
    try:
        the_runs(folder).open(run_info())
    except StorageError as refusal:
        return {"error": str(refusal)}
    return {"error": None}


SCENARIOS: dict[str, Callable[[Path], Facts]] = {
    scenario.__name__: scenario
    for scenario in (record_until_refused, append_until_refused, open_where_nothing_can_be_written)
}


def on_tiny_disk(scenario: Callable[[Path], Facts], folder: Path, options: str = "size=1m") -> Facts:
    """Carry out `scenario` in a child process that sees a tmpfs at `folder`, and return what it found."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (util-linux)")
    mount = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run(
        [*mount, f"mount -t tmpfs tmpfs {folder}"], check=False, capture_output=True
    ).returncode:
        pytest.skip("this machine lets no user mount a tmpfs in a namespace of its own")
    script = (
        f'mount -t tmpfs -o {options} tmpfs "$1" && exec "$2" -m unit.state.test_state_full_disk "$1" "$3"'
    )
    command = [*mount, script, "sh", str(folder), sys.executable, scenario.__name__]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    facts: Facts = json.loads(done.stdout)
    return facts


def test_a_full_disk_costs_no_result(tmp_path: Path) -> None:
    """The error says to free space, no temporary file stays, and every measured result is on disk."""
    facts = on_tiny_disk(record_until_refused, tmp_path)
    assert "No space left on device; free some space and continue with --lf" in facts["error"]
    assert facts["left"] == []
    assert facts["written"] > 0
    # A result that finds the disk full goes into the reserve; the note that an attempt begins does not.
    assert facts["found"] - facts["written"] == ("is stored" in facts["error"])
    assert facts["damaged"] == []
    assert facts["after"] == facts["found"] + 1


def test_a_journal_on_a_full_disk_keeps_every_line_that_it_accepted(tmp_path: Path) -> None:
    """A torn line is closed off before the next one, by the same writer and by the next."""
    facts = on_tiny_disk(append_until_refused, tmp_path)
    assert "main.jsonl: No space left on device" in facts["error"]
    assert facts["skipped"] == facts["torn"]  # a line may, rarely, end with the last byte of the disk
    assert facts["names"] == [*(f"e{i}" for i in range(facts["appended"])), "same writer", "new writer"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ("ro,size=64k", "Read-only file system; make the file system writable and continue with --lf"),
        ("size=64k,nr_inodes=4", "No space left on device; free some space and continue with --lf"),
    ],
)
def test_a_disk_that_takes_no_file_is_told_at_the_start(tmp_path: Path, options: str, error: str) -> None:
    """A run that could not keep its results is refused in one sentence before anything is measured."""
    assert on_tiny_disk(open_where_nothing_can_be_written, tmp_path, options)["error"].endswith(error)


if __name__ == "__main__":
    print(json.dumps(SCENARIOS[sys.argv[2]](Path(sys.argv[1]))))

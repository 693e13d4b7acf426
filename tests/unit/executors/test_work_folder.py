"""The private folder of a session."""

from __future__ import annotations

import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pytest_llem.executors.work_folder import WorkFolder

KILLED = """
import os, signal
from pytest_llem.executors.work_folder import WorkFolder
folder = WorkFolder()
(folder.path / "hf_token").write_text("secret")
print(folder.path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the folders lie where no other session's do."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_for_this_user_alone() -> None:
    """Nobody else may read what lies in it, and with `remove` it is gone."""
    folder = WorkFolder()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    folder.remove()
    assert not folder.path.exists()


def test_the_folder_of_a_killed_session_goes_with_the_next_one() -> None:
    """A token that a killed session left behind is removed when another session begins."""
    killed = subprocess.run([sys.executable, "-c", KILLED], check=False, capture_output=True, text=True)
    left = Path(killed.stdout.strip())
    assert (left / "hf_token").exists()
    WorkFolder().remove()
    assert not left.exists()


def test_the_folder_of_a_living_session_stays(temporary: Path) -> None:
    """Neither a session beside ours, nor a folder without a lock, loses anything."""
    beside = WorkFolder()
    (temporary / "llem-strange").mkdir()
    WorkFolder().remove()
    assert beside.path.exists()
    assert (temporary / "llem-strange").exists()
    beside.remove()

"""A disk that fills up during a campaign: the session stops, says so, and loses nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Campaign = Callable[..., Path]

# Mounts a small disk for the results, lets a session fill it, makes room, and continues.
SCRIPT = """
set -eu
mkdir results && mount -t tmpfs -o size=1m tmpfs results
status=0; "$1" -m pytest --campaign=grid.yaml -p ballast >first.txt 2>&1 || status=$?
echo "$status" >status.txt
rm -f results/ballast
"$1" -m pytest --campaign=grid.yaml --lf >second.txt 2>&1
find results -name 'attempt-*.json' | wc -l >attempts.txt
find results -name '*.tmp' -o -name '.reserve' | wc -l >left.txt
"""

BALLAST = """
import shutil

def pytest_llem_result(config, result):
    free = shutil.disk_usage("results").free
    if result.position == 1:
        with open("results/ballast", "wb") as file:
            file.write(bytes(max(0, free - 4 * 1024)))
"""


def test_a_disk_that_fills_up_loses_nothing(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """The session ends with 1 and a sentence that says what to do; --lf then measures exactly the rest."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (util-linux)")
    campaign(grid="backends: [abacus]\nshared: {batch_size: [1, 2, 4, 5]}\n")
    pytester.makepyfile(ballast=BALLAST)
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh", sys.executable]
    env = {"PYTHONPATH": f"{pytester.path}:{Path(__file__).parents[1] / 'toy'}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True, env=env, check=False)
    said = {name: (pytester.path / name).read_text() for name in ("first.txt", "second.txt")}
    assert done.returncode == 0, done.stderr + said["first.txt"]
    assert (pytester.path / "status.txt").read_text().strip() == "1"
    assert "No space left on device; free some space and continue with --lf" in said["first.txt"]
    assert "is stored" in said["first.txt"]
    assert "Traceback" not in said["first.txt"]
    assert "Resuming: " in said["second.txt"]
    assert (pytester.path / "attempts.txt").read_text().strip() == "8"
    assert (pytester.path / "left.txt").read_text().strip() == "0"

"""A disk that fills up during a campaign: the session stops, says so, and loses nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from standin.build import Gpu, build_nvml, environment, facts

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
            file.write(bytes(max(0, free - 1024)))
"""


ANOTHER_SETTING = """
import os
from pathlib import Path

def pytest_llem_result(config, result):
    if result.position == 1:
        facts = Path(os.environ["NVML_STANDIN_FACTS"])
        facts.write_text(facts.read_text().replace("=300000", "=250000"))
"""


def fill_up(pytester: pytest.Pytester, campaign: Campaign, variables: Mapping[str, str]) -> None:
    """Carry out the script, and see that it went as it should and lost nothing."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (util-linux)")
    campaign(grid="backends: [abacus]\nshared: {batch_size: [1, 2, 4, 5]}\n")
    pytester.makepyfile(ballast=BALLAST)
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh", sys.executable]
    paths = f"{pytester.path}:{Path(__file__).parents[1] / 'toy'}"
    env = {"PYTHONPATH": paths, "PATH": "/usr/bin:/bin", **variables}
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


def test_a_disk_that_fills_up_loses_nothing(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """The session ends with 1 and a sentence that says what to do; --lf then measures exactly the rest."""
    fill_up(pytester, campaign, {})


def test_a_setting_that_changes_on_a_full_disk_costs_no_result(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """A measured result is stored though there is no room for the environment that it ran in."""
    folder = pytester.mkdir("gpu")
    scripted = environment(build_nvml(folder), folder / "script", [Gpu()])
    told = facts(folder / "facts", {}, {"power_limit_mw": 300_000})
    pytester.makeconftest(ANOTHER_SETTING)
    fill_up(pytester, campaign, scripted | told | {"LLEM_SLOTS_DIR": str(folder)})

"""Whether the session that a container belongs to is dead, as its label lets tell."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.executors.compose.owner import Owner

NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can play two users")

ASK = """
import sys
from pytest_llem.executors.compose.owner import Owner
print(Owner.from_label(sys.argv[1]).is_dead())
"""
HIDDEN = f'mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid={NOBODY} --clear-groups "$@"'


def asked_under(*command: str) -> str:
    """Return what a process says about whether this one is dead."""
    label = Owner.this_process().to_label()
    done = subprocess.run(
        [*command, sys.executable, "-c", ASK, label], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_process_is_dead_when_it_has_ended() -> None:
    """This process lives; one that has ended, or whose number another one has now, is dead."""
    me = Owner.this_process()
    assert Owner.from_label(me.to_label()) == me
    assert not me.is_dead()
    assert me._replace(started=me.started + "0").is_dead()
    with subprocess.Popen(["true"]) as ended:
        pass
    assert me._replace(pid=ended.pid).is_dead()


@pytest.mark.parametrize("elsewhere", [{"host": "elsewhere"}, {"pid_namespace": "pid:[1]"}])
def test_of_processes_elsewhere_nothing_is_known(elsewhere: dict[str, Any]) -> None:
    """A process of another machine or container is not called dead."""
    assert not Owner.this_process()._replace(started="long ago", **elsewhere).is_dead()


def test_a_label_of_somebody_else_is_nobody() -> None:
    """Text that no session has written names no owner."""
    assert Owner.from_label("") is None
    assert Owner.from_label("host ns pid started") is None


def test_a_process_lives_on_when_the_clock_is_set(tmp_path: Path) -> None:
    """A step of the system's clock moves the time of boot (`btime` in /proc/stat), and makes nobody dead."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (util-linux)")
    stepped = tmp_path / "stat"
    now = Path("/proc/stat").read_text()
    stepped.write_text(
        re.sub(r"^btime (\d+)", lambda found: f"btime {int(found[1]) + 3600}", now, flags=re.MULTILINE)
    )
    mount = ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount --bind "$0" /proc/stat && exec "$@"']
    assert asked_under(*mount, str(stepped)) == "False"


@AS_ROOT
def test_a_process_that_is_hidden_is_not_dead() -> None:
    """Where the kernel hides the processes of others (`hidepid`, proc(5)), another user's session lives on."""
    assert asked_under("unshare", "--mount", "sh", "-c", HIDDEN, "sh") == "False"

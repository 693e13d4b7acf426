"""docs/overnight.md: its commands are run, its unit and its cron line are tried."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from daemons import account, outcomes, series_folders, wait_until_it_waits

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/overnight.md").read_text()
EXAMPLES = ROOT / "docs/examples"

LOOK, SMALL, PLAIN, NOHUP, SHOW, END, CRON = re.findall(r"^    (.*)$", PAGE, re.MULTILINE)
"""The commands of the page, in its order."""

QUICK = """
[pytest]
addopts = --campaign-executor=local -p no:randomly
    --campaign-set=model=random:campaigns/models/tiny-llama --campaign-set=grid.shared.fp_precision=[float32]
    --campaign-set=execution.cycles=1 --campaign-set=window.seconds=0 --campaign-set=defaults.warmup.enabled=false
"""
"""What makes the nightly campaign itself one that a CPU could run."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Path]:
    """A project as the page assumes it, at a path of the test's own; its daemons end with the test."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/pytest").symlink_to(Path(sys.executable).with_name("pytest"))
    shutil.copytree(ROOT / "campaigns", tmp_path / "campaigns")
    (tmp_path / "pytest.ini").write_text(QUICK)
    yield tmp_path
    for process in daemons(tmp_path):
        process.kill()


def daemons(bench: Path) -> list[psutil.Process]:
    """Return the daemons of a project."""
    found = psutil.process_iter(["cmdline"])
    return [
        p
        for p in found
        if {"pytest_llem.daemon"} <= set(p.info["cmdline"] or ()) and f"{bench}" in str(p.info)
    ]


def shell(bench: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Type a command at a prompt in the project, where `pytest` and `python` are those of its environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        command,
        shell=True,
        cwd=bench,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def end(bench: Path) -> None:
    """Stop the daemon that waits, as `kill` and `systemctl stop` do."""
    (process,) = daemons(bench)
    process.send_signal(signal.SIGTERM)
    psutil.wait_procs([process], timeout=30)
    assert daemons(bench) == []


def test_the_small_campaign_runs_its_two_rounds(bench: Path) -> None:
    """What the page calls small is that: two rounds of a real model on a CPU, shown again by the next command."""
    (bench / "pytest.ini").write_text("[pytest]\naddopts = --campaign-executor=local\n")
    done = shell(bench, SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(bench) == ["passed", "passed"]
    assert "2 of 2 rounds completed" in done.stdout
    shown = shell(bench, SHOW)
    assert shown.returncode == 0
    assert len(re.findall("1 of 1 +passed", shown.stdout)) == 2


def test_looking_starts_nothing(bench: Path) -> None:
    """The first command lists two weeks of starts at one o'clock and leaves nothing."""
    done = shell(bench, LOOK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "daemon: every 1d for 14d" in done.stdout
    assert len(re.findall(r" 01:00:00 .* \(in ", done.stdout)) == 8
    assert not (bench / "results").exists()


def test_what_the_campaign_offers_in_comments_is_valid(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without their comment signs the last lines of the campaign are sections of a valid one."""
    monkeypatch.setenv("LLEM_WEBHOOK", "https://example.org/hook")
    path = bench / "campaigns/nightly.yaml"
    said, mark, offered = path.read_text().partition("the lines below:\n")
    path.write_text(said + mark + re.sub("^# ", "", offered, flags=re.MULTILINE))
    done = shell(bench, LOOK)
    assert done.returncode == 0, done.stdout + done.stderr
    campaign = yaml.safe_load(path.read_text())
    assert {"notify", "cost", "expect"} <= campaign.keys()


def test_the_plain_command_waits_and_its_series_can_be_ended(bench: Path) -> None:
    """Typed in a terminal or below nohup it waits for one o'clock; stopped it goes on, ended it begins anew."""
    for number, command in enumerate([f"{PLAIN} &", NOHUP], 1):
        shell(bench, f"({command}) > out 2>&1")
        wait_until_it_waits(bench, number)
        end(bench)
        assert len(series_folders(bench)) == 1
    first = account(bench)
    assert (first["ended"], first["rounds"]) == (False, [])
    done = shell(bench, END)
    assert done.returncode == 0, done.stderr
    assert account(bench)["ended"]


def test_the_cron_line_works_in_crons_environment(bench: Path) -> None:
    """The line of the example is that of the page; with cron's shell, path and nothing else it starts the daemon."""
    assert CRON in (EXAMPLES / "llem-nightly.crontab").read_text().splitlines()
    command = CRON.removeprefix("@reboot ").replace("/srv/bench", str(bench))
    environment = {
        "HOME": str(bench),
        "LOGNAME": "bench",
        "SHELL": "/bin/sh",
        "PATH": "/usr/bin:/bin",
        "LLEM_SLOTS_DIR": os.environ["LLEM_SLOTS_DIR"],
    }
    with subprocess.Popen(["/bin/sh", "-c", command], cwd="/", env=environment, start_new_session=True):
        wait_until_it_waits(bench)
        end(bench)
    assert "round 1 starts" in (bench / "nightly.log").read_text()


def test_the_unit_is_one_that_systemd_takes(bench: Path) -> None:
    """systemd-analyze finds nothing wrong with the unit, once its paths are there; only the daemon is signalled."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not here")
    text = (EXAMPLES / "llem-nightly.service").read_text()
    unit = bench / "llem-nightly.service"
    unit.write_text(text.replace("/srv/bench", str(bench)).replace("User=bench", "User=root"))
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False)
    about_ours = [line for line in done.stderr.splitlines() if "llem" in line]
    assert about_ours == []
    assert "KillMode=mixed" in text
    assert PLAIN.removeprefix("pytest ") in text

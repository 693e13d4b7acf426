"""What a daemon tells a webhook, beside what the sessions of its rounds tell."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from daemons import daemon, outcomes, wait_until_it_waits
from receiver import SECRET, Receiver, receiving

Campaign = Callable[..., Path]

LOSE_THE_FIRST = """
import os, pathlib, signal
lost = pathlib.Path("lost")
if "LLEM_ROUND" in os.environ and not lost.exists():
    lost.touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A webhook whose address is in the environment."""
    with receiving() as running:
        monkeypatch.setenv("HOOK", running.url)
        yield running


def test_a_lost_round_and_the_end_of_the_series_are_told(
    pytester: pytest.Pytester, campaign: Campaign, receiver: Receiver
) -> None:
    """The daemon tells of a killed round and how the series ended, with its tables; the address stays secret."""
    campaign(
        "daemon: {enabled: true, interval: 30s, total_duration: 59s}\nnotify: {webhook_url: '${HOOK}'}\n"
    )
    pytester.makeconftest(LOSE_THE_FIRST)
    with daemon(pytester.path) as process:
        output, _ = process.communicate(timeout=120)
    assert outcomes(pytester.path) == ["crashed", "passed"]
    assert [m["status"] for m in receiver.messages] == ["round_lost", "complete", "series_failed"]
    lost, _, end = receiver.messages
    assert lost["event"] == "failure"
    assert lost["exit_code"] == -signal.SIGKILL
    assert "round 1 killed by SIGKILL" in lost["text"]
    assert (end["exit_code"], end["rounds"], end["completed"]) == (1, 2, 1)
    assert "4 of 4" in end["text"]
    assert "abacus" in end["text"]
    assert SECRET not in output
    for path in pytester.path.rglob("*"):
        assert not path.is_file() or SECRET not in path.read_text(errors="replace"), path


CRASH = """
import os
def pytest_collection_modifyitems():
    if "LLEM_ROUND" in os.environ:
        raise RuntimeError("a plugin of ours")
"""
NOT_STARTED = """
import os, pytest
def pytest_runtestloop():
    if "LLEM_ROUND" in os.environ:
        raise pytest.UsageError("no GPU any more")
"""


@pytest.mark.parametrize(("conftest", "status"), [(CRASH, "crashed"), (NOT_STARTED, "not_started")])
def test_a_crashed_round_is_told_of_once(
    pytester: pytest.Pytester, campaign: Campaign, receiver: Receiver, conftest: str, status: str
) -> None:
    """A round that ends before its first experiment tells so itself, and the daemon does not tell it again."""
    campaign("daemon: {enabled: true}\nnotify: {webhook_url: '${HOOK}'}\n")
    pytester.makeconftest(conftest)
    with daemon(pytester.path) as process:
        process.communicate(timeout=120)
    assert outcomes(pytester.path) == ["crashed"]
    assert [m["status"] for m in receiver.messages] == [status, "series_failed"]


def test_a_daemon_that_is_stopped_tells_so_and_shows_no_address(
    pytester: pytest.Pytester, campaign: Campaign, receiver: Receiver
) -> None:
    """SIGTERM while it waits is told as an interruption; the daemon's arguments hold nothing of the address."""
    campaign("daemon: {enabled: true, at: '00:00'}\nnotify: {webhook_url: '${HOOK}'}\n")
    with daemon(pytester.path) as process:
        wait_until_it_waits(pytester.path)
        assert SECRET not in " ".join(psutil.Process(process.pid).cmdline())
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert [m["status"] for m in receiver.messages] == ["series_interrupted"]


def test_an_end_that_nobody_wants_to_hear_of_is_not_told(
    pytester: pytest.Pytester, campaign: Campaign, receiver: Receiver
) -> None:
    """With `on: [failure]` a series in which all went well says nothing."""
    campaign("daemon: {enabled: true}\nnotify: {webhook_url: '${HOOK}', on: [failure]}\n")
    with daemon(pytester.path) as process:
        process.communicate(timeout=120)
    assert process.returncode == 0
    assert receiver.messages == []

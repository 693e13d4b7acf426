"""A log has a line on what lasts long, and none on what does not."""

from __future__ import annotations

import threading

import pytest

from pytest_llem import long_waits
from pytest_llem.long_waits import LongWaits


class Log:
    """Keeps what is told, and lets others wait for the next line."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.has_new = threading.Event()

    def tell(self, line: str) -> None:
        self.lines.append(line)
        self.has_new.set()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    """A log in which 10 ms are long."""
    monkeypatch.setattr(long_waits, "LONG_S", 0.01)
    return Log()


def test_what_lasts_is_told_while_it_does(log: Log) -> None:
    """The line comes before the end, with how long it has lasted."""
    waits = LongWaits(log.tell)
    waits.begin("loading", "loading")
    assert log.has_new.wait(60)
    waits.end()
    assert log.lines == ["loading (for 0.01 s now)"]


def test_a_countdown_is_one_wait(log: Log) -> None:
    """However often it is shown, it is told once, in the words of that moment."""
    waits, left_s = LongWaits(log.tell), 1_000_000
    while not log.has_new.is_set():
        waits.begin("wait", f"gap: {left_s} s")
        left_s -= 1
    waits.begin("wait", "gap: 0 s")
    waits.end()
    (line,) = log.lines
    assert line != "gap: 1000000 s (for 0.01 s now)"


def test_what_is_over_is_not_told(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what has ended nor what something else has followed has a line any more."""
    waits = LongWaits(log.tell)
    with monkeypatch.context() as patch:
        patch.setattr(long_waits, "LONG_S", 3600.0)
        waits.begin("starting", "starting")
        waits.begin("loading", "loading")
        waits.end()
    waits.begin("window", "window")
    assert log.has_new.wait(60)
    waits.end()
    assert log.lines == ["window (for 0.01 s now)"]

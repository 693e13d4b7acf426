"""The engine's own ping, against real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_llem.executors.compose.ping import pings


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """Return a socket's path, and the socket at which an engine would answer."""
    path = str(tmp_path / "docker.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        yield path, listening


def test_an_engine_that_hangs_is_not_taken_for_one_that_is_gone(engine: tuple[str, socket.socket]) -> None:
    """A connection without an answer is a timeout; no socket at all is an answer: no."""
    path, _ = engine
    with pytest.raises(TimeoutError):
        pings(path, 0.05)
    assert not pings(f"{path}.old", 0.05)


def test_an_engine_that_is_being_stopped_does_not_answer(engine: tuple[str, socket.socket]) -> None:
    """A socket that nobody listens at any more, left over from an engine, is none."""
    path, listening = engine
    listening.close()
    assert not pings(path, 0.05)

"""A conversation with a worker in a container: our own `docker exec`, with the client's source as its program.

python-on-whales has no handle on a running exec, and killing the docker command would leave the work in the
container. The client there ends with its stdin, and the server then cancels: so closing stdin is what ends work.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pytest_llem.worker import client

SOURCE = Path(client.__file__).read_text(encoding="utf-8")
"""Handed over with each exec: it always fits this host, whatever image the container has."""

END_GRACE_S = 2.0
CHUNK_BYTES = 1 << 16


class ExecConversation:
    """One request to a container's worker and the lines it answers; closing it cancels the request.

    Args:
        container: id or name.
        request: one line, without its end.
        silence_s: how long to wait for the next line; None waits for ever.
        connect_s: how long to wait inside the container for a server that is still starting.

    Raises:
        ConnectionError: nobody answers, the container died, or it was silent for too long.
    """

    def __init__(
        self, container: str, request: bytes, silence_s: float | None = None, connect_s: float = 0.0
    ) -> None:
        self._silence_s = silence_s
        into = ["docker", "exec", "-i", container]
        program = ["python3", "-S", "-E", "-c", SOURCE, client.DEFAULT_SOCKET, f"{connect_s:g}"]
        self._process = subprocess.Popen(  # noqa: S603 - no shell; the container's id comes from the engine
            [*into, *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for pytest, which then closes the conversation
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # what it said instead stands on its stderr
            self._process.stdin.write(request + b"\n")
            self._process.stdin.flush()

    @property
    def is_open(self) -> bool:
        """Whether the other end is still there."""
        return self._process.poll() is None

    def __iter__(self) -> Iterator[bytes]:
        """Yield the server's lines until it closes the connection."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        begun = b""
        while True:
            if not poll.poll(None if self._silence_s is None else self._silence_s * 1e3):
                raise ConnectionError(f"the worker said nothing for {self._silence_s:g} s")
            chunk = os.read(descriptor, CHUNK_BYTES)
            if not chunk:
                break
            *lines, begun = (begun + chunk).split(b"\n")
            yield from lines
        if self._process.wait() != 0:
            raise ConnectionError(self._reason())

    def close(self) -> None:
        """End the conversation; the server ends what it was doing for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(END_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._process.stderr.close()

    def _reason(self) -> str:
        assert self._process.stderr is not None
        lines = self._process.stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"the connection into the container ended ({self._process.returncode})"

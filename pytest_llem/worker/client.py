"""The host's end of a conversation with the worker's server. Standard library only.

`Conversation` is for a host that shares the server's file system. For a container the host runs this file in it
(`docker exec -i CONTAINER python3 -S -E -c SOURCE SOCKET CONNECT_S`): one request on stdin, the server's lines on
stdout. The end of stdin cancels, so work in a container never outlives the session that asked for it. So it imports
nothing of this package and knows lines, not messages.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

DEFAULT_SOCKET = "/run/llem/socket"
"""Where a container's server listens."""

PING = b'{"op": "hello"}'

PING_S = 10.0
CONNECT_POLL_S = 0.05
CHUNK_BYTES = 1 << 16


class Conversation:
    """One request to the server and the lines it answers; closing it cancels the request.

    Args:
        socket_path: where the server listens.
        request: one line, without its end.
        silence_s: how long to wait for the next line; None waits for ever.

    Raises:
        ConnectionError: the server is not there, went away in the middle, or was silent for too long.
    """

    def __init__(self, socket_path: str, request: bytes, silence_s: float | None = None) -> None:
        self._silence_s = silence_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(silence_s)
        try:
            self._socket.connect(socket_path)
            self._socket.sendall(request + b"\n")
        except OSError as error:
            self._socket.close()
            raise ConnectionError(f"no worker answers at {socket_path}: {error}") from error
        self._lines = self._socket.makefile("rb")

    def __iter__(self) -> Iterator[bytes]:
        """Yield the server's lines until it closes the connection."""
        try:
            yield from self._lines
        except TimeoutError as error:
            raise ConnectionError(f"the worker said nothing for {self._silence_s:g} s") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the socket's descriptor, to wait for."""
        return self._socket.fileno()

    def close(self) -> None:
        """End the conversation; the server ends what it was doing for it."""
        self._lines.close()
        self._socket.close()


def relay(conversation: Conversation, source: int, sink: int) -> int:
    """Carry the server's answer to `sink` until either side ends; return the exit status."""
    server = conversation.fileno()
    while True:
        ready, _, _ = select.select([server, source], [], [])
        if server in ready:
            answer = os.read(server, CHUNK_BYTES)
            if not answer:
                return 0
            _write_all(sink, answer)
        elif not os.read(source, CHUNK_BYTES):
            return 1  # the host has gone


def connect(socket_path: str, request: bytes, within_s: float, source: int) -> Conversation:
    """Return a conversation with a server that may still be starting.

    Raises:
        ConnectionError: it does not listen within `within_s`, or the host has gone.
    """
    deadline_s = time.monotonic() + within_s
    while True:
        try:
            return Conversation(socket_path, request)
        except ConnectionError:
            if time.monotonic() > deadline_s:
                raise
        if select.select([source], [], [], CONNECT_POLL_S)[0] and not os.read(source, CHUNK_BYTES):
            raise ConnectionError("the host has gone")


def main(arguments: list[str]) -> int:
    """Run beside the server: `client.py [SOCKET [CONNECT_S]]` or, to see whether it answers, `client.py --ping`."""
    if arguments == ["--ping"]:
        return ping(DEFAULT_SOCKET)
    socket_path = arguments[0] if arguments else DEFAULT_SOCKET
    within_s = float(arguments[1]) if len(arguments) > 1 else 0.0
    try:
        with connect(socket_path, _first_line(0), within_s, 0) as conversation:
            return relay(conversation, 0, 1)
    except ConnectionError as error:
        sys.stderr.write(f"{error}\n")
        return 3


def ping(socket_path: str) -> int:
    """Return 0 when the server answers a hello."""
    try:
        with Conversation(socket_path, PING, PING_S) as conversation:
            return 0 if next(iter(conversation), b"") else 1
    except ConnectionError as error:
        sys.stderr.write(f"{error}\n")
        return 3


def _first_line(source: int) -> bytes:
    """Return the request; read without a buffer, so that what follows stays for `select`."""
    parts: list[bytes] = []
    while not parts or not parts[-1].endswith(b"\n"):
        part = os.read(source, CHUNK_BYTES)
        if not part:
            break
        parts.append(part)
    return b"".join(parts).rstrip(b"\n")


def _write_all(sink: int, data: bytes) -> None:
    while data:
        data = data[os.write(sink, data) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

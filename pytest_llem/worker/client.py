"""The host's end of a conversation with the worker's server. Standard library only.

It also has to run inside a container with nothing installed, so it imports nothing of this package and knows
lines, not messages.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Self


class Conversation:
    """One request to the server and the lines it answers; closing it cancels the request.

    Raises:
        ConnectionError: the server is not there, or went away in the middle.
    """

    def __init__(self, socket_path: str, request: bytes) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(socket_path)
            self._socket.sendall(request + b"\n")
        except OSError as error:
            self._socket.close()
            raise ConnectionError(f"no worker answers at {socket_path}: {error}") from error
        self._lines = self._socket.makefile("rb")

    def __iter__(self) -> Iterator[bytes]:
        """Yield the server's lines until it closes the connection."""
        return iter(self._lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the conversation; the server ends what it was doing for it."""
        self._lines.close()
        self._socket.close()

"""Whether a Docker engine lives, asked over its Unix socket (Docker Engine API, `SystemPing`)."""

from __future__ import annotations

import http.client
import socket


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, within_s: float) -> None:
        super().__init__("localhost", timeout=within_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def pings(path: str, within_s: float) -> bool:
    """Return whether the engine behind a Unix socket answers.

    Args:
        path: of the socket.
        within_s: how long it may take.

    Raises:
        TimeoutError: it took longer.
    """
    connection = _Connection(path, within_s)
    try:
        connection.request("GET", "/_ping")
        return connection.getresponse().status == http.client.OK
    except TimeoutError:
        raise
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

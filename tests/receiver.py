"""A webhook's other end: a real HTTP server that takes messages, and can misbehave."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "T0KEN-in-the-path"
"""Part of every address here: it must appear nowhere else."""


class Receiver:
    """A server on a free port.

    Attributes:
        manner: how it answers, one of `MANNERS`.
        location: where its redirects lead.
        requests: path and headers of each request, in order of arrival.
        messages: the JSON of each.
    """

    def __init__(self) -> None:
        self.manner = "take"
        self.location = ""
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.messages: list[dict[str, Any]] = []
        self.released = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((self.command, self.path, dict(self.headers)))
                receiver.messages.append(json.loads(body))
                MANNERS[receiver.manner](receiver, self)

            def do_GET(self) -> None:
                receiver.requests.append((self.command, self.path, dict(self.headers)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def origin(self) -> str:
        """Scheme, host and port: what may be shown."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        """The whole address."""
        return f"{self.origin}/services/{SECRET}?key={SECRET}"

    def wrap(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign] # a handshake that is broken off

    def close(self) -> None:
        """Let go of who is kept waiting, and end."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _answer(handler: BaseHTTPRequestHandler, status: int, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def _hang(receiver: Receiver, _: BaseHTTPRequestHandler) -> None:
    receiver.released.wait(60)


def _drip(receiver: Receiver, handler: BaseHTTPRequestHandler) -> None:
    """Send a header that never ends, a byte at a time: no single read ever takes long."""
    handler.connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    try:
        while not receiver.released.wait(0.02):
            handler.connection.sendall(b"x")
    except OSError:
        pass  # the other side has given up


MANNERS: dict[str, Callable[[Receiver, BaseHTTPRequestHandler], None]] = {
    "take": lambda _, handler: _answer(handler, 200),
    "take quietly": lambda _, handler: _answer(handler, 204),
    "redirect": lambda receiver, handler: _answer(handler, 302, Location=receiver.location),
    "refuse": lambda _, handler: _answer(handler, 403),
    "fail": lambda _, handler: _answer(handler, 500),
    "hang up": lambda _, handler: handler.connection.close(),
    "talk nonsense": lambda _, handler: handler.connection.sendall(f"no HTTP {SECRET}\r\n\r\n".encode()),
    "hang": _hang,
    "drip": _drip,
}


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver as long as the block lasts."""
    receiver = Receiver()
    try:
        yield receiver
    finally:
        receiver.close()

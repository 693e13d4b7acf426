"""A server with OpenAI's completions API, on a real socket: it counts instead of thinking, and misbehaves on demand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Behaviour:
    """What the server does.

    Attributes:
        token_s: time that a token takes.
        tokens_a_chunk: tokens of one chunk.
        key: that a request must bring; None: none.
        status: of every completion, instead of an answer.
        words: of the error, with `status`.
        fault: of a stream: `cut`, `torn`, `error`, `echo`, `refusal`, `silent`, `uncounted`, `nonsense`.
        ends_after: tokens after which an answer ends unless the request says `ignore_eos`; None: never.
        cached: prompt tokens that are told to be cached; None: nothing is told.
        extra_prompt_tokens: how many more prompt tokens are counted than there are.
        tokenizes: whether there is a `/tokenize`.
    """

    token_s: float = 0.0
    tokens_a_chunk: int = 1
    key: str | None = None
    status: int | None = None
    words: str = "the beads are stuck"
    fault: str | None = None
    ends_after: int | None = None
    cached: int | None = None
    extra_prompt_tokens: int = 0
    tokenizes: bool = True
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "beads", "max_model_len": 64}])


class CompletionsServer(ThreadingHTTPServer):
    """The server, at `base_url`.

    Attributes:
        behaviour: may be changed at any time.
        bodies: of all completions that were asked for.
        most_in_flight: how many there were at once at most.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviour = Behaviour()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.most_in_flight = 0
        self._in_flight = 0
        self._lock = threading.Lock()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        with self._lock:
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that leave early are part of the tests."""


@contextmanager
def serving() -> Iterator[CompletionsServer]:
    """Serve for as long as the block lasts."""
    server = CompletionsServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: CompletionsServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        pass

    def do_GET(self) -> None:
        behaviour = self.server.behaviour
        if self.path == "/v1/models" and self._is_let_in():
            self._json(200, {"object": "list", "data": behaviour.models})
        elif self.path == "/version":
            self._json(200, {"version": "0.1-beads"})
        elif self.path != "/v1/models":
            self._json(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        behaviour = self.server.behaviour
        if self.path == "/tokenize" and behaviour.tokenizes:
            self._json(200, {"tokens": [len(word) for word in body["prompt"].split()]})
        elif self.path != "/v1/completions":
            self._json(404, {"detail": "Not Found"})
        elif self._is_let_in():
            self.server.bodies.append(body)
            if behaviour.status:
                self._json(behaviour.status, {"error": {"message": behaviour.words}})
            else:
                with self.server.in_flight():
                    self._stream(body, behaviour)

    def _is_let_in(self) -> bool:
        header = self.headers.get("Authorization")
        self.server.keys.add(header)
        wanted = self.server.behaviour.key
        if wanted is None or header == f"Bearer {wanted}":
            return True
        self._json(401, {"error": {"message": f"Incorrect API key provided: {header}"}})
        return False

    def _json(self, status: int, value: Any) -> None:
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _stream(self, body: dict[str, Any], behaviour: Behaviour) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        tokens = body["max_tokens"]
        if behaviour.ends_after is not None and not body.get("ignore_eos"):
            tokens = min(tokens, behaviour.ends_after)
        for first in range(0, tokens, behaviour.tokens_a_chunk):
            held = min(behaviour.tokens_a_chunk, tokens - first)
            time.sleep(held * behaviour.token_s)
            ids = list(range(first, first + held)) if body.get("return_token_ids") else None
            self._event({"choices": [{"index": 0, "text": " bead" * held, "token_ids": ids}]})
            if behaviour.fault in _FAULTS:
                _FAULTS[behaviour.fault](self)
                return
        if behaviour.fault != "uncounted":
            self._event({"choices": [], "usage": self._usage(body, behaviour, tokens)})
        self._send(b"data: [DONE]\n\n")
        self._send(b"")

    def _usage(self, body: dict[str, Any], behaviour: Behaviour, tokens: int) -> dict[str, Any]:
        prompt = body["prompt"]
        count = len(prompt.split()) if isinstance(prompt, str) else len(prompt)
        details = {} if behaviour.cached is None else {"cached_tokens": behaviour.cached}
        return {
            "prompt_tokens": count + behaviour.extra_prompt_tokens,
            "completion_tokens": tokens,
            "prompt_tokens_details": details or None,
        }

    def _event(self, value: Any) -> None:
        self._send(b"data: " + json.dumps(value).encode() + b"\n\n")

    def _send(self, text: bytes) -> None:
        self.wfile.write(f"{len(text):x}\r\n".encode() + text + b"\r\n")
        self.wfile.flush()

    def cut(self) -> None:
        self.close_connection = True

    def tear(self) -> None:
        self._send(b'data: {"choices": [{"te')
        self.close_connection = True

    def report(self) -> None:
        self._event({"error": {"message": "a bead fell off"}})
        self._send(b"")

    def echo(self) -> None:
        self._event({"error": {"message": f"no bead fits\n{self.headers['Authorization']}"}})
        self._send(b"")

    def refuse(self) -> None:
        self._event({"error": {"message": "no such bead", "code": 400}})
        self._send(b"")

    def fall_silent(self) -> None:
        time.sleep(5)
        self.close_connection = True

    def talk_nonsense(self) -> None:
        self._event(["beads"])
        self._send(b"")


_FAULTS = {
    "cut": _Handler.cut,
    "torn": _Handler.tear,
    "error": _Handler.report,
    "echo": _Handler.echo,
    "refusal": _Handler.refuse,
    "silent": _Handler.fall_silent,
    "nonsense": _Handler.talk_nonsense,
}

"""The resident server beside the model: it holds the sockets, the meters and the clock, and imports no engine.

One connection carries one request (see `protocol`). Orders are carried out one at a time; a `hello` is answered
at any moment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import socketserver
import threading
from pathlib import Path

from pydantic import ValidationError

from pytest_llem import __version__
from pytest_llem.meters import inventory
from pytest_llem.records import Environment, Failure, Record
from pytest_llem.worker.environment import settings
from pytest_llem.worker.forking import Choice
from pytest_llem.worker.measurement import Bench, OnPhase, visible_devices
from pytest_llem.worker.preparation import prepare
from pytest_llem.worker.protocol import (
    REQUEST,
    Answer,
    Attach,
    Done,
    EndLaunch,
    Event,
    Hello,
    Order,
    PrepareDataset,
    PrepareModel,
    Welcome,
)

REQUEST_TIMEOUT_S = 30.0
"""A client that connects and says nothing is not waited for."""


class _Connection(socketserver.StreamRequestHandler):
    """One request and its answer."""

    server: WorkerServer
    timeout = REQUEST_TIMEOUT_S

    def handle(self) -> None:
        try:
            request = REQUEST.validate_json(self.rfile.readline())
        except (ValidationError, OSError) as error:
            self._reply(Done(problem=f"the request is not one that this worker knows: {error}"))
            return
        self.connection.settimeout(None)
        match request:
            case Hello():
                self._reply(self.server.welcome())
            case Attach():
                self._attend()
            case Order():
                self._reply(self.server.carry_out(request, self.connection, self._tell))
            case EndLaunch():
                self._reply(self.server.end_launch())
            case PrepareModel() | PrepareDataset():
                self._reply(prepare(request, self.server.start, self.connection, self._tell))

    def _attend(self) -> None:
        """Wait until the client is gone, and end with it."""
        self._reply(Done())
        with contextlib.suppress(OSError):
            while self.connection.recv(1):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    def _tell(self, phase: str) -> None:
        self._reply(Event(phase=phase))

    def _reply(self, message: Record) -> None:
        try:
            self.wfile.write(message.model_dump_json().encode() + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            return  # the client has gone: whoever reads its socket sees that and cancels


class WorkerServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The server of one service.

    Args:
        path: of the socket; its folder must be private.
        start: how engine processes come to be.
        bench: carries out the orders.
        environment: the snapshot for the hello.
    """

    daemon_threads = True

    def __init__(self, path: Path, start: Choice, bench: Bench, environment: Environment) -> None:
        self.start = start
        self._bench = bench
        self._environment = environment
        self._busy = threading.Lock()
        unready = path.with_suffix(".new")
        super().__init__(str(unready), _Connection)
        unready.rename(path)  # a socket that is there is a socket that listens

    def welcome(self) -> Welcome:
        """Say who answers."""
        return Welcome(
            version=__version__,
            pid=os.getpid(),
            engine_pids=tuple(self._bench.engine_pids()),
            start_method=self.start.method,
            start_method_reason=self.start.reason,
            environment=self._environment,
        )

    def carry_out(self, order: Order, client: socket.socket, tell: OnPhase) -> Answer:
        """Carry out an order unless another one is under way; the answer says how the machine is set for it."""
        if not self._busy.acquire(blocking=False):
            return Answer(failure=Failure(kind="lost", message="the worker is busy with another experiment"))
        try:
            found = settings(inventory.take(visible_devices()))
            return self._bench.carry_out(order, client, tell).model_copy(update={"settings": found})
        finally:
            self._busy.release()

    def end_launch(self) -> Done:
        """End the live engine once the experiment under way, if any, is over."""
        with self._busy:
            self._bench.end_launch()
        return Done()

"""What all executors share: one worker a backend, and how it is asked."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Generator, Iterable
from typing import Any, Protocol

from pydantic import ValidationError

from pytest_llem.backends.base import BackendSpec
from pytest_llem.executors.base import ExecutorError, OnPhase, PreparationFailed
from pytest_llem.executors.gpus import installed
from pytest_llem.records import Failure
from pytest_llem.worker.protocol import (
    PROTOCOL_VERSION,
    Answer,
    AnyRequest,
    Done,
    EndLaunch,
    Event,
    Hello,
    Order,
    Preparation,
    Welcome,
)

CHECK_WITHIN_S = 10.0
"""A worker that is alive answers a hello in milliseconds, under any load in seconds."""

BACKSTOP_S = 60.0
"""The worker keeps an order's timeouts itself; one that is this much later is not coming back."""


class Worker(Protocol):
    """A worker's server as an executor holds it."""

    welcome: Welcome

    @property
    def alive(self) -> bool:
        """Whether it still runs, as far as can be told without asking it."""

    def pids(self) -> set[int]:
        """Return its process ids and those of all that it started, as the host counts them; none if it is gone."""

    def on_host(self, pids: Collection[int]) -> set[int]:
        """Return processes that the worker names as the host counts them; all of `pids()` if they cannot be told."""

    def ask(self, request: AnyRequest, *, silence_s: float | None = None) -> Generator[Any]:
        """Yield the replies to a request; leaving the loop early cancels it.

        Raises:
            ConnectionError: the worker went away, or said nothing for `silence_s`.
        """

    def post_mortem(self, error: ConnectionError) -> Failure:
        """End what is left of it and return the failure of the experiment that it took along."""

    def stop(self) -> None:
        """End it and all that it started."""


class ServiceExecutor(ABC):
    """An executor that holds one worker a backend and starts it when it is first needed."""

    name: str
    more_room: str

    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}

    @abstractmethod
    def problems(self, backends: Iterable[str]) -> list[str]:
        """See `Executor`."""

    @abstractmethod
    def _start(self, backend: str) -> Worker:
        """Start a worker and return it when it has answered.

        Raises:
            ExecutorError: it did not.
        """

    def make_ready(self, backends: Iterable[str]) -> list[str]:  # noqa: ARG002
        """See `Executor`: nothing is to be made."""
        return []

    def service(self, backend: str) -> Welcome:
        """See `Executor`."""
        worker = self._workers.get(backend)
        if worker is None or not worker.alive:
            self._drop(backend)
            worker = self._workers[backend] = self._start(backend)
        return worker.welcome

    def dispatch(self, backend: str, order: Order, on_phase: OnPhase) -> Answer:
        """See `Executor`."""
        try:
            self.service(backend)
        except ExecutorError as error:
            return Answer(failure=Failure(kind="engine_start", message=str(error)))
        worker = self._workers[backend]
        silence_s = order.timeouts.start_s + order.timeouts.run_s + BACKSTOP_S
        try:
            with contextlib.closing(worker.ask(order, silence_s=silence_s)) as replies:
                for reply in replies:
                    if isinstance(reply, Answer):
                        return reply
                    if isinstance(reply, Event):
                        on_phase(reply.phase)
            raise ConnectionError("the worker closed the connection without an answer")
        except ConnectionError as error:
            failure = worker.post_mortem(error)
            self._workers.pop(backend)
            return Answer(failure=failure)

    def end_launch(self, backend: str) -> None:
        """See `Executor`."""
        worker = self._workers.get(backend)
        if worker is not None and worker.alive:
            with contextlib.suppress(ConnectionError):
                for _ in worker.ask(EndLaunch(), silence_s=BACKSTOP_S):
                    pass

    def prepare(self, backend: str, request: Preparation, on_phase: OnPhase) -> dict[str, Any]:
        """See `Executor`."""
        self.service(backend)
        try:
            with contextlib.closing(self._workers[backend].ask(request)) as replies:
                for reply in replies:
                    if isinstance(reply, Event):
                        on_phase(f"{reply.phase} {request.name}")
                    elif isinstance(reply, Done):
                        if reply.problem:
                            raise PreparationFailed(reply.problem)
                        return reply.facts
            raise ConnectionError("it closed the connection")
        except ConnectionError as error:
            raise ExecutorError(
                f"the worker of {backend} gave no answer about {request.name}: {error}"
            ) from error

    def check(self, backend: str) -> str | None:
        """See `Executor`."""
        worker = self._workers.get(backend)
        if worker is None or not worker.alive:
            return "it does not run"
        return None if self._hello(worker) else "its worker does not answer"

    def restart(self, backend: str) -> None:
        """See `Executor`."""
        self._drop(backend)
        self.service(backend)

    def engine_pids(self, backend: str) -> set[int] | None:
        """See `Executor`."""
        worker = self._workers.get(backend)
        if worker is None or not worker.alive:
            return set()
        welcome = self._hello(worker)
        if welcome is None:
            return None
        if not welcome.engine_pids:
            return set()
        return worker.on_host(welcome.engine_pids) or None

    def pids(self) -> set[int]:
        """See `Executor`."""
        return {pid for worker in list(self._workers.values()) for pid in worker.pids()}

    def active(self) -> list[str]:
        """See `Executor`."""
        return [backend for backend, worker in self._workers.items() if worker.alive]

    def unavailable(self) -> str | None:
        """See `Executor`: child processes can always be had."""
        return None

    def close(self) -> None:
        """See `Executor`."""
        for backend in list(self._workers):
            self._drop(backend)

    def _hello(self, worker: Worker) -> Welcome | None:
        """Return what the worker says of itself at this moment; None if it says nothing."""
        try:
            return shake_hands(worker, "", "", silence_s=CHECK_WITHIN_S)
        except (ConnectionError, ExecutorError):
            return None

    def _drop(self, backend: str) -> None:
        worker = self._workers.pop(backend, None)
        if worker is not None:
            worker.stop()


def shake_hands(worker: Worker, name: str, where: str, *, silence_s: float | None = None) -> Welcome:
    """Return who answers.

    Raises:
        ConnectionError: nobody does.
        ExecutorError: the answer is in another version of the protocol.
    """
    stale = ExecutorError(
        f"the worker of {name} speaks another protocol: {where} has another version of pytest-llem"
    )
    try:
        with contextlib.closing(worker.ask(Hello(), silence_s=silence_s)) as replies:
            reply = next(replies, None)
    except ValidationError as error:  # another protocol may have other fields
        raise stale from error
    if reply is None:
        raise ConnectionError("the worker closed the connection")
    if isinstance(reply, Welcome) and reply.protocol == PROTOCOL_VERSION:
        return reply
    raise stale


def without_gpu(spec: BackendSpec) -> list[str]:
    """Return the sentence about a backend that is nothing without an NVIDIA GPU, where there is none."""
    if not spec.needs_nvidia_gpu or (here := installed()).gpus:
        return []
    return [f"the {spec.name} backend needs an NVIDIA GPU, and {here}"]


def worker_arguments(spec: BackendSpec) -> list[str]:
    """Return what `python -m pytest_llem.worker` is told about a backend."""
    words = [word for module in spec.preload for word in ("--preload", module)]
    return words + [word for package in spec.packages for word in ("--package", package)]

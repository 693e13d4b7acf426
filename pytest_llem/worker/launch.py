"""One launch seen from the server: the engine process, its pipe, its log, and how it can end."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import psutil

from pytest_llem.records import Failure, FailureClass
from pytest_llem.worker.engine_process import Kind, LaunchOrder, Message, Problem, main
from pytest_llem.worker.forking import Choice
from pytest_llem.worker.protocol import LOG_LIMIT_BYTES

END_GRACE_S = 5.0
"""How long an engine may take to leave by itself once its pipe is closed."""

_STEPS: Mapping[Kind, str] = MappingProxyType(
    {
        "started": "start",
        "built": "get as far as its load",  # it is imported, and may be compiled
        "loaded": "load",
        "ready": "finish its warm-up",
    }
)


class ExperimentEnded(Exception):
    """The experiment is over without a measurement; carries the class and the sentence."""

    def __init__(self, kind: FailureClass, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def failure(self, log_tail: str) -> Failure:
        """Return the failure as it goes into the result."""
        return Failure(kind=self.kind, message=str(self), log_tail=log_tail)


class Patience(NamedTuple):
    """How long to wait for an engine: until `deadline_s` (`time.monotonic()`), and `silence_s` without a word."""

    deadline_s: float
    silence_s: float


class EngineLaunch:
    """A live engine process.

    Attributes:
        name: the launch's id.
        engine_key: what is loaded.
        served: experiments it has begun.
    """

    def __init__(self, name: str, engine_key: str, order: LaunchOrder, start: Choice) -> None:
        self.name = name
        self.engine_key = engine_key
        self.start_method = start.method
        self.served = 0
        self._log = Path(order.log_path)
        self._oom_kills = _kernel_oom_kills()
        self.ordered_s = time.monotonic()
        self._connection, engine_end = start.context.Pipe()
        lifeline_end, self._lifeline = start.context.Pipe(duplex=False)
        self._process: BaseProcess = start.context.Process(  # type: ignore[attr-defined]
            target=main, args=(order, engine_end, lifeline_end), name=f"llem-engine-{name}"
        )
        self._process.start()
        engine_end.close()
        lifeline_end.close()

    @property
    def pid(self) -> int:
        """The engine process's id."""
        assert self._process.pid is not None
        return self._process.pid

    def pids(self) -> list[int]:
        """Return the process ids of the engine process and its descendants."""
        return [self.pid, *(process.pid for process in _descendants(self.pid))]

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def send(self, body: Any) -> None:
        """Tell the engine something; a dead engine shows at the next `expect`."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send(body)

    def expect(
        self,
        kind: Kind,
        patience: Patience,
        client: socket.socket,
        on_phase: Callable[[str], None] | None = None,
    ) -> Message:
        """Wait for a message of `kind`.

        Args:
            kind: what is waited for; beats and phases on the way only show that work goes on.
            patience: how long to wait.
            client: when it is closed, or says anything, the experiment is cancelled.
            on_phase: told of each phase that the engine enters.

        Raises:
            ExperimentEnded: the engine reported a problem, died, was too slow, or nobody wants the answer.
        """
        heard_s = time.monotonic()
        while True:
            left_s = min(patience.deadline_s, heard_s + patience.silence_s) - time.monotonic()
            ready = wait([self._connection, self._process.sentinel, client], max(left_s, 0))
            if client in ready:
                raise _cancelled()
            if self._connection in ready:
                message = self._receive()
                heard_s = time.monotonic()
                if message.kind == "phase" and on_phase:
                    on_phase(message.body)
                if message.kind not in ("phase", "beat"):
                    return self._expected(kind, message)
            elif self._process.sentinel in ready:
                raise self._death()
            elif left_s <= 0:
                raise self._too_slow(kind, patience)

    def rest(self, seconds: float, client: socket.socket) -> None:
        """Let time pass while the engine waits for its next job.

        Raises:
            ExperimentEnded: the engine died, or nobody wants the answer.
        """
        ready = wait([self._process.sentinel, client], seconds)
        if client in ready:
            raise _cancelled()
        if ready:
            raise self._death()

    def _receive(self) -> Message:
        try:
            message: Message = self._connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._death() from None
        return message

    def _expected(self, kind: Kind, message: Message) -> Message:
        if message.kind == kind:
            return message
        problem: Problem = message.body
        loading = kind in ("started", "built", "loaded")
        failure_class: FailureClass = (
            problem.kind if problem.kind != "engine" else "engine_start" if loading else "crashed"
        )
        raise ExperimentEnded(failure_class, problem.message)

    def _death(self) -> ExperimentEnded:
        self._process.join(END_GRACE_S)
        code = self._process.exitcode
        if code == -signal.SIGKILL and _kernel_oom_kills() > self._oom_kills:
            return ExperimentEnded("oom", "the kernel's out-of-memory killer ended the engine process")
        how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"exited with {code}"
        return ExperimentEnded("crashed", f"the engine process {how}")

    def _too_slow(self, kind: Kind, patience: Patience) -> ExperimentEnded:
        if time.monotonic() >= patience.deadline_s:
            return ExperimentEnded("timeout", f"the engine did not {_STEPS.get(kind, 'finish')} in time")
        return ExperimentEnded("timeout", f"the engine gave no sign of life for {patience.silence_s:g} s")

    def log_size(self) -> int:
        """Return how far the log has grown, in bytes."""
        return self._log.stat().st_size if self._log.exists() else 0

    def log_since(self, offset: int) -> str:
        """Return what the engine printed since `offset`, at most the last `LOG_LIMIT_BYTES`."""
        if not self._log.exists():
            return ""
        with self._log.open("rb") as log:
            log.seek(max(offset, self.log_size() - LOG_LIMIT_BYTES))
            return log.read().decode(errors="replace")

    def end(self, *, grace_s: float = END_GRACE_S) -> None:
        """End the process and all its descendants, and return when they are gone."""
        family = _descendants(self.pid)
        self._connection.close()
        if grace_s:
            self._process.join(grace_s)
        for process in [*family, *_descendants(self.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.kill()
        self._process.join()
        psutil.wait_procs(family, timeout=END_GRACE_S)
        self._lifeline.close()
        self._log.unlink(missing_ok=True)


def rest(seconds: float, client: socket.socket) -> None:
    """Let time pass while there is no engine.

    Raises:
        ExperimentEnded: nobody wants the answer.
    """
    if wait([client], seconds):
        raise _cancelled()


def _cancelled() -> ExperimentEnded:
    return ExperimentEnded("cancelled", "the session that asked for it is gone")


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kernel_oom_kills() -> int:
    """Return how many processes the kernel has killed for memory since boot (`/proc/vmstat`, Linux 4.13)."""
    try:
        with open("/proc/vmstat", encoding="ascii") as counters:  # noqa: PTH123 - read often, path fixed
            return next((int(line.split()[1]) for line in counters if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0

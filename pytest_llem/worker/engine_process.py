"""The engine process: one a launch, from load to exit.

It obeys the server over a pipe. Server to engine: a `Job` (serve an experiment), `GO` (the meters have been read,
begin) or end of file (exit). Engine to server: `Message`s.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pytest_llem.backends.base import Engine, EngineError, PassReport
from pytest_llem.records import Configuration, WarmupReport
from pytest_llem.worker.protocol import WarmupPolicy
from pytest_llem.worker.serving import PromptSource, Serving, warm_up
from pytest_llem.worker.workload import prompts_sha256

BEAT_S = 1.0
"""Beats more often than this are not sent: they cost time that is measured."""

PR_SET_PDEATHSIG = 1
"""`prctl(2)`: the signal that the kernel sends when the parent is gone."""

GO = "go"

Kind = Literal["started", "loaded", "beat", "phase", "ready", "served", "error"]


class Message(NamedTuple):
    """From the engine to the server: what happened, when (`time.monotonic()`), and its facts."""

    kind: Kind
    at_s: float
    body: Any = None


class Problem(NamedTuple):
    """An exception, as far as it can leave the process."""

    kind: Literal["oom", "invalid_config", "engine"]
    message: str


@dataclass(frozen=True, slots=True)
class Job:
    """Serve one experiment; `measured=False` runs one pass and reports nothing of it."""

    configuration: Configuration
    prompts: tuple[str, ...] | None
    warmup: WarmupPolicy
    window_s: float
    window_passes: int
    measured: bool


@dataclass(frozen=True, slots=True)
class Served:
    """What the window was made of."""

    warmup: WarmupReport | None
    passes: list[PassReport]
    prompt_sha256: str
    effective: dict[str, Any]
    memory_peak_bytes: int | None


@dataclass(frozen=True, slots=True)
class LaunchOrder:
    """What an engine process needs to come up."""

    engine: str
    model: str
    configuration: Configuration
    log_path: str


class Port:
    """The engine's end of the pipe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last_beat_s = 0.0

    def send(self, kind: Kind, body: Any = None) -> None:
        """Send a message with the time of now."""
        self._connection.send(Message(kind, time.monotonic(), body))

    def beat(self) -> None:
        """Show that work goes on."""
        now = time.monotonic()
        if now - self._last_beat_s >= BEAT_S:
            self._last_beat_s = now
            self.send("beat")

    def receive(self) -> Any:
        """Wait for the server's next word; the end of the pipe ends the process."""
        return self._connection.recv()


def main(order: LaunchOrder, connection: Connection, lifeline: Connection) -> None:
    """Load the engine and serve jobs until the server closes the pipe. Target of the launched process."""
    _send_output_to(order.log_path)
    die_with(lifeline)
    be_first_out_of_memory()
    port = Port(connection)
    port.send("started")
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            engine: Engine = importlib.import_module(order.engine).load(order.configuration, order.model)
            port.send("loaded", engine.effective())
            while True:
                _serve(engine, port.receive(), port)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever an engine raises ends this launch, with its class
            traceback.print_exc()
            port.send("error", Problem(_kind_of(error), _one_line(error)))


def _serve(engine: Engine, job: Job, port: Port) -> None:
    prompts = PromptSource(engine, job.configuration, job.prompts)
    serving = Serving(engine, job.configuration, prompts, port.beat)
    if not job.measured:
        serving.run_pass("warmup", 0)
        port.send("served")
        return
    port.send("phase", "warm-up")
    report = warm_up(serving, job.configuration.warmup, job.warmup)
    first = prompts.for_pass("window", 0)
    port.send("ready")
    if port.receive() != GO:
        raise EOFError
    passes = serving.run_window(job.window_s, job.window_passes)
    engine.drain()
    port.send(
        "served",
        None
        if not passes
        else Served(
            warmup=report,
            passes=passes,
            prompt_sha256=prompts_sha256(first),
            effective=engine.effective(),
            memory_peak_bytes=engine.memory_peak_bytes(),
        ),
    )


def _kind_of(error: Exception) -> Literal["oom", "invalid_config", "engine"]:
    if isinstance(error, EngineError):
        return "invalid_config"
    text = str(error)
    out_of_memory = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text
    return "oom" if isinstance(error, MemoryError) or out_of_memory else "engine"


def _one_line(error: Exception) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    text = first if isinstance(error, EngineError) else f"{type(error).__name__}: {first}"
    return text if len(text) <= 500 else text[:500] + "…"


def _send_output_to(path: str) -> None:
    """Point this process's stdout and stderr, and those of the engine's own children, at the launch's log."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(log, stream.fileno())
    os.close(log)


def be_first_out_of_memory() -> None:
    """Let the kernel's out-of-memory killer take this process, which eats the memory, and not the server."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def die_with(lifeline: Connection) -> None:
    """End this process when the server is gone, even in the middle of a kernel: nothing outlives its session."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            lifeline.recv()
        os._exit(1)

    threading.Thread(target=watch, name="llem-lifeline", daemon=True).start()

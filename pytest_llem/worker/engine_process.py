"""The engine process: one a launch, from load to exit.

It obeys the server over a pipe. Server to engine: a `Job` (serve an experiment), an `Edge` (the meters have been
read) or end of file (exit). Engine to server: `Message`s.

A window has two edges. For each the engine says that it is there (`ready`, `closing`), the server reads its meters
and answers with an `Edge`. Meanwhile an engine that serves batches rests; one under load goes on. A job has one
window, or with `prefill.enabled` two.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

from pytest_llem.backends.application import Application, prove
from pytest_llem.backends.base import Build, Engine, EngineError, EngineFailed
from pytest_llem.backends.registry import checked, engine_module
from pytest_llem.records import Configuration, WarmupReport
from pytest_llem.worker.load import LoadLoop, arrivals, scheduler_of
from pytest_llem.worker.protocol import WarmupPolicy
from pytest_llem.worker.serving import PromptSource, Serving, warm_up
from pytest_llem.worker.tally import Tally, of_load, of_passes
from pytest_llem.worker.workload import Stream, prompts_sha256

BEAT_S = 1.0
"""Beats more often than this are not sent: they cost time that is measured."""

PR_SET_PDEATHSIG = 1
"""`prctl(2)`: the signal that the kernel sends when the parent is gone."""

Kind = Literal["started", "built", "loaded", "beat", "phase", "ready", "closing", "served", "error"]


class Message(NamedTuple):
    """From the engine to the server: what happened, when (`time.monotonic()`), and its facts."""

    kind: Kind
    at_s: float
    body: Any = None


class Edge(NamedTuple):
    """From the server to the engine: the meters were read at `at_s` (`time.monotonic()`), go on."""

    at_s: float


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
    """What came of a job; `prefill` is its second window."""

    warmup: WarmupReport | None
    tally: Tally
    prompt_sha256: str
    application: Application
    memory_peak_bytes: int | None
    prefill: Tally | None = None


@dataclass(frozen=True, slots=True)
class LaunchOrder:
    """What an engine process needs to come up; `devices` are the GPUs that it sees, None: all of the service."""

    engine: str
    model: str
    configuration: Configuration
    log_path: str
    devices: tuple[str, ...] | None


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

    def heard(self) -> bool:
        """Return whether the server has said something."""
        return self._connection.poll()

    def edge_s(self) -> float:
        """Wait until the meters have been read, and return when that was."""
        edge: Edge = self.receive()
        return edge.at_s


def main(order: LaunchOrder, connection: Connection, lifeline: Connection) -> None:
    """Load the engine and serve jobs until the server closes the pipe. Target of the launched process."""
    _send_output_to(order.log_path)
    if order.devices is not None:  # CUDA reads it when it comes up, so not in the forkserver
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(order.devices)
    die_with(lifeline)
    be_first_out_of_memory()
    port = Port(connection)
    port.send("started")
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            module = engine_module(order.engine)
            port.send("built", _built(module, order, port))
            engine = checked(module.load(order.configuration, order.model), order.engine)
            prove(engine, order.configuration)
            port.send("loaded")
            while True:
                _serve(engine, port.receive(), port)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever an engine raises ends this launch, with its class
            traceback.print_exc()
            port.send("error", Problem(_kind_of(error), _one_line(error)))


def _built(module: ModuleType, order: LaunchOrder, port: Port) -> Build:
    """Have compiled what the load will need, where a backend compiles ahead."""
    if not hasattr(module, "build"):
        return None
    port.send("phase", "building")
    found: Build = module.build(order.configuration, order.model)
    return found


def _serve(engine: Engine, job: Job, port: Port) -> None:
    prompts = PromptSource(engine, job.configuration, job.prompts)
    serving = Serving(engine, job.configuration, prompts, port.beat)
    if not job.measured:
        serving.run_pass("warmup", 0)
        port.send("served")
        return
    port.send("phase", "warm-up")
    report = warm_up(serving, job.configuration.warmup, job.warmup)
    serving.draw_ahead("window", job.window_s, job.window_passes)
    if job.configuration.load.mode == "batch":
        tally = _serve_passes("window", engine, serving, job, port)
    else:
        tally = _serve_load(engine, prompts, job, port)
    served = Served(
        warmup=report,
        tally=tally,
        prompt_sha256=prompts_sha256(prompts.for_pass("window", 0)),
        application=prove(engine, job.configuration),
        memory_peak_bytes=engine.memory_peak_bytes(),
    )
    if job.configuration.prefill.enabled:
        served = replace(served, prefill=_serve_prefill(engine, prompts, job, port, report))
    port.send("served", served)


def _serve_passes(stream: Stream, engine: Engine, serving: Serving, job: Job, port: Port) -> Tally:
    """Serve whole passes between the edges."""
    port.send("ready")
    port.edge_s()
    passes = serving.run_window(stream, job.window_s, job.window_passes)
    engine.drain()
    port.send("closing")
    port.edge_s()
    return of_passes(passes, engine.batch_limit(job.configuration))


def _serve_prefill(
    engine: Engine, prompts: PromptSource, job: Job, port: Port, warmup: WarmupReport | None
) -> Tally:
    """Serve the second window, after one more pass of the warm-up: an engine may compile for the shorter answers."""
    wanted = job.configuration.model_copy(update={"max_output_tokens": 1})
    serving = Serving(engine, wanted, prompts, port.beat)
    if warmup is not None:
        serving.run_pass("warmup", warmup.passes)
    serving.draw_ahead("prefill", job.window_s, job.window_passes)
    tally = _serve_passes("prefill", engine, serving, job, port)
    prove(engine, wanted)
    return tally


def _serve_load(engine: Engine, prompts: PromptSource, job: Job, port: Port) -> Tally:
    """Serve requests as they arrive, without a pause at the edges."""
    wanted = job.configuration
    loop = LoadLoop(
        scheduler_of(engine),
        arrivals(wanted.load, wanted.random_seed),
        prompts.one_by_one("window"),
        wanted,
        port.beat,
    )
    loop.run_until(lambda: loop.settled(job.window_s))
    port.send("ready")
    loop.run_until(port.heard)
    begin_s = port.edge_s()
    loop.run_until(lambda: loop.served(begin_s, wanted.load.requests, job.window_s))
    port.send("closing")
    loop.run_until(port.heard)
    end_s = port.edge_s()
    arrived = loop.end()
    engine.drain()
    return of_load(arrived, begin_s, end_s, engine.batch_limit(wanted))


def _kind_of(error: Exception) -> Literal["oom", "invalid_config", "engine"]:
    if isinstance(error, EngineError):
        return "invalid_config"
    text = str(error)
    out_of_memory = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text
    return "oom" if isinstance(error, MemoryError) or out_of_memory else "engine"


def _one_line(error: Exception) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    text = first if isinstance(error, EngineError | EngineFailed) else f"{type(error).__name__}: {first}"
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

"""Builds an engine in a process of its own, so that nothing of the build is left in the process that will serve."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from pytest_llem.backends.base import EngineError
from pytest_llem.backends.tensorrt import model
from pytest_llem.records import Configuration


def build(configuration: Configuration, model_folder: Path, folder: Path) -> None:
    """Compile the model of a configuration into a folder, and return when the builder and its memory are gone.

    Raises:
        EngineError: it cannot be built as asked.
        MemoryError: the device's memory does not suffice.
        RuntimeError: anything else ended the builder.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    builder = context.Process(
        target=_main, args=(configuration, model_folder, folder, theirs), name="llem-builder"
    )
    builder.start()
    theirs.close()
    with ours:
        try:
            problem: Exception | None = ours.recv()
        except EOFError:
            builder.join()
            problem = RuntimeError(f"the process that builds the engine ended with {builder.exitcode}")
        builder.join()
    if problem is not None:
        raise problem


def _main(configuration: Configuration, model_folder: Path, folder: Path, connection: Connection) -> None:
    """Build, and say how it went. Target of the builder's process."""
    threading.Thread(target=_end_with, args=(connection,), name="llem-lifeline", daemon=True).start()
    try:
        from pytest_llem.backends.tensorrt import llm  # noqa: PLC0415 - it imports TensorRT-LLM

        llm.compile_model(configuration, model.read(model_folder), folder)
    except (EngineError, MemoryError) as error:
        connection.send(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the process that waits has to hear of it
        connection.send(RuntimeError(f"{type(error).__name__}: {error}"))
    else:
        connection.send(None)


def _end_with(connection: Connection) -> None:
    """End this process when the one that waits for it is gone: a build can take an hour."""
    try:
        connection.recv()
    except (EOFError, OSError):
        os._exit(1)

"""May engine processes be forked from a parent that has imported the engine's libraries?

It saves the import of torch and its kin at each launch, seconds to tens of seconds. It is safe only when the
parent has one thread and has not touched a GPU's driver, which an import can do behind one's back (vLLM #46996).
So a trial decides at service start; where it fails, engines are spawned.

The standard library's forkserver does the forking. This module is the last that it preloads, so what stands in
`STATE` was found in the parent itself after all other imports.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Literal, NamedTuple

from pytest_llem.meters.presence import cuda_driver, has_cuda_files

StartMethod = Literal["forkserver", "spawn"]

CUDA_SUCCESS, CUDA_ERROR_NOT_INITIALIZED = 0, 3
"""`CUresult` values of the CUDA driver API."""


class ParentState(NamedTuple):
    """What the preloaded parent looks like: its threads, and whether the CUDA driver is up in it."""

    threads: int
    cuda_initialised: bool


class Choice(NamedTuple):
    """How engine processes are started, and why."""

    method: StartMethod
    reason: str
    context: BaseContext


def _cuda_initialised() -> bool:
    driver = cuda_driver()
    return driver is not None and driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int())) == CUDA_SUCCESS


def _observe() -> ParentState:
    return ParentState(len(os.listdir("/proc/self/task")), _cuda_initialised())  # noqa: PTH208 - no pathlib here


STATE = _observe()


def _trial(report: Connection) -> None:
    """Run in a forked child: say what the parent was like, and whether the driver comes up here."""
    driver = cuda_driver()
    report.send((STATE, None if driver is None else int(driver.cuInit(0))))
    report.close()


def choose(preload: Sequence[str], *, timeout_s: float) -> Choice:
    """Start a forkserver with `preload` and try it; fall back to spawning.

    Args:
        preload: modules that the parent imports; empty asks for spawning at once.
        timeout_s: how long the imports and the trial may take together.
    """
    spawn = multiprocessing.get_context("spawn")
    if not preload:
        return Choice("spawn", "the backend asks for it", spawn)
    # numpy's OpenBLAS starts threads on import; the engines' own kernels do not come from it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*preload, __name__])
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_trial, args=(sender,), name="llem-trial")
    child.start()
    sender.close()
    problem = _verdict(receiver, timeout_s)
    child.kill()
    child.join()
    if problem:
        return Choice("spawn", problem, spawn)
    return Choice("forkserver", "the preloaded parent has one thread and no CUDA context", context)


def _verdict(receiver: Connection, timeout_s: float) -> str | None:
    """Return why forking is not safe, or None."""
    if not receiver.poll(timeout_s):
        return f"the trial child did not answer within {timeout_s:.0f} s"
    try:
        state, cuda = receiver.recv()
    except EOFError:
        return "the trial child died"
    if state.threads != 1:
        return f"the preloaded parent has {state.threads} threads"
    if state.cuda_initialised:
        return "an import initialised the CUDA driver in the parent"
    if cuda not in (None, CUDA_SUCCESS) and has_cuda_files():
        return f"CUDA does not come up in a forked child (error {cuda})"
    return None

"""A run survives SIGKILL at any moment, and belongs to one process at a time."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import pytest

from pytest_llem.state.run import RunBusyError, Runs
from unit.state.state_samples import RUN_ID, a_result, run_info, the_runs

# A server that has imported the package forks each child in milliseconds.
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["pytest_llem.state.run"])


def measure_on(folder: Path, ready: Connection) -> None:
    """Write results until killed, each experiment failing at its first attempt."""
    runs = the_runs(folder)
    run, standing = runs.open(run_info())
    ready.send(os.getpid())
    for number in count(len(standing.statuses)):
        name = f"e{number}"
        for failed in ("oom", None):
            attempt = run.begin(name, f"hash of {name}", 1)
            run.record(a_result(name, attempt, failed=failed))


def measure_until_step(folder: Path, ready: Connection, step: int) -> None:
    """Be killed right before the file operation number `step` (open, rename, mkdir, ...)."""
    steps = count(1)

    def hook(event: str, _: tuple[object, ...]) -> None:
        if event in {"open", "os.rename", "os.mkdir", "os.scandir", "os.remove"} and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    measure_on(folder, ready)


@contextmanager
def child(target: Callable[..., None], *args: object) -> Iterator[Connection]:
    """Run `target` in a process of its own and give the end of the pipe on which it says that it is ready."""
    ours, theirs = FORKSERVER.Pipe()
    process = FORKSERVER.Process(target=target, args=(*args[:1], theirs, *args[1:]))
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()


def wait_for_the_end_of(child_pipe: Connection) -> None:
    """Return when the child has died."""
    with suppress(EOFError):
        while True:
            child_pipe.recv()


def check_all_is_whole(runs: Runs) -> int:
    """Reopen the run; return how many attempts it has."""
    store = runs.results(RUN_ID)
    on_disk = {store.name_of(path) for path, _ in store.scan()}
    assert store.damaged == []
    run, standing = runs.open(run_info())
    run.close()
    assert standing.damaged == []
    assert not list(store.folder.rglob("*.tmp"))
    again = runs.survey(RUN_ID)
    assert again.corrections == []
    assert again.statuses == standing.statuses
    assert journalled(runs) == on_disk
    finished = {key for key, status in standing.statuses.items() if status.result}
    assert finished == {(f"hash of {name.split('/')[1]}", 1) for name in on_disk}
    return len(on_disk)


def journalled(runs: Runs) -> set[str]:
    """Return the results that the journals name."""
    assert runs.cache_dir
    lines = [line for path in runs.cache_dir.rglob("*.jsonl") for line in path.read_bytes().splitlines()]
    return {event["result"] for event in map(json.loads, lines) if "result" in event}


def test_a_kill_at_a_random_moment_costs_no_finished_attempt(tmp_path: Path) -> None:
    """Through twenty kills each attempt on disk is whole, and journal and disk agree after each restart."""
    runs, random, attempts = the_runs(tmp_path), Random(20261122), 0
    for _ in range(20):
        with child(measure_on, tmp_path) as ready:
            ready.recv()
            time.sleep(random.uniform(0.0, 0.05))
        found = check_all_is_whole(runs)
        assert found >= attempts
        attempts = found
    assert attempts > 0


def test_a_kill_before_any_step_costs_no_finished_attempt(tmp_path: Path) -> None:
    """The same holds for a kill right before each file operation of a new run and its first results."""
    found = []
    for step in range(1, 60):
        folder = tmp_path / str(step)
        with child(measure_until_step, folder, step) as ready:
            wait_for_the_end_of(ready)
        found.append(check_all_is_whole(the_runs(folder)))
    assert found == sorted(found)
    assert found[0] == 0
    assert found[-1] > 2


def test_a_second_session_is_refused_by_name(tmp_path: Path) -> None:
    """While a process holds a run another cannot open it, and is told which process; afterwards it can."""
    runs = the_runs(tmp_path)
    with child(measure_on, tmp_path) as ready:
        holder = ready.recv()
        with pytest.raises(RunBusyError, match=f"{RUN_ID} is being written by process {holder} on .*; wait"):
            runs.open(run_info())
        assert runs.survey(RUN_ID).damaged == []
    run, _ = runs.open(run_info())
    run.close()

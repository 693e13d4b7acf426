"""A real GPU at work, and what is measured beside it: for tests/gpu and benchmarks/gpu.py."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pytest_llem.meters import nvml
from pytest_llem.meters.choose import Meters
from pytest_llem.meters.trace import Trace
from pytest_llem.meters.window import Window, judge

ROOT = Path(__file__).parents[1]
CAMPAIGN = ROOT / "campaigns" / "gpu-batch-sizes.yaml"
PATHS = (ROOT, ROOT / "tests", ROOT / "tests" / "toy")
WARM_S, WINDOW_S, SHARE_S = 5.0, 12.0, 3.0

_TRIAL = """
import json, sys
import on_gpu
from pytest_llem.worker import forking

choice = forking.choose(sys.argv[1:], timeout_s=300)
child = choice.context.Process(target=on_gpu.multiply_for, args=(0.5,))
child.start()
child.join()
print(json.dumps([choice.method, choice.reason, child.exitcode == 0]))
"""

Apply = Callable[..., Any]
"""Calls a function with a tuple of arguments in the process that works on the GPU."""


def multiply_for(seconds: float) -> None:
    """Keep the GPU at full load with large matrix products."""
    import torch

    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        a = (a @ a).clamp(-1, 1)
        torch.cuda.synchronize()


def kernels_per_second(seconds: float) -> float:
    """Launch small kernels, which wait for the driver and not for the GPU, and return their rate."""
    import torch

    a = torch.ones(64, device="cuda")
    launched, begin_s = 0, time.monotonic()
    while time.monotonic() < begin_s + seconds:
        for _ in range(1000):
            a = a * 1.0
        torch.cuda.synchronize()
        launched += 1000
    return launched / (time.monotonic() - begin_s)


@contextlib.contextmanager
def engine() -> Iterator[Apply]:
    """Give a process of its own, as an engine is one: the meters stay in this one."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield pool.apply


def watched(meters: Meters, folder: Path, work: Callable[[], object]) -> Window:
    """Return what counter and trace say of some work."""
    with Trace(meters, folder / "trace.csv") as trace:
        before = meters.read(at_tick=True)
        work()
        after = meters.read(at_tick=True)
    return judge(meters, before, after, trace)


def at_idle(meters: Meters, folder: Path) -> Window:
    """Watch a GPU on which nothing of ours runs."""
    return watched(meters, folder, lambda: time.sleep(WINDOW_S))


def at_full_load(meters: Meters, folder: Path) -> Window:
    """Watch a GPU that multiplies matrices and is warm."""
    with engine() as apply:
        apply(multiply_for, (WARM_S,))
        return watched(meters, folder, lambda: apply(multiply_for, (WINDOW_S,)))


def ratio(window: Window) -> float:
    """Return the energy by the only GPU's counter / that by its power."""
    (only,) = window.counter_integral_ratio.values()
    return only


def counter_tick_s(uuid: str, ticks: int = 10) -> float:
    """Return the mean time between two values of a GPU's energy counter."""
    meter = nvml.open_meter([uuid])
    assert meter is not None
    domain = f"gpu:{uuid}"
    reads = [meter.read(at_tick=True) for _ in range(ticks + 1)]
    meter.close()
    assert reads[-1].energy_j[domain] > reads[0].energy_j[domain]
    return (reads[-1].time_of(domain) - reads[0].time_of(domain)) / ticks


def sample_s(meters: Meters, samples: int = 50) -> float:
    """Return the median time that one sample of a trace takes, the driver's answers included."""
    taken = []
    for _ in range(samples):
        begin_s = time.monotonic()
        meters.sample()
        taken.append(time.monotonic() - begin_s)
    return statistics.median(taken)


def trace_costs(meters: Meters, folder: Path, pairs: int) -> list[float]:
    """Return by which share a trace slows the launching of kernels, neighbour by neighbour in time, A B B A."""
    with engine() as apply:
        apply(kernels_per_second, (WARM_S,))
        found = []
        for number in range(pairs):
            rates = {}
            for traced in (True, False) if number % 2 else (False, True):
                beside = Trace(meters, folder / "trace.csv") if traced else contextlib.nullcontext()
                with beside:
                    rates[traced] = apply(kernels_per_second, (SHARE_S,))
            found.append(1 - rates[True] / rates[False])
    return found


class Trial(NamedTuple):
    """How engines would be started, why, and whether one that is started so can use the GPU."""

    method: str
    reason: str
    works: bool


def trial(preload: str, **variables: str) -> Trial:
    """Try the forkserver in a new process; a process has only one, with what it preloaded first."""
    paths = os.pathsep.join(map(str, PATHS))
    done = subprocess.run(
        [sys.executable, "-c", _TRIAL, preload],
        env=os.environ | {"PYTHONPATH": paths} | variables,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
    )
    return Trial(*json.loads(done.stdout.splitlines()[-1]))


def trial_where_cuda_is_up() -> Trial:
    """Try it with an engine's library that initialises the CUDA driver when it is imported."""
    return trial("abacus.engine", ABACUS_CUDA="1")


def campaign(folder: Path, uuid: str, *settings: str) -> subprocess.CompletedProcess[str]:
    """Run the GPU campaign of this repository in a project of its own, with `--campaign-set` for each setting."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "campaigns").symlink_to(ROOT / "campaigns")
    (folder / "grid.yaml").write_text(CAMPAIGN.read_text())
    options = ["--campaign-executor=local", f"--campaign-gpus={uuid}", "--campaign-require=measured"]
    options += [f"--campaign-set={setting}" for setting in settings]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--campaign=grid.yaml", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )

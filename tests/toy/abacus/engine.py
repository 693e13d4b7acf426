"""The engine's side of the abacus."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from abacus.spec import AbacusParameters
from pytest_llem.backends.base import EngineError, PassReport, Request
from pytest_llem.records import Configuration

time.sleep(float(os.environ.get("ABACUS_IMPORT_S", "0")))
if os.environ.get("ABACUS_THREAD"):  # as some engines' libraries do
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
if os.environ.get("ABACUS_CUDA"):  # likewise
    ctypes.CDLL("libcuda.so.1").cuInit(0)


def load(configuration: Configuration, model: str) -> Abacus:
    """Put the beads in place."""
    parameters = AbacusParameters.model_validate(configuration.parameters)
    misbehave(parameters, "load")
    time.sleep(parameters.load_s)
    print(f"abacus with {parameters.rods} rods, model {model}", flush=True)
    return Abacus(configuration.fp_precision, model)


def misbehave(parameters: AbacusParameters, phase: str) -> None:
    """Do what the mood file says: `<phase>-<mood>`, such as `pass-hang`; see `MOODS`."""
    path = Path(parameters.mood_file) if parameters.mood_file else None
    word = path.read_text().partition(" ")[0].strip() if path and path.exists() else ""
    when, _, mood = word.partition("-")
    if when == phase:
        MOODS[mood]()


def _refuse() -> None:
    raise EngineError("the abacus refuses this configuration")


def _raise() -> None:
    raise RuntimeError("a bead fell off")


def _run_out() -> None:
    raise MemoryError("no more beads")


def _eat() -> None:
    """Take memory until somebody objects; for engines with a limit."""
    eaten = []
    while True:
        eaten.append(b"bead" * (1 << 20))


def _compute() -> None:
    """Show up on the GPU as the driver shows an engine with a context."""
    Path(os.environ["NVML_STANDIN_MEMORY"]).write_text(f"80000 300 C:{os.getpid()}:200\n")


def _hang() -> None:
    while True:
        time.sleep(1)


def _orphan() -> None:
    """Kill the server that this engine belongs to; a forkserver may stand between."""
    next(process for process in psutil.Process().parents() if "--socket" in process.cmdline()).kill()


def draw_power(seconds: float, phase: str) -> None:
    """Use energy where there is a powercap tree to count it: `ABACUS_POWER` is "<counter> <prefill W> <decode W>"."""
    counter, *watts = os.environ.get("ABACUS_POWER", "").split() or [""]
    if not counter:
        return
    power_w = dict(zip(("prefill", "decode"), map(float, watts), strict=True))[phase]
    used_uj = int(Path(counter).read_text()) + round(1e6 * power_w * seconds)
    Path(f"{counter}.new").write_text(str(used_uj))
    Path(f"{counter}.new").replace(counter)


MOODS: dict[str, Callable[[], object]] = {
    "refuse": _refuse,
    "raise": _raise,
    "oom": _run_out,
    "eat": _eat,
    "compute": _compute,
    "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(3),
    "hang": _hang,
    "lose": lambda: os.kill(os.getppid(), signal.SIGKILL),
    "orphan": _orphan,
}


class Abacus:
    """Counts tokens."""

    vocabulary_size = 1000
    special_token_ids: frozenset[int] = frozenset({0, 1})

    def __init__(self, fp_precision: str, model: str) -> None:
        self._made_of = {
            "fp_precision": fp_precision,
            "model": model,
            "wood": os.environ.get("ABACUS_WOOD"),
            "interpreter": sys.executable,
            "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
        }

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [[2 + len(word) for word in text.split()] for text in texts]

    def effective(self) -> dict[str, Any]:
        return self._made_of

    def run_pass(
        self, prompts: Sequence[Sequence[int]], configuration: Configuration, beat: Callable[[], None]
    ) -> PassReport:
        parameters = AbacusParameters.model_validate(configuration.parameters)
        misbehave(parameters, "pass")
        size = parameters.batch_size
        report = PassReport(requests=[])
        for first in range(0, len(prompts), size):
            report.requests += self._batch(prompts[first : first + size], configuration, parameters)
            beat()
        return report

    def batch_limit(self, configuration: Configuration) -> int | None:
        return AbacusParameters.model_validate(configuration.parameters).batch_size

    def _batch(
        self, prompts: Sequence[Sequence[int]], configuration: Configuration, parameters: AbacusParameters
    ) -> list[Request]:
        tokens, times = configuration.max_output_tokens, []
        steps = [1] * tokens if configuration.streaming else [1, tokens - 1]
        submitted_s = time.monotonic()
        for number, step in enumerate(steps):
            step_s = step * parameters.token_ms / 1e3
            time.sleep(step_s)
            draw_power(step_s, "decode" if number else "prefill")
            times.append(time.monotonic())
        told = times if configuration.streaming else None
        return [Request(submitted_s, times[0], times[-1], len(p), tokens, token_s=told) for p in prompts]

    def drain(self) -> None:
        pass

    def memory_peak_bytes(self) -> int | None:
        return None

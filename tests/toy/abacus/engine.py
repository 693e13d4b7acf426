"""The engine's side of the abacus."""

from __future__ import annotations

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


def load(configuration: Configuration, model: str) -> Abacus:
    """Put the beads in place."""
    parameters = AbacusParameters.model_validate(configuration.parameters)
    misbehave(parameters, "load")
    time.sleep(parameters.load_s)
    print(f"abacus with {parameters.rods} rods, model {model}", flush=True)
    return Abacus(configuration.fp_precision, model)


def misbehave(parameters: AbacusParameters, phase: str) -> None:
    """Do what the mood file says: `<phase>-<mood>`, such as `pass-hang`."""
    path = Path(parameters.mood_file) if parameters.mood_file else None
    mood = path.read_text().split()[:1] if path and path.exists() else []
    match mood:
        case [word] if word == f"{phase}-refuse":
            raise EngineError("the abacus refuses this configuration")
        case [word] if word == f"{phase}-raise":
            raise RuntimeError("a bead fell off")
        case [word] if word == f"{phase}-oom":
            raise MemoryError("no more beads")
        case [word] if word == f"{phase}-eat":  # for engines with a memory limit
            eaten = []
            while True:
                eaten.append(b"bead" * (1 << 20))
        case [word] if word == f"{phase}-compute":  # as the driver shows an engine with a context
            Path(os.environ["NVML_STANDIN_MEMORY"]).write_text(f"80000 300 C:{os.getpid()}:200\n")
        case [word] if word == f"{phase}-die":
            os.kill(os.getpid(), signal.SIGKILL)
        case [word] if word == f"{phase}-exit":
            os._exit(3)
        case [word] if word == f"{phase}-hang":
            while True:
                time.sleep(1)
        case [word] if word == f"{phase}-lose":
            os.kill(os.getppid(), signal.SIGKILL)
        case [word] if word == f"{phase}-orphan":
            _worker().kill()
        case _:
            pass


def _worker() -> psutil.Process:
    """Return the server that this engine belongs to; a forkserver may stand between."""
    return next(process for process in psutil.Process().parents() if "--socket" in process.cmdline())


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
        for step in steps:
            time.sleep(step * parameters.token_ms / 1e3)
            times.append(time.monotonic())
        told = times if configuration.streaming else None
        return [Request(submitted_s, times[0], times[-1], len(p), tokens, token_s=told) for p in prompts]

    def drain(self) -> None:
        pass

    def memory_peak_bytes(self) -> int | None:
        return None

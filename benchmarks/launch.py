"""What a launch costs, forked from a parent that has imported the engine's libraries, and spawned without.

A small model is loaded again and again in both ways, in turn, as a session does it. What forking saves is told as a
part of the import, which is timed on its own in new processes.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pairs import heading, measure
from pytest_llem.backends.base import BackendSpec
from pytest_llem.backends.registry import registered
from pytest_llem.campaign.grid import Point, expand
from pytest_llem.campaign.loader import load
from pytest_llem.campaign.schema import Service
from pytest_llem.executors.local import LocalExecutor
from pytest_llem.executors.orders import OrderBook, Supplies

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "campaigns" / "models" / "tiny-llama"
ROUNDS = 6
START_TIMEOUT_S = 300.0


class Subject(NamedTuple):
    """A backend, its interpreter, and what makes a small engine of it."""

    name: str
    python: str
    parameters: str


SUBJECTS = (
    Subject("pytorch", sys.executable, "{num_threads: 1}"),
    Subject(
        "vllm",
        os.environ.get("LLEM_VLLM_PYTHON", str(ROOT / ".venv-vllm" / "bin" / "python")),
        "{max_num_seqs: 8, enforce_eager: true, kv_cache_memory_bytes: 67108864}",
    ),
)


class Launches:
    """A worker, and the launches of one point that it makes one after another."""

    def __init__(
        self, subject: Subject, spec: BackendSpec, folder: Path, orders: OrderBook, point: Point
    ) -> None:
        services = {subject.name: Service(python=subject.python)}
        self._executor = LocalExecutor({subject.name: spec}, services, START_TIMEOUT_S, folder)
        self._orders = orders
        self._point = point
        self._count = 0
        begin_s = time.perf_counter()
        self.method = self._executor.service(subject.name).start_method
        self.worker_s = time.perf_counter() - begin_s

    def next_s(self) -> float:
        """Return how long a new launch takes from the order to the loaded model."""
        self._count += 1
        name = f"launch-{self._count}"
        order = self._orders.order(
            self._point, experiment_id=name, launch=name, supplies=Supplies(None, None)
        )
        answer = self._executor.dispatch(self._point.configuration.backend, order, lambda _: None)
        assert answer.measurement is not None, answer.failure
        return answer.measurement.launch.start_s + answer.measurement.launch.load_s

    def close(self) -> None:
        """End the worker."""
        self._executor.close()


def campaign(subject: Subject, folder: Path) -> tuple[OrderBook, Point]:
    """Return the orders of a campaign of one small point, and the point."""
    path = folder / "grid.yaml"
    path.write_text(f"""\
campaign_name: launch
model: random:{MODEL}
defaults:
  {{max_input_tokens: 8, max_output_tokens: 2, num_input_prompts: 2, fp_precision: float32,
   warmup: {{enabled: false}}, baseline: {{enabled: false}}}}
window: {{seconds: 0, passes: 1}}
experiments:
  - {{backend: {subject.name}, {subject.name}: {subject.parameters}}}
""")
    loaded = load(path, folder, ())
    (point,) = expand(loaded, registered()).points
    return OrderBook(loaded.campaign, folder, registered()), point


class Round(NamedTuple):
    """Three neighbours in time, in seconds."""

    forked: float
    spawned: float
    imported: float


def bench(subject: Subject, folder: Path) -> None:
    """Print workers, launches and imports of one backend."""
    spec = registered()[subject.name]
    orders, point = campaign(subject, folder)
    forked = Launches(subject, spec, folder, orders, point)
    spawned = Launches(subject, replace(spec, preload=()), folder, orders, point)
    print(f"{subject.name}:")
    try:
        for launches in (forked, spawned):
            first_s = launches.next_s()
            print(f"    {launches.method}: worker {launches.worker_s:.2f} s, first launch {first_s:.2f} s")
        import_s(subject, spec)  # from the disk, and compiled
        compare([one_round(number, subject, spec, forked, spawned) for number in range(ROUNDS)])
    finally:
        forked.close()
        spawned.close()


def one_round(number: int, subject: Subject, spec: BackendSpec, forked: Launches, spawned: Launches) -> Round:
    """Time a launch in both ways and an import, each of them first in a third of the rounds."""
    ways: dict[str, Callable[[], float]] = {
        "forked": forked.next_s,
        "spawned": spawned.next_s,
        "imported": lambda: import_s(subject, spec),
    }
    names = list(ways)
    order = names[number % 3 :] + names[: number % 3]
    return Round(**{name: ways[name]() for name in order})


def import_s(subject: Subject, spec: BackendSpec) -> float:
    """Return how long a new process takes to import what the forkserver preloads, less the interpreter's start."""
    environment = {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    imports = "; ".join(f"import {module}" for module in spec.preload)
    bare, full = (
        measure([subject.python, "-c", f"{program}; import os; os._exit(0)"], cwd="/", env=environment).wall_s
        for program in ("pass", imports)  # without the interpreter's tidying up, which no import pays for
    )
    return full - bare


def compare(rounds: list[Round]) -> None:
    """Print the ratio of neighbours, and what forking saves as a part of the import.

    The latter is of the fastest of each: other work on the machine can only add to a time.
    """
    forked_s, spawned_s, imported_s = (min(times) for times in zip(*rounds, strict=True))
    ratio = statistics.median([one.forked / one.spawned for one in rounds])
    saved = (spawned_s - forked_s) / imported_s
    print(f"    fastest: forked {forked_s:.2f} s, spawned {spawned_s:.2f} s, import {imported_s:.2f} s")
    print(f"    forked / spawned, median of pairs: {ratio:.2f}")
    print(f"    saved: {100 * saved:.0f} % of the import (at least 90)")


def main() -> None:
    heading(f"A launch, from the order to the loaded model, {ROUNDS} rounds")
    for subject in SUBJECTS:
        if not Path(subject.python).exists():
            print(
                f"{subject.name}: left out, {subject.python} does not exist (scripts/setup-vllm.sh makes it)"
            )
            continue
        with tempfile.TemporaryDirectory() as folder:
            bench(subject, Path(folder))


if __name__ == "__main__":
    main()

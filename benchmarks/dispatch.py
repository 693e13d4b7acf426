"""What an experiment costs outside its window when its engine is loaded: less than 20 ms.

Measured between pytest's process and the engine (`dispatch`), and in a whole session, from one result to the next,
with journal, files and pytest itself. Then what a launch costs: the first brings the import of the engine's
libraries into the worker, the second finds them there.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from pairs import ALONE, heading, measure

ROOT = Path(__file__).parents[1]
TOY = ROOT / "tests" / "toy"
os.environ["PYTHONPATH"] = str(TOY)  # for workers
sys.path.insert(0, str(TOY))  # for the toy's spec in this process

from pytest_llem.backends.registry import registered  # noqa: E402 - with the toy
from pytest_llem.campaign.grid import Point, expand  # noqa: E402
from pytest_llem.campaign.loader import load  # noqa: E402
from pytest_llem.executors.local import LocalExecutor  # noqa: E402
from pytest_llem.executors.orders import OrderBook, Supplies  # noqa: E402

EXPERIMENTS = 200
START_TIMEOUT_S = 300.0


class Subject(NamedTuple):
    """A backend with a workload so small that little but the overhead is left."""

    name: str
    model: str
    parameters: str


SUBJECTS = (
    Subject("abacus", "beads", "{}"),
    Subject("pytorch", f"random:{ROOT / 'campaigns' / 'models' / 'tiny-llama'}", "{num_threads: 1}"),
)


def campaign(subject: Subject, folder: str, *, cycles: int, recycle_cycles: int) -> Path:
    """Write a campaign of one configuration without warm-up, gaps and conditioning, and return its path."""
    path = Path(folder, "grid.yaml")
    path.write_text(f"""\
campaign_name: dispatch
model: {subject.model}
defaults:
  {{max_input_tokens: 8, max_output_tokens: 2, num_input_prompts: 10, fp_precision: float32,
   warmup: {{enabled: false}}}}
window: {{seconds: 0, passes: 1}}
experiments:
  - {{backend: {subject.name}, {subject.name}: {subject.parameters}}}
execution:
  {{cycles: {cycles}, recycle_cycles: {recycle_cycles}, seed: 1, config_gap_seconds: 0, cycle_gap_seconds: 0,
   conditioning: false}}
""")
    Path(folder, "pytest.ini").write_text("[pytest]\n")
    return path


# --- Between pytest's process and the engine ---


def warm_costs_ms(executor: LocalExecutor, orders: OrderBook, point: Point, launch: str) -> list[float]:
    """Return what each experiment of a launch but the first costs outside its window; print what that one shows."""
    costs_ms = []
    for number in range(EXPERIMENTS):
        begin_s = time.perf_counter()
        order = orders.order(point, experiment_id=f"e{number}", launch=launch, supplies=Supplies(None, None))
        answer = executor.dispatch(point.configuration.backend, order, lambda _: None)
        wall_s = time.perf_counter() - begin_s
        assert answer.measurement is not None, answer.failure
        costs_ms.append(1e3 * (wall_s - answer.measurement.window_s))
        if number == 0:
            found = answer.measurement.launch
            print(f"    {launch} launch: start {found.start_s:.3f} s, load {found.load_s:.3f} s")
    return costs_ms[1:]


def dispatch_alone(subject: Subject) -> None:
    """Print what dispatch costs, and the launches; the worker's start contains the import."""
    with tempfile.TemporaryDirectory() as folder:
        backends = registered()
        loaded = load(campaign(subject, folder, cycles=1, recycle_cycles=1), Path(folder), ())
        (point,) = expand(loaded, backends).points
        orders = OrderBook(loaded.campaign, Path(folder), backends)
        executor = LocalExecutor(backends, {}, START_TIMEOUT_S, Path(folder))
        try:
            begin_s = time.perf_counter()
            method = executor.service(subject.name).start_method
            start_s = time.perf_counter() - begin_s
            print(
                f"    worker: {start_s:.2f} s to start, the engine's imports included; launches by {method}"
            )
            costs_ms = [
                *warm_costs_ms(executor, orders, point, "first"),
                *warm_costs_ms(executor, orders, point, "second"),
            ]
        finally:
            executor.close()
    show("dispatch", costs_ms)


# --- A whole session ---


def results(folder: str) -> list[dict[str, Any]]:
    """Return the results of a session in the order of their ends."""
    found = [json.loads(path.read_text()) for path in Path(folder).rglob("attempt-*.json")]
    return sorted(found, key=lambda result: str(result["completed_at"]))


def whole_session(subject: Subject) -> None:
    """Print what lies between the end of an experiment and that of the next, less the window."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # on a disk: elsewhere it may be in memory
        path = campaign(subject, folder, cycles=EXPERIMENTS, recycle_cycles=0)
        measure([sys.executable, "-m", "pytest", "-q", *ALONE, f"--campaign={path.name}"], cwd=folder)
        found = results(folder)
    assert len(found) == EXPERIMENTS
    show("session", [1e3 * between_s(*neighbours) for neighbours in pairwise(found)])


def between_s(earlier: dict[str, Any], later: dict[str, Any]) -> float:
    """Return the time from the end of one experiment to that of the next, less the window of the latter."""
    begin, end = (datetime.fromisoformat(result["completed_at"]) for result in (earlier, later))
    return (end - begin).total_seconds() - float(later["measurement"]["window_s"])


def show(what: str, costs_ms: list[float]) -> None:
    median_ms, tenths_ms = statistics.median(costs_ms), statistics.quantiles(costs_ms, n=10)
    print(f"    {what}: median {median_ms:.1f} ms (below 20), 90th percentile {tenths_ms[-1]:.1f} ms")


def main() -> None:
    heading(f"A warm experiment outside its window, {EXPERIMENTS} experiments")
    for subject in SUBJECTS:
        print(f"{subject.name}:")
        dispatch_alone(subject)
        whole_session(subject)


if __name__ == "__main__":
    main()

"""What measuring costs of throughput: meters and trace less than 1 %, and all of it against a plain loop 0.5 %.

Three ways to serve the same passes, in turn, each by an engine of its own that stays loaded: with a GPU's counter
and the trace of it, with neither, and by a loop that does nothing but call the engine and look at the clock twice.
The GPU is the tests' stand-in for NVIDIA's library: what is measured is the work of reading it, not that of a driver.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pairs import heading

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # for the stand-in

from pytest_llem.backends.pytorch import engine  # noqa: E402
from pytest_llem.backends.registry import registered  # noqa: E402
from pytest_llem.campaign.grid import Point, expand  # noqa: E402
from pytest_llem.campaign.loader import load  # noqa: E402
from pytest_llem.campaign.schema import Service  # noqa: E402
from pytest_llem.executors.local import LocalExecutor  # noqa: E402
from pytest_llem.executors.orders import OrderBook, Supplies  # noqa: E402
from pytest_llem.worker.serving import PromptSource  # noqa: E402
from standin.build import Gpu, build_nvml, environment  # noqa: E402

PAIRS = 15
PASSES = 40
START_TIMEOUT_S = 300.0
MODEL = ROOT / "campaigns" / "models" / "tiny-llama"

CAMPAIGN = f"""\
campaign_name: overhead
model: random:{MODEL}
defaults:
  {{max_input_tokens: 32, max_output_tokens: 16, num_input_prompts: 8, fp_precision: float32,
   warmup: {{enabled: false}}, baseline: {{enabled: false}}}}
window: {{seconds: 0, passes: {PASSES}}}
grid:
  backends: [pytorch]
  shared: {{timeseries.enabled: [true, false]}}
  backend_overrides: {{pytorch: {{batch_size: 8, num_threads: 1}}}}
"""

Measure = Callable[[], float]
"""Serves the passes and returns output tokens per second."""


def points(folder: Path) -> tuple[OrderBook, dict[bool, Point]]:
    """Return the orders of the campaign, and its points by whether they are traced."""
    (folder / "grid.yaml").write_text(CAMPAIGN)
    loaded = load(folder / "grid.yaml", folder, ())
    found = expand(loaded, registered()).points
    return OrderBook(loaded.campaign, folder, registered()), {
        point.configuration.timeseries.enabled: point for point in found
    }


@contextmanager
def measured(folder: Path, *, traced: bool, variables: dict[str, str]) -> Iterator[Measure]:
    """Give the way of a campaign, in a worker with these environment variables."""
    orders, by_trace = points(folder)
    executor = LocalExecutor(registered(), {"pytorch": Service(env=variables)}, START_TIMEOUT_S, folder)

    def measure() -> float:
        order = orders.order(
            by_trace[traced], experiment_id="one", launch="one", supplies=Supplies(None, None)
        )
        answer = executor.dispatch("pytorch", order, lambda _: None)
        assert answer.measurement is not None, answer.failure
        assert bool(answer.measurement.devices) is traced
        return answer.measurement.metrics["output_tokens_per_second"].value or 0.0

    try:
        yield measure
    finally:
        executor.close()


@contextmanager
def plain_loop() -> Iterator[Measure]:
    """Give the way of a loop, in a process of its own."""
    command = [sys.executable, __file__, "--loop"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def measure() -> float:
            print("go", file=child.stdin, flush=True)
            assert child.stdout is not None
            return float(child.stdout.readline())

        yield measure
        child.stdin.close()


def loop() -> None:
    """Serve the passes at each line of stdin and print output tokens per second."""
    with tempfile.TemporaryDirectory() as folder:
        _, by_trace = points(Path(folder))
    wanted = by_trace[False].configuration
    model = engine.load(wanted, str(MODEL))
    source = PromptSource(model, wanted, None)
    for _ in sys.stdin:
        prompts = [source.for_pass("window", number) for number in range(PASSES)]
        begin_s = time.monotonic()
        tokens = 0
        for one in prompts:
            report = model.run_pass(one, wanted, lambda: None)
            tokens += sum(request.output_tokens for request in report.requests)
        model.drain()
        print(tokens / (time.monotonic() - begin_s), flush=True)


def in_turn(ways: Sequence[Measure]) -> list[list[float]]:
    """Return the rates of each way, measured one after the other, forth and back, after one that does not count."""
    for way in ways:
        way()
    rates: list[list[float]] = [[] for _ in ways]
    for number in range(PAIRS):
        turn = list(enumerate(ways))
        for place, way in turn[::-1] if number % 2 else turn:
            rates[place].append(way())
    return rates


def lost(rates: Sequence[float], others: Sequence[float]) -> str:
    """Return by how much the first are slower than their neighbours, and where half of the pairs lie."""
    shares = [100 * (1 - rate / other) for rate, other in zip(rates, others, strict=True)]
    low, median, high = statistics.quantiles(shares, n=4)
    return f"{median:+.2f} % (half of {len(shares)} pairs between {low:+.2f} and {high:+.2f})"


def main() -> None:
    heading(f"Throughput of {PASSES} passes")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gpu = environment(build_nvml(folder), folder / "script", [Gpu()])
        nothing = {"LLEM_POWERCAP_ROOT": name, "CUDA_VISIBLE_DEVICES": ""}
        with (
            measured(folder, traced=True, variables=gpu) as with_meters,
            measured(folder, traced=False, variables=nothing) as without,
            plain_loop() as plain,
        ):
            metered, bare, looped = in_turn((with_meters, without, plain))
    print(f"    plain loop: {statistics.median(looped):.0f} token/s")
    print(f"    meters and trace cost {lost(metered, bare)}; below 1 %")
    print(f"    a campaign against the loop: {lost(metered, looped)}; within 0.5 %")


if __name__ == "__main__":
    if sys.argv[1:] == ["--loop"]:
        loop()
    else:
        os.environ.pop("NVML_STANDIN", None)
        main()

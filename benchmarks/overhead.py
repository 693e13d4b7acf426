"""What measuring costs of throughput: meters and trace less than 1 %, and all of it against a plain loop 0.5 %.

Three ways to serve the same passes, in turn, each by an engine of its own that stays loaded: with a GPU's counter
and the trace of it, with neither, and by a loop that does nothing but call the engine and look at the clock twice.
The GPU is the tests' stand-in for NVIDIA's library: what is measured is the work of reading it, not that of a driver.

On a CPU the work of a token hides what its drawing costs, so the toy backend, which sleeps as if a fast GPU worked,
serves a million prompt tokens a pass.
"""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from pairs import heading

ROOT = Path(__file__).parents[1]
TOY = ROOT / "tests" / "toy"
sys.path[:0] = [str(ROOT / "tests"), str(TOY)]  # for the stand-in, and for the toy's spec in this process

from pytest_llem.backends.registry import engine_module, registered  # noqa: E402
from pytest_llem.campaign.grid import Point, expand  # noqa: E402
from pytest_llem.campaign.loader import load  # noqa: E402
from pytest_llem.campaign.schema import Service  # noqa: E402
from pytest_llem.executors.local import LocalExecutor  # noqa: E402
from pytest_llem.executors.orders import OrderBook, Supplies  # noqa: E402
from pytest_llem.worker.serving import PromptSource  # noqa: E402
from standin.build import Gpu, build_nvml, environment  # noqa: E402

PAIRS = 15
START_TIMEOUT_S = 300.0


class Subject(NamedTuple):
    """What is served in so many passes."""

    backend: str
    model: str
    sizes: str
    section: str
    passes: int


SUBJECTS = {
    "transformers": Subject(
        "pytorch",
        f"random:{ROOT / 'campaigns' / 'models' / 'tiny-llama'}",
        "max_input_tokens: 32, max_output_tokens: 16, num_input_prompts: 8",
        "batch_size: 8, num_threads: 1",
        40,
    ),
    "toy": Subject(
        "abacus",
        "beads",
        "max_input_tokens: 1024, max_output_tokens: 2, num_input_prompts: 1000",
        "batch_size: 1000, token_ms: 100",
        5,
    ),
}

CAMPAIGN = """\
campaign_name: overhead
model: {one.model}
defaults:
  {{{one.sizes}, fp_precision: float32, warmup: {{enabled: false}}, baseline: {{enabled: false}}}}
window: {{seconds: 0, passes: {one.passes}}}
grid:
  backends: [{one.backend}]
  shared: {{timeseries.enabled: [true, false]}}
  backend_overrides: {{{one.backend}: {{{one.section}}}}}
"""

Measure = Callable[[], float]
"""Serves the passes and returns output tokens per second."""


def points(subject: Subject, folder: Path) -> tuple[OrderBook, dict[bool, Point]]:
    """Return the orders of a campaign, and its points by whether they are traced."""
    (folder / "grid.yaml").write_text(CAMPAIGN.format(one=subject))
    loaded = load(folder / "grid.yaml", folder, ())
    found = expand(loaded, registered()).points
    return OrderBook(loaded.campaign, folder, registered()), {
        point.configuration.timeseries.enabled: point for point in found
    }


@contextmanager
def measured(subject: Subject, folder: Path, *, traced: bool, variables: dict[str, str]) -> Iterator[Measure]:
    """Give the way of a campaign, in a worker with these environment variables."""
    orders, by_trace = points(subject, folder)
    service = Service(env=variables | {"PYTHONPATH": str(TOY)})
    executor = LocalExecutor(registered(), {subject.backend: service}, START_TIMEOUT_S, folder)

    def measure() -> float:
        order = orders.order(
            by_trace[traced], experiment_id="one", launch="one", supplies=Supplies(None, None)
        )
        answer = executor.dispatch(subject.backend, order, lambda _: None)
        assert answer.measurement is not None, answer.failure
        assert bool(answer.measurement.devices) is traced
        return answer.measurement.metrics["output_tokens_per_second"].value or 0.0

    try:
        yield measure
    finally:
        executor.close()


@contextmanager
def plain_loop(name: str) -> Iterator[Measure]:
    """Give the way of a loop over a subject, in a process of its own."""
    command = [sys.executable, __file__, "--loop", name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def measure() -> float:
            print("go", file=child.stdin, flush=True)
            assert child.stdout is not None
            return float(child.stdout.readline())

        yield measure
        child.stdin.close()


def loop(subject: Subject) -> None:
    """Serve the passes at each line of stdin and print output tokens per second."""
    with tempfile.TemporaryDirectory() as folder:
        _, by_trace = points(subject, Path(folder))
    wanted = by_trace[False].configuration
    engine = registered()[subject.backend].engine
    assert engine is not None
    with redirect_stdout(io.StringIO()):  # the toy says that it is there
        model = engine_module(engine).load(wanted, subject.model.removeprefix("random:"))
    source = PromptSource(model, wanted, None)
    for _ in sys.stdin:
        prompts = [source.for_pass("window", number) for number in range(subject.passes)]
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


def of_transformers(folder: Path) -> None:
    """Print what the meters cost of the throughput, and what all of it costs."""
    subject = SUBJECTS["transformers"]
    heading(f"Throughput of {subject.passes} passes")
    gpu = environment(build_nvml(folder), folder / "script", [Gpu()])
    with (
        measured(subject, folder, traced=True, variables=gpu) as with_meters,
        measured(subject, folder, traced=False, variables=no_meters(folder)) as without,
        plain_loop("transformers") as plain,
    ):
        metered, bare, looped = in_turn((with_meters, without, plain))
    print(f"    plain loop: {statistics.median(looped):.0f} token/s")
    print(f"    meters and trace cost {lost(metered, bare)}; below 1 %")
    print(f"    a campaign against the loop: {lost(metered, looped)}; within 0.5 %")


def of_prompts(folder: Path) -> None:
    """Print what a campaign costs that has a million prompt tokens to draw for each pass of 0.2 s."""
    subject = SUBJECTS["toy"]
    heading(f"Throughput of {subject.passes} passes of 1,000 prompts of 1,024 tokens, toy backend")
    with (
        measured(subject, folder, traced=False, variables=no_meters(folder)) as without,
        plain_loop("toy") as plain,
    ):
        bare, looped = in_turn((without, plain))
    print(f"    a campaign against the loop: {lost(bare, looped)}; within 0.5 %")


def no_meters(folder: Path) -> dict[str, str]:
    """Return what keeps a worker from finding meters: a folder without counters, and no GPU."""
    return {"LLEM_POWERCAP_ROOT": str(folder), "CUDA_VISIBLE_DEVICES": ""}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        of_prompts(Path(folder))
        of_transformers(Path(folder))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--loop"]:
        loop(SUBJECTS[sys.argv[2]])
    else:
        os.environ.pop("NVML_STANDIN", None)
        main()

"""Peak memory of pytest while it collects and runs experiments, against as many plain Function items.

    python benchmarks/memory.py [--items N]

At most 1.5 times as much at 100,000 items, the most that a campaign may have by default. Nothing is computed by a
model: the first experiment of a session is measured with the tests' toy backend, and its numbers, each moved by
up to 2 %, answer all later ones. Everything else is real: journal, results, CSV rows, reports, summary. Only the
pytest process counts; models live in others.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import floor
from pairs import ALONE, heading, measure

CONFIGURATIONS = 1_000
LIMIT_ITEMS = 100_000
TOY = Path(__file__).parents[1] / "tests" / "toy"

CAMPAIGN = """\
campaign_name: large
model: beads
defaults: {{max_input_tokens: 4, max_output_tokens: 8, num_input_prompts: 20, warmup: {{enabled: false}}}}
window: {{seconds: 0, passes: 1}}
grid:
  backends: [abacus]
  backend_overrides: {{abacus: {{token_ms: 5}}}}
  shared: {{batch_size: {batch_sizes}}}
execution:
  {{cycles: {cycles}, seed: 1, config_gap_seconds: 0, cycle_gap_seconds: 0, conditioning: false}}
"""

PEAK = """\
import pathlib
import resource
import pytest

@pytest.hookimpl(trylast=True)
def pytest_unconfigure():
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pathlib.Path("peak_mib").write_text(str(peak_kib / 1024))
"""
"""For a conftest.py: writes down the peak of the process's resident memory."""

STUB = """\
import json
import random
from pytest_llem.executors.local import LocalExecutor
from pytest_llem.worker.protocol import REPLY

measure = LocalExecutor.dispatch
first = []

def dispatch(self, backend, order, on_phase):
    if not first:
        first.append(json.loads(measure(self, backend, order, on_phase).model_dump_json()))
    answer = json.loads(json.dumps(first[0]))
    for quantity in answer["measurement"]["metrics"].values():
        if quantity["value"] is not None:
            quantity["value"] *= random.uniform(0.98, 1.02)
    return REPLY.validate_json(json.dumps(answer))

LocalExecutor.dispatch = dispatch
"""
"""For a conftest.py: one real measurement stands for all."""


def peak_mib(folder: str, *arguments: str) -> float:
    """Return the peak of the resident memory of one pytest process, in MiB."""
    measure(
        [sys.executable, "-m", "pytest", "-q", *ALONE, *arguments], cwd=folder, env={"PYTHONPATH": str(TOY)}
    )
    return float(Path(folder, "peak_mib").read_text())


def peaks_mib(items: int, *options: str) -> tuple[float, float]:
    """Return the peaks of a session of experiments and of one of plain items."""
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as plain:
        sizes = list(range(1, CONFIGURATIONS + 1))
        text = CAMPAIGN.format(batch_sizes=sizes, cycles=items // CONFIGURATIONS)
        Path(ours, "pytest.ini").write_text("[pytest]\n")
        Path(ours, "grid.yaml").write_text(text)
        Path(ours, "conftest.py").write_text(PEAK + STUB)
        floor.write(plain, items)
        with Path(plain, "conftest.py").open("a") as conftest:
            conftest.write(PEAK)
        return peak_mib(ours, "--campaign=grid.yaml", *options), peak_mib(plain, *floor.ARGUMENTS, *options)


def report(what: str, items: int, ours_mib: float, plain_mib: float) -> None:
    ratio = ours_mib / plain_mib
    print(f"{what:<10} {items:>9,} {ours_mib:>9.0f} MiB {plain_mib:>7.0f} MiB {ratio:>8.2f}")


def compare(what: str, sizes: tuple[int, int], *options: str) -> None:
    """Print the peaks at both sizes, and the line through them at `LIMIT_ITEMS` if that is beyond."""
    found = [peaks_mib(items, *options) for items in sizes]
    for items, (ours_mib, plain_mib) in zip(sizes, found, strict=True):
        report(what, items, ours_mib, plain_mib)
    if sizes[1] < LIMIT_ITEMS:
        steps = (LIMIT_ITEMS - sizes[1]) / (sizes[1] - sizes[0])
        ours_mib, plain_mib = (b + steps * (b - a) for a, b in zip(*found, strict=True))
        report(f"{what} *", LIMIT_ITEMS, ours_mib, plain_mib)


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak memory against plain items")
    parser.add_argument("--items", type=int, default=20_000, help="items of the larger session that runs")
    items = parser.parse_args().items
    heading(f"Peak memory of pytest with {CONFIGURATIONS:,} configurations")
    print(f"{'':<10} {'items':>9} {'campaign':>13} {'plain':>11} {'ratio':>8}")
    compare("collecting", (20_000, 100_000), "--collect-only")
    compare("running", (items // 5, items))
    print("* the line through the two sizes above; the ratio at 100,000 is to be at most 1.5")


if __name__ == "__main__":
    main()

"""What only a real GPU can show, as a page: `make bench-gpu` writes docs/measurements/gpu-<name>.md.

Ticks of the counter, the counter against integrated power at idle and at full load, what the trace costs where the
driver is the bottleneck, whether engines may be forked, and a campaign of some billions of random weights. About an
hour; the same measurements, with bounds, are the tests of tests/gpu.
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import on_gpu  # noqa: E402
from pytest_llem.executors.gpus import Gpu, installed  # noqa: E402
from pytest_llem.meters import inventory  # noqa: E402
from pytest_llem.meters.choose import Meters, open_meters  # noqa: E402
from pytest_llem.meters.window import Window  # noqa: E402

PAIRS = 15
SHOWN = {
    "energy_per_output_token_j": "J/token",
    "output_tokens_per_second": "token/s",
    "power_mean_w": "W",
}


class Found(NamedTuple):
    """All figures of one GPU.

    Attributes:
        gpus: the inventory of it.
        tick_s: between two values of its counter.
        idle, load: windows without work and with matrix products.
        sample_s: what one sample of a trace takes.
        costs: by which share a trace slows the launching of kernels, pair by pair.
        plain, with_cuda: trials of the forkserver, with torch and with a library that initialises CUDA.
        summary: of the campaign.
    """

    gpus: inventory.Inventory
    tick_s: float
    idle: Window
    load: Window
    sample_s: float
    costs: Sequence[float]
    plain: on_gpu.Trial
    with_cuda: on_gpu.Trial
    summary: Mapping[str, Any]


def measure(gpu: Gpu, folder: Path) -> Found:
    """Take all figures; the GPU must have no other work."""
    meters = Meters(open_meters(devices=[gpu.uuid], engine_pids=list))
    try:
        return Found(
            gpus=inventory.take([gpu.uuid]),
            tick_s=on_gpu.counter_tick_s(gpu.uuid),
            idle=on_gpu.at_idle(meters, folder),
            load=on_gpu.at_full_load(meters, folder),
            sample_s=on_gpu.sample_s(meters),
            costs=on_gpu.trace_costs(meters, folder, PAIRS),
            plain=on_gpu.trial("torch"),
            with_cuda=on_gpu.trial_where_cuda_is_up(),
            summary=campaign(gpu, folder),
        )
    finally:
        meters.close()


def campaign(gpu: Gpu, folder: Path) -> dict[str, Any]:
    """Run the GPU campaign of this repository and return its summary."""
    done = on_gpu.campaign(folder, gpu.uuid)
    if done.returncode:
        sys.exit(f"{on_gpu.CAMPAIGN.name} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    (file,) = folder.glob("results/*/*/summary.json")
    summary: dict[str, Any] = json.loads(file.read_text())
    return summary


def page(found: Found, date: str) -> str:
    """Return docs/measurements/gpu-<name>.md."""
    (device,) = found.gpus.devices
    low, median, high = (100 * share for share in statistics.quantiles(found.costs, n=4))
    campaign = on_gpu.CAMPAIGN.relative_to(ROOT)
    return f"""# {device["name"]}

- command: `make bench-gpu`
- date: {date}
- device: {device["name"]}, {device["memory_bytes"] / 2**30:.0f} GiB, power limit {device["power_limit_w"]} W, \
VBIOS {device["vbios"]}
- driver: {found.gpus.driver}, CUDA {found.gpus.cuda_driver}
- machine: {os.cpu_count()}-core {platform.machine().replace("_", "-")} {platform.system()} machine
- versions: Python {platform.python_version()}, torch {version("torch")}, transformers {version("transformers")}

| what | found | bound |
|---|---|---|
| a tick of the energy counter | {1000 * found.tick_s:.1f} ms | 1 to 250 ms |
| counter / integrated power, {on_gpu.WINDOW_S:g} s at idle, {power(found.idle)} | {on_gpu.ratio(found.idle):.4f} \
| 0.90 to 1.10 |
| counter / integrated power, {on_gpu.WINDOW_S:g} s at full load, {power(found.load)} \
| {on_gpu.ratio(found.load):.4f} | 0.95 to 1.05 |
| one sample of the trace | {1000 * found.sample_s:.2f} ms | |
| the trace beside small kernels, share of their rate | {median:+.2f} %, half of {len(found.costs)} pairs between \
{low:+.2f} and {high:+.2f} | 1 % |
| engines with torch preloaded | {told(found.plain)} | they work |
| engines with CUDA initialised in the parent | {told(found.with_cuda)} | spawn, and they work |

`{campaign}`, {found.summary["cycles"]} cycles; in brackets the {100 * found.summary["level"]:.0f} % interval \
({found.summary["method"]}).

| configuration | {" | ".join(SHOWN.values())} |
|---|{"---|" * len(SHOWN)}
{rows(found.summary)}
"""


def power(window: Window) -> str:
    """Return the mean power of the only GPU in words."""
    (summary,) = window.summaries.values()
    return f"{summary.power_mean_w:.0f} W"


def told(trial: on_gpu.Trial) -> str:
    """Return a trial's outcome in words."""
    return f"{trial.method}, {'they work' if trial.works else 'they fail'}: {trial.reason}"


def rows(summary: Mapping[str, Any]) -> str:
    """Return the lines of the campaign's table."""
    lines = (
        [row["label"], *(estimate(row["metrics"][metric]) for metric in SHOWN)] for row in summary["rows"]
    )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def estimate(found: Mapping[str, Any]) -> str:
    """Return a metric's center with its interval."""
    if found["center"] is None or found["interval"] is None:
        return "n/a"
    low, center, high = (
        f"{value:.4g}" for value in (found["interval"]["low"], found["center"], found["interval"]["high"])
    )
    return f"{center} [{low}, {high}]"


def main() -> None:
    """Measure the first GPU and write its page; without a GPU say so and exit with 1."""
    here = installed()
    if not here.gpus:
        sys.exit(f"bench-gpu needs an NVIDIA GPU: {here}")
    gpu = here.gpus[0]
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu.uuid  # however CUDA counts
    with tempfile.TemporaryDirectory() as folder:
        found = measure(gpu, Path(folder))
    slug = re.sub(r"[^a-z0-9]+", "-", str(gpu.name).lower()).strip("-")
    file = ROOT / "docs" / "measurements" / f"gpu-{slug}.md"
    file.write_text(page(found, f"{datetime.now(UTC):%Y-%m-%d}"), encoding="utf-8")
    print(f"written: {file.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

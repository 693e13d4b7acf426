"""Load, expansion and validation with all rules, in process: 100,000 points in less than 5 s.

The floor is what the points are made of in any case: a product of the axes, and one hash and one frozen dataclass
for each of its elements.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import NamedTuple, Self

from pairs import heading
from pytest_llem.backends.registry import registered
from pytest_llem.campaign.grid import expand
from pytest_llem.campaign.host import Device, Host
from pytest_llem.campaign.loader import load

MODEL = Path(__file__).parents[1] / "campaigns" / "models" / "llama-3b"
"""Its `config.json` gives the rules about memory, heads and context something to count."""

REPEATS = {1_000: 9, 10_000: 5, 100_000: 3}
"""Points, and how often each size is timed."""

BOUND_S = 5.0

AXES: dict[str, list[object]] = {
    "batch_size": [1, 2, 4, 8, 16],
    "max_input_tokens": [16, 32, 64, 128, 256],
    "max_output_tokens": [16, 32, 64, 128],
    "decoder.top_k": [1, 2, 3, 4, 5],
    "fp_precision": ["float16", "bfloat16"],
    "warmup.cv_threshold": [0.01, 0.02, 0.03, 0.04, 0.05],
    "pytorch.num_beams": [1, 2],
    "pytorch.no_repeat_ngram_size": [0, 2, 3, 4, 5],
    "vllm.max_model_len": [400, 500, 600, 700, 800],
    "vllm.block_size": [16, 32],
}
"""100,000 points over two backends: 8 axes each."""

HOST = Host((Device(0, "GPU-0", (9, 0), 80 * 10**9),))


class Times(NamedTuple):
    """Seconds, of the clock and of the CPU."""

    wall_s: float
    cpu_s: float


class Stopwatch:
    """Times a block."""

    def __enter__(self) -> Self:
        self._began = Times(time.perf_counter(), time.process_time())
        return self

    def __exit__(self, *_: object) -> None:
        wall_s, cpu_s = self._began
        self.times = Times(time.perf_counter() - wall_s, time.process_time() - cpu_s)


def axes_of(points: int) -> dict[str, list[object]]:
    """Return axes whose product over both backends has so many points."""
    shrunk = {name: list(values) for name, values in AXES.items()}
    divisor = 100_000 // points
    for name in ("max_input_tokens", "decoder.top_k", "max_output_tokens", "fp_precision"):
        if divisor % len(shrunk[name]) == 0:
            divisor //= len(shrunk[name])
            shrunk[name] = shrunk[name][:1]
    return shrunk


def campaign(axes: dict[str, list[object]]) -> str:
    """Return a campaign that is the full product of these axes."""
    shared = "".join(f"    {name}: {values}\n" for name, values in axes.items())
    return (
        f"campaign_name: large\nmodel: random:{MODEL}\nnum_samples: 1000\n"
        "execution: {cycles: 1}\n"
        f"grid:\n  backends: [pytorch, vllm]\n  shared:\n{shared}"
    )


@dataclass(frozen=True, slots=True)
class Bare:
    """The least that a point can be."""

    name: str
    digest: str


def floor(axes: dict[str, list[object]]) -> list[Bare]:
    """Return a bare point for each element of the products that the grid expands."""
    return [Bare(name, hashlib.sha256(name.encode()).hexdigest()) for name in _names(axes)]


def _names(axes: dict[str, list[object]]) -> Iterator[str]:
    for backend, other in (("pytorch", "vllm"), ("vllm", "pytorch")):
        own = {name: values for name, values in axes.items() if not name.startswith(other)}
        for values in product(*own.values()):
            yield backend + " ".join(f"{name}={value}" for name, value in zip(own, values, strict=True))


def measure(path: Path, axes: dict[str, list[object]], points: int) -> tuple[Times, Times]:
    """Return how long load and expansion take, and how long the floor takes."""
    backends = registered()
    with Stopwatch() as ours:
        expansion = expand(load(path, path.parent, ()), backends, host=HOST)
    with Stopwatch() as least:
        bare = floor(axes)
    assert len(bare) == points == expansion.generated
    return ours.times, least.times


def main() -> None:
    heading("Loading a campaign and expanding it, with all rules and hashes, in process: medians")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "grid.yaml")
        for points, repeats in REPEATS.items():
            axes = axes_of(points)
            path.write_text(campaign(axes))
            runs = [measure(path, axes, points) for _ in range(repeats)]
            wall_s, cpu_s = (median(ours[i] for ours, _ in runs) for i in range(2))
            ratio = median(ours.cpu_s / least.cpu_s for ours, least in runs)
            bound = f" (less than {BOUND_S:g} s)" if points == max(REPEATS) else ""
            print(
                f"{points:>7,} points: {wall_s:.2f} s, {cpu_s:.2f} s of CPU{bound}; {ratio:.1f} x the floor"
            )


if __name__ == "__main__":
    main()

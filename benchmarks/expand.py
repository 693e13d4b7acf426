"""Load, expansion and validation of a campaign of 10,000 points, in process: less than 0.5 s."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from pairs import heading
from pytest_llem.backends.registry import registered
from pytest_llem.campaign.grid import expand
from pytest_llem.campaign.loader import load

POINTS = 10_000
COUNT = 9

GRIDS = {
    "2 axes of 100 values": {"batch_size": range(1, 101), "max_input_tokens": range(16, 1616, 16)},
    "4 axes of 10 values": {
        "batch_size": range(1, 11),
        "max_input_tokens": range(16, 176, 16),
        "decoder.top_k": range(1, 11),
        "random_seed": range(10),
    },
}


def campaign(axes: dict[str, range]) -> str:
    """Return a campaign that is the full product of these axes."""
    shared = "".join(f"    {name}: {list(values)}\n" for name, values in axes.items())
    return f"campaign_name: large\nmodel: random:model\ngrid:\n  backends: [pytorch]\n  shared:\n{shared}"


def durations_s(path: Path) -> tuple[float, float]:
    """Return how long the load and the expansion take, in seconds."""
    backends = registered()
    begin_s = time.perf_counter()
    loaded = load(path, path.parent, ())
    loaded_s = time.perf_counter()
    points = expand(loaded, backends).points
    end_s = time.perf_counter()
    assert len(points) == POINTS
    return loaded_s - begin_s, end_s - loaded_s


def main() -> None:
    heading(f"Loading and expanding {POINTS:,} points in process, median of {COUNT}")
    with tempfile.TemporaryDirectory() as folder:
        for name, axes in GRIDS.items():
            path = Path(folder, "grid.yaml")
            path.write_text(campaign(axes))
            load_s, expand_s = map(
                statistics.median, zip(*(durations_s(path) for _ in range(COUNT)), strict=True)
            )
            print(f"{name}: load {load_s:.3f} s, expansion and validation {expand_s:.2f} s (less than 0.5)")


if __name__ == "__main__":
    main()

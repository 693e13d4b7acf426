"""`--collect-only -q` of 10,000 experiments against 10,000 plain Function items: at most 1.5 times as long."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import floor
from pairs import ALONE, Run, heading, measure, median, median_ratio, pairs

CONFIGURATIONS, CYCLES = 1_000, 10
COUNT = 11

CAMPAIGN = f"""\
campaign_name: large
model: random:model
defaults: {{max_output_tokens: 8}}
grid:
  backends: [pytorch]
  shared:
    batch_size: {list(range(1, 101))}
    max_input_tokens: {list(range(16, 16 * CONFIGURATIONS // 100 + 16, 16))}
execution: {{cycles: {CYCLES}, seed: 1}}
"""


def collect(folder: str, *arguments: str) -> Run:
    return measure([sys.executable, "-m", "pytest", "--collect-only", "-q", *ALONE, *arguments], cwd=folder)


def main() -> None:
    items = CONFIGURATIONS * CYCLES
    heading(f"Collecting {items:,} items: campaign / plain Function items")
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as plain:
        Path(ours, "pytest.ini").write_text("[pytest]\n")
        Path(ours, "grid.yaml").write_text(CAMPAIGN)
        floor.write(plain, items)
        runs = pairs(
            lambda: collect(ours, "--campaign=grid.yaml"),
            lambda: collect(plain, *floor.ARGUMENTS),
            count=COUNT,
        )
        for name, column in zip(("campaign", "plain"), zip(*runs, strict=True), strict=True):
            print(
                f"{name:>8}: median {median(column, 'wall_s'):.2f} s, peak {median(column, 'peak_mib'):.0f} MiB"
            )
        print(f"ratio of wall time: {median_ratio(runs, 'wall_s'):.2f} (at most 1.5)")


if __name__ == "__main__":
    main()

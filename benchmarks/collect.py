"""`--collect-only -q` of 10,000 experiments against 10,000 plain Function items: at most 1.5 times as long."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

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
    batch_size: [{", ".join(map(str, range(1, 101)))}]
    max_input_tokens: [{", ".join(str(16 * i) for i in range(1, CONFIGURATIONS // 100 + 1))}]
execution: {{cycles: {CYCLES}, seed: 1}}
"""

# Items of plain pytest that share their fixture information, as cheap as pytest itself can make them.
FLOOR = f"""\
import types
import pytest

def a_test(): pass

class Plain(pytest.Module):
    def _getobj(self):
        return types.ModuleType("floor")
    def collect(self):
        shared = None
        for i in range({CONFIGURATIONS * CYCLES}):
            item = pytest.Function.from_parent(self, name=f"i{{i}}", callobj=a_test, fixtureinfo=shared)
            shared = item._fixtureinfo
            yield item

def pytest_collect_file(file_path, parent):
    if file_path.suffix == ".floor":
        return Plain.from_parent(parent, path=file_path)
"""


def collect(folder: str, *arguments: str) -> Run:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *ALONE, *arguments]
    return measure(command, cwd=folder)


def main() -> None:
    heading(f"Collecting {CONFIGURATIONS * CYCLES:,} items: campaign / plain Function items")
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as plain:
        Path(ours, "pytest.ini").write_text("[pytest]\n")
        Path(ours, "grid.yaml").write_text(CAMPAIGN)
        Path(plain, "pytest.ini").write_text("[pytest]\n")
        Path(plain, "conftest.py").write_text(FLOOR)
        Path(plain, "items.floor").write_text("")
        runs = pairs(
            lambda: collect(ours, "--campaign=grid.yaml"),
            lambda: collect(plain, "-p", "no:llem", "items.floor"),
            count=COUNT,
        )
        for name, column in zip(("campaign", "plain"), zip(*runs, strict=True), strict=True):
            print(
                f"{name:>8}: median {median(column, 'wall_s'):.2f} s, peak {median(column, 'peak_mib'):.0f} MiB"
            )
        print(f"ratio of wall time: {median_ratio(runs, 'wall_s'):.2f} (at most 1.5)")


if __name__ == "__main__":
    main()

"""The benchmark of a real GPU, as far as it can be held without one."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from on_gpu import Trial
from pytest_llem.meters.inventory import FACTS, Inventory
from pytest_llem.meters.summary import Summary
from pytest_llem.meters.window import Window
from standin.build import DRIVER_NOT_LOADED, build_nvml, environment

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def window(power_mean_w: float, ratio: float) -> Window:
    """Return a window of one GPU."""
    known = {field.name: None for field in fields(Summary)} | {"power_mean_w": power_mean_w}
    return Window({}, (), {"gpu:a": Summary(**known)}, {"gpu:a": ratio})  # type: ignore[arg-type]


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    """One line says what is missing, the status is not zero, and no page is written."""
    pages = set(SCRIPT.parents[1].glob("docs/measurements/*"))
    scripted = environment(build_nvml(tmp_path), tmp_path / "script", [], DRIVER_NOT_LOADED)
    command = [sys.executable, str(SCRIPT)]
    done = subprocess.run(command, env=os.environ | scripted, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == ("bench-gpu needs an NVIDIA GPU: this machine has no NVIDIA GPU with a driver\n")
    assert set(SCRIPT.parents[1].glob("docs/measurements/*")) == pages


def test_its_page_has_all_figures() -> None:
    """The page names device, driver and date, and has every figure with its interval or bound."""
    pytest.importorskip("transformers")
    benchmark = runpy.run_path(str(SCRIPT))
    device = dict.fromkeys(FACTS) | {"name": "Some GPU", "memory_bytes": 80 << 30, "power_limit_w": 500.0}
    estimate = {"center": 2.0, "interval": {"low": 1.5, "high": 2.5}}
    unknown = {"center": None, "interval": None}
    metrics = dict.fromkeys(benchmark["SHOWN"], estimate) | {"power_mean_w": unknown}
    found = benchmark["Found"](
        gpus=Inventory("550.54.14", "12.4", (device,)),
        tick_s=0.0995,
        idle=window(70, 0.98),
        load=window(480, 1.01),
        sample_s=0.002,
        costs=[0.001, 0.002, 0.003],
        plain=Trial("forkserver", "one thread", works=True),
        with_cuda=Trial("spawn", "an import", works=True),
        summary={
            "cycles": 5,
            "level": 0.95,
            "method": "Student t",
            "rows": [{"label": "batch_size=1", "metrics": metrics}],
        },
    )
    page = benchmark["page"](found, "2026-11-23")
    for figure in (
        "# Some GPU\n",
        "80 GiB, power limit 500.0 W",
        "driver: 550.54.14, CUDA 12.4",
        "date: 2026-11-23",
        "| 99.5 ms |",
        "at idle, 70 W | 0.9800 |",
        "at full load, 480 W | 1.0100 |",
        "| 2.00 ms |",
        "+0.20 %, half of 3 pairs between +0.10 and +0.30",
        "forkserver, they work: one thread",
        "spawn, they work: an import",
        "5 cycles; in brackets the 95 % interval (Student t)",
        "| batch_size=1 | 2 [1.5, 2.5] | 2 [1.5, 2.5] | n/a |",
    ):
        assert figure in page

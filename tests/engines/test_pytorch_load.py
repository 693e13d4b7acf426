"""Campaigns of a real model under load."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from runs import results_of

MODEL = Path(__file__).parents[2] / "campaigns" / "models" / "tiny-llama"

CAMPAIGN = """
campaign_name: loads
model: random:tiny-llama
defaults:
  backend: pytorch
  fp_precision: float32
  max_input_tokens: 8
  max_output_tokens: 16
  num_input_prompts: 8
  warmup: {convergence_detection: false}
  pytorch: {batch_size: 4, num_threads: 1}
window: {seconds: 0.5, passes: 1}
execution: {cycles: 1, warmup_prompts: 1, config_gap_seconds: 0, cycle_gap_seconds: 0, conditioning: false}
experiments:
  - {config_name: offline, streaming: true}
  - {config_name: closed, streaming: true, load: {mode: closed, concurrency: 6}}
  - {config_name: poisson, load: {mode: poisson, rate: 5}}
  - {config_name: flood, load: {mode: constant, rate: 10000, requests: 12}}
"""


@pytest.fixture
def found(pytester: pytest.Pytester) -> dict[str, dict[str, Any]]:
    """Run the campaign and return the measurement of each experiment by its name."""
    shutil.copytree(MODEL, pytester.path / "tiny-llama")
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    (pytester.path / "grid.yaml").write_text(CAMPAIGN)
    result = pytester.runpytest_subprocess("--campaign=grid.yaml", "-q")
    assert result.ret == 0, result.stdout.str()
    return {r["configuration"]["config_name"]: r["measurement"] for r in results_of(pytester.path)}


@pytest.mark.key("defaults.streaming", "defaults.load.mode")
def test_a_real_model_is_measured_under_load(found: dict[str, dict[str, Any]]) -> None:
    """Requests wait for a static batch: a closed loop keeps its queue, a flood is saturated, tokens are timed."""
    closed, flood = found["closed"], found["flood"]
    assert closed["load"]["queue_end"] == 2
    assert closed["mean_running_batch"] > 3
    assert flood["flags"] == ["saturated"]
    assert flood["requests"] >= 12
    for name in ("offline", "closed"):
        gaps = found[name]["metrics"]["itl_ms_mean"]["value"]
        assert gaps == pytest.approx(found[name]["metrics"]["tpot_ms_mean"]["value"])
    assert found["poisson"]["metrics"]["itl_ms_mean"]["value"] is None

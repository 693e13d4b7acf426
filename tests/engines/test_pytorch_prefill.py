"""The second window of a real model: the same prompts, one token each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runs import results_of

MODEL = Path(__file__).parents[2] / "campaigns" / "models" / "tiny-llama"

CAMPAIGN = """
campaign_name: phases
model: random:tiny-llama
defaults:
  fp_precision: float32
  max_input_tokens: 24
  max_output_tokens: 6
  num_input_prompts: 6
  prefill: {enabled: true}
  warmup: {convergence_detection: false}
  pytorch: {batch_size: 4, num_threads: 1}
window: {seconds: 0, passes: 2}
execution: {cycles: 2, recycle_cycles: 2, config_gap_seconds: 0, cycle_gap_seconds: 0, conditioning: false}
grid: {backends: [pytorch]}
"""


def test_a_real_model_prefills_the_prompts_of_a_pass(pytester: pytest.Pytester) -> None:
    """Each cycle of a launch has both windows: all prompt tokens in each, one output token a request in the second."""
    shutil.copytree(MODEL, pytester.path / "tiny-llama")
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    (pytester.path / "grid.yaml").write_text(CAMPAIGN)
    result = pytester.runpytest_subprocess("--campaign=grid.yaml", "-q")
    assert result.ret == 0, result.stdout.str()
    cold, warm = (result["measurement"] for result in results_of(pytester.path))
    assert (cold["launch"]["warm"], warm["launch"]["warm"]) == (False, True)
    for found in (cold, warm):
        second = found["prefill"]
        assert (found["requests"], found["prompt_tokens"], found["output_tokens"]) == (12, 12 * 24, 12 * 6)
        assert (second["requests"], second["prompt_tokens"], second["output_tokens"]) == (12, 12 * 24, 12)
        assert (second["passes"], second["padding_tokens"]) == (2, 0)
        assert found["effective"]["max_output_tokens"] == found["asked"]["max_output_tokens"] == 6
        rate = found["metrics"]["prefill_tokens_per_second"]["value"]
        assert rate == pytest.approx(12 * 24 / second["window_s"])

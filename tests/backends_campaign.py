"""`campaigns/backends.yaml` made short, and what its table must say wherever it ran."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runs import results_of, summary

CAMPAIGNS = Path(__file__).parents[1] / "campaigns"

PROMPTS = 16

QUICK = {
    "defaults.num_input_prompts": str(PROMPTS),
    "window.seconds": "0.5",
    "execution.cycles": "2",
    "execution.config_gap_seconds": "0",
    "execution.cycle_gap_seconds": "0",
    "execution.conditioning": "false",
    "defaults.warmup.enabled": "false",
    "defaults.baseline.enabled": "false",
}


def measure(pytester: pytest.Pytester, *options: str, **settings: str) -> pytest.RunResult:
    """Measure the campaign over two cycles with short windows, in a project that has nothing else."""
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    (pytester.path / "campaigns").mkdir()
    shutil.copy(CAMPAIGNS / "backends.yaml", pytester.path / "campaigns")
    shutil.copytree(
        CAMPAIGNS / "models" / "tiny-llama", pytester.path / "campaigns" / "models" / "tiny-llama"
    )
    words = [f"--campaign-set={key}={value}" for key, value in {**QUICK, **settings}.items()]
    return pytester.runpytest_subprocess("--campaign=campaigns/backends.yaml", *options, *words)


def assert_compares(pytester: pytest.Pytester, done: pytest.RunResult) -> None:
    """Hold the table and the results of both engines over both batch sizes against each other."""
    done.assert_outcomes(passed=8)
    rows = summary(pytester.path)["rows"]
    assert {(row["axes"]["backend"], row["axes"]["batch_size"]) for row in rows} == {
        (backend, size) for backend in ("pytorch", "vllm") for size in (1, 8)
    }
    assert [row["n"] for row in rows] == [2, 2, 2, 2]
    done.stdout.fnmatch_lines(["*J/output token*output token/s*", "pytorch *2 of 2*", "vllm *2 of 2*"])
    for row in rows:
        if (
            row["axes"]["batch_size"] == 1
        ):  # one after the other: nobody's wait is in a latency of either engine
            means = [
                row["metrics"][name]["center"] for name in ("e2e_latency_ms_mean", "output_tokens_per_second")
            ]
            assert means[0] / 1000 * means[1] == pytest.approx(16, rel=0.2)
    prompts = set()
    for result in results_of(pytester.path):
        measurement = result["measurement"]
        assert measurement["output_tokens"] == PROMPTS * 16 * measurement["passes"]
        assert measurement["prompt_tokens"] == PROMPTS * 32 * measurement["passes"]
        prompts.add(measurement["prompt_sha256"])
    assert len(prompts) == 1

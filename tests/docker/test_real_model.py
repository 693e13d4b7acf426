"""A real model in transformers, in the shipped image of the pytorch service."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from containers import containers_of
from runs import completed, results_of

ROOT = Path(__file__).parents[2]

CAMPAIGN = """
campaign_name: real
model: {model}
defaults:
  {{max_input_tokens: 8, max_output_tokens: 4, num_input_prompts: 8, fp_precision: float32, pytorch: {{num_threads: 1}},
   warmup: {{enabled: false}}}}
grid:
  backends: [pytorch]
  shared: {{batch_size: [1, 4]}}
execution: {{cycles: 2, config_gap_seconds: 0, cycle_gap_seconds: 0, conditioning: false}}
window: {{seconds: 0.5}}
"""


@pytest.fixture
def project(pytester: pytest.Pytester, pytorch_image: str) -> Path:
    """A project with an architecture and no Compose file of its own."""
    shutil.copytree(ROOT / "campaigns" / "models" / "tiny-llama", pytester.path / "tiny-llama")
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    return pytester.path


def measure(pytester: pytest.Pytester, model: str) -> pytest.RunResult:
    (pytester.path / "grid.yaml").write_text(CAMPAIGN.format(model=model))
    return pytester.runpytest_subprocess("--campaign=grid.yaml", "--campaign-executor=compose")


def test_random_weights_need_nothing_of_the_host(pytester: pytest.Pytester, project: Path) -> None:
    """The architecture travels with the order: both batch sizes are measured over two cycles, nothing is mounted."""
    measure(pytester, "random:tiny-llama").assert_outcomes(passed=4)
    assert len(completed(project)) == 4
    for result in results_of(project):
        measurement = result["measurement"]
        assert measurement["effective"]["model_class"] == "LlamaForCausalLM"
        assert measurement["output_tokens"] == 8 * 4 * measurement["passes"]
        assert measurement["launch"]["start_method"] == "forkserver"
    assert containers_of(project) == []


def test_local_weights_are_read_from_their_folder(pytester: pytest.Pytester, project: Path) -> None:
    """Weights in a folder of this machine are loaded in the container."""
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.from_pretrained(project / "tiny-llama")
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(project / "weights")
    measure(pytester, "weights").assert_outcomes(passed=4)
    assert len(completed(project)) == 4

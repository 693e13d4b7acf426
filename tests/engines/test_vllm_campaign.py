"""Whole campaigns over vLLM: one small model with weights, one without, many configurations a launch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runs import results_of
from standin.models import SENTENCES
from standin.vllm_models import make_architecture, make_trained
from vllm_environment import vllm_python

Experiments = dict[str, dict[str, Any]]

SETTINGS = """
campaign_name: real
services: {{vllm: {{python: {python}, env: {{OMP_NUM_THREADS: "1"}}}}}}
window: {{seconds: 0.5, passes: 2}}
execution:
  {{cycles: 1, structure: grouped, config_gap_seconds: 0, cycle_gap_seconds: 0, conditioning: false,
    max_consecutive_failures: 20, warmup_prompts: 1}}
defaults:
  model_name: trained
  backend: vllm
  fp_precision: float32
  max_input_tokens: 40
  max_output_tokens: 8
  num_input_prompts: 12
  baseline: {{enabled: false}}
  warmup: {{convergence_detection: false}}
  vllm: {{max_num_seqs: 4, block_size: 32, enforce_eager: true, kv_cache_memory_bytes: 33554432}}
experiments:
"""

SERVED = """
  - {config_name: offline}
  - {config_name: streamed, streaming: true}
  - {config_name: one by one, num_input_prompts: 1, max_output_tokens: 1}
  - {config_name: natural, output_length: natural, max_output_tokens: 40}
  - {config_name: sampled, decoder: {temperature: 0.7, top_k: 5}, vllm: {min_p: 0.1}}
  - {config_name: closed, load: {mode: closed, concurrency: 6}}
  - {config_name: poisson, streaming: true, load: {mode: poisson, rate: 20}}
  - {config_name: flood, load: {mode: constant, rate: 10000, requests: 12}}
  - {config_name: texts, prompts_file: texts.txt, prefill: {enabled: true}}
  - {config_name: texts reused, prompts_file: texts.txt, prefix_reuse: allow}
  - {config_name: texts again and again, prompts_file: texts.txt, load: {mode: closed, concurrency: 2}}
  - {config_name: too long, max_input_tokens: 125}
  - {config_name: without weights, model_name: "random:bare", fp_precision: bfloat16}
  - {config_name: without a cache, model_name: "random:bare", fp_precision: bfloat16, prompts_file: texts.txt}
"""

REFUSED = """
  - {config_name: another kernel, vllm: {attention_backend: FLASH_ATTN}}
  - {config_name: this kernel, max_output_tokens: 1, vllm: {attention_backend: cpu_attn}}
  - {config_name: no such kernel, vllm: {attention_backend: NONSENSE}}
  - {config_name: longer than the model, vllm: {max_model_len: 4096}}
  - {config_name: no room, vllm: {kv_cache_memory_bytes: 1000}}
  - {config_name: other weights, model_name: "random:bare", vllm: {load_format: safetensors}}
"""


def run(folder: Path, experiments: str) -> Experiments:
    """Run a campaign in a process of its own and return its results by the configurations' names."""
    for make, name in ((make_trained, "trained"), (make_architecture, "bare")):
        (folder / name).mkdir()
        make(folder / name)
    (folder / "pytest.ini").write_text("[pytest]\n")
    texts = [f"{number} {SENTENCES[number % 2]} {number}" * 3 for number in range(12)]
    (folder / "texts.txt").write_text("\n".join(texts))
    (folder / "grid.yaml").write_text(SETTINGS.format(python=vllm_python()) + experiments)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--campaign=grid.yaml", "--campaign-executor=local"],
        cwd=folder,
        env=os.environ | {"LLEM_SLOTS_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    found = {result["configuration"]["config_name"]: result for result in results_of(folder)}
    assert found, ended.stdout + ended.stderr
    return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Experiments:
    """What two launches served: one of the model with weights, one of that without."""
    return run(tmp_path_factory.mktemp("served"), SERVED)


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Experiments:
    """What came of values that vLLM does not take or does not apply."""
    return run(tmp_path_factory.mktemp("refused"), REFUSED)


def measurement(result: dict[str, Any]) -> dict[str, Any]:
    """Return what an experiment yielded, which must have been completed."""
    assert result["status"] == "completed", result["failure"]
    found: dict[str, Any] = result["measurement"]
    return found


def value(result: dict[str, Any], metric: str) -> float | None:
    """Return a metric's value."""
    found: float | None = measurement(result)["metrics"][metric]["value"]
    return found


# --- Passes ---


def test_tokens_are_those_that_the_engine_counted(served: Experiments) -> None:
    """Every request of every pass has its prompt and its exact answer, and nothing is padded."""
    found = measurement(served["offline"])
    requests = 12 * found["passes"]
    assert (found["requests"], found["padding_tokens"], found["preemptions"]) == (requests, 0, 0)
    assert (found["prompt_tokens"], found["output_tokens"]) == (40 * requests, 8 * requests)


@pytest.mark.parametrize("name", ["offline", "streamed", "closed", "poisson"])
def test_the_first_token_comes_before_the_last(served: Experiments, name: str) -> None:
    """TTFT is there without streaming too, and smaller than the latency."""
    first, last = value(served[name], "ttft_ms_mean"), value(served[name], "e2e_latency_ms_mean")
    assert first is not None
    assert last is not None
    assert 0 < first < last


def test_each_token_has_its_time_where_that_is_asked(served: Experiments) -> None:
    """With streaming the gaps are known and their mean is TPOT; without it they are n/a."""
    assert value(served["offline"], "itl_ms_mean") is None
    for name in ("streamed", "poisson"):
        assert value(served[name], "itl_ms_mean") == pytest.approx(value(served[name], "tpot_ms_mean"))


def test_the_batch_is_vllms_own(served: Experiments) -> None:
    """Twelve requests run four at a time, as the limit says, and one alone is one at a time."""
    found = measurement(served["offline"])
    assert 2 < found["mean_running_batch"] <= 4
    assert found["full_batch_share"] > 0.2
    assert measurement(served["one by one"])["mean_running_batch"] <= 1


def test_natural_answers_end(served: Experiments) -> None:
    """Answers that may end do, some of them before the limit."""
    found = measurement(served["natural"])
    assert 0 < found["output_tokens"] < 40 * found["requests"]


# --- Loads ---


def test_a_closed_loop_keeps_its_clients_busy(served: Experiments) -> None:
    """Six clients find four places: two wait, and vLLM's own scheduler fills each place that becomes free."""
    found = measurement(served["closed"])
    assert found["load"]["queue_end"] <= 2
    assert found["mean_running_batch"] > 3
    assert found["requests"] > 6


def test_an_open_loop_offers_its_rate(served: Experiments) -> None:
    """Requests that come at a rate are served at that rate; a flood is more than the engine serves."""
    offered = measurement(served["poisson"])["load"]
    assert offered["offered_rate"] == pytest.approx(offered["achieved_rate"], rel=0.9)
    assert "saturated" in measurement(served["flood"])["flags"]


# --- The prefix cache ---


@pytest.mark.key("defaults.prefix_reuse")
def test_the_prefix_cache_serves_no_later_pass_unless_allowed(served: Experiments) -> None:
    """The same texts in each pass are computed anew; with prefix_reuse: allow they come from the cache, unflagged."""
    anew, reused = measurement(served["texts"]), measurement(served["texts reused"])
    assert anew["effective"]["enable_prefix_caching"] is True
    assert anew["cached_tokens"] == 0
    assert reused["cached_tokens"] > 0.5 * reused["prompt_tokens"]
    assert "prompts_from_cache" not in {*anew["flags"], *reused["flags"]}


def test_prefill_is_not_served_from_the_cache(served: Experiments) -> None:
    """The second window computes every prompt of every pass anew, for one token a request."""
    second = measurement(served["texts"])["prefill"]
    assert (second["cached_tokens"], second["output_tokens"]) == (0, second["requests"])
    assert second["requests"] == 12 * second["passes"] >= 24
    assert second["prompt_tokens"] > 0


def test_prompts_that_a_load_repeats_are_flagged(served: Experiments) -> None:
    """Where texts come round again within a load, the cache serves them, and the experiment says so."""
    found = measurement(served["texts again and again"])
    assert found["cached_tokens"] > 0.01 * found["prompt_tokens"]
    assert "prompts_from_cache" in found["flags"]


# --- What was applied ---


def test_what_was_applied_is_read_back(served: Experiments) -> None:
    """The result holds what vLLM made of each parameter, what it chose itself, and how requests were sampled."""
    applied = measurement(served["offline"])["effective"]
    asked = {"max_num_seqs": 4, "block_size": 32, "enforce_eager": True, "kv_cache_memory_bytes": 33554432}
    chosen = {
        "max_model_len": 128,
        "enable_chunked_prefill": True,
        "attention_backend": "CPU_ATTN",
        "device": "cpu",
    }
    assert {**asked, **chosen, "fp_precision": "float32"}.items() <= applied.items()
    assert applied["kv_cache_blocks"] * applied["block_size"] == applied["kv_cache_tokens"]
    assert (applied["engine_core"], applied["weights"], applied["weights_seed"]) == (
        "in_process",
        "trained",
        None,
    )
    sampled = measurement(served["sampled"])["effective"]
    assert (sampled["temperature"], sampled["top_k"], sampled["min_p"]) == (0.7, 5, 0.1)


def test_random_weights_need_a_config_alone(served: Experiments) -> None:
    """A folder with config.json is served with weights drawn at random in the precision that was asked for."""
    applied = measurement(served["without weights"])["effective"]
    assert (applied["weights"], applied["weights_seed"], applied["load_format"]) == ("random", 1234, "dummy")
    assert list(applied["parameter_count_by_dtype"]) == ["bfloat16"]


def test_launches_are_forked(served: Experiments) -> None:
    """Importing vLLM and our engine starts no thread, so launches are forked from a parent that has done it once."""
    launches = {
        result["measurement"]["launch"]["id"]: result["measurement"]["launch"]
        for result in served.values()
        if result["measurement"]
    }
    assert {launch["start_method"] for launch in launches.values()} == {"forkserver"}


# --- Refusals ---


def refusal(result: dict[str, Any]) -> str:
    """Return the sentence of an experiment that is no valid configuration."""
    assert result["failure"]["kind"] == "invalid_config"
    return str(result["failure"]["message"])


def test_prompts_that_do_not_fit_are_refused(served: Experiments) -> None:
    """A prompt with its answer beyond max_model_len, and texts for a model without a tokenizer, are refused."""
    assert refusal(served["too long"]).startswith(
        "the longest prompt and 8 output tokens make 133 tokens, max_model_len is 128:"
    )
    assert "no tokenizer" in refusal(served["without a cache"])


@pytest.mark.key("vllm.attention_backend")
def test_a_value_that_was_not_applied_is_named_with_both(refused: Experiments) -> None:
    """A kernel that this device has is used; of one that it replaces silently both values are named."""
    assert measurement(refused["this kernel"])["effective"]["attention_backend"] == "CPU_ATTN"
    assert refusal(refused["another kernel"]) == (
        "the engine did not apply attention_backend (asked 'FLASH_ATTN', applied 'CPU_ATTN')"
    )
    assert refusal(refused["other weights"]) == (
        "the engine did not apply load_format (asked 'safetensors', applied 'dummy')"
    )


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no such kernel", "Unknown attention backend: 'NONSENSE'. Valid options are: "),
        (
            "longer than the model",
            "User-specified max_model_len (4096) is greater than the derived max_model_len",
        ),
        ("no room", "No available memory for the cache blocks."),
    ],
)
def test_what_vllm_refuses_is_one_sentence(refused: Experiments, name: str, sentence: str) -> None:
    """The message holds vLLM's own reason for not loading."""
    assert refusal(refused[name]).startswith(f"vLLM cannot load trained: {sentence}")

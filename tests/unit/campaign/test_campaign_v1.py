"""Files of llenergymeasure v1 load, and mean what their authors meant."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_llem.backends.registry import registered
from pytest_llem.campaign.loader import LoadedCampaign, load

BACKENDS = {name: registered()[name] for name in ("pytorch", "tensorrt", "vllm")}


def write(folder: Path, **files: str) -> LoadedCampaign:
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(textwrap.dedent(content))
    return load(folder / "campaign.yaml", folder, backends=BACKENDS)


def experiment(folder: Path, text: str) -> LoadedCampaign:
    """Load a campaign of one experiment file, which lacks only its model."""
    campaign = "campaign_name: c\nmodel: m\nconfigs: [e.yaml]\n"
    return write(folder, campaign=campaign, e=text)


def said(loaded: LoadedCampaign) -> dict[str, Any]:
    """Return what the one experiment says."""
    (fragment,) = loaded.fragments
    return fragment.fragment


def note(loaded: LoadedCampaign, start: str) -> str:
    (found,) = [each for each in loaded.notes if each.startswith(start)]
    return found


class TestCampaigns:
    CAMPAIGN = """
        schema_version: '3.0.0'
        campaign_name: two-backends
        model: org/small
        dataset: mmlu
        num_samples: 50
        grid:
          backends: [pytorch, vllm]
          shared:
            batch_size: [2, 16]
            fp_precision: [bfloat16]
            decoder.preset: [deterministic]
            max_new_tokens: [32]
          backend_overrides:
            pytorch: {attn_implementation: [sdpa, eager], num_processes: 1}
            vllm: {enforce_eager: true}
        execution: {cycles: 4, warmup_prompts: 3, cycle_gap_seconds: 120}
        schedule: {at: "22:00", days: weekdays}
        io: {results_dir: out, configs_dir: configs, state_dir: .state, manifest_filename: m.json}
        daemon: null
        """

    def test_a_campaign_keeps_its_grid(self, tmp_path: Path) -> None:
        """Every axis, override and setting of a v1 campaign is there, under today's names."""
        campaign = write(tmp_path, campaign=self.CAMPAIGN).campaign
        assert campaign.grid is not None
        assert campaign.grid.shared == {
            "batch_size": (2, 16),
            "fp_precision": ("bfloat16",),
            "decoder.preset": ("deterministic",),
            "max_output_tokens": (32,),
        }
        assert campaign.grid.backend_overrides == {
            "pytorch": {"pytorch.attn_implementation": ["sdpa", "eager"]},
            "vllm": {"vllm.enforce_eager": [True]},
        }
        assert (campaign.model, campaign.dataset, campaign.num_samples) == ("org/small", "cais/mmlu", 50)
        assert campaign.defaults == {"dataset": {"split": "test", "subset": "all", "column": "question"}}
        assert (campaign.execution.cycles, campaign.io.results_dir) == (4, "out")

    def test_keys_without_effect_share_one_note(self, tmp_path: Path) -> None:
        """What has no meaning here is accepted and named once."""
        assert note(write(tmp_path, campaign=self.CAMPAIGN), "without") == (
            "without effect here, known from llenergymeasure v1: schedule, io.configs_dir, io.state_dir, "
            "io.manifest_filename"
        )

    def test_other_defaults_share_one_note(self, tmp_path: Path) -> None:
        """The defaults that a v1 campaign relied on are named with both values; those it sets are not."""
        assert note(write(tmp_path, campaign=self.CAMPAIGN), "defaults") == (
            "defaults that differ from llenergymeasure v1's: execution.structure shuffled (v1: interleaved), "
            "execution.config_gap_seconds 10 (v1: 60), execution.warmup_timeout_seconds 120 (v1: 30), "
            "warmup.cv_threshold 0.02 (v1: 0.05), output_length exact (v1: natural), "
            "vllm.gpu_memory_utilization null (v1: 0.9), vllm.enable_prefix_caching null (v1: false), "
            "vllm.enable_chunked_prefill null (v1: false)"
        )

    def test_defaults_of_a_backend_are_named_where_it_is_used(self, tmp_path: Path) -> None:
        """A v1 campaign without vLLM hears nothing of vLLM's defaults."""
        campaign = self.CAMPAIGN.replace("[pytorch, vllm]", "[pytorch]").replace(
            "vllm: {enforce_eager: true}", ""
        )
        assert "vllm" not in note(write(tmp_path, campaign=campaign), "defaults")

    def test_a_campaign_of_this_version_hears_nothing_of_v1(self, tmp_path: Path) -> None:
        """Without a v1 version or a v1 key, v1's defaults are nobody's business."""
        text = "schema_version: '1'\ncampaign_name: c\nmodel: m\ngrid: {backends: [vllm]}\n"
        assert write(tmp_path, campaign=text).notes == ()

    def test_the_prompts_of_a_v1_campaign_win_over_its_files(self, tmp_path: Path) -> None:
        """v1 let the campaign's data set and size win over those of experiment files: so they do for v1."""
        campaign = "campaign_name: c\nmodel: m\ndataset: alpaca\nnum_samples: 9\nconfigs: [e.yaml]\n"
        e = "num_input_prompts: 5\ndataset: {name: gsm8k, sample_size: 5}\n"
        ours = write(tmp_path, campaign=campaign, e=e)
        assert said(ours)["num_input_prompts"] == 5
        assert ours.notes == ("dataset and num_samples give way to what these files say: e.yaml",)
        theirs = write(tmp_path, campaign=f"schema_version: 3.0.0\n{campaign}", e=e)
        assert said(theirs) == {}
        assert note(theirs, "dataset") == (
            "dataset and num_samples win, as in llenergymeasure v1, over what these files say: e.yaml"
        )


RENAMED = """
max_new_tokens: 64
    {max_output_tokens: 64}
batch_size: 4
    {pytorch: {batch_size: 4}}
{backend: vllm, batch_size: 4}
    {backend: vllm, vllm: {max_num_seqs: 4}}
batching: {strategy: sorted_static, batch_size: 2}
    {pytorch: {batching_strategy: sorted_static, batch_size: 2}}
gpus: 1
    {gpus: [1]}
gpus: [0, 1]
    {gpus: [0, 1]}
sharding: {strategy: none, num_shards: 1}
    {}
{backend: vllm, sharding: {strategy: tensor_parallel, num_shards: 2}}
    {backend: vllm, vllm: {tensor_parallel_size: 2}}
{backend: tensorrt, sharding: {strategy: pipeline_parallel, num_shards: 2}}
    {backend: tensorrt, tensorrt: {pipeline_parallel_size: 2}}
num_processes: 1
    {}
traffic_simulation: {enabled: false, mode: poisson, target_qps: 5}
    {}
traffic_simulation: {mode: poisson}
    {}
traffic_simulation: {enabled: true, mode: constant, target_qps: 3}
    {load: {mode: constant, rate: 3.0}}
traffic_simulation: {enabled: true}
    {load: {mode: poisson, rate: 1.0}}
min_output_tokens: 0
    {output_length: natural}
{min_output_tokens: 8, max_output_tokens: 8}
    {output_length: exact, max_output_tokens: 8}
adapter: null
    {}
dataset: alpaca
    {dataset: {name: tatsu-lab/alpaca, split: train, subset: null, column: instruction}}
dataset: {name: gsm8k, column: answer, sample_size: 3}
    {dataset: {name: gsm8k, split: train, subset: main, column: answer, sample_size: 3}}
prompts: {type: huggingface, dataset: a/b, split: test, sample_size: 3}
    {dataset: {name: a/b, split: test, subset: null, column: null, sample_size: 3}}
prompts: {type: file, path: prompts.txt}
    {prompts_file: prompts.txt}
decoder: {temperature: 1, min_p: 0.1, no_repeat_ngram_size: 2}
    {decoder: {temperature: 1.0}, pytorch: {min_p: 0.1, no_repeat_ngram_size: 2}}
pytorch: {beam_search: {enabled: false, num_beams: 4}}
    {}
pytorch: {beam_search: {enabled: true, num_beams: 4, no_repeat_ngram_size: 3}}
    {pytorch: {num_beams: 4, no_repeat_ngram_size: 3}}
pytorch: {extra: {}, max_memory: null, torch_compile: true}
    {pytorch: {torch_compile: default}}
vllm: {attention: {backend: auto, flash_version: null, disable_sliding_window: true}}
    {vllm: {disable_sliding_window: true}}
vllm: {attention: {backend: FLASHINFER}, distributed_backend: ray}
    {vllm: {attention_backend: FLASHINFER, distributed_executor_backend: ray}}
vllm: {lora: {enabled: false, max_loras: 2, max_rank: 8}, swap_space: 4}
    {}
vllm: {speculative: {model: small, num_tokens: 3, method: eagle}}
    {vllm: {speculative_config: {method: eagle, num_speculative_tokens: 3, model: small}}}
tensorrt: {tp_size: 2, pp_size: 1, quantization: int4_awq, builder_opt_level: 3, kv_cache_type: paged}
    {tensorrt: {tensor_parallel_size: 2, pipeline_parallel_size: 1, quant_algo: W4A16_AWQ}}
tensorrt: {gpu_memory_utilization: 0.8, enable_chunked_context: false, enable_kv_cache_reuse: true}
    {tensorrt: {free_gpu_memory_fraction: 0.8, enable_chunked_prefill: false, enable_block_reuse: true}}
tensorrt: {quantization: none, draft_model: small, num_draft_tokens: 3}
    {tensorrt: {quant_algo: null, speculative_model: small, max_draft_len: 3}}
"""
"""One key of v1 a line, with what it is today indented below."""

LINES = RENAMED.strip().splitlines()
PAIRS = list(zip(LINES[::2], LINES[1::2], strict=True))


class TestExperiments:
    @pytest.mark.parametrize(("then", "now"), PAIRS)
    def test_a_renamed_key_keeps_its_meaning(self, tmp_path: Path, then: str, now: str) -> None:
        """Each key of v1 becomes what says the same today."""
        assert json.loads(json.dumps(said(experiment(tmp_path, then)))) == yaml.safe_load(now)

    def test_what_changes_nothing_is_accepted_with_one_note(self, tmp_path: Path) -> None:
        """Keys about outputs, schedules and the like are named once and do nothing."""
        loaded = experiment(
            tmp_path,
            "save_outputs: true\ndecode_token_to_text: false\nquery_rate: 1.0\nstreaming_warmup_requests: 5\n"
            "extra_metadata: {who: me}\nschedule: {enabled: true}\nio: {results_dir: x}\n"
            "baseline: {required: true, sample_interval_ms: 100}\npytorch: {low_cpu_mem_usage: true}\n",
        )
        assert said(loaded) == {}
        assert note(loaded, "without") == (
            "without effect here, known from llenergymeasure v1: save_outputs, decode_token_to_text, "
            "query_rate, streaming_warmup_requests, extra_metadata, schedule, io, baseline.required, "
            "baseline.sample_interval_ms, pytorch.low_cpu_mem_usage"
        )

    def test_dynamic_batches_become_static_ones_and_say_so(self, tmp_path: Path) -> None:
        """Batches up to a limit keep their limit; that there is no token budget is a note."""
        loaded = experiment(tmp_path, "pytorch: {batching_strategy: sorted_dynamic, batch_size: 8}")
        assert said(loaded) == {"pytorch": {"batching_strategy": "sorted_static", "batch_size": 8}}
        assert note(loaded, "pytorch") == (
            "pytorch.batching_strategy: sorted_dynamic runs as sorted_static: batches of batch_size prompts, "
            "no token budget"
        )

"""What the rules say: each of them has a configuration of which it speaks, and a neighbour that it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pytest_llem.backends.base import BackendSpec
from pytest_llem.backends.pytorch.spec import SPEC as PYTORCH
from pytest_llem.backends.tensorrt.spec import SPEC as TENSORRT
from pytest_llem.backends.vllm.spec import SPEC as VLLM
from pytest_llem.campaign.drafts import whole
from pytest_llem.campaign.host import Device, Host
from pytest_llem.campaign.identity import Files
from pytest_llem.campaign.parts import parts_of
from pytest_llem.campaign.rules import (
    FILTERED,
    WARNED,
    WITHOUT_EFFECT,
    Candidate,
    Finding,
    Judge,
    Rule,
    Surroundings,
    candidate,
)
from pytest_llem.campaign.rules.judge import SHARED
from pytest_llem.campaign.rules.models import checkpoint_quantization
from pytest_llem.campaign.rules.rule import DERIVED

RULES = FILTERED + WARNED
QUANTO = {"quant_method": "quanto"}
SPECULATION = {"method": "ngram", "num_speculative_tokens": 4}
GB = 10**9

LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 16,
    "hidden_size": 2048,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 8192,
    "vocab_size": 128_256,
    "tie_word_embeddings": True,
    "max_position_embeddings": 131_072,
}
"""Llama 3.2 with 1.24e9 parameters and a KV cache of 16,384 numbers a token."""

GPTQ = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
FP8 = {"quantization_config": {"quant_method": "fp8"}}


def host(
    capability: tuple[int, int] | None = (9, 0),
    *,
    gpus: int = 1,
    memory_bytes: int = 80 * GB,
    **modules: bool,
) -> Host:
    """Return a machine with so many equal GPUs."""
    devices = tuple(Device(index, f"GPU-{index}", capability, memory_bytes) for index in range(gpus))
    return Host(devices, modules={"pytorch": modules})


TURING, AMPERE, ADA, HOPPER = (host(capability) for capability in ((7, 5), (8, 6), (8, 9), (9, 0)))


class Known(Files):
    """The files of a machine on which every model is a folder with this `config.json`."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(Path("nowhere"))
        self._config = dict(config)

    def mapping(self, path: str) -> dict[str, Any]:
        return self._config if path.endswith("/config.json") else {}


def point(
    spec: BackendSpec = PYTORCH,
    *,
    machine: Host | None = HOPPER,
    config: Mapping[str, Any] | None = None,
    folder: Path = Path("nowhere"),
    sections: frozenset[str] = frozenset(),
    parameters: dict[str, Any] | None = None,
    **fields: Any,
) -> Candidate:
    """Return a point as the grid hands it to the rules, on a machine that has what is asked for."""
    usual = {"model_name": "m", "num_input_prompts": 10_000}
    parts = parts_of(whole({**usual, **fields, spec.name: parameters or {}}, spec), spec, {spec.name})
    files = Files(folder) if config is None else Known(config)
    return candidate(spec, parts, Surroundings(files, machine), sections)


def vllm(**parameters: Any) -> Candidate:
    return point(VLLM, parameters={"max_num_seqs": 8} | parameters)


def tensorrt(**parameters: Any) -> Candidate:
    return point(TENSORRT, parameters=parameters)


def pytorch(**parameters: Any) -> Candidate:
    return point(parameters=parameters)


class Case(NamedTuple):
    """One rule: what it speaks of, and a neighbour that it leaves alone."""

    rule: str
    held: Candidate
    free: Candidate


CASES = [
    # --- Backends and GPUs ---
    Case("no engine", point(replace(PYTORCH, engine=None)), point()),
    Case(
        "foreign section",
        point(sections=frozenset({"vllm"})),
        point(sections=frozenset({"pytorch"})),
    ),
    Case("no NVIDIA GPU", point(TENSORRT, machine=Host()), point(TENSORRT)),
    Case(
        "too few GPUs",
        point(
            TENSORRT,
            parameters={"tensor_parallel_size": 2, "pipeline_parallel_size": 2},
            machine=host(gpus=3),
        ),
        point(
            TENSORRT,
            parameters={"tensor_parallel_size": 2, "pipeline_parallel_size": 2},
            machine=host(gpus=4),
        ),
    ),
    Case(
        "too few GPUs",
        point(
            VLLM, parameters={"tensor_parallel_size": 2, "max_num_seqs": 8}, gpus=(1,), machine=host(gpus=4)
        ),
        point(
            VLLM, parameters={"tensor_parallel_size": 2, "max_num_seqs": 8}, gpus=(1, 3), machine=host(gpus=4)
        ),
    ),
    # --- Prompts, load, warm-up ---
    Case(
        "small dataset",
        point(dataset={"name": "d", "sample_size": 9_999}),
        point(dataset={"name": "d", "sample_size": 10_000}),
    ),
    Case(
        "warm-up without room",
        point(warmup={"min_prompts": 9, "max_prompts": 8}),
        point(warmup={"min_prompts": 8, "max_prompts": 8}),
    ),
    Case(
        "closed loop without clients",
        point(load={"mode": "closed"}),
        point(load={"mode": "closed", "concurrency": 4}),
    ),
    Case(
        "open loop without rate", point(load={"mode": "poisson"}), point(load={"mode": "poisson", "rate": 2})
    ),
    Case(
        "few prompts",
        point(num_input_prompts=79, parameters={"batch_size": 8}),
        point(num_input_prompts=80, parameters={"batch_size": 8}),
    ),
    Case(
        "few prompts",
        point(VLLM, num_input_prompts=2559, parameters={"max_num_seqs": 256}),
        point(VLLM, num_input_prompts=2560, parameters={"max_num_seqs": 256}),
    ),
    # --- Models ---
    Case(
        "speculation on random weights",
        point(VLLM, model_name="random:x", parameters={"speculative_config": SPECULATION}),
        point(VLLM, model_name="x", parameters={"speculative_config": SPECULATION}),
    ),
    Case(
        "speculation on random weights",
        point(TENSORRT, model_name="random:x", parameters={"speculative_model": "y", "backend": "pytorch"}),
        point(TENSORRT, model_name="random:x"),
    ),
    Case(
        "heads over GPUs",
        point(VLLM, config=LLAMA, parameters={"tensor_parallel_size": 3}, machine=host(gpus=4)),
        point(VLLM, config=LLAMA, parameters={"tensor_parallel_size": 4}, machine=host(gpus=4)),
    ),
    Case(
        "stages without layers",
        point(TENSORRT, config=LLAMA, parameters={"pipeline_parallel_size": 17}, machine=host(gpus=17)),
        point(TENSORRT, config=LLAMA, parameters={"pipeline_parallel_size": 16}, machine=host(gpus=16)),
    ),
    Case(
        "random experts",
        point(config={"num_local_experts": 8}, model_name="random:m"),
        point(config={"num_local_experts": 8}, model_name="m"),
    ),
    Case(
        "beyond the context",
        point(config={"n_positions": 1024}, max_input_tokens=1000, max_output_tokens=25),
        point(config={"n_positions": 1024}, max_input_tokens=1000, max_output_tokens=24),
    ),
    # --- pytorch ---
    Case(
        "4 and 8 bits",
        pytorch(load_in_4bit=True, load_in_8bit=True),
        pytorch(load_in_8bit=True),
    ),
    Case(
        "quantised twice",
        pytorch(quantization_config=QUANTO, load_in_8bit=True),
        pytorch(quantization_config=QUANTO),
    ),
    Case(
        "quantised otherwise",
        point(config=GPTQ, parameters={"load_in_4bit": True}),
        point(config=GPTQ, parameters={"quantization_config": {"quant_method": "gptq"}}),
    ),
    Case(
        "flash attention in float32",
        point(
            fp_precision="float32",
            parameters={"attn_implementation": "flash_attention_2"},
            machine=host(flash_attn=True, kernels=False),
        ),
        point(fp_precision="float32", parameters={"attn_implementation": "sdpa"}),
    ),
    Case(
        "flash attention on the CPU",
        point(
            parameters={"attn_implementation": "flash_attention_2", "device": "cpu"},
            machine=host(flash_attn=True, kernels=False),
        ),
        pytorch(device="cpu"),
    ),
    Case(
        "flash attention without its package",
        point(
            parameters={"attn_implementation": "flash_attention_2"},
            machine=host(flash_attn=False, kernels=False),
        ),
        point(
            parameters={"attn_implementation": "flash_attention_2"},
            machine=host(flash_attn=False, kernels=True),
        ),
    ),
    Case(
        "CUDA graphs on the CPU",
        pytorch(torch_compile="reduce-overhead", device="cpu"),
        pytorch(torch_compile="reduce-overhead"),
    ),
    Case(
        "mode of another compiler",
        pytorch(torch_compile="max-autotune", torch_compile_backend="eager"),
        pytorch(torch_compile=True, torch_compile_backend="eager"),
    ),
    Case(
        "offloading on the CPU",
        pytorch(cache_implementation="offloaded", device="cpu"),
        pytorch(cache_implementation="offloaded"),
    ),
    Case(
        "fp8 weights of transformers",
        point(parameters={"quantization_config": {"quant_method": "fp8"}}, machine=AMPERE),
        point(parameters={"quantization_config": {"quant_method": "fp8"}}, machine=ADA),
    ),
    # --- vllm ---
    Case(
        "fewer tokens than requests",
        vllm(max_num_batched_tokens=7),
        vllm(max_num_batched_tokens=8),
    ),
    Case(
        "prompts in one piece",
        vllm(max_num_batched_tokens=2048, max_model_len=4096, enable_chunked_prefill=False),
        vllm(max_num_batched_tokens=2048, max_model_len=4096),
    ),
    Case("requests above max_model_len", vllm(max_model_len=639), vllm(max_model_len=640)),
    Case(
        "method without its checkpoint",
        point(VLLM, config=LLAMA, parameters={"quantization": "awq_marlin"}),
        point(VLLM, config=LLAMA, parameters={"quantization": "fp8"}),
    ),
    Case(
        "checkpoint of another method",
        point(VLLM, config=GPTQ, parameters={"quantization": "awq"}),
        point(VLLM, config=GPTQ, parameters={"quantization": "gptq_marlin"}),
    ),
    Case(
        "fp8 cache",
        point(VLLM, parameters={"kv_cache_dtype": "fp8_e4m3"}, machine=AMPERE),
        point(VLLM, parameters={"kv_cache_dtype": "fp8_e4m3"}, machine=ADA),
    ),
    Case(
        "bfloat16",
        point(VLLM, fp_precision="bfloat16", machine=TURING),
        point(VLLM, fp_precision="bfloat16", machine=AMPERE),
    ),
    Case(
        "fp8 weights",
        point(VLLM, parameters={"quantization": "fp8"}, machine=AMPERE),
        point(VLLM, parameters={"quantization": "fp8"}, machine=ADA),
    ),
    Case(
        "fp8 weights",
        point(VLLM, parameters={"quantization": "fp8_per_block"}, machine=AMPERE),
        point(VLLM, parameters={"quantization": "int8_per_channel_weight_only"}, machine=AMPERE),
    ),
    Case("fp8 weights", point(VLLM, config=FP8, machine=AMPERE), point(VLLM, config=FP8, machine=ADA)),
    # --- tensorrt ---
    Case("float32", point(TENSORRT, fp_precision="float32"), point(TENSORRT, fp_precision="bfloat16")),
    Case("prompts above max_input_len", tensorrt(max_input_len=511), tensorrt(max_input_len=512)),
    Case("requests above max_seq_len", tensorrt(max_seq_len=639), tensorrt(max_seq_len=640)),
    Case(
        "prompts above sequences",
        tensorrt(max_input_len=1024, max_seq_len=1000),
        tensorrt(max_input_len=1000, max_seq_len=1000),
    ),
    Case("fewer tokens than sequences", tensorrt(max_num_tokens=7), tensorrt(max_num_tokens=8)),
    Case(
        "prompts above a step",
        tensorrt(max_num_tokens=512, max_input_len=1024, enable_chunked_prefill=False),
        tensorrt(max_num_tokens=512, max_input_len=1024),
    ),
    Case(
        "quantised checkpoint",
        point(TENSORRT, config=GPTQ, parameters={"quant_algo": "FP8"}),
        point(TENSORRT, config=GPTQ),
    ),
    Case(
        "fp8",
        point(TENSORRT, parameters={"kv_cache_quant_algo": "FP8"}, machine=AMPERE),
        point(TENSORRT, parameters={"kv_cache_quant_algo": "INT8"}, machine=AMPERE),
    ),
    Case(
        "fp8",
        point(TENSORRT, config=FP8, machine=AMPERE),
        point(TENSORRT, config=FP8, machine=AMPERE, parameters={"engine_path": "built"}),
    ),
    Case(
        "fp4",
        point(TENSORRT, parameters={"quant_algo": "NVFP4"}, machine=HOPPER),
        point(TENSORRT, parameters={"quant_algo": "NVFP4"}, machine=host((10, 0))),
    ),
    Case(
        "bfloat16 of TensorRT-LLM",
        point(TENSORRT, fp_precision="bfloat16", machine=TURING),
        point(TENSORRT, fp_precision="float16", machine=TURING),
    ),
    # --- Memory: 2.47 GB of weights in 16 bits, 32.8 kB of cache a token ---
    Case(
        "memory of pytorch",
        point(config=LLAMA, parameters={"batch_size": 1000}, machine=host(memory_bytes=23 * GB)),
        point(config=LLAMA, parameters={"batch_size": 1000}, machine=host(memory_bytes=24 * GB)),
    ),
    Case(
        "memory of pytorch",
        point(config=LLAMA, machine=host(memory_bytes=GB)),
        point(config=LLAMA, machine=host(memory_bytes=GB), parameters={"load_in_4bit": True}),
    ),
    Case(
        "memory of vllm",
        point(VLLM, config=LLAMA, machine=host(memory_bytes=2 * GB)),
        point(
            VLLM,
            config=LLAMA,
            machine=host(memory_bytes=2 * GB, gpus=2),
            parameters={"tensor_parallel_size": 2},
        ),
    ),
    Case(
        "memory of vllm",
        point(
            VLLM, config=LLAMA, machine=host(memory_bytes=3 * GB), parameters={"gpu_memory_utilization": 0.8}
        ),
        point(
            VLLM, config=LLAMA, machine=host(memory_bytes=3 * GB), parameters={"gpu_memory_utilization": 0.9}
        ),
    ),
    Case(
        "memory of tensorrt",
        point(TENSORRT, config=LLAMA, machine=host(memory_bytes=2 * GB)),
        point(TENSORRT, config=LLAMA, machine=host(memory_bytes=2 * GB), parameters={"quant_algo": "FP8"}),
    ),
]


def rule_named(name: str) -> Rule:
    (rule,) = (rule for rule in RULES if rule.name == name)
    return rule


def findings(it: Candidate) -> list[Finding]:
    """Return what the rules of a campaign that has no other points say."""
    return Judge(FILTERED, WARNED, WITHOUT_EFFECT).findings(it)


def said(it: Candidate) -> list[tuple[str, str]]:
    """Return verdicts and reasons."""
    return [(finding.verdict, finding.reason) for finding in findings(it)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_rule_holds_for_what_it_speaks_of_and_for_nothing_beside_it(case: Case) -> None:
    """Each rule gives its verdict with its reason, and leaves a harmless neighbour valid."""
    rule = rule_named(case.rule)
    expected = "filtered" if rule in FILTERED else "warned"
    assert (expected, rule.reason.format(backend=case.held.spec.name)) in said(case.held)
    assert said(case.free) == []


@pytest.mark.parametrize(
    ("own", "asked"), [("gptq", "humming"), ("gptq", "moe_wna16"), ("modelopt", "modelopt_fp4")]
)
def test_a_method_that_may_take_a_checkpoint_over_is_left_to_vllm(own: str, asked: str) -> None:
    """Only formats that are known to exclude each other are filtered: vLLM reads some of them by other methods."""
    config = {"quantization_config": {"quant_method": own}}
    assert said(point(VLLM, config=config, parameters={"quantization": asked})) == []


@pytest.mark.parametrize(
    ("said_of_it", "method"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"load_in_8bit": True}, "bitsandbytes"),
        ({"bits": 4}, None),
        ({"quant_method": None}, None),
        ("gptq", None),
    ],
)
def test_a_checkpoint_has_the_method_that_it_names(said_of_it: Any, method: str | None) -> None:
    """What names no method has none, but for the flags by which transformers knows bitsandbytes."""
    assert checkpoint_quantization({"quantization_config": said_of_it}) == method


def test_prompts_file_that_cannot_be_read_is_filtered(tmp_path: Path) -> None:
    """A missing file is said before anything runs, not by the worker."""
    (tmp_path / "here.txt").write_text("one\n")
    absent, here = (point(folder=tmp_path, prompts_file=f"{name}.txt") for name in ("absent", "here"))
    assert said(absent) == [("filtered", rule_named("prompts file").reason)]
    assert said(here) == []


def test_two_sources_of_prompts_are_filtered(tmp_path: Path) -> None:
    """Nothing decides in silence whether a file or a data set is measured."""
    (tmp_path / "here.txt").write_text("one\n")
    both = point(folder=tmp_path, prompts_file="here.txt", dataset={"name": "d"})
    assert said(both) == [("filtered", rule_named("two workloads").reason)]


def test_every_rule_has_a_test() -> None:
    """No rule is on the list without an example of what it holds for."""
    tested = {case.rule for case in CASES} | {"prompts file", "two workloads"}
    assert tested == {rule.name for rule in RULES}
    assert len(RULES) == len(tested)


@pytest.mark.parametrize("rule", [*RULES, *WITHOUT_EFFECT], ids=lambda rule: rule.name)
def test_every_rule_reads_facts_that_there_are(rule: Any) -> None:
    """A slip in the name of an argument would only be met by the first campaign with that backend."""
    fields = point().texts.keys() | SHARED | DERIVED.keys()
    assert set(rule.reads) <= fields


# --- What is known of a model ---


@pytest.mark.parametrize("count", ["num_local_experts", "num_experts", "n_routed_experts"])
def test_random_mixture_of_experts_is_warned(count: str, tmp_path: Path) -> None:
    """The architecture is known from `config.json`; one expert, or none, is no mixture."""
    for folder, experts in (("mixture", 8), ("dense", 1), ("unsaid", None)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps({count: experts}))
    assert said(point(folder=tmp_path, model_name="random:mixture")) == [
        ("warned", rule_named("random experts").reason)
    ]
    for harmless in ("mixture", "random:dense", "random:unsaid", "random:some/hub-model"):
        assert said(point(folder=tmp_path, model_name=harmless)) == []


@pytest.mark.parametrize(
    "parameters", [{"tensor_parallel_size": 3}, {"quantization": "awq"}, {"quantization": "gptq"}]
)
def test_a_model_on_a_hub_is_not_judged(parameters: dict[str, Any]) -> None:
    """A model whose `config.json` is not here may be anything."""
    assert said(point(VLLM, machine=host(gpus=4, memory_bytes=1), parameters=parameters)) == []


@pytest.mark.parametrize(
    "config", [{"model_type": "mamba"}, LLAMA | {"hidden_size": "wide"}, {"model_type": []}]
)
def test_an_unknown_architecture_is_no_problem(config: dict[str, Any]) -> None:
    """What a file leaves open, or says wrongly, filters nothing and raises nothing."""
    assert said(point(config=config, machine=host(memory_bytes=1))) == []


# --- What is known of a machine ---

PLAIN_TENSORRT = replace(TENSORRT, needs_nvidia_gpu=False)
BY_CAPABILITY = [
    point(VLLM, parameters={"kv_cache_dtype": "fp8"}),
    point(VLLM, parameters={"quantization": "fp8"}),
    point(PLAIN_TENSORRT, parameters={"quant_algo": "FP8"}),
    point(PLAIN_TENSORRT, parameters={"quant_algo": "NVFP4"}, machine=host((10, 0))),
    point(PLAIN_TENSORRT, fp_precision="bfloat16"),
]
VLLM_BFLOAT16 = point(VLLM, fp_precision="bfloat16")
BY_NUMBER = [point(VLLM, parameters={"tensor_parallel_size": 2}, machine=host(gpus=2))]
UNKNOWN = [
    *((it, machine) for it in BY_CAPABILITY + BY_NUMBER for machine in (None, Host())),
    *((it, host(None)) for it in BY_CAPABILITY),
    *((VLLM_BFLOAT16, machine) for machine in (None, host(None))),
]


@pytest.mark.parametrize(("it", "unknown"), UNKNOWN)
def test_what_needs_a_gpu_is_a_warning_where_none_is_known(it: Candidate, unknown: Host | None) -> None:
    """A grid for another machine can be validated on a laptop: what cannot be judged is said and not filtered."""
    assert said(it) == []
    (finding,) = findings(it._replace(surroundings=it.surroundings._replace(host=unknown)))
    assert finding.verdict == "warned"
    assert finding.reason.startswith("perhaps, not to be judged from here: ")


def test_vllm_on_the_cpu_computes_in_bfloat16() -> None:
    """A machine that is known to have no GPU leaves nothing to warn of: vLLM runs on its CPU."""
    assert said(point(VLLM, fp_precision="bfloat16", machine=Host())) == []


def test_a_backend_that_needs_nvidia_is_warned_where_nothing_is_known() -> None:
    """An engine on another machine may have the GPU that this one lacks."""
    reason = "tensorrt needs an NVIDIA GPU, and this machine has none"
    assert said(point(TENSORRT, machine=Host())) == [("filtered", reason)]
    assert said(point(TENSORRT, machine=None)) == [
        ("warned", f"perhaps, not to be judged from here: {reason}")
    ]


@pytest.mark.parametrize("machine", [None, Host(), Host((Device(0, "GPU-0"),))], ids=range(3))
def test_memory_is_not_judged_without_a_gpu(machine: Host | None) -> None:
    """Where no GPU's memory is known a point stays valid, and has what it needs: 1.24e9 x 2, 640 x 8 x 16,384 x 2."""
    (finding,) = findings(point(config=LLAMA, machine=machine, parameters={"batch_size": 8}))
    assert finding.verdict == "valid"
    assert finding.figures is not None
    assert finding.figures.text == "2.6 GB (weights 2.5, KV cache 0.2)"
    assert said(point(config=LLAMA, machine=machine, parameters={"device": "cpu"})) == []
    assert said(point(config={"model_type": "unheard"}, machine=machine)) == []


def test_the_largest_gpu_that_a_point_may_use_counts() -> None:
    """What could run somewhere is not filtered, unless `gpus` names the others."""
    small, large = Device(0, "GPU-a", (7, 5), GB), Device(1, "GPU-b", (9, 0), 80 * GB)
    machine = Host((small, large))
    fp8 = {"kv_cache_dtype": "fp8"}
    assert said(point(VLLM, config=LLAMA, machine=machine, parameters=fp8)) == []
    assert len(said(point(VLLM, config=LLAMA, machine=machine, parameters=fp8, gpus=(0,)))) == 2
    assert said(point(VLLM, config=LLAMA, machine=machine, parameters=fp8, gpus=("GPU-b",))) == []
    chosen = Host((small, large), chosen={"vllm": (small,)})
    assert len(said(point(VLLM, config=LLAMA, machine=chosen, parameters=fp8))) == 2


def test_memory_says_its_figures() -> None:
    """The finding has weights, cache and memory in GB: 1.24e9 parameters x 2, 640 tokens x 8 x 16,384 x 2."""
    (finding,) = findings(
        point(config=LLAMA, parameters={"batch_size": 8}, machine=host(memory_bytes=2 * GB))
    )
    assert finding.figures is not None
    assert finding.figures.text == "2.6 GB (weights 2.5, KV cache 0.2) into 2.0 GB"


def test_texts_that_may_be_short_fill_no_cache() -> None:
    """Only the tokens that are sure to come count: a text may be shorter than the longest prompt."""
    machine = host(memory_bytes=5 * GB)
    long: dict[str, Any] = {"config": LLAMA, "machine": machine, "max_input_tokens": 100_000}
    assert said(point(**long))[0][0] == "filtered"
    assert said(point(**long, dataset={"name": "d"}, output_length="natural")) == []


# --- Several rules ---


def test_filtering_outranks_warning() -> None:
    """A point that cannot run is not also warned of."""
    it = point(num_input_prompts=1, parameters={"load_in_4bit": True, "load_in_8bit": True})
    assert said(it) == [("filtered", rule_named("4 and 8 bits").reason)]


def test_all_reasons_of_a_verdict_are_given() -> None:
    """The author need not mend one thing to hear of the next."""
    it = point(
        VLLM,
        max_input_tokens=100,
        parameters={"max_model_len": 1, "max_num_batched_tokens": 1, "max_num_seqs": 2},
    )
    assert [verdict for verdict, _ in said(it)] == ["filtered", "filtered"]


def test_rules_of_one_backend_do_not_look_at_another() -> None:
    """A plug-in's section need not have the parameters that a rule for tensorrt reads."""
    plugin = replace(TENSORRT, name="plugin")
    assert said(point(plugin, fp_precision="float32")) == []


def test_a_rule_is_asked_once_about_equal_parts() -> None:
    """Points that share what a rule reads share its answer, and points that do not have their own."""
    asked: list[str] = []

    def reads_precision(fp_precision: str) -> bool:
        asked.append(fp_precision)
        return fp_precision == "float32"

    judge = Judge([Rule("counted", reads_precision, "counted")], [], [])
    answers = [
        bool(judge.findings(point(fp_precision=precision, random_seed=seed)))
        for precision in ("float16", "float32")
        for seed in range(3)
    ]
    assert answers == [False] * 3 + [True] * 3
    assert asked == ["float16", "float32"]

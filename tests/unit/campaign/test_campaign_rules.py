from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pytest_llem.backends.base import BackendSpec
from pytest_llem.backends.pytorch.spec import SPEC as PYTORCH
from pytest_llem.backends.tensorrt.spec import SPEC as TENSORRT
from pytest_llem.backends.vllm.spec import SPEC as VLLM
from pytest_llem.campaign.identity import Files
from pytest_llem.campaign.rules import FILTERED, WARNED, Candidate, Rule, judge
from pytest_llem.records import Configuration

RULES = FILTERED + WARNED
QUANTO = {"quant_method": "quanto"}
SPECULATION = {"method": "ngram", "num_speculative_tokens": 4}


def candidate(
    spec: BackendSpec = PYTORCH,
    *,
    folder: Path = Path("nowhere"),
    sections: frozenset[str] = frozenset(),
    parameters: dict[str, Any] | None = None,
    **fields: Any,
) -> Candidate:
    """Return a point with an engine, as the grid would hand it to the rules."""
    section = spec.parameters.model_validate(parameters or {}).model_dump(mode="json")
    usual = {"model_name": "gpt2", "num_input_prompts": 10_000, "backend": spec.name}
    configuration = Configuration.model_validate({**usual, **fields, "parameters": section})
    return Candidate(configuration, section, spec, Files(folder), sections)


def runnable(spec: BackendSpec) -> BackendSpec:
    """Return a spec as it will be when its engine is there."""
    return replace(spec, engine="some.engine")


class Case(NamedTuple):
    """One rule: what it speaks of, and a neighbour that it leaves alone."""

    rule: str
    held: Candidate
    free: Candidate


CASES = [
    Case("no engine", candidate(VLLM), candidate(runnable(VLLM))),
    Case(
        "foreign section",
        candidate(sections=frozenset({"vllm"})),
        candidate(sections=frozenset({"pytorch"})),
    ),
    Case(
        "small dataset",
        candidate(dataset={"name": "d", "sample_size": 9_999}),
        candidate(dataset={"name": "d", "sample_size": 10_000}),
    ),
    Case(
        "closed loop without clients",
        candidate(load={"mode": "closed"}),
        candidate(load={"mode": "closed", "concurrency": 4}),
    ),
    Case(
        "open loop without rate",
        candidate(load={"mode": "poisson"}),
        candidate(load={"mode": "poisson", "rate": 2}),
    ),
    Case(
        "clients of no closed loop",
        candidate(load={"mode": "constant", "rate": 2, "concurrency": 4}),
        candidate(load={"mode": "closed", "concurrency": 4}),
    ),
    Case(
        "rate of no open loop",
        candidate(load={"mode": "closed", "concurrency": 4, "rate": 2}),
        candidate(load={"mode": "constant", "rate": 2}),
    ),
    Case("requests of no load", candidate(load={"requests": 9}), candidate()),
    Case(
        "speculation on random weights",
        candidate(runnable(VLLM), model_name="random:x", parameters={"speculative_config": SPECULATION}),
        candidate(runnable(VLLM), model_name="x", parameters={"speculative_config": SPECULATION}),
    ),
    Case(
        "speculation on random weights",
        candidate(runnable(TENSORRT), model_name="random:x", parameters={"draft_model": "y"}),
        candidate(runnable(TENSORRT), model_name="random:x"),
    ),
    Case(
        "4 and 8 bits",
        candidate(parameters={"load_in_4bit": True, "load_in_8bit": True}),
        candidate(parameters={"load_in_8bit": True}),
    ),
    Case(
        "quantised twice",
        candidate(parameters={"quantization_config": QUANTO, "load_in_8bit": True}),
        candidate(parameters={"quantization_config": QUANTO}),
    ),
    Case(
        "flash attention in float32",
        candidate(fp_precision="float32", parameters={"attn_implementation": "flash_attention_2"}),
        candidate(fp_precision="float32", parameters={"attn_implementation": "sdpa"}),
    ),
    Case(
        "float32",
        candidate(runnable(TENSORRT), fp_precision="float32"),
        candidate(runnable(TENSORRT), fp_precision="bfloat16"),
    ),
    Case(
        "few prompts",
        candidate(num_input_prompts=79, parameters={"batch_size": 8}),
        candidate(num_input_prompts=80, parameters={"batch_size": 8}),
    ),
    Case(
        "few prompts",
        candidate(runnable(VLLM), num_input_prompts=2559),
        candidate(runnable(VLLM), num_input_prompts=2560),
    ),
    Case(
        "sampling without effect",
        candidate(decoder={"do_sample": False, "temperature": 0.7}),
        candidate(decoder={"do_sample": True, "temperature": 0.7}),
    ),
    Case(
        "sampling without effect",
        candidate(decoder={"preset": "deterministic", "top_k": 40}),
        candidate(decoder={"preset": "deterministic", "temperature": 0}),
    ),
    Case(
        "compile backend without compile",
        candidate(parameters={"torch_compile_backend": "inductor"}),
        candidate(parameters={"torch_compile_backend": "inductor", "torch_compile": True}),
    ),
    Case(
        "4-bit parameters without 4 bits",
        candidate(parameters={"bnb_4bit_quant_type": "fp4"}),
        candidate(parameters={"bnb_4bit_quant_type": "fp4", "load_in_4bit": True}),
    ),
    Case(
        "cache without cache",
        candidate(parameters={"use_cache": False, "cache_implementation": "static"}),
        candidate(parameters={"cache_implementation": "static"}),
    ),
]


def rule_named(name: str) -> Rule:
    (rule,) = (rule for rule in RULES if rule.name == name)
    return rule


def reasons_of(it: Candidate) -> tuple[str, ...]:
    return judge(it)[1]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_rule_holds_for_what_it_speaks_of_and_for_nothing_beside_it(case: Case) -> None:
    """Each rule gives its verdict with its reason, and leaves a harmless neighbour valid."""
    rule = rule_named(case.rule)
    expected = "filtered" if rule in FILTERED else "warned"
    assert judge(case.held) == (expected, (rule.reason.format(backend=case.held.spec.name),))
    assert judge(case.free) == ("valid", ())


def test_prompts_file_that_cannot_be_read_is_filtered(tmp_path: Path) -> None:
    """A missing file is said before anything runs, not by the worker."""
    (tmp_path / "here.txt").write_text("one\n")
    absent, here = (candidate(folder=tmp_path, prompts_file=f"{name}.txt") for name in ("absent", "here"))
    assert judge(absent) == ("filtered", (rule_named("prompts file").reason,))
    assert judge(here) == ("valid", ())


def test_two_sources_of_prompts_are_filtered(tmp_path: Path) -> None:
    """Nothing decides in silence whether a file or a data set is measured."""
    (tmp_path / "here.txt").write_text("one\n")
    both = candidate(folder=tmp_path, prompts_file="here.txt", dataset={"name": "d"})
    assert judge(both) == ("filtered", (rule_named("two workloads").reason,))


@pytest.mark.parametrize("count", ["num_local_experts", "num_experts", "n_routed_experts"])
def test_random_mixture_of_experts_is_warned(count: str, tmp_path: Path) -> None:
    """The architecture is known from `config.json`; one expert, or none, is no mixture."""
    for folder, experts in (("mixture", 8), ("dense", 1), ("unsaid", None)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps({count: experts}))
    warned = ("warned", (rule_named("random experts").reason,))
    assert judge(candidate(folder=tmp_path, model_name="random:mixture")) == warned
    for harmless in ("mixture", "random:dense", "random:unsaid", "random:some/hub-model"):
        assert judge(candidate(folder=tmp_path, model_name=harmless)) == ("valid", ())


def test_filtering_outranks_warning() -> None:
    """A point that cannot run is not also warned of."""
    it = candidate(num_input_prompts=1, parameters={"load_in_4bit": True, "load_in_8bit": True})
    assert judge(it) == ("filtered", (rule_named("4 and 8 bits").reason,))


def test_all_reasons_of_a_verdict_are_given() -> None:
    """The author need not mend one thing to hear of the next."""
    it = candidate(
        num_input_prompts=1, parameters={"torch_compile_backend": "inductor", "bnb_4bit_quant_type": "fp4"}
    )
    assert len(reasons_of(it)) == 3


def test_rules_of_one_backend_do_not_look_at_another() -> None:
    """A plug-in's section need not have the parameters that a rule for pytorch reads."""
    plugin = replace(runnable(TENSORRT), name="plugin")
    assert judge(candidate(plugin, fp_precision="float32")) == ("valid", ())


def test_every_rule_has_a_test() -> None:
    """No rule is on the list without an example of what it holds for."""
    tested = {case.rule for case in CASES} | {"prompts file", "two workloads", "random experts"}
    assert tested == {rule.name for rule in RULES}
    assert len(RULES) == len(tested)

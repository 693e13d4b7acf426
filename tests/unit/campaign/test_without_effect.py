"""Keys that change nothing: they are left out of a point, and points that then are equal are one."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.backends.base import BackendSpec
from pytest_llem.backends.pytorch.spec import SPEC as PYTORCH
from pytest_llem.backends.sampling import PRESETS, resolve
from pytest_llem.backends.tensorrt.spec import SPEC as TENSORRT
from pytest_llem.backends.vllm.spec import SPEC as VLLM
from pytest_llem.campaign.drafts import Draft, whole
from pytest_llem.campaign.effects import without
from pytest_llem.campaign.grid import Expansion, expand
from pytest_llem.campaign.identity import Files
from pytest_llem.campaign.loader import load
from pytest_llem.campaign.parts import parts_of, texts_of
from pytest_llem.campaign.rules import WITHOUT_EFFECT, Idle, Judge, Surroundings, candidate
from pytest_llem.records import Decoder

SPECS = {spec.name: spec for spec in (PYTORCH, VLLM, TENSORRT)}
GREEDY = {"do_sample": False}

Fragment = dict[str, Any]


class Case(NamedTuple):
    """An entry of the list: what leaves its keys without effect, what does not, and values for the keys."""

    name: str
    spec: BackendSpec
    off: Fragment
    on: Fragment
    values: Fragment


def pytorch(name: str, off: Fragment, on: Fragment, values: Fragment) -> Case:
    return Case(name, PYTORCH, {"pytorch": off}, {"pytorch": on}, {"pytorch": values})


def section(name: str, key: str, off: Fragment, on: Fragment, values: Fragment) -> Case:
    return Case(name, PYTORCH, {key: off}, {key: on}, {key: values})


CASES = [
    section(
        "candidates of greedy decoding", "decoder", GREEDY, {"do_sample": True}, {"top_p": 0.5, "top_k": 3}
    ),
    section("temperature of greedy decoding", "decoder", GREEDY, {"do_sample": True}, {"temperature": 0.7}),
    section("clients of no closed loop", "load", {"mode": "batch"}, {"mode": "closed"}, {"concurrency": 4}),
    section(
        "rate of no open loop",
        "load",
        {"mode": "closed", "concurrency": 4},
        {"mode": "poisson"},
        {"rate": 2.0},
    ),
    section(
        "requests of no load", "load", {"mode": "batch"}, {"mode": "constant", "rate": 1.0}, {"requests": 9}
    ),
    Case(
        "prefill of a load",
        PYTORCH,
        {"load": {"mode": "closed", "concurrency": 2}},
        {},
        {"prefill": {"enabled": True}},
    ),
    section(
        "warm-up that is off",
        "warmup",
        {"enabled": False},
        {},
        {
            "convergence_detection": False,
            "cv_threshold": 0.5,
            "min_prompts": 1,
            "max_prompts": 2,
            "window_size": 3,
        },
    ),
    section(
        "agreement that nobody waits for",
        "warmup",
        {"convergence_detection": False},
        {},
        {"cv_threshold": 0.5, "window_size": 3},
    ),
    section(
        "baseline that is off",
        "baseline",
        {"enabled": False},
        {},
        {"duration_sec": 1.0, "cache_ttl_sec": 2.0},
    ),
    section(
        "trace that is off", "timeseries", {"enabled": False}, {}, {"save": False, "sample_interval_ms": 10}
    ),
    pytorch(
        "4-bit parameters without 4 bits",
        {},
        {"load_in_4bit": True},
        {
            "bnb_4bit_compute_dtype": "float32",
            "bnb_4bit_quant_type": "fp4",
            "bnb_4bit_use_double_quant": True,
        },
    ),
    pytorch(
        "compile backend without compile", {}, {"torch_compile": True}, {"torch_compile_backend": "inductor"}
    ),
    pytorch("kind of cache without cache", {"use_cache": False}, {}, {"cache_implementation": "static"}),
    Case("min_p of greedy decoding", PYTORCH, {}, {"decoder": {"top_k": 5}}, {"pytorch": {"min_p": 0.1}}),
    Case(
        "CUDA graphs of eager mode",
        VLLM,
        {"vllm": {"enforce_eager": True}},
        {},
        {"vllm": {"cudagraph_capture_sizes": [1, 2]}},
    ),
    Case(
        "share beside a size",
        VLLM,
        {"vllm": {"kv_cache_memory_bytes": 1000}},
        {},
        {"vllm": {"gpu_memory_utilization": 0.5}},
    ),
    Case(
        "all-reduce of one GPU",
        VLLM,
        {},
        {"vllm": {"tensor_parallel_size": 2}},
        {"vllm": {"disable_custom_all_reduce": True}},
    ),
    Case("min_p of greedy decoding in vLLM", VLLM, {}, {"decoder": {"top_k": 5}}, {"vllm": {"min_p": 0.1}}),
    Case(
        "drafts of no model",
        TENSORRT,
        {},
        {"tensorrt": {"speculative_model": "draft", "backend": "pytorch"}},
        {"tensorrt": {"max_draft_len": 3}},
    ),
    *(
        Case(
            "cache without a build",
            TENSORRT,
            {"tensorrt": off},
            {},
            {"tensorrt": {"force_rebuild": True, "engine_cache_dir": "engines"}},
        )
        for off in ({"engine_path": "built"}, {"backend": "pytorch"})
    ),
    Case(
        "haste without a build",
        TENSORRT,
        {"tensorrt": {"engine_path": "built"}},
        {},
        {"tensorrt": {"fast_build": True}},
    ),
]


def joined(*fragments: Fragment) -> Fragment:
    """Return fragments laid over each other, section by section."""
    found: Fragment = {"model_name": "m"}
    for fragment in fragments:
        for key, value in fragment.items():
            found[key] = {**found.get(key, {}), **value}
    return found


def effective(spec: BackendSpec, *fragments: Fragment) -> tuple[Draft, list[Idle]]:
    """Return a point without what has no effect in it, and what that is."""
    fragment = whole(joined(*fragments), spec)
    draft = Draft(spec, parts_of(fragment, spec, set(SPECS)), {})
    it = candidate(spec, draft.parts, Surroundings(Files(Path("nowhere"))))
    idle = Judge((), (), WITHOUT_EFFECT).idle(it)
    return without(draft, idle), idle


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_key_is_left_out_where_it_has_no_effect_and_nowhere_else(case: Case) -> None:
    """Such a point has the texts of the one without the keys; beside it the keys are kept."""
    (entry,) = (one for one in WITHOUT_EFFECT if one.name == case.name)
    off, idle = effective(case.spec, case.off, case.values)
    plain, _ = effective(case.spec, case.off)
    assert texts_of(off.parts) == texts_of(plain.parts)
    assert {one.reason for one in idle if one.value is not None} == {
        f"{key} has no effect {entry.why}" for key in entry.keys
    }
    _, idle = effective(case.spec, case.on, case.values)
    assert not {one.key for one in idle if one.why == entry.why} & set(entry.keys)


def test_every_entry_has_a_test() -> None:
    """No key is left out without an example of why."""
    assert {case.name for case in CASES} == {one.name for one in WITHOUT_EFFECT}
    assert len(WITHOUT_EFFECT) == len({one.name for one in WITHOUT_EFFECT})


decoders = st.fixed_dictionaries(
    {},
    optional={
        "preset": st.sampled_from([name for name in PRESETS if name]),
        "do_sample": st.booleans(),
        "temperature": st.sampled_from([0.0, 0.7]),
        "top_p": st.sampled_from([0.9]),
        "top_k": st.sampled_from([5]),
        "repetition_penalty": st.sampled_from([1.2]),
    },
)


@given(decoders)
def test_what_is_left_out_of_a_decoder_never_changes_its_sampling(decoder: Fragment) -> None:
    """Whatever a decoder says, engines are told the same with and without the keys that have no effect."""
    draft, _ = effective(PYTORCH, {"decoder": decoder})
    assert resolve(draft.parts["decoder"].value) == resolve(Decoder(**decoder))


# --- In a grid ---

Expand = Callable[[str], Expansion]


@pytest.fixture
def expanded(tmp_path: Path) -> Expand:
    """Return a function that expands a campaign's YAML text."""

    def expanded(text: str) -> Expansion:
        path = tmp_path / "campaign.yaml"
        path.write_text("campaign_name: c\nmodel: m\nnum_samples: 10000\n" + textwrap.dedent(text))
        return expand(load(path, tmp_path, backends=SPECS), SPECS)

    return expanded


@pytest.mark.parametrize("types", ["[nf4, fp4]", "[fp4, nf4]"])
def test_points_that_differ_only_in_such_a_key_are_one(expanded: Expand, types: str) -> None:
    """The grid measures each of them once, names it without the key, and says why the others are not measured."""
    found = expanded(
        f"grid: {{backends: [pytorch], shared: {{load_in_4bit: [false, true], bnb_4bit_quant_type: {types}}}}}"
    )
    assert {p.label for p in found.points} == {
        "pytorch load_in_4bit=false",
        "pytorch load_in_4bit=true bnb_4bit_quant_type=nf4",
        "pytorch load_in_4bit=true bnb_4bit_quant_type=fp4",
    }
    assert (found.generated, found.merged) == (4, 1)
    assert found.differences == {"bnb_4bit_quant_type, which has no effect without load_in_4bit": 1}
    assert found.points[0].configuration.parameters["bnb_4bit_quant_type"] == "nf4"


def test_plainly_equal_points_are_counted_apart(expanded: Expand) -> None:
    """A value that is written twice is another matter than one without effect."""
    found = expanded("grid: {backends: [pytorch], shared: {batch_size: [1, 1], decoder.top_p: [0.5]}}")
    assert (found.merged, found.differences) == (1, {})


def test_points_that_differ_in_several_such_keys_are_told_once(expanded: Expand) -> None:
    """The sentence for a merged point names all keys in which it differs."""
    found = expanded(
        """
        defaults: {load: {mode: batch}, baseline: {enabled: false}}
        experiments:
          - {}
          - {load: {rate: 1}, baseline: {duration_sec: 3}}
          - {baseline: {duration_sec: 4}}
        """.replace("- {}", "- {max_output_tokens: 128}")
    )
    assert found.merged == 2
    assert sorted(found.differences.values()) == [1, 1]
    both = next(words for words in found.differences if "load.rate" in words)
    assert "baseline.duration_sec, which has no effect with baseline.enabled: false" in both


def test_a_key_without_effect_leaves_the_hash_alone(expanded: Expand) -> None:
    """To write or to remove such a key measures nothing again, and the point that has it is warned."""
    grid = "grid: {backends: [pytorch]}\n"
    (plain,) = expanded(grid).points
    (warned,) = expanded(grid + "defaults: {pytorch: {torch_compile_backend: inductor}}").points
    assert warned.spec_hash == plain.spec_hash
    assert warned.reasons == ("torch_compile_backend has no effect without torch_compile",)


def test_named_experiments_stay_apart(expanded: Expand) -> None:
    """Two names for what turns out to be one configuration are kept, as an A/A comparison is."""
    found = expanded(
        "experiments: [{config_name: a}, {config_name: b, pytorch: {torch_compile_backend: inductor}}]"
    )
    assert [p.label for p in found.points] == ["pytorch a", "pytorch b"]

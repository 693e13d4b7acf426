from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.backends.pytorch.spec import SPEC
from pytest_llem.campaign.drafts import whole
from pytest_llem.campaign.identity import (
    POINT_ID_BYTES,
    Files,
    SpecHashes,
    engine_key,
    limited,
    slug,
    twin_hash,
)
from pytest_llem.campaign.parts import Parts, parts_of, texts_of
from pytest_llem.campaign.schema import Execution, Window

NODE_ID = re.compile(r"[A-Za-z0-9._-]+")


def configured(parameters: dict[str, Any] | None = None, **fields: Any) -> Parts:
    """Return a pytorch configuration, as a point has it."""
    fragment = {"model_name": "gpt2", **fields, "pytorch": parameters or {}}
    return parts_of(whole(fragment, SPEC), SPEC, {"pytorch"})


def hashed(
    configuration: Parts,
    *,
    window: Window | None = None,
    execution: Execution | None = None,
    executor: str = "local",
    folder: Path = Path("nowhere"),
) -> str:
    """Return the spec hash of a configuration in usual surroundings."""
    hashes = SpecHashes(
        window=window or Window(),
        execution=execution or Execution(),
        executor=executor,
        files=Files(folder),
    )
    return hashes.of(configuration, texts_of(configuration))


def key(configuration: Parts) -> str:
    """Return the engine key of a configuration."""
    return engine_key(texts_of(configuration), SPEC)


# --- What the numbers depend on ---


def test_hash_is_sixteen_hex_digits_and_the_same_each_time() -> None:
    """The identity of a result can be compared between sessions, and written into a file name."""
    assert re.fullmatch("[0-9a-f]{16}", hashed(configured()))
    assert hashed(configured()) == hashed(configured())


@pytest.mark.parametrize(
    "changed",
    [
        {"model_name": "gpt2-medium"},
        {"max_input_tokens": 511},
        {"max_output_tokens": 129},
        {"num_input_prompts": 99},
        {"fp_precision": "bfloat16"},
        {"random_seed": 43},
        {"dataset": {"name": "tatsu-lab/alpaca"}},
        {"output_length": "natural"},
        {"decoder": {"temperature": 0.7}},
        {"warmup": {"enabled": False}},
        {"gpus": [1]},
        {"parameters": {"batch_size": 2}},
        {"parameters": {"attn_implementation": "eager"}},
    ],
    ids=str,
)
def test_each_part_of_a_configuration_changes_the_hash(changed: dict[str, Any]) -> None:
    """A result is never taken for that of a configuration that asks for something else."""
    assert hashed(configured(**changed)) != hashed(configured())


@pytest.mark.parametrize(
    "surroundings",
    [
        {"window": Window(seconds=31)},
        {"window": Window(passes=2)},
        {"execution": Execution(warmup_prompts=6)},
        {"execution": Execution(warmup_timeout_seconds=60)},
        {"executor": "compose"},
    ],
    ids=str,
)
def test_surroundings_of_the_measurement_change_the_hash(surroundings: dict[str, Any]) -> None:
    """Another window, warm-up or executor is another measurement."""
    assert hashed(configured(), **surroundings) != hashed(configured())


@pytest.mark.parametrize(
    "execution",
    [
        Execution(cycles=9),
        Execution(structure="grouped"),
        Execution(seed=7),
        Execution(config_gap_seconds=60, cycle_gap_seconds=300),
        Execution(timeout_seconds=10, start_timeout_seconds=10, silence_seconds=10),
        Execution(conditioning=False),
        Execution(recycle_cycles=0),
    ],
    ids=lambda execution: ",".join(execution.model_fields_set),
)
def test_pace_and_repetition_leave_the_hash_alone(execution: Execution) -> None:
    """More cycles, other gaps or timeouts rerun nothing that is measured already."""
    assert hashed(configured(), execution=execution) == hashed(configured())


def test_name_leaves_the_hash_alone() -> None:
    """Renaming a configuration reruns nothing."""
    assert hashed(configured(config_name="a")) == hashed(configured(config_name="b")) == hashed(configured())


@given(st.permutations(["quant_method", "bits", "modules"]), st.randoms(use_true_random=False))
def test_order_of_keys_leaves_the_hash_alone(order: list[str], random: Any) -> None:
    """Rewriting a mapping in another order is not another configuration, at any depth."""
    method = {"quant_method": "gptq", "bits": 4, "modules": {"a": 1, "b": 2}}
    usual = configured({"quantization_config": method})
    written = {"quantization_config": {name: method[name] for name in order}, "batch_size": 1}
    other = configured(dict(sorted(written.items(), key=lambda _: random.random())))
    assert hashed(other) == hashed(usual)
    assert key(other) == key(usual)


def test_prompts_count_by_what_the_file_says(tmp_path: Path) -> None:
    """Moving a prompts file reruns nothing, editing it reruns what used it."""
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "copy.txt").write_text("one\ntwo\n")
    (tmp_path / "edited.txt").write_text("one\nthree\n")
    a, copy, edited = (
        hashed(configured(prompts_file=f"{name}.txt"), folder=tmp_path) for name in ("a", "copy", "edited")
    )
    assert a == copy
    assert len({a, edited, hashed(configured(), folder=tmp_path)}) == 3


def test_a_local_dataset_counts_by_its_content(tmp_path: Path) -> None:
    """An edited data file is another workload, in a folder too."""
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "rows.jsonl"
    hashes = set()
    for text in ("one", "three"):
        file.write_text(text)
        for name in ("data", "data/rows.jsonl"):
            hashes.add(hashed(configured(dataset={"name": name}), folder=tmp_path))
    assert len(hashes) == 4


@pytest.mark.parametrize("name", ["tiny", "random:tiny"])
def test_model_in_a_folder_counts_with_its_architecture(name: str, tmp_path: Path) -> None:
    """An edit of `config.json` is another model although its folder has the same name."""
    config = tmp_path / "tiny" / "config.json"
    config.parent.mkdir()
    config.write_text('{"num_hidden_layers": 2}')
    before = hashed(configured(model_name=name), folder=tmp_path)
    config.write_text('{"num_hidden_layers": 3}')
    assert hashed(configured(model_name=name), folder=tmp_path) != before


def test_files_are_read_once(tmp_path: Path) -> None:
    """All points of one campaign see a file in the state of its first reading."""
    (tmp_path / "a.json").write_text('{"n": 1}')
    files = Files(tmp_path)
    digest = files.digest("a.json")
    (tmp_path / "a.json").write_text('{"n": 2}')
    assert files.digest("a.json") == digest
    assert files.mapping("a.json") == {"n": 1}


@pytest.mark.parametrize("content", [b"[1, 2]", b"{broken", b"\xff\xfe"])
def test_file_that_is_no_json_mapping_has_a_digest_alone(content: bytes, tmp_path: Path) -> None:
    """A damaged `config.json` is told apart from others, and says nothing."""
    (tmp_path / "config.json").write_bytes(content)
    assert Files(tmp_path).mapping("config.json") == {}
    assert Files(tmp_path).digest("config.json") is not None
    assert Files(tmp_path).digest("absent.json") is None


@pytest.mark.parametrize("path", ["absent.txt", "~no-such-user/a.txt", "a\0b", ".", ""])
def test_path_that_leads_to_no_file_has_no_digest(path: str, tmp_path: Path) -> None:
    """Whatever stands in a campaign as a path or a model's name is looked up without harm."""
    assert Files(tmp_path).digest(path) is None


def test_twins_differ_by_their_names() -> None:
    """The arms of an A/A comparison have hashes of their own, which do not depend on each other."""
    plain = hashed(configured())
    assert len({plain, twin_hash(plain, "a"), twin_hash(plain, "b")}) == 3
    assert re.fullmatch("[0-9a-f]{16}", twin_hash(plain, "a"))


# --- What the engine loads ---


@pytest.mark.parametrize(
    "changed",
    [
        {"max_input_tokens": 16},
        {"max_output_tokens": 16},
        {"num_input_prompts": 7},
        {"random_seed": 1},
        {"decoder": {"temperature": 0.7}},
        {"dataset": {"name": "tatsu-lab/alpaca"}},
        {"warmup": {"enabled": False}},
        *({"parameters": each} for each in ({"batch_size": 4}, {"use_cache": False}, {"num_beams": 2})),
        {"parameters": {"batching_strategy": "sorted_static"}},
        {"parameters": {"cache_implementation": "static"}},
    ],
    ids=str,
)
def test_what_each_call_carries_needs_no_new_load(changed: dict[str, Any]) -> None:
    """Batch size, lengths, prompts and sampling are served by the launch that is there."""
    assert key(configured(**changed)) == key(configured())


@pytest.mark.parametrize(
    "changed",
    [
        {"model_name": "gpt2-medium"},
        {"fp_precision": "bfloat16"},
        {"gpus": [1]},
        {"parameters": {"attn_implementation": "eager"}},
        {"parameters": {"load_in_4bit": True}},
        {"parameters": {"torch_compile": True}},
        {"parameters": {"num_threads": 1}},
    ],
    ids=str,
)
def test_what_is_loaded_changes_the_engine_key(changed: dict[str, Any]) -> None:
    """Two configurations with one key can share a process."""
    assert key(configured(**changed)) != key(configured())


def test_the_seed_needs_no_load() -> None:
    """The seed draws prompts; random weights have a seed of their own, so no launch is spent on it."""
    first, second = (configured(model_name="random:tiny", random_seed=seed) for seed in (1, 2))
    assert key(first) == key(second)


# --- Names ---


@given(st.text())
def test_slug_has_only_characters_of_a_node_id(text: str) -> None:
    """Whatever an author names, `pytest <id>`, `-k` and `--lf` can deal with."""
    assert NODE_ID.fullmatch(slug(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("batch_size=8", "batch_size-8"),
        ("Qwen/Qwen2.5-0.5B", "Qwen-Qwen2.5-0.5B"),
        ("random:tiny", "random-tiny"),
        ("naïve [a]::b", "naive-a-b"),
        ("..", "5ec1f7e7"),
    ],
)
def test_slug_keeps_a_text_readable(text: str, expected: str) -> None:
    """Usual names can be recognised, and a name of nothing but other characters gets digits."""
    assert slug(text) == expected


@given(st.lists(st.text("ab-", min_size=1, max_size=300), max_size=20))
def test_limited_ids_are_short_and_unique(names: list[str]) -> None:
    """However long and alike names are, each point gets an id of its own within the limit."""
    taken: set[str] = set()
    for name in names:
        taken.add(limited(name, taken))
    assert len(taken) == len(names)
    assert all(len(each) <= POINT_ID_BYTES for each in taken)


def test_long_ids_that_begin_alike_stay_apart_whatever_comes_first() -> None:
    """A cut id depends on the whole name, so that no order of points swaps two of them."""
    first, second = "x" * 200 + "a", "x" * 200 + "b"
    assert limited(first, ()) != limited(second, ())
    assert limited(first, {limited(second, ())}) == limited(first, ())

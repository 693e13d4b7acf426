"""Damaged campaigns: whatever becomes of the text, loading it ends in a campaign or in a list of problems."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_llem.backends.registry import registered
from pytest_llem.campaign.loader import CampaignError, load

CAMPAIGN = """\
schema_version: "3.0.0"
campaign_name: damaged
model: ${MODEL:-gpt2}
dataset: {name: alpaca, sample_size: 10}
num_samples: 100
defaults: &common
  max_output_tokens: 64
  decoder: {preset: standard, temperature: 0.5}
  pytorch: {torch_compile: true, num_beams: 2}
configs: [base.yaml]
experiments:
  - {config: base.yaml, overrides: {batch_size: 4, traffic_simulation: {enabled: false}}}
  - <<: *common
    config_name: twin
grid:
  backends: [pytorch, vllm]
  models: [gpt2, "random:models/tiny"]
  axes:
    batch_size: [1, 4, 8]
    fp_precision: [float16, bfloat16]
    dataset: [alpaca, {name: a/b, column: c}]
  bundles:
    size: {small: {max_input_tokens: 64}, large: {max_input_tokens: 512}}
  backend_overrides:
    vllm: {enforce_eager: [true, false], cudagraph_capture_sizes: [1, 2]}
  exclude: [{backend: vllm, batch_size: [1, 4]}, {size: large}]
execution: {cycles: 3, structure: shuffled, seed: 1, config_gap_seconds: 1e1}
services: {pytorch: {python: /usr/bin/python, env: {A: "1"}}}
daemon: {at: 02:30, interval: 6h}
expect: {energy_j: {max: 5}}
io: {results_dir: results, state_dir: .state}
"""

BASE = """\
_extends: root.yaml
config_name: base
model_name: gpt2
batching: {strategy: sorted_dynamic, batch_size: 2}
prompts: {type: huggingface, dataset: gsm8k, shuffle: false}
sharding: {strategy: none, num_shards: 1}
min_output_tokens: 0
max_new_tokens: 32
gpus: 0
"""

SCALARS = [
    *("1", "-1", "0.5", "1e999", ".nan", "true", "on", "null", "~", '"1"', "''", "2025-01-31", "12:30"),
    *("[]", "{}", "[1, 2]", "[[1]]", "{a: 1}", "*common", "&x 1", "<<", "${HOME}", "${", "$$", "!!int 3"),
    *("..", "../..", "a/b", "9" * 400, "'\\x00'", '"\\0"', "|", "pytorch", "alpaca", "gpt2"),
]
KEYS = [
    *(
        "execution.cycles",
        "grid",
        "grid.shared.batch_size",
        "dataset",
        "defaults",
        "model_name",
        "batch_size",
    ),
    *("experiments.0.a", "decoder.temperature", "grid.backends", "pytorch", "x", "", ".", "a..b"),
    *("io.results_dir", "services.pytorch.env", "grid.axes.x", "configs", "prompts_file", "backend"),
]

positions = st.floats(0, 1, exclude_max=True)
characters = st.sampled_from(string.printable + "\x00\x1bäß\u2028\ufeff😀")


def _at(text: str, place: float) -> int:
    return int(place * len(text))


def delete(text: str, place: float, length: int) -> str:
    start = _at(text, place)
    return text[:start] + text[start + length :]


def insert(text: str, place: float, new: str) -> str:
    start = _at(text, place)
    return text[:start] + new + text[start:]


def repeat_line(text: str, place: float, there: float) -> str:
    lines = text.splitlines()
    lines.insert(
        _at(text, there) % (len(lines) + 1), lines[_at(text, place) % len(lines)] if lines else "a: 1"
    )
    return "\n".join(lines)


def drop_line(text: str, place: float) -> str:
    lines = text.splitlines()
    return "\n".join(lines[: (n := _at(text, place) % max(len(lines), 1))] + lines[n + 1 :])


def swap_value(text: str, place: float, scalar: str) -> str:
    """Put a scalar behind the next colon, in the place of all up to a delimiter."""
    colon = text.find(": ", _at(text, place))
    if colon < 0:
        return text
    end = next((n for n in range(colon + 2, len(text)) if text[n] in ",}]\n"), len(text))
    return f"{text[:colon]}: {scalar}{text[end:]}"


Mutation = Callable[[str], str]
mutations: st.SearchStrategy[Mutation] = st.one_of(
    st.builds(lambda p, n: lambda text: delete(text, p, n), positions, st.integers(1, 12)),
    st.builds(lambda p, c: lambda text: insert(text, p, c), positions, characters),
    st.builds(lambda p, q: lambda text: repeat_line(text, p, q), positions, positions),
    st.builds(lambda p: lambda text: drop_line(text, p), positions),
    st.builds(lambda p, s: lambda text: swap_value(text, p, s), positions, st.sampled_from(SCALARS)),
)
texts = st.sampled_from(["campaign", "base"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "root.yaml").write_text("random_seed: 7\n")
    return folder


def attempt(folder: Path, campaign: str, base: str, overrides: tuple[str, ...] = ()) -> CampaignError | None:
    """Load a campaign and return its error, if it has one."""
    (folder / "c.yaml").write_text(campaign, encoding="utf-8", newline="")
    (folder / "base.yaml").write_text(base, encoding="utf-8", newline="")
    try:
        load(folder / "c.yaml", folder, overrides, backends=registered())
    except CampaignError as error:
        return error
    return None


def test_the_whole_campaign_is_valid(folder: Path) -> None:
    """The text that is damaged below is itself in order."""
    assert attempt(folder, CAMPAIGN, BASE) is None


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(mutations, min_size=1, max_size=4), texts)
def test_damage_gives_problems_and_nothing_worse(folder: Path, changes: list[Mutation], target: str) -> None:
    """Loading a damaged campaign returns or raises `CampaignError`, whose every line names a place."""
    campaign, base = CAMPAIGN, BASE
    for change in changes:
        campaign, base = (change(campaign), base) if target == "campaign" else (campaign, change(base))
    error = attempt(folder, campaign, base)
    assert error is None or all(problem.location and problem.message for problem in error.problems)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KEYS), st.sampled_from(SCALARS) | st.text(max_size=5))
def test_no_option_gives_anything_worse_than_a_problem(folder: Path, key: str, value: str) -> None:
    """An option with any key and any value is taken, or is a problem that names it."""
    error = attempt(folder, CAMPAIGN, BASE, (f"{key}={value}",))
    assert error is None or error.problems


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_give_problems(folder: Path, content: bytes) -> None:
    """A file of arbitrary bytes is no campaign, and says so."""
    (folder / "c.yaml").write_bytes(content)
    with pytest.raises(CampaignError):
        load(folder / "c.yaml", folder, backends=registered())

"""Campaign texts and the ways in which tests damage them."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable
from pathlib import Path

from hypothesis import strategies as st

OURS = Path(__file__).parents[1] / "campaigns"

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
  - config_name: twin
    <<: *common
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
LINES = [
    *(
        "<<: *common",
        "<<: [1, *common]",
        "<<: 3",
        "a: &a [*a]",
        "b: &b {<<: *b}",
        "a: *nowhere",
        "? [a, b]",
        ": x",
    ),
    *(
        "---",
        "...",
        "%YAML 9.9",
        "%TAG ! x",
        "\t- a",
        "  \tx: 1",
        "- 1",
        "campaign_name: again",
        "? ",
        "@x: 1",
    ),
    *("a: !!binary x", "a: !!python/object:os.system {}", "!x y: 1", "a: !!timestamp 0", "a: !!set {b, c}"),
    *("a: " + "[" * 3000, "a: " + "{b: " * 500, "- " * 500, "a: " + "9" * 5000, '"' + "k" * 5000 + '": 1'),
    *(
        "laughs: "
        + str([f"&{name} [*{below}, *{below}]" for below, name in zip("abcdefgh", "bcdefghi", strict=True)]),
    ),
    *(
        "execution: {max_experiments: 1}",
        "1e400: 1",
        ".nan: .nan",
        "grid: !!map {}",
        "? {a: b}\n: c",
        "\x85",
        "# \x07",
    ),
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


def add_line(text: str, place: float, new: str) -> str:
    """Put a line before another one, as deep as that."""
    lines = text.splitlines()
    at = _at(text, place) % (len(lines) + 1)
    depth = len(lines[at]) - len(lines[at].lstrip()) if at < len(lines) else 0
    lines.insert(at, " " * depth + new)
    return "\n".join(lines)


def indent_line(text: str, place: float, depth: int) -> str:
    """Move a line to the right, or to the left."""
    lines = text.splitlines() or [""]
    at = _at(text, place) % len(lines)
    lines[at] = " " * depth + lines[at] if depth > 0 else lines[at].removeprefix(" " * -depth)
    return "\n".join(lines)


def misspell(text: str, place: float) -> str:
    """Swap two letters of a word."""
    words = [match.span() for match in re.finditer(r"\w\w+", text)]
    if not words:
        return text
    start, _ = words[_at(text, place) % len(words)]
    return text[:start] + text[start + 1] + text[start] + text[start + 2 :]


def flip_byte(text: str, place: float, bits: int) -> str:
    """Flip bits of one byte; what then is no UTF-8 is kept in surrogates."""
    content = bytearray(text, "utf-8", "surrogateescape")
    if content:
        content[int(place * len(content))] ^= bits
    return content.decode("utf-8", "surrogateescape")


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
    st.builds(lambda p, s: lambda text: add_line(text, p, s), positions, st.sampled_from(LINES)),
    st.builds(lambda p, n: lambda text: indent_line(text, p, n), positions, st.integers(-4, 4)),
    st.builds(lambda p: lambda text: misspell(text, p), positions),
    st.builds(lambda p, b: lambda text: flip_byte(text, p, b), positions, st.integers(1, 255)),
)
CAMPAIGNS = {"all keys": CAMPAIGN} | {
    path.stem: path.read_text(encoding="utf-8") for path in sorted(OURS.glob("*.yaml"))
}
"""One that has nearly everything, and those of this repository."""


def damaged(texts: Iterable[str]) -> st.SearchStrategy[str]:
    """Return a strategy for texts with one to four damages."""
    changes = st.lists(mutations, min_size=1, max_size=4)
    return st.builds(_all_of, st.sampled_from(list(texts)), changes)


def _all_of(text: str, changes: Iterable[Mutation]) -> str:
    for change in changes:
        text = change(text)
    return text


def write(file: Path, text: str) -> None:
    """Write a damaged text; what is no UTF-8 in it is in surrogates."""
    file.write_bytes(text.encode("utf-8", "surrogateescape"))

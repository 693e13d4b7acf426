"""What a `decoder` section means, said once for all engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from pytest_llem.records import Decoder

PRESETS: Mapping[str | None, Mapping[str, Any]] = MappingProxyType(
    {
        "deterministic": {"do_sample": False},
        "standard": {"temperature": 1.0, "top_p": 0.95},
        "creative": {"temperature": 0.8, "top_p": 0.9, "repetition_penalty": 1.1},
        "factual": {"temperature": 0.3},
    }
)
"""The presets of llenergymeasure v1. What is set beside a preset wins over it."""

TOP_K = 50
"""Of a decoder that samples and names no `top_k`, as in llenergymeasure v1 and transformers."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. A greedy decoder has no temperature, `top_p` and `top_k`.

    Attributes:
        top_k: 0 keeps all tokens.
        repetition_penalty: 1 is none.
    """

    do_sample: bool
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float = 1.0


@lru_cache(maxsize=4096)
def resolve(decoder: Decoder) -> Sampling:
    """Return what a decoder section asks for.

    Nothing set is greedy: the choice of tokens then adds no randomness of its own to a measurement. Any of
    temperature, `top_p`, `top_k` asks for sampling; `do_sample: false` or a temperature of 0 revokes it.
    """
    said = {**PRESETS.get(decoder.preset, {}), **decoder.model_dump(exclude={"preset"}, exclude_none=True)}
    penalty = said.get("repetition_penalty", 1.0)
    if not _samples(said):
        return Sampling(do_sample=False, repetition_penalty=penalty)
    return Sampling(
        do_sample=True,
        temperature=said.get("temperature", 1.0),
        top_p=said.get("top_p", 1.0),
        top_k=said.get("top_k", TOP_K),
        repetition_penalty=penalty,
    )


def _samples(said: Mapping[str, Any]) -> bool:
    implied = not said.keys().isdisjoint({"temperature", "top_p", "top_k"})
    return bool(said.get("do_sample", implied)) and bool(said.get("temperature", 1.0))

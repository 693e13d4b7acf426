"""FLOPs that an architecture needs for one token, from its `config.json`.

Two for each weight that the token is multiplied with (Kaplan et al. 2020, arXiv 2001.08361, section 2.1: 2 N), and
for attention 4 x layers x heads x head size x context (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pytest_llem.architectures import UnknownArchitectureError, architecture
from pytest_llem.backends.base import Request
from pytest_llem.records import METRICS, Quantity, unavailable
from pytest_llem.worker.protocol import Order

CONFIG = "config.json"


class FlopsPerToken(NamedTuple):
    """FLOPs of one token: in products with weights, and in attention, which grows with the context."""

    weights: float
    attention: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.weights + self.attention


def flops_per_token(config: Mapping[str, Any], *, context_tokens: float) -> FlopsPerToken:
    """Return the FLOPs of the forward pass that makes one output token.

    2 x (weights that the token is multiplied with)
    + 2 x layers x heads x (length of a query + length of a value) x context

    - Weights: projections of attention, MLPs (three matrices where they are gated), router, chosen and shared
      experts, and the output head, tied or not. Looking up an embedding is no FLOP.
    - Attention: queries x keys and scores x values, whose head lengths are the same but for latent attention.
      In a layer with a sliding window the context is at most the window.
    - Norms, biases, rotations, activations and the softmax are left out, as in both sources.

    Args:
        config: what `config.json` holds.
        context_tokens: positions that the token attends to, its own included; a mean over tokens is as good.

    Raises:
        UnknownArchitectureError: the architecture is not known here.
    """
    parts, attention = architecture(config)
    seen = sum(
        layer.width * (context_tokens if layer.window is None else min(context_tokens, layer.window))
        for layer in attention
    )
    return FlopsPerToken(2.0 * sum(part.multiplied for part in parts), 2.0 * seen)


def of_window(order: Order, requests: Sequence[Request]) -> dict[str, Quantity]:
    """Return `flops_per_token` as the mean over the output tokens of a window, or why it is not known."""
    unit = METRICS["flops_per_token"].unit
    context_tokens = mean_context(requests)
    if context_tokens is None:
        return {"flops_per_token": unavailable(unit, "no output tokens")}
    try:
        flops = flops_per_token(_config(order), context_tokens=context_tokens)
    except UnknownArchitectureError as error:
        return {"flops_per_token": unavailable(unit, str(error))}
    note = f"mean context of {context_tokens:.0f} tokens"
    return {"flops_per_token": Quantity(value=flops.total, unit=unit, source="architecture", note=note)}


def mean_context(requests: Sequence[Request]) -> float | None:
    """Return the mean over output tokens of the positions that their forward pass attends to; None without any.

    That of the i-th output token (from 1) attends to the prompt and the i - 1 tokens before it.
    """
    tokens = sum(r.output_tokens for r in requests)
    if not tokens:
        return None
    return sum(r.output_tokens * (r.prompt_tokens + (r.output_tokens - 1) / 2) for r in requests) / tokens


def _config(order: Order) -> dict[str, Any]:
    """Read the model's `config.json`, which came with the order or lies in the model's folder."""
    sent = (order.model_files or {}).get(CONFIG)
    path = Path("/", order.model, CONFIG)  # a name that is no absolute path is nothing on this disk
    try:
        config = json.loads(path.read_text(encoding="utf-8") if sent is None else sent)
    except (OSError, ValueError) as error:
        raise UnknownArchitectureError(f"{order.model} is no folder with a readable {CONFIG}") from error
    if not isinstance(config, dict):
        raise UnknownArchitectureError(f"{order.model}: {CONFIG} holds no settings")
    return config

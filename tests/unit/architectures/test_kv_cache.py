"""The size of the KV cache, held against what transformers keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DynamicCache

from pytest_llem.architectures import FAMILIES, architecture
from standin.tiny_models import VARIANTS, as_saved, config_of, model_of

EACH = [(kind, variant) for kind, variants in VARIANTS.items() for variant in variants]
KEPT = [
    (kind, variant)
    for kind, variant in EACH
    if not FAMILIES[kind].latent and not variant.get("new_decoder_architecture")
]
"""Transformers keeps more of latent attention than the latent vector, and of a new Falcon each key once a query."""


def cached(config: Any, tokens: int) -> int:
    """Return how many numbers the cache of one sequence holds."""
    cache = DynamicCache(config=config)
    with torch.inference_mode():
        model_of(config)(torch.full((1, tokens), 3), past_key_values=cache, use_cache=True)
    return sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)


@pytest.mark.parametrize(("kind", "variant"), KEPT)
def test_the_cache_of_a_sequence_has_its_size(kind: str, variant: dict[str, Any]) -> None:
    """Keys and values of all positions, which is what transformers keeps of a sequence inside the windows."""
    config = config_of(kind, variant)
    assert architecture(as_saved(config)).kv_cache_elements(4) == cached(config, 4)


@pytest.mark.parametrize(("kind", "variant"), KEPT)
def test_a_window_bounds_the_cache(kind: str, variant: dict[str, Any]) -> None:
    """Beyond a window a layer needs the window, of which transformers keeps all but the newest position."""
    config = config_of(kind, variant)
    layers = architecture(as_saved(config)).attention
    newest = sum(layer.cached for layer in layers if layer.window and layer.window < 12)
    assert architecture(as_saved(config)).kv_cache_elements(12) == cached(config, 12) + newest


@pytest.mark.parametrize("kind", [kind for kind, family in FAMILIES.items() if family.latent])
def test_latent_attention_keeps_the_latent_vector(kind: str) -> None:
    """A position takes the latent vector and the rotary key, in each layer, whatever the number of heads."""
    config = as_saved(config_of(kind, VARIANTS[kind][0]))
    expected = config["num_hidden_layers"] * (config["kv_lora_rank"] + config["qk_rope_head_dim"])
    assert architecture(config).kv_cache_elements(7) == 7 * expected

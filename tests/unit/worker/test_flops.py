"""FLOPs per token and parameter counts, held against the models that they are about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, DynamicCache, PreTrainedModel

from pytest_llem.architectures import FAMILIES, UnknownArchitectureError, architecture
from pytest_llem.backends.base import Request
from pytest_llem.records import Configuration
from pytest_llem.worker.flops import flops_per_token, mean_context, of_window
from pytest_llem.worker.protocol import Order, Timeouts, WarmupPolicy
from standin.tiny_models import VARIANTS, as_saved, config_of, model_of

KNOWN: dict[str, Any] = json.loads(Path(__file__).with_name("known_models.json").read_text())
"""Well-known models: what their `config.json` says of the architecture, and their parameters."""

EACH = [(kind, variant) for kind, variants in VARIANTS.items() for variant in variants]
TIED = [(kind, variant | {"tie_word_embeddings": True}) for kind, variant in EACH]
LATENT = [(kind, variant) for kind, variant in EACH if FAMILIES[kind].latent]
LLAMA = KNOWN["Llama-3.2-1B"]["config"]


def parameters(model: PreTrainedModel) -> int:
    """Return how many a model has; it holds tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def counted(model: PreTrainedModel, tokens: list[int], cache: DynamicCache | None) -> int:
    """Return the FLOPs of a forward pass; the angles of rotary positions, a product too, are taken out."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(torch.tensor([tokens]), past_key_values=cache, use_cache=cache is not None)
    rotations = [flops for name, flops in counter.get_flop_counts().items() if name.endswith("rotary_emb")]
    return int(counter.get_total_flops() - sum(sum(flops.values()) for flops in rotations))


# --- Parameters ---


@pytest.mark.parametrize("name", KNOWN)
def test_the_parameters_of_a_known_model_are_counted(name: str) -> None:
    """The count of a well-known model is that of its checkpoint and that of its code in transformers."""
    config = dict(KNOWN[name]["config"])
    assert architecture(config).parameter_count == KNOWN[name]["parameters"]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[config.pop("model_type")](**config))
    assert parameters(model) == KNOWN[name]["parameters"]


@pytest.mark.parametrize(("kind", "variant"), EACH + TIED)
def test_the_parameters_of_a_saved_model_are_counted(kind: str, variant: dict[str, Any]) -> None:
    """For each model type, with its biases, norms and ties, the count from the saved file is the model's own."""
    config = config_of(kind, variant)
    assert architecture(as_saved(config)).parameter_count == parameters(model_of(config))


def test_every_known_type_is_met() -> None:
    """No model type is known that has no tiny model here."""
    assert FAMILIES.keys() == VARIANTS.keys()


# --- FLOPs ---


@pytest.mark.parametrize("context", [4, 10], ids=["inside-the-window", "beyond-the-window"])
@pytest.mark.parametrize(("kind", "variant"), [one for one in EACH if one not in LATENT])
def test_a_decoding_step_needs_the_flops(kind: str, variant: dict[str, Any], context: int) -> None:
    """The FLOPs of a token are those that torch counts in a decoding step at that context."""
    config = config_of(kind, variant)
    model, cache = model_of(config), DynamicCache(config=config)
    counted(model, [3] * (context - 1), cache)
    assert counted(model, [5], cache) == flops_per_token(as_saved(config), context_tokens=context).total


@pytest.mark.parametrize(("kind", "variant"), LATENT)
def test_a_pass_with_latent_attention_needs_the_flops(kind: str, variant: dict[str, Any]) -> None:
    """In a pass over a text, where each latent vector is expanded once, torch counts the tokens' FLOPs.

    The pass computes all scores, so that every token costs as much as the last one.
    """
    config = config_of(kind, variant)
    flops = flops_per_token(as_saved(config), context_tokens=4)
    assert counted(model_of(config), [3, 5, 7, 9], None) == 4 * flops.total


@pytest.mark.parametrize(
    ("name", "active"),
    [("Mixtral-8x7B-v0.1", 12.9e9), ("DeepSeek-V3", 37e9), ("gpt-oss-20b", 3.6e9), ("Qwen3-30B-A3B", 3.3e9)],
)
def test_only_active_experts_count(name: str, active: float) -> None:
    """Half the FLOPs of a mixture's weights are the active parameters that its authors name.

    They count the embedding too, which no token is multiplied with.
    """
    config = KNOWN[name]["config"]
    embedding = config["vocab_size"] * config["hidden_size"]
    weights = flops_per_token(config, context_tokens=1).weights / 2
    assert weights <= active * 1.01
    assert weights + embedding >= active * 0.99


@given(st.floats(1, 1e6), st.floats(1, 1e6))
def test_flops_grow_with_the_context(first: float, second: float) -> None:
    """Without windows the FLOPs are linear in the context, with products with weights as the constant."""
    one, two = (flops_per_token(LLAMA, context_tokens=context) for context in (first, second))
    assert one.weights == two.weights
    assert one.attention * second == pytest.approx(two.attention * first)
    assert one.total == one.weights + one.attention


# --- What is not known ---


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "mamba"}, "the architecture of model_type 'mamba' is not known here"),
        ({"model_type": None}, "the architecture of model_type None is not known here"),
        ({"hidden_size": None}, "config.json lacks hidden_size"),
        ({"hidden_size": "2048"}, "config.json: hidden_size is '2048', not a whole number from 1"),
        ({"num_hidden_layers": True}, "config.json: num_hidden_layers is True, not a whole number from 1"),
        ({"head_dim": None, "num_attention_heads": 3}, "num_attention_heads does not divide hidden_size"),
        ({"model_type": "smollm3", "use_sliding_window": True}, "which layers use_sliding_window means"),
        (
            {"model_type": "gemma2", "layer_types": ["linear_attention"] * 16},
            "layer_types has kinds of attention not known here",
        ),
        ({"model_type": "gemma2", "layer_types": True}, "layer_types has kinds of attention not known here"),
        (
            {"model_type": "gemma2", "layer_types": [["full_attention"]] * 16},
            "layer_types has kinds of attention not known here",
        ),
    ],
)
def test_what_is_not_known_is_refused(changes: dict[str, Any], reason: str) -> None:
    """A file that leaves the architecture open gives no number but one sentence that says why."""
    with pytest.raises(UnknownArchitectureError) as caught:
        flops_per_token(LLAMA | changes, context_tokens=1)
    assert reason in str(caught.value)


@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind, f in FAMILIES.items() for key in f.named])
def test_a_size_is_never_assumed(kind: str, key: str) -> None:
    """A key whose absence transformers fills with the size of one published model must be there."""
    config = as_saved(config_of(kind, VARIANTS[kind][0]))
    config.pop(key, None)
    with pytest.raises(UnknownArchitectureError, match=f"lacks {key}"):
        architecture(config)


# --- The metric ---


def request(prompt: int, output: int) -> Request:
    return Request(
        submitted_s=0, first_token_s=None, completed_s=1, prompt_tokens=prompt, output_tokens=output
    )


def order(model: str, files: dict[str, str] | None = None) -> Order:
    return Order(
        experiment_id="one",
        launch="first",
        engine_key="key",
        engine="abacus.engine",
        model=model,
        model_files=files,
        configuration=Configuration(),
        warmup=WarmupPolicy(min_prompts=0, timeout_s=0),
        window_s=0,
        window_passes=1,
        timeouts=Timeouts(start_s=1, run_s=1, silence_s=1),
    )


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(0, 50)), min_size=1, max_size=5))
def test_the_context_is_the_mean_over_output_tokens(lengths: list[tuple[int, int]]) -> None:
    """Each output token attends to its prompt and to the output before it; requests count by their tokens."""
    contexts = [prompt + before for prompt, output in lengths for before in range(output)]
    expected = sum(contexts) / len(contexts) if contexts else None
    assert mean_context([request(*pair) for pair in lengths]) == pytest.approx(expected)


def test_a_model_in_a_folder_has_flops(tmp_path: Path) -> None:
    """The metric is that of the folder's `config.json` at the mean context, which the note names."""
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    flops = of_window(order(str(tmp_path)), [request(10, 5)])["flops_per_token"]
    assert flops.value == flops_per_token(LLAMA, context_tokens=12).total
    assert (flops.unit, flops.source, flops.note) == (
        "FLOP/token",
        "architecture",
        "mean context of 12 tokens",
    )


def test_a_described_model_has_flops() -> None:
    """A model whose description travels with the order needs no folder."""
    files = {"config.json": json.dumps(LLAMA)}
    assert of_window(order("llama", files), [request(10, 5)])["flops_per_token"].value is not None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "is no folder with a readable config.json"),
        ("{", "is no folder with a readable config.json"),
        ("[]", "config.json holds no settings"),
        ("{}", "the architecture of model_type None is not known here"),
    ],
)
def test_a_model_without_a_description_has_no_flops(tmp_path: Path, text: str | None, reason: str) -> None:
    """Without a `config.json` that says what the model is the metric is unavailable, with the reason."""
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    flops = of_window(order(str(tmp_path)), [request(10, 5)])["flops_per_token"]
    assert (flops.value, flops.source) == (None, "unavailable")
    assert reason in str(flops.note)


def test_a_window_without_output_has_no_flops_per_token() -> None:
    """Where nothing was put out there is no token that could need FLOPs."""
    assert of_window(order("/nowhere"), [request(10, 0)])["flops_per_token"].note == "no output tokens"

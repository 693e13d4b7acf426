"""A tiny model of each known model type, with random weights: real code of transformers in miniature."""

from __future__ import annotations

import json
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
OTHER_NAMES = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"}
EXPERTS = {"num_experts_per_tok": 2}
MANY = EXPERTS | {"num_experts": 4, "moe_intermediate_size": 24}
WINDOW = {"sliding_window": 5}
UPPER_WINDOWS = WINDOW | {"use_sliding_window": True, "max_window_layers": 1}
LATENT = EXPERTS | {
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "moe_intermediate_size": 24,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 12,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 10,
    "n_group": 1,
    "topk_group": 1,
}
OWN_HEAD_SIZE = {"head_dim": 16}

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "llama": [OWN_HEAD_SIZE | {"attention_bias": True, "mlp_bias": True}],
    "granite": [{"attention_bias": True, "mlp_bias": True}],
    "smollm3": [{"attention_bias": True}],
    "mistral": [WINDOW | OWN_HEAD_SIZE, {"sliding_window": None}],
    "phi3": [WINDOW],
    "qwen2": [UPPER_WINDOWS],
    "qwen3": [UPPER_WINDOWS | OWN_HEAD_SIZE | {"attention_bias": True}],
    "gemma": [OWN_HEAD_SIZE | {"attention_bias": True}],
    "gemma2": [WINDOW | OWN_HEAD_SIZE],
    "gemma3_text": [WINDOW | OWN_HEAD_SIZE | {"num_hidden_layers": 7}],
    "olmo": [{"attention_bias": True}],
    "olmo2": [{"attention_bias": True}],
    "cohere": [{"use_qk_norm": True, "attention_bias": True}],
    "stablelm": [{"qk_layernorm": True, "use_qkv_bias": True}, {"use_parallel_residual": True}],
    "mixtral": [WINDOW | EXPERTS | {"num_local_experts": 4}],
    "qwen2_moe": [MANY | {"shared_expert_intermediate_size": 20, "mlp_only_layers": [1], "qkv_bias": False}],
    "qwen3_moe": [MANY | OWN_HEAD_SIZE | {"decoder_sparse_step": 2, "attention_bias": True}],
    "olmoe": [EXPERTS | {"num_experts": 4}],
    "granitemoe": [EXPERTS | {"num_local_experts": 4}],
    "gpt_oss": [WINDOW | EXPERTS | OWN_HEAD_SIZE | {"num_local_experts": 4}],
    "deepseek_v2": [LATENT | {"q_lora_rank": None}, LATENT | {"q_lora_rank": 14, "mlp_bias": True}],
    "deepseek_v3": [LATENT | {"q_lora_rank": 14, "attention_bias": True}],
    "gpt2": [{"n_positions": 64}, {"n_positions": 64, "n_inner": 40}],
    "gptj": [{"n_positions": 64, "rotary_dim": 4}],
    "gpt_neox": [{}, {"attention_bias": False}],
    "opt": [{"ffn_dim": 40, "word_embed_proj_dim": 16}, {"ffn_dim": 40, "do_layer_norm_before": False}],
    "bloom": [{}],
    "falcon": [
        {"multi_query": True},
        {"new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 40},
        {"multi_query": False, "parallel_attn": False, "bias": True, "alibi": True},
    ],
    "phi": [{}],
    "starcoder2": [WINDOW, {"use_bias": False}],
}
"""What differs from `SIZES`, by model type: enough that each flag and each rule is met."""

_WITHOUT = {
    "gpt2": {"intermediate_size", "num_key_value_heads", "max_position_embeddings"},
    "gptj": {"intermediate_size", "num_key_value_heads", "max_position_embeddings"},
    "bloom": {"intermediate_size", "num_key_value_heads", "max_position_embeddings"},
    "falcon": {"intermediate_size", "num_key_value_heads"},
    "opt": {"intermediate_size", "num_key_value_heads"},
    "gpt_neox": {"num_key_value_heads"},
}


def config_of(kind: str, variant: dict[str, Any]) -> PretrainedConfig:
    """Return the configuration of a tiny model."""
    sizes = {key: value for key, value in SIZES.items() if key not in _WITHOUT.get(kind, set())}
    if kind in {"gpt2", "gptj"}:
        sizes = {OTHER_NAMES.get(key, key): value for key, value in sizes.items()}
    return CONFIG_MAPPING[kind](**sizes | variant)


def as_saved(config: PretrainedConfig) -> dict[str, Any]:
    """Return the `config.json` that transformers writes for a configuration."""
    saved: dict[str, Any] = json.loads(config.to_json_string())
    return saved


def model_of(config: PretrainedConfig) -> PreTrainedModel:
    """Return a model whose products are all plain matrix products, so that they can be counted."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    if "num_experts_per_tok" in config.to_dict():
        model.set_experts_implementation("eager")
    return model.eval()

"""Small models that vLLM's kernels for CPU take: heads of 32, real files."""

from __future__ import annotations

from pathlib import Path

from transformers import LlamaConfig, LlamaForCausalLM

from standin.models import make_tokenizer

POSITIONS = 128
ENDS = list(range(2, 32))
"""Token ids that end a sequence: a tenth, so that natural answers are short and long."""


def config(vocabulary_size: int = 300) -> LlamaConfig:
    """Return a Llama whose random weights have opinions."""
    return LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=128,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        bos_token_id=0,
        eos_token_id=ENDS,
        pad_token_id=1,
        initializer_range=0.3,
        architectures=["LlamaForCausalLM"],
    )


def make_architecture(folder: Path) -> Path:
    """Write a `config.json` and nothing else."""
    (folder / "config.json").write_text(config().to_json_string())
    return folder


def make_trained(folder: Path) -> Path:
    """Write a model that is as good as trained, with weights and a tokenizer."""
    LlamaForCausalLM(config(max(make_tokenizer(folder), 300))).save_pretrained(folder)
    return folder

"""Small models as a hub would have them: real files, random weights."""

from __future__ import annotations

from pathlib import Path

import tokenizers
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SENTENCES = ["the quick brown fox jumps over the lazy dog", "five boxing wizards jump quickly"]
WEIGHTS = {f"model-0000{number}-of-00004.safetensors" for number in (1, 2, 3, 4)}
TEXT_FILES = {"tokenizer.json", "tokenizer_config.json"}
FILES = WEIGHTS | TEXT_FILES | {"config.json", "generation_config.json", "model.safetensors.index.json"}
"""All that `make_model` writes."""


def make_tokenizer(folder: Path) -> int:
    """Train a byte-level BPE tokenizer on a few lines and return the size of its vocabulary."""
    tokenizer = Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    wrapped.save_pretrained(folder)
    return int(tokenizer.get_vocab_size())


def make_model(folder: Path, *, layers: int = 2, max_shard_size: str = "40KB") -> Path:
    """Make a Llama of some 30,000 random weights with its tokenizer."""
    vocabulary_size = make_tokenizer(folder)
    config = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size=max_shard_size)
    return folder

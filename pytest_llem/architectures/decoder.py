"""The weights of a decoder and the widths of its attention, from its `config.json`.

A decoder is a list of parts. Each part knows how many weights it stores and how many of them one token is
multiplied with. So a count of stored weights, which can be held against the real model, vouches for the count of
multiplications.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pytest_llem.architectures.families import FAMILIES, Config, Experts, Family, UnknownArchitectureError


class Part(NamedTuple):
    """Some weights; one token is multiplied with `multiplied` of the `stored` ones."""

    stored: int
    multiplied: int = 0

    def times(self, copies: int, used: int) -> Part:
        """Return so many copies of a part, of which a token uses some."""
        return Part(copies * self.stored, used * self.multiplied)


class Attention(NamedTuple):
    """The attention of one layer.

    Attributes:
        width: lengths of a query and of a value, added up over all heads.
        window: the most positions that a token attends to; None for all.
        cached: numbers that a KV cache keeps of one position: keys and values, or the latent vector of both.
    """

    width: int
    window: int | None
    cached: int


class Architecture(NamedTuple):
    """What a decoder is made of, `attention` by layer."""

    parts: tuple[Part, ...]
    attention: tuple[Attention, ...]

    @property
    def parameter_count(self) -> int:
        """The number of parameters, biases and norms included, a tied output head once."""
        return sum(part.stored for part in self.parts)

    def kv_cache_elements(self, tokens: int) -> int:
        """Return how many numbers the KV cache of one sequence of so many tokens holds at least.

        A layer with a sliding window needs no more positions than the window; latent attention needs the latent
        vector and the rotary key alone (DeepSeek-AI 2024, arXiv 2405.04434, section 2.1). Some engines keep more.
        """
        return sum(layer.cached * min(tokens, layer.window or tokens) for layer in self.attention)


def architecture(values: Mapping[str, Any]) -> Architecture:
    """Return the architecture that a `config.json` describes.

    Raises:
        UnknownArchitectureError: its model type is not known here, or it leaves something open.
    """
    kind = values.get("model_type")
    family = FAMILIES.get(str(kind))
    if family is None:
        raise UnknownArchitectureError(f"the architecture of model_type {kind!r} is not known here")
    config = Config(values)
    for name in family.named:
        if name not in config:
            raise UnknownArchitectureError(f"config.json lacks {name}")
    parts = [*_outside(config, family)]
    for layer in range(config.layers):
        parts += _latent_attention(config, family) if family.latent else _attention(config, family)
        parts += _mlp(config, family, layer)
        parts.append(_norms(config, family, config.count(family.norms)))
    width, cached = _attention_width(config, family), _cached(config, family)
    attention = tuple(Attention(width, window, cached) for window in family.windows(config))
    return Architecture(tuple(parts), attention)


def _matrix(inputs: int, outputs: int, *, bias: bool = False) -> Part:
    weights = inputs * outputs
    return Part(weights + outputs if bias else weights, weights)


def _norms(config: Config, family: Family, count: int) -> Part:
    return Part(count * family.vectors * config.hidden)


def _outside(config: Config, family: Family) -> Iterator[Part]:
    """Yield embeddings, which are looked up, the norms around the layers, and the output head."""
    vocabulary = config.number("vocab_size")
    width = config.number(family.embedding, default=config.hidden) if family.embedding else config.hidden
    yield Part(vocabulary * width)
    if family.positions:
        key, more = family.positions
        yield Part((config.number(key) + more) * config.hidden)
    if width != config.hidden:
        yield _matrix(width, config.hidden)
        yield _matrix(config.hidden, width)
    yield _norms(config, family, config.count(family.outer_norms))
    head = _matrix(width, vocabulary, bias=family.head_bias)
    tied = config.get("tie_word_embeddings")
    is_tied = family.tied if tied is None else bool(tied)
    yield Part(head.stored - is_tied * head.multiplied, head.multiplied)


def _head_width(config: Config) -> int:
    if config.get("head_dim") is None and config.hidden % config.heads:
        raise UnknownArchitectureError("config.json: num_attention_heads does not divide hidden_size")
    return config.number("head_dim", default=config.hidden // config.heads)


def _attention(config: Config, family: Family) -> Iterator[Part]:
    """Yield queries, keys, values, output and the norms of queries and keys."""
    head, kv_heads = _head_width(config), config.count(family.kv_heads)
    bias = config.flag(family.qkv_bias)
    queries, keys = config.heads * head, kv_heads * head
    yield _matrix(config.hidden, queries, bias=bias)
    yield _matrix(config.hidden, keys, bias=bias).times(2, 2)
    yield _matrix(queries, config.hidden, bias=config.flag(family.output_bias))
    if config.flag(family.qk_norm):
        yield Part(queries + keys if family.qk_norm_whole else 2 * head)
    if family.sinks:
        yield Part(config.heads)


def _latent_attention(config: Config, family: Family) -> Iterator[Part]:
    """Yield the matrices down to the latent vectors, their norms, up to the heads, and the output."""
    bias = config.flag(family.qkv_bias)
    rotary, value = config.number("qk_rope_head_dim"), config.number("v_head_dim")
    plain, rank = config.number("qk_nope_head_dim"), config.number("kv_lora_rank")
    query_rank = config.number("q_lora_rank", default=0)
    queries = config.heads * (plain + rotary)
    if query_rank:
        yield _matrix(config.hidden, query_rank, bias=bias)
        yield Part(query_rank)
        yield _matrix(query_rank, queries)
    else:
        yield _matrix(config.hidden, queries)
    yield _matrix(config.hidden, rank + rotary, bias=bias)
    yield Part(rank)
    yield _matrix(rank, config.heads * (plain + value))
    yield _matrix(config.heads * value, config.hidden, bias=config.flag(family.output_bias))


def _attention_width(config: Config, family: Family) -> int:
    if not family.latent:
        return config.heads * 2 * _head_width(config)
    names = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    return config.heads * sum(config.number(name) for name in names)


def _cached(config: Config, family: Family) -> int:
    if family.latent:
        return config.number("kv_lora_rank") + config.number("qk_rope_head_dim")
    return 2 * config.count(family.kv_heads) * _head_width(config)


def _mlp(config: Config, family: Family, layer: int) -> Iterator[Part]:
    bias = config.flag(family.mlp_bias)
    if family.experts and _is_sparse(config, layer):
        yield from _experts(config, family.experts, bias=bias)
    else:
        default = family.inner_in_hidden and family.inner_in_hidden * config.hidden
        inner = config.number(family.inner, default=default)
        yield _feed_forward(config.hidden, inner, gated=family.gated, bias=bias)


def _is_sparse(config: Config, layer: int) -> bool:
    """Return whether a layer of a mixture has experts, by the keys that some model types leave dense ones with."""
    step = config.number("decoder_sparse_step", default=1)
    dense = config.number("first_k_dense_replace", default=0, least=0)
    return layer >= dense and layer not in (config.get("mlp_only_layers") or ()) and (layer + 1) % step == 0


def _experts(config: Config, experts: Experts, *, bias: bool) -> Iterator[Part]:
    number, used = config.number(*experts.number), config.number("num_experts_per_tok")
    inner = config.number(experts.width)
    yield _matrix(config.hidden, number, bias=experts.bias)
    yield _feed_forward(config.hidden, inner, gated=True, bias=experts.bias).times(number, used)
    if experts.shared == "gated":
        yield _matrix(config.hidden, 1)
        shared = config.number("shared_expert_intermediate_size")
        yield _feed_forward(config.hidden, shared, gated=True, bias=bias)
    elif experts.shared == "plain":
        shared = inner * config.number("n_shared_experts", default=0, least=0)
        yield _feed_forward(config.hidden, shared, gated=True, bias=bias)


def _feed_forward(hidden: int, inner: int, *, gated: bool, bias: bool) -> Part:
    """Return an MLP: up and down, and where it is gated a third matrix beside the first."""
    up, down = _matrix(hidden, inner, bias=bias), _matrix(inner, hidden, bias=bias)
    ups = 2 if gated else 1
    return Part(ups * up.stored + down.stored, ups * up.multiplied + down.multiplied)

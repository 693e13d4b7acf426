"""What a model type of a Hugging Face `config.json` stands for: the facts that the file itself does not say.

They follow the model's code in transformers, and `tests/unit/worker/test_flops.py` holds each of them against it.
A model type that is not here is refused: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple


class UnknownArchitectureError(ValueError):
    """A `config.json` that does not say what the architecture is; the message is one sentence."""


class Key(NamedTuple):
    """A flag of `config.json`, with what its absence means."""

    name: str
    default: bool = False


class Config:
    """Reads a `config.json`: one number has several names over the model types."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self.layers = self.number("num_hidden_layers", "n_layer")
        self.hidden = self.number("hidden_size", "n_embd", "n_embed")
        self.heads = self.number("num_attention_heads", "n_head")

    def __contains__(self, name: str) -> bool:
        """Whether the file has the key, be it null."""
        return name in self._values

    def get(self, name: str) -> Any:
        """Return a value, or None."""
        return self._values.get(name)

    def number(self, *names: str, default: int | None = None, least: int = 1) -> int:
        """Return the first of `names` that is set, else the default.

        Raises:
            UnknownArchitectureError: none is set and there is no default, or it is no number that makes sense.
        """
        for name in names:
            value = self._values.get(name)
            if value is not None:
                if type(value) is not int or value < least:
                    raise UnknownArchitectureError(
                        f"config.json: {name} is {value!r}, not a whole number from {least}"
                    )
                return value
        if default is None:
            raise UnknownArchitectureError(f"config.json lacks {names[0]}")
        return default

    def flag(self, wanted: Flag) -> bool:
        """Return a flag of the family, or what its key says."""
        return wanted if isinstance(wanted, bool) else bool(self._values.get(wanted.name, wanted.default))

    def count(self, wanted: Count) -> int:
        """Return a number of the family, or what its rule says."""
        return wanted if isinstance(wanted, int) else wanted(self)


Flag = bool | Key
Count = int | Callable[[Config], int]
Windows = list[int | None]


# --- Rules: what depends on several keys at once ---


def _grouped_heads(config: Config) -> int:
    return config.number("num_key_value_heads", default=config.heads)


def _falcon_heads(config: Config) -> int:
    if config.flag(Key("new_decoder_architecture")):
        return config.number("num_kv_heads")
    return 1 if config.flag(Key("multi_query", default=True)) else config.heads


def _falcon_norms(config: Config) -> int:
    if not config.flag(Key("parallel_attn", default=True)):
        return 2
    return config.number("num_ln_in_parallel_attn", default=1 + config.flag(Key("new_decoder_architecture")))


def _stablelm_norms(config: Config) -> int:
    return 1 if config.flag(Key("use_parallel_residual")) else 2


def _opt_outer_norms(config: Config) -> int:
    last = config.flag(Key("do_layer_norm_before", default=True))
    return int(last and not config.flag(Key("_remove_final_layer_norm")))


def _no_windows(config: Config) -> Windows:
    if config.flag(Key("use_sliding_window")):  # no published model; versions of transformers differ
        raise UnknownArchitectureError("config.json: which layers use_sliding_window means is not known here")
    return [None] * config.layers


def _one_window(config: Config) -> Windows:
    """Every layer has the same window; null stands for none."""
    return [None if config.get("sliding_window") is None else config.number("sliding_window")] * config.layers


def _every_second_full(config: Config) -> Windows:
    """Gemma 2, gpt-oss: windows in the even layers."""
    return _listed(config, lambda layer: layer % 2 == 0)


def _every_sixth_full(config: Config) -> Windows:
    """Gemma 3: windows in five of six layers."""
    pattern = config.number("sliding_window_pattern", default=6)
    return _listed(config, lambda layer: (layer + 1) % pattern != 0)


def _upper_windows(config: Config) -> Windows:
    """Qwen: the first `max_window_layers` have none; published models use none at all."""
    if not config.flag(Key("use_sliding_window")):
        return [None] * config.layers
    full = config.number("max_window_layers", least=0)
    return _listed(config, lambda layer: layer >= full)


def _listed(config: Config, is_sliding: Callable[[int], bool]) -> Windows:
    """Return the windows by `layer_types`; files of older versions lack it and mean `is_sliding`."""
    sliding, full = "sliding_attention", "full_attention"
    kinds = config.get("layer_types") or [
        sliding if is_sliding(layer) else full for layer in range(config.layers)
    ]
    is_known = isinstance(kinds, list) and all(kind in (sliding, full) for kind in kinds)
    if not is_known or len(kinds) != config.layers:
        raise UnknownArchitectureError("config.json: layer_types has kinds of attention not known here")
    return [config.number("sliding_window") if kind == sliding else None for kind in kinds]


# --- Families ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts in place of one MLP, chosen by a router of hidden size x experts.

    Attributes:
        number, width: keys of how many there are, and of the inner size of one.
        bias: whether router and experts have biases.
        shared: what every token passes besides: one expert behind a gate of its own (`gated`), or
            `n_shared_experts` as one wide MLP (`plain`).
    """

    number: tuple[str, ...] = ("num_experts", "num_local_experts")
    width: str = "moe_intermediate_size"
    bias: bool = False
    shared: Literal["none", "gated", "plain"] = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The architecture behind a model type. The defaults are those of most.

    Attributes:
        named: keys without which nothing is known: transformers' default is that of one size of the model.
        inner: key of the MLP's inner size.
        inner_in_hidden: the inner size in hidden sizes where the key is not set.
        gated: an MLP of three matrices, else two.
        qkv_bias, output_bias, mlp_bias, head_bias: which matrices have biases.
        tied: whether the output head is the embedding where `config.json` does not say it.
        kv_heads: heads of keys and values.
        norms, outer_norms: in each layer, and outside of them.
        vectors: of a norm: 1 scale (RMSNorm), 2 scale and shift (LayerNorm), 0 neither.
        qk_norm: queries and keys have norms: over one head, or `qk_norm_whole` with a scale for every head.
        sinks: a weight for each head in the softmax.
        positions: key of the number of learned positions, and how many more their table has.
        embedding: key of the embedding's width where it may differ from the hidden size.
        windows: of each layer.
        latent: multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).
    """

    named: tuple[str, ...] = ("num_key_value_heads",)
    inner: str = "intermediate_size"
    inner_in_hidden: int | None = None
    gated: bool = True
    qkv_bias: Flag = False
    output_bias: Flag = False
    mlp_bias: Flag = False
    head_bias: bool = False
    tied: bool = False
    kv_heads: Count = _grouped_heads
    norms: Count = 2
    outer_norms: Count = 1
    vectors: int = 1
    qk_norm: Flag = False
    qk_norm_whole: bool = False
    sinks: bool = False
    positions: tuple[str, int] | None = None
    embedding: str | None = None
    windows: Callable[[Config], Windows] = _no_windows
    experts: Experts | None = None
    latent: bool = False


_ATTENTION_BIAS = Key("attention_bias")

_PLAIN = Family()
_LLAMA = Family(qkv_bias=_ATTENTION_BIAS, output_bias=_ATTENTION_BIAS, mlp_bias=Key("mlp_bias"))
_QWEN = Family(qkv_bias=True, windows=_upper_windows)
_GEMMA = replace(_LLAMA, mlp_bias=False, named=("num_key_value_heads", "head_dim"), tied=True)
_GPT = Family(
    named=(),
    inner="n_inner",
    inner_in_hidden=4,
    gated=False,
    qkv_bias=True,
    output_bias=True,
    mlp_bias=True,
    kv_heads=lambda config: config.heads,
    vectors=2,
)
_DEEPSEEK = replace(
    _LLAMA,
    named=("q_lora_rank",),
    experts=Experts(number=("n_routed_experts",), shared="plain"),
    latent=True,
)

_GATED = {
    "llama": replace(_LLAMA, named=()),
    "granite": _LLAMA,
    "smollm3": replace(_LLAMA, tied=True),
    "mistral": replace(_PLAIN, named=("num_key_value_heads", "sliding_window"), windows=_one_window),
    "phi3": replace(_PLAIN, windows=_one_window),
    "qwen2": _QWEN,
    "qwen3": replace(
        _LLAMA,
        named=("num_key_value_heads", "head_dim"),
        mlp_bias=False,
        qk_norm=True,
        windows=_upper_windows,
    ),
    "gemma": _GEMMA,
    "gemma2": replace(_GEMMA, norms=4, windows=_every_second_full),
    "gemma3_text": replace(_GEMMA, norms=4, qk_norm=True, windows=_every_sixth_full),
    "olmo": replace(_LLAMA, mlp_bias=False, vectors=0),
    "olmo2": replace(_LLAMA, mlp_bias=False, qk_norm=True, qk_norm_whole=True),
    "cohere": replace(
        _LLAMA, mlp_bias=False, tied=True, norms=1, qk_norm=Key("use_qk_norm"), qk_norm_whole=True
    ),
    "stablelm": replace(
        _PLAIN,
        qkv_bias=Key("use_qkv_bias"),
        norms=_stablelm_norms,
        vectors=2,
        qk_norm=Key("qk_layernorm"),
        qk_norm_whole=True,
    ),
}
_MIXTURES = {
    "mixtral": replace(_PLAIN, windows=_one_window, experts=Experts(width="intermediate_size")),
    "qwen2_moe": replace(_PLAIN, qkv_bias=Key("qkv_bias", default=True), experts=Experts(shared="gated")),
    "qwen3_moe": replace(
        _LLAMA,
        named=("num_key_value_heads", "head_dim"),
        mlp_bias=False,
        qk_norm=True,
        experts=Experts(),
    ),
    "olmoe": replace(
        _LLAMA,
        mlp_bias=False,
        qk_norm=True,
        qk_norm_whole=True,
        experts=Experts(width="intermediate_size"),
    ),
    "granitemoe": replace(_LLAMA, mlp_bias=False, experts=Experts(width="intermediate_size")),
    "gpt_oss": Family(
        named=("num_key_value_heads", "head_dim"),
        qkv_bias=Key("attention_bias", default=True),
        output_bias=Key("attention_bias", default=True),
        sinks=True,
        windows=_every_second_full,
        experts=Experts(width="intermediate_size", bias=True),
    ),
    "deepseek_v2": _DEEPSEEK,
    "deepseek_v3": replace(_DEEPSEEK, mlp_bias=False, named=("q_lora_rank", "first_k_dense_replace")),
}
_UNGATED = {
    "gpt2": replace(_GPT, tied=True, positions=("n_positions", 0)),
    "gptj": replace(_GPT, qkv_bias=False, output_bias=False, head_bias=True, norms=1),
    "gpt_neox": replace(
        _GPT,
        inner="intermediate_size",
        qkv_bias=Key("attention_bias", default=True),
        output_bias=Key("attention_bias", default=True),
    ),
    "opt": replace(
        _GPT,
        inner="ffn_dim",
        qkv_bias=Key("enable_bias", default=True),
        output_bias=Key("enable_bias", default=True),
        mlp_bias=Key("enable_bias", default=True),
        tied=True,
        outer_norms=_opt_outer_norms,
        positions=("max_position_embeddings", 2),
        embedding="word_embed_proj_dim",
    ),
    "bloom": replace(_GPT, tied=True, outer_norms=2),
    "falcon": replace(
        _GPT,
        inner="ffn_hidden_size",
        qkv_bias=Key("bias"),
        output_bias=Key("bias"),
        mlp_bias=Key("bias"),
        tied=True,
        kv_heads=_falcon_heads,
        norms=_falcon_norms,
    ),
    "phi": replace(_GPT, inner="intermediate_size", head_bias=True, kv_heads=_grouped_heads, norms=1),
    "starcoder2": replace(
        _GPT,
        named=("num_key_value_heads",),
        inner="intermediate_size",
        qkv_bias=Key("use_bias", default=True),
        output_bias=Key("use_bias", default=True),
        mlp_bias=Key("use_bias", default=True),
        tied=True,
        kv_heads=_grouped_heads,
        windows=_one_window,
    ),
}
FAMILIES: MappingProxyType[str, Family] = MappingProxyType(_GATED | _MIXTURES | _UNGATED)
"""By `model_type`."""

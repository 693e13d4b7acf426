"""The words of llenergymeasure v1: what its files say is put into this version's keys.

A key that was renamed is mapped; one that has no meaning here is accepted, with one note for all of them; one
that cannot be ignored without changing what is measured is refused with what to write instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.document import Node, node_of
from pytest_llem.campaign.entries import Entry
from pytest_llem.campaign.findings import Findings
from pytest_llem.campaign.tables import Table

SECTIONS = frozenset(
    {
        "batching",
        "sharding",
        "prompts",
        "traffic_simulation",
        "vllm.attention",
        "vllm.lora",
        "pytorch.beam_search",
    }
)
"""Mappings inside an experiment that only v1 knew."""

DEFAULTS = MappingProxyType(
    {
        "execution.cycles": 3,
        "execution.structure": "interleaved",
        "execution.config_gap_seconds": 60,
        "execution.cycle_gap_seconds": 300,
        "execution.warmup_timeout_seconds": 30,
        "warmup.cv_threshold": 0.05,
        "num_input_prompts": 1,
        "output_length": "natural",
        "vllm.gpu_memory_utilization": 0.9,
        "vllm.enable_prefix_caching": False,
        "vllm.enable_chunked_prefill": False,
    }
)
"""v1's defaults where they differ from this version's; null leaves the choice to the engine."""

DATASETS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "ai-energy-score": {"name": "AIEnergyScore/text_generation", "column": "text"},
        "ai_energy_score": {"name": "AIEnergyScore/text_generation", "column": "text"},
        "alpaca": {"name": "tatsu-lab/alpaca", "column": "instruction"},
        "sharegpt": {"name": "anon8231489123/ShareGPT_Vicuna_unfiltered", "column": "conversations"},
        "gsm8k": {"name": "gsm8k", "subset": "main", "column": "question"},
        "mmlu": {"name": "cais/mmlu", "subset": "all", "column": "question", "split": "test"},
    }
)
"""Short names of data sets."""

RENAMED = MappingProxyType(
    {
        "max_new_tokens": "max_output_tokens",
        "batching.batch_size": "batch_size",
        "prompts.path": "prompts_file",
        "prompts.dataset": "dataset.name",
        "prompts.split": "dataset.split",
        "prompts.subset": "dataset.subset",
        "prompts.column": "dataset.column",
        "prompts.sample_size": "dataset.sample_size",
        "vllm.distributed_backend": "vllm.distributed_executor_backend",
        "vllm.attention.disable_sliding_window": "vllm.disable_sliding_window",
        "tensorrt.tp_size": "tensorrt.tensor_parallel_size",
        "tensorrt.pp_size": "tensorrt.pipeline_parallel_size",
        "tensorrt.quantization": "tensorrt.quant_algo",
        "tensorrt.gpu_memory_utilization": "tensorrt.free_gpu_memory_fraction",
        "tensorrt.enable_chunked_context": "tensorrt.enable_chunked_prefill",
        "tensorrt.enable_kv_cache_reuse": "tensorrt.enable_block_reuse",
        "tensorrt.draft_model": "tensorrt.speculative_model",
        "tensorrt.num_draft_tokens": "tensorrt.max_draft_len",
    }
)
"""Keys with a new name and the same meaning."""

_WITHOUT_EFFECT = frozenset(
    {
        "query_rate",
        "save_outputs",
        "decode_token_to_text",
        "streaming_warmup_requests",
        "extra_metadata",
        "schedule",
        "io",
        "baseline.required",
        "baseline.sample_interval_ms",
        "prompts.shuffle",
        "prompts.seed",
        "traffic_simulation.seed",
        "pytorch.low_cpu_mem_usage",
        "pytorch.use_bettertransformer",
        "pytorch.output_scores",
        "pytorch.return_dict_in_generate",
        "vllm.lora.extra_vocab_size",
        "vllm.lora.max_loras",
        "vllm.lora.max_rank",
        "vllm.swap_space",
    }
)
_SAID_ELSEWHERE = frozenset({"schema_version", "prompts.type"})
_NO_ADAPTERS = "adapters are not loaded; name a model into which it is merged as model_name"
_ONE_REPLICA = "several replicas of a model are not measured as one experiment; remove it"
_ONLY: Mapping[str, tuple[Any, str]] = {
    "num_processes": (1, _ONE_REPLICA),
    "pytorch.num_processes": (1, _ONE_REPLICA),
    "pytorch.extra": ({}, "write the parameters themselves into pytorch"),
    "vllm.extra": ({}, "write the parameters themselves into vllm"),
    "tensorrt.extra_build_args": ({}, "write the parameters themselves into tensorrt"),
    "tensorrt.extra_runtime_args": ({}, "write the parameters themselves into tensorrt"),
    "vllm.attention.flash_version": (None, "write vllm.attention_backend"),
    "pytorch.max_tokens_per_batch": (None, "batches have no token budget here; write pytorch.batch_size"),
    "batching.max_tokens_per_batch": (None, "batches have no token budget here; write pytorch.batch_size"),
    "pytorch.max_memory": (None, "a model that is spread over memories is not measured; remove it"),
    "pytorch.assisted_generation": (None, "write vllm.speculative_config; pytorch does not speculate here"),
    "tensorrt.calibration": (None, "name a checkpoint that is already quantised as model_name"),
    "tensorrt.builder_opt_level": (3, "TensorRT-LLM has this choice no more; write tensorrt.fast_build"),
    "tensorrt.kv_cache_type": ("paged", "in-flight batching needs a paged KV cache; remove it"),
    "tensorrt.max_output_len": (None, "write tensorrt.max_seq_len: prompt and output tokens together"),
    "adapter": (None, _NO_ADAPTERS),
    "vllm.lora.enabled": (False, _NO_ADAPTERS),
}
"""Keys that are accepted with one value alone, and what to do about any other."""


def is_version(schema_version: str) -> bool:
    """Return whether a `schema_version` is one of llenergymeasure v1's, which counted 3.x."""
    return schema_version.startswith("3.")


class _Old(NamedTuple):
    """A fragment that may hold old keys: its entries by name, and what the handlers need."""

    entries: Mapping[str, Entry]
    targets: Sequence[BackendSpec]
    table: Table
    findings: Findings

    def value(self, name: str, default: Any = None) -> Any:
        """Return the plain value of a neighbour."""
        return self.entries[name].node.plain() if name in self.entries else default

    def refuse(self, entry: Entry, why: str) -> tuple[Entry, ...]:
        """Keep a problem with a key and give nothing in its place."""
        self.findings.problem(entry.mark, f"{entry.path}: {why}")
        return ()


def modernise(
    entries: Iterable[Entry], targets: Sequence[BackendSpec], table: Table, findings: Findings
) -> list[Entry]:
    """Return entries of an experiment in this version's keys; unknown ones are left as they are.

    Args:
        entries: as written.
        targets: the backends that the fragment is for; keys that moved into a backend's section go there.
        table: this version's keys, which are never taken for old ones.
        findings: takes problems and notes.
    """
    written = list(entries)
    old = _Old({entry.name: entry for entry in written}, targets, table, findings)
    return [new for entry in written for new in _modern(entry, old)]


def _modern(entry: Entry, old: _Old) -> Iterable[Entry]:
    if entry.name in old.table.keys:
        return _NEW_VALUES.get(entry.name, _as_it_is)(entry, old)
    known = (_HANDLERS, _ONLY, _WITHOUT_EFFECT, _SAID_ELSEWHERE, RENAMED, SECTIONS)
    if not any(entry.name in names for names in known):
        return (entry,)
    if entry.name != "schema_version" or is_version(entry.node.text):
        old.findings.v1_keys.add(entry.path)
    if entry.node.value is None or entry.name in _SAID_ELSEWHERE:
        return ()
    if entry.name in RENAMED:
        return (entry._replace(name=RENAMED[entry.name]),)
    if entry.name in _WITHOUT_EFFECT:
        old.findings.without_effect[entry.path] = None
        return ()
    return _HANDLERS.get(entry.name, _only)(entry, old)


def _as_it_is(entry: Entry, _: _Old) -> tuple[Entry, ...]:
    return (entry,)


def _with(entry: Entry, name: str, value: Any) -> Entry:
    """Return an entry for another key, with the place of the first one."""
    return entry._replace(name=name, node=node_of(value, entry.node.mark))


def _only(entry: Entry, old: _Old) -> tuple[Entry, ...]:
    if entry.name not in _ONLY:
        return (entry,)
    value, instead = _ONLY[entry.name]
    return () if entry.node.plain() == value else old.refuse(entry, f"not supported: {instead}")


def _own_parameter(entry: Entry, old: _Old) -> tuple[Entry, ...]:
    """Move a key into the sections of the backends that have a parameter for it."""
    parameter = {"batching.strategy": "batching_strategy"}.get(entry.name, entry.name.rpartition(".")[2])
    names = [f"{spec.name}.{parameter}" for spec in old.targets]
    found = [name for name in names if name in old.table.keys]
    if not found:
        everywhere = ", ".join(name for name in old.table.keys if name.endswith(f".{parameter}"))
        return old.refuse(entry, f"not a parameter of this backend; it is now {everywhere}")
    return tuple(new for name in found for new in _modern(entry._replace(name=name), old))


def _batching_strategy(entry: Entry, old: _Old) -> tuple[Entry, ...]:
    """`dynamic` fills batches up to a token budget; without that, it fills them up to `batch_size`."""
    value = entry.node.value
    if value not in ("dynamic", "sorted_dynamic"):
        return (entry,)
    old.findings.v1_keys.add(entry.path)
    static = str(value).replace("dynamic", "static")
    old.findings.notes.append(
        f"{entry.path}: {value} runs as {static}: batches of batch_size prompts, no token budget"
    )
    return (_with(entry, entry.name, static),)


def _listed(entry: Entry, _: _Old) -> tuple[Entry, ...]:
    if isinstance(entry.node.value, list | None):
        return (entry,)
    return (entry._replace(node=Node([entry.node], entry.node.mark)),)


def _sharding(entry: Entry, old: _Old) -> tuple[Entry, ...]:
    strategy, shards = old.value("sharding.strategy", "none"), old.value("sharding.num_shards", 1)
    if strategy == "none" or shards == 1 or entry.name == "sharding.strategy":
        return ()
    parallel = {"pipeline_parallel": "pipeline_parallel_size"}.get(str(strategy), "tensor_parallel_size")
    known = str(strategy) in ("tensor_parallel", "pipeline_parallel")
    names = [name for spec in old.targets if (name := f"{spec.name}.{parallel}") in old.table.keys]
    if not names or not known:
        instead = f"vllm.{parallel} or tensorrt.{parallel}"
        return old.refuse(entry, f"this backend does not shard a model that way; write {instead}")
    return tuple(entry._replace(name=name) for name in names)


_TRAFFIC = {
    "traffic_simulation.mode": ("load.mode", "poisson"),
    "traffic_simulation.target_qps": ("load.rate", 1.0),
}


def _traffic(entry: Entry, old: _Old) -> tuple[Entry, ...]:
    """Requests come at a rate only if the simulation is enabled, which it is not by default."""
    if old.value("traffic_simulation.enabled") is not True:
        return ()
    if entry.name in _TRAFFIC:
        return (entry._replace(name=_TRAFFIC[entry.name][0]),)
    return tuple(_with(entry, *new) for name, new in _TRAFFIC.items() if name not in old.entries)


def _beam_search(entry: Entry, old: _Old) -> tuple[Entry, ...]:
    if old.value("pytorch.beam_search.enabled") is not True:
        return ()
    name = entry.name.replace("beam_search.", "")
    if name in old.table.keys:
        return (entry._replace(name=name),)
    return () if name == "pytorch.enabled" else old.refuse(entry, "not supported; remove it")


def _minimum(entry: Entry, old: _Old) -> tuple[Entry, ...]:
    value = entry.node.plain()
    if value == 0:
        return (_with(entry, "output_length", "natural"),)
    if value in (old.value("max_output_tokens"), old.value("max_new_tokens")):
        return (_with(entry, "output_length", "exact"),)
    return old.refuse(entry, "write output_length: exact (max_output_tokens, always) or natural (at most)")


def _attention_backend(entry: Entry, _: _Old) -> tuple[Entry, ...]:
    return () if entry.node.value == "auto" else (entry._replace(name="vllm.attention_backend"),)


def _speculative(entry: Entry, _: _Old) -> tuple[Entry, ...]:
    words = {"num_tokens": "num_speculative_tokens", "draft_tp_size": "draft_tensor_parallel_size"}
    if not isinstance(entry.node.value, dict):
        return (entry,)
    given = {"method": "ngram", "num_tokens": 5} | entry.node.plain()
    config = {words.get(key, key): value for key, value in given.items() if value is not None}
    return (_with(entry, "vllm.speculative_config", config),)


_Handler = Callable[[Entry, _Old], Iterable[Entry]]
_HANDLERS: Mapping[str, _Handler] = {
    "batching.strategy": _own_parameter,
    "decoder.min_p": _own_parameter,
    "decoder.no_repeat_ngram_size": _own_parameter,
    "sharding.strategy": _sharding,
    "sharding.num_shards": _sharding,
    "traffic_simulation.enabled": _traffic,
    "traffic_simulation.mode": _traffic,
    "traffic_simulation.target_qps": _traffic,
    "pytorch.beam_search.enabled": _beam_search,
    "pytorch.beam_search.num_beams": _beam_search,
    "pytorch.beam_search.length_penalty": _beam_search,
    "pytorch.beam_search.early_stopping": _beam_search,
    "pytorch.beam_search.no_repeat_ngram_size": _beam_search,
    "min_output_tokens": _minimum,
    "vllm.attention.backend": _attention_backend,
    "vllm.speculative": _speculative,
}
_NEW_VALUES: Mapping[str, _Handler] = {
    "pytorch.batching_strategy": _batching_strategy,
    "gpus": _listed,
}


# --- The campaign around the experiments ---

_CAMPAIGN_ONLY = ("schedule", "io.configs_dir", "io.state_dir", "io.manifest_filename")


def campaign_entries(entries: Iterable[Entry], findings: Findings) -> Iterator[Entry]:
    """Yield the entries of a campaign that mean something here; a `schema_version` becomes text."""
    for entry in entries:
        if entry.name in _CAMPAIGN_ONLY and entry.node.value is not None:
            findings.v1_keys.add(entry.path)
            findings.without_effect[entry.path] = None
        elif entry.name in _CAMPAIGN_ONLY:
            continue
        elif entry.name == "schema_version" and not isinstance(entry.node.value, list | dict | None):
            if is_version(entry.node.text):
                findings.v1_keys.add(entry.path)
            yield _with(entry, entry.name, entry.node.text)
        else:
            yield entry

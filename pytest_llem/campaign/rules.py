"""What is known before anything runs: what cannot work, and what needs a word of warning.

`FILTERED` and `WARNED` are the whole list. A filtered point never runs; a warned one runs, and its reason
is shown. Reasons are counted over a campaign, so none of them quotes what differs from point to point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

from pytest_llem.backends.base import BackendSpec, Parameters
from pytest_llem.backends.sampling import resolve
from pytest_llem.campaign.identity import Files, model_config
from pytest_llem.records import RANDOM_WEIGHTS, Configuration

Verdict = Literal["valid", "filtered", "warned"]


class Candidate(NamedTuple):
    """A configuration with what rules may look at.

    Attributes:
        parameters: the configuration's.
        spec: of the configuration's backend.
        sections: backends whose sections an explicit experiment sets itself; empty for a grid point.
    """

    configuration: Configuration
    parameters: dict[str, Any]
    spec: BackendSpec
    files: Files
    sections: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Rule:
    """One fact about configurations.

    Attributes:
        holds: true for the candidates that it speaks of.
        reason: what is wrong, and what to do about it where that is not plain.
        backend: the only backend that the rule looks at; None: all.
    """

    name: str
    holds: Callable[[Candidate], Any]
    reason: str
    backend: str | None = None


PROMPTS_PER_SLOT = 10
"""With fewer prompts for each place in the batch, much of a pass runs at part of the batch: J/token is 11 %
above that of a full batch for 10 prompts a place, 116 % for one (modelled: 64 places, output lengths that
vary)."""

EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts")
"""Names that architectures in transformers give to the number of experts of a layer."""


def _has_random_weights(it: Candidate) -> bool:
    return it.configuration.model_name.startswith(RANDOM_WEIGHTS)


def _is_mixture_of_experts(it: Candidate) -> bool:
    config = it.files.mapping(model_config(it.configuration.model_name))
    counts = (config[name] for name in EXPERT_COUNTS if name in config)
    return any(isinstance(count, int) and count > 1 for count in counts)


def _is_speculative(it: Candidate) -> bool:
    return bool(it.parameters.get("speculative_config") or it.parameters.get("draft_model"))


def _ignores_sampling(it: Candidate) -> bool:
    decoder = it.configuration.decoder
    asked = any((decoder.temperature, decoder.top_k, decoder.top_p))
    return asked and not resolve(decoder).do_sample


def _changes(it: Candidate, *prefixes: str) -> bool:
    """Return whether a parameter with one of these prefixes differs from its default."""
    return any(it.parameters[name] != default for name, default in _defaults(it.spec.parameters, prefixes))


@cache
def _defaults(parameters: type[Parameters], prefixes: tuple[str, ...]) -> tuple[tuple[str, Any], ...]:
    fields = parameters.model_fields
    return tuple((name, fields[name].default) for name in fields if name.startswith(prefixes))


def _too_few_prompts(it: Candidate) -> bool:
    limit = it.parameters[it.spec.batch_parameter] or 1
    return _load_is(it, "batch") and it.configuration.num_input_prompts < PROMPTS_PER_SLOT * limit


def _load_is(it: Candidate, *modes: str) -> bool:
    return it.configuration.load.mode in modes


def _prompts_are_missing(it: Candidate) -> bool:
    path = it.configuration.prompts_file
    return path is not None and it.files.digest(path) is None


def _dataset_too_small(it: Candidate) -> bool:
    size = it.configuration.dataset.sample_size if it.configuration.dataset else None
    return size is not None and size < it.configuration.num_input_prompts


# --- The rules ---

FILTERED = (
    Rule(
        "no engine",
        lambda it: it.spec.engine is None,
        "the {backend} backend comes with a later version",
    ),
    Rule(
        "foreign section",
        lambda it: bool(it.sections - {it.spec.name}),
        "sets parameters of another backend than its own, {backend}",
    ),
    Rule(
        "two workloads",
        lambda it: bool(it.configuration.prompts_file and it.configuration.dataset),
        "prompts_file and dataset are both set: set one of them to null",
    ),
    Rule("prompts file", _prompts_are_missing, "prompts_file cannot be read"),
    Rule("small dataset", _dataset_too_small, "num_input_prompts is larger than dataset.sample_size"),
    Rule(
        "closed loop without clients",
        lambda it: _load_is(it, "closed") and it.configuration.load.concurrency is None,
        "load.mode: closed needs load.concurrency, the number of requests that are always under way",
    ),
    Rule(
        "open loop without rate",
        lambda it: _load_is(it, "constant", "poisson") and it.configuration.load.rate is None,
        "load.mode: constant and load.mode: poisson need load.rate, in requests/s",
    ),
    Rule(
        "clients of no closed loop",
        lambda it: not _load_is(it, "closed") and it.configuration.load.concurrency is not None,
        "load.concurrency belongs to load.mode: closed",
    ),
    Rule(
        "rate of no open loop",
        lambda it: not _load_is(it, "constant", "poisson") and it.configuration.load.rate is not None,
        "load.rate belongs to load.mode: constant and load.mode: poisson",
    ),
    Rule(
        "requests of no load",
        lambda it: _load_is(it, "batch") and it.configuration.load.requests is not None,
        "load.requests belongs to the other modes than load.mode: batch: set num_input_prompts and window.passes",
    ),
    Rule(
        "speculation on random weights",
        lambda it: _has_random_weights(it) and _is_speculative(it),
        "random weights accept no draft: their speculative decoding says nothing about a trained model",
    ),
    Rule(
        "4 and 8 bits",
        lambda it: it.parameters["load_in_4bit"] and it.parameters["load_in_8bit"],
        "load_in_4bit and load_in_8bit exclude each other",
        backend="pytorch",
    ),
    Rule(
        "quantised twice",
        lambda it: it.parameters["quantization_config"] and _changes(it, "load_in_", "bnb_4bit_"),
        "quantization_config excludes load_in_4bit, load_in_8bit and bnb_4bit_*",
        backend="pytorch",
    ),
    Rule(
        "flash attention in float32",
        lambda it: (
            it.parameters["attn_implementation"].startswith("flash_attention")
            and it.configuration.fp_precision == "float32"
        ),
        "flash attention computes in float16 and bfloat16 only",
        backend="pytorch",
    ),
    Rule(
        "float32",
        lambda it: it.configuration.fp_precision == "float32",
        "TensorRT-LLM serves no float32",
        backend="tensorrt",
    ),
)
"""Such a point never runs."""

WARNED = (
    Rule(
        "few prompts",
        _too_few_prompts,
        f"fewer prompts than {PROMPTS_PER_SLOT} x the batch limit: much of a pass runs at part of the batch",
    ),
    Rule(
        "sampling without effect", _ignores_sampling, "greedy decoding ignores temperature, top_k and top_p"
    ),
    Rule(
        "random experts",
        lambda it: _has_random_weights(it) and _is_mixture_of_experts(it),
        "random weights route tokens over the experts unlike a trained mixture of experts",
    ),
    Rule(
        "compile backend without compile",
        lambda it: it.parameters["torch_compile_backend"] and not it.parameters["torch_compile"],
        "torch_compile_backend has no effect without torch_compile",
        backend="pytorch",
    ),
    Rule(
        "4-bit parameters without 4 bits",
        lambda it: not it.parameters["load_in_4bit"] and _changes(it, "bnb_4bit_"),
        "bnb_4bit_* have no effect without load_in_4bit",
        backend="pytorch",
    ),
    Rule(
        "cache without cache",
        lambda it: it.parameters["cache_implementation"] and not it.parameters["use_cache"],
        "cache_implementation has no effect with use_cache: false",
        backend="pytorch",
    ),
)
"""Such a point runs."""


def judge(candidate: Candidate) -> tuple[Verdict, tuple[str, ...]]:
    """Return the gravest verdict on a candidate, with its reasons."""
    filtered, warned = _for_backend(candidate.spec.name)
    if reasons := _reasons(filtered, candidate):
        return "filtered", reasons
    if reasons := _reasons(warned, candidate):
        return "warned", reasons
    return "valid", ()


def _reasons(rules: Iterable[Rule], candidate: Candidate) -> tuple[str, ...]:
    held = [rule.reason for rule in rules if rule.holds(candidate)]
    return tuple(reason.format(backend=candidate.spec.name) for reason in held)


@cache
def _for_backend(name: str) -> tuple[list[Rule], list[Rule]]:
    """Return the rules that look at a backend: those that filter and those that warn."""
    filtered, warned = (
        [rule for rule in rules if rule.backend in (None, name)] for rules in (FILTERED, WARNED)
    )
    return filtered, warned

"""Prompts, sampling, load, warm-up: what all engines share."""

from __future__ import annotations

from typing import Any

from pytest_llem.backends.base import BackendSpec
from pytest_llem.backends.sampling import resolve
from pytest_llem.campaign.identity import Files
from pytest_llem.campaign.rules.rule import Rule, WithoutEffect
from pytest_llem.records import Dataset, Decoder, Load, Warmup

PROMPTS_PER_SLOT = 10
"""With fewer prompts for each place in the batch, much of a pass runs at part of the batch: J/token is 11 %
above that of a full batch for 10 prompts a place, 116 % for one (modelled: 64 places, output lengths that
vary)."""

OPEN_LOOPS = ("constant", "poisson")


def _prompts_are_missing(prompts_file: str | None, files: Files) -> bool:
    return prompts_file is not None and files.digest(prompts_file) is None


def _dataset_too_small(dataset: Dataset | None, num_input_prompts: int) -> bool:
    size = dataset.sample_size if dataset else None
    return size is not None and size < num_input_prompts


def _warmup_has_no_room(warmup: Warmup) -> bool:
    least, most = warmup.min_prompts, warmup.max_prompts
    return least is not None and most is not None and least > most


def _too_few_prompts(
    spec: BackendSpec, parameters: dict[str, Any], num_input_prompts: int, load: Load
) -> bool:
    limit = parameters[spec.batch_parameter] or 1
    return load.mode == "batch" and num_input_prompts < PROMPTS_PER_SLOT * limit


def is_greedy(decoder: Decoder) -> bool:
    """Return whether a decoder takes the likeliest token each time."""
    return not resolve(decoder).do_sample


def _is_greedy_at_any_temperature(decoder: Decoder) -> bool:
    """A temperature of 0 is what makes some decoders greedy."""
    return is_greedy(decoder.model_copy(update={"temperature": 1.0}))


FILTERED = (
    Rule(
        "two workloads",
        lambda prompts_file, dataset: bool(prompts_file and dataset),
        "prompts_file and dataset are both set: set one of them to null",
    ),
    Rule("prompts file", _prompts_are_missing, "prompts_file cannot be read"),
    Rule("small dataset", _dataset_too_small, "num_input_prompts is larger than dataset.sample_size"),
    Rule("warm-up without room", _warmup_has_no_room, "warmup.min_prompts is larger than warmup.max_prompts"),
    Rule(
        "closed loop without clients",
        lambda load: load.mode == "closed" and load.concurrency is None,
        "load.mode: closed needs load.concurrency, the number of requests that are always under way",
    ),
    Rule(
        "open loop without rate",
        lambda load: load.mode in OPEN_LOOPS and load.rate is None,
        "load.mode: constant and load.mode: poisson need load.rate, in requests/s",
    ),
)

WARNED = (
    Rule(
        "few prompts",
        _too_few_prompts,
        f"fewer prompts than {PROMPTS_PER_SLOT} x the batch limit: much of a pass runs at part of the batch",
    ),
)

WITHOUT_EFFECT = (
    WithoutEffect(
        "candidates of greedy decoding", ("decoder.top_p", "decoder.top_k"), is_greedy, "without sampling"
    ),
    WithoutEffect(
        "temperature of greedy decoding",
        ("decoder.temperature",),
        _is_greedy_at_any_temperature,
        "without sampling",
    ),
    WithoutEffect(
        "clients of no closed loop",
        ("load.concurrency",),
        lambda load: load.mode != "closed",
        "but with load.mode: closed",
    ),
    WithoutEffect(
        "rate of no open loop",
        ("load.rate",),
        lambda load: load.mode not in OPEN_LOOPS,
        "but with load.mode: constant and load.mode: poisson",
    ),
    WithoutEffect(
        "requests of no load",
        ("load.requests",),
        lambda load: load.mode == "batch",
        "with load.mode: batch: set num_input_prompts and window.passes",
    ),
    WithoutEffect(
        "prefill of a load",
        ("prefill.enabled",),
        lambda load: load.mode != "batch",
        "but with load.mode: batch",
    ),
    WithoutEffect(
        "warm-up that is off",
        tuple(f"warmup.{name}" for name in Warmup.model_fields if name != "enabled"),
        lambda warmup: not warmup.enabled,
        "with warmup.enabled: false",
    ),
    WithoutEffect(
        "agreement that nobody waits for",
        ("warmup.cv_threshold", "warmup.window_size"),
        lambda warmup: warmup.enabled and not warmup.convergence_detection,
        "with warmup.convergence_detection: false",
    ),
    WithoutEffect(
        "baseline that is off",
        ("baseline.duration_sec", "baseline.cache_ttl_sec"),
        lambda baseline: not baseline.enabled,
        "with baseline.enabled: false",
    ),
    WithoutEffect(
        "trace that is off",
        ("timeseries.save", "timeseries.sample_interval_ms"),
        lambda timeseries: not timeseries.enabled,
        "with timeseries.enabled: false",
    ),
)

"""What to measure: the experiment keys of a campaign file, with the names of llenergymeasure v1."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pytest_llem.records.base import Count, NonNegative, Record

RANDOM_WEIGHTS = "random:"
"""Before a `model_name`: that architecture with random weights."""


ModelRuns = Literal["in_engine", "beside_engine", "elsewhere"]
"""Where a model's work is done: in the engine process and its children, in another process of the same machine, or
on another machine. It decides which meters can see its energy."""


class Dataset(Record):
    """A Hugging Face dataset as one fixed list of prompts."""

    name: str
    sample_size: Count | None = None
    split: str = "train"
    subset: str | None = None
    column: str | None = None


class Decoder(Record):
    """Sampling, in the words that all engines share. `preset` fills what is not set beside it."""

    preset: Literal["deterministic", "standard", "creative", "factual"] | None = None
    do_sample: bool | None = None
    temperature: NonNegative | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None


class Load(Record):
    """How requests arrive: all at once (`batch`), at a fixed concurrency, or at a rate in requests/s."""

    mode: Literal["batch", "closed", "constant", "poisson"] = "batch"
    concurrency: Count | None = None
    rate: Annotated[float, Field(gt=0)] | None = None
    requests: Count | None = None


class Warmup(Record):
    """Work before the window, until two slices in a row agree (docs/metrics.md).

    Attributes:
        enabled: False runs no warm-up at all.
        convergence_detection: False stops at the floor (one pass, `min_prompts`) instead of at agreement.
        cv_threshold: largest relative difference in tokens/s of two successive slices that counts as agreement.
        min_prompts: floor in prompts; None takes `execution.warmup_prompts`.
        max_prompts: cap in prompts; None leaves the cap in seconds alone.
        window_size: length of a slice in passes; None ends a slice after one pass or 10 s, whichever is later.
    """

    enabled: bool = True
    convergence_detection: bool = True
    cv_threshold: Annotated[float, Field(gt=0, le=1)] = 0.02
    min_prompts: Annotated[int, Field(ge=0)] | None = None
    max_prompts: Count | None = None
    window_size: Count | None = None


class Prefill(Record):
    """A second window with one output token a request, which tells prefill from decode (docs/metrics.md)."""

    enabled: bool = False


class Baseline(Record):
    """Idle power, which `energy_above_*_idle_j` is counted from.

    Attributes:
        duration_sec: how long the machine is watched doing nothing, once bare and once with a loaded engine.
        cache_ttl_sec: how long such a power is taken for that of now.
    """

    enabled: bool = True
    duration_sec: Annotated[float, Field(gt=0)] = 30.0
    cache_ttl_sec: NonNegative = 3600.0


class Timeseries(Record):
    """The trace of power and temperature.

    Attributes:
        save: False keeps what it says about the window, and no file.
    """

    enabled: bool = True
    save: bool = True
    sample_interval_ms: Annotated[int, Field(ge=10)] = 100


class Configuration(Record):
    """One grid point: everything that an engine is asked for.

    The same class checks partial input (`defaults`, an inline experiment): unset fields keep their default and
    are absent from `model_fields_set`. `parameters` holds the section of the point's own backend, checked by
    that backend's spec.
    """

    config_name: str | None = None
    model_name: str = ""
    backend: str = ""
    gpus: tuple[int | str, ...] | None = None
    max_input_tokens: Count = 512
    max_output_tokens: Count = 128
    num_input_prompts: Count = 100
    fp_precision: Literal["float32", "float16", "bfloat16"] = "float16"
    random_seed: Annotated[int, Field(ge=0)] = 42
    dataset: Dataset | None = None
    prompts_file: str | None = None
    output_length: Literal["exact", "natural"] = "exact"
    prefix_reuse: Literal["forbid", "allow"] = "forbid"
    decoder: Decoder = Decoder()
    streaming: bool = False
    load: Load = Load()
    warmup: Warmup = Warmup()
    prefill: Prefill = Prefill()
    baseline: Baseline = Baseline()
    timeseries: Timeseries = Timeseries()
    parameters: dict[str, Any] = Field(default_factory=dict)

    @property
    def windows(self) -> int:
        """How many windows an experiment has."""
        return 2 if self.prefill.enabled else 1

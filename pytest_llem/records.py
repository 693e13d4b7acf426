"""What every room passes on: configurations, quantities, results. Nothing here does anything; pydantic only.

A `Configuration` says what to measure, a `Measurement` is what the worker found, a `Result` is a measurement
(or a `Failure`) with its place in a run. Each number that came out of a measurement is a `Quantity`: it carries
its unit and its source, and it is `None` when it is not available, never 0.
"""

from __future__ import annotations

from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

RESULT_SCHEMA_VERSION = 1
"""Raised when a field of `Result` changes its meaning or goes; a new optional field does not raise it."""


RANDOM_WEIGHTS = "random:"
"""Before a `model_name`: that architecture with random weights."""


class Record(BaseModel):
    """An immutable value that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# --- What to measure: the experiment keys of a campaign file, with the names of llenergymeasure v1 ---

Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]


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


class Baseline(Record):
    """Idle power that `energy_above_*_idle_j` is counted from."""

    enabled: bool = True
    duration_sec: Annotated[float, Field(gt=0)] = 30.0
    cache_ttl_sec: NonNegative = 3600.0


class Timeseries(Record):
    """The power and temperature trace beside a result."""

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
    baseline: Baseline = Baseline()
    timeseries: Timeseries = Timeseries()
    parameters: dict[str, Any] = Field(default_factory=dict)


# --- What was found ---

Source = Literal[
    "nvml_counter",
    "nvml_power_integral",
    "rapl",
    "amdsmi",
    "model",  # an estimate with a stated assumption; shown behind `~`, never compared with a measured one
    "clock",  # CLOCK_MONOTONIC
    "engine",  # counted by the inference engine
    "system",  # reported by the operating system
    "architecture",  # counted from the model's config.json
    "unavailable",
]

MEASURED_ENERGY: frozenset[Source] = frozenset({"nvml_counter", "nvml_power_integral", "rapl", "amdsmi"})
"""The sources of energy that are instruments. `--campaign-require measured` asks for one of them."""


class Quantity(Record):
    """One number with its unit, its source and its own resolution.

    Attributes:
        value: in `unit`; None exactly when `source` is `unavailable`.
        resolution: the smallest step that the source can show over this window, in `unit`; None if not known.
        note: why the value is unavailable, or what a modelled value assumes.
    """

    value: float | None
    unit: str
    source: Source
    resolution: float | None = None
    note: str | None = None


def unavailable(unit: str, note: str) -> Quantity:
    """Return the quantity that stands for "not known", with the reason."""
    return Quantity(value=None, unit=unit, source="unavailable", note=note)


class Metric(NamedTuple):
    """How one metric is treated: its unit, whether it lives on a log scale, and whether more is better."""

    unit: str
    logarithmic: bool = True
    more_is_better: bool = False


METRICS = MappingProxyType(
    {
        "energy_per_output_token_j": Metric("J/token"),
        "energy_per_total_token_j": Metric("J/token"),
        "energy_per_request_j": Metric("J/request"),
        "energy_j": Metric("J"),
        "power_mean_w": Metric("W"),
        "output_tokens_per_second": Metric("token/s", more_is_better=True),
        "total_tokens_per_second": Metric("token/s", more_is_better=True),
        "requests_per_second": Metric("request/s", more_is_better=True),
        "ttft_ms_mean": Metric("ms"),
        "ttft_ms_p50": Metric("ms"),
        "ttft_ms_p90": Metric("ms"),
        "ttft_ms_p99": Metric("ms"),
        "tpot_ms_mean": Metric("ms"),
        "tpot_ms_p50": Metric("ms"),
        "tpot_ms_p90": Metric("ms"),
        "tpot_ms_p99": Metric("ms"),
        "e2e_latency_ms_mean": Metric("ms"),
        "e2e_latency_ms_p50": Metric("ms"),
        "e2e_latency_ms_p90": Metric("ms"),
        "e2e_latency_ms_p99": Metric("ms"),
        "model_load_time_s": Metric("s"),
        "model_load_energy_j": Metric("J"),
        "cold_start_time_s": Metric("s"),
        "cold_start_energy_j": Metric("J"),
        "memory_peak_bytes": Metric("B"),
        "flops_per_token": Metric("FLOP/token"),
    }
)
"""Every metric by name, in the order of tables and files. Definitions: docs/metrics.md."""


NOT_RECORDED = unavailable("J", "not recorded by the version that measured this")


class Launch(Record):
    """The engine process that served an experiment.

    Attributes:
        id: unique in the run.
        engine_key: hash of the part of the configuration that was loaded.
        warm: False for the first experiment of the launch.
        start_method: how the process came to be; `forkserver` had the engine's libraries imported before.
        start_s: from the order to the engine process's first word.
        load_s: from then to the loaded model.
        start_energy_j, load_energy_j: used in these times, domain `total`.
        cold_start_energy_j: in both together: a start may be too short for a counter to move.
    """

    id: str
    engine_key: str
    warm: bool
    start_method: Literal["forkserver", "spawn"]
    start_s: NonNegative
    load_s: NonNegative
    start_energy_j: Quantity = NOT_RECORDED
    load_energy_j: Quantity
    cold_start_energy_j: Quantity = NOT_RECORDED


class WarmupReport(Record):
    """What the warm-up did; `converged` is None when it was not asked to converge."""

    prompts: int
    passes: int
    seconds: float
    converged: bool | None


class Measurement(Record):
    """What one experiment yielded, as the worker returns it.

    Attributes:
        window_s: first submission to last completion; throughput is over this.
        energy_window_s: between the two energy readings; at least `window_s`.
        energy_j: gross energy by domain: `total`, `gpu`, `cpu`, `dram`, one `gpu:<uuid>` a device.
        mean_running_batch: time-weighted number of requests in the engine.
        metrics: by the names of `METRICS`.
        effective: what the engine really applied, by parameter name.
    """

    launch: Launch
    warmup: WarmupReport | None
    window_s: float
    energy_window_s: float
    passes: int
    requests: int
    prompt_tokens: int
    cached_tokens: int
    padding_tokens: int
    output_tokens: int
    mean_running_batch: float
    preemptions: int | None = None
    prompt_sha256: str
    energy_j: dict[str, Quantity]
    metrics: dict[str, Quantity]
    effective: dict[str, Any]
    flags: tuple[str, ...] = ()


class Environment(Record):
    """The machine and the software beside the model; None is not known.

    Attributes:
        hostname: of the machine; for a container, of the one that started it.
        container: the kind of container; None outside of one. `image` is the digest of its image.
        cpu_limit, memory_limit_bytes: of the worker's control groups; None is no limit.
        driver, cuda_driver: of the NVIDIA GPUs, and the newest CUDA that it supports.
        devices: one mapping a GPU, see docs/formats.md.
        packages: versions of those that matter for the backend.
        git_commit: of the campaign's repository.
        meters: what each of them reads and assumes.
    """

    taken_at: datetime | None = None
    hostname: str | None
    machine: str
    kernel: str
    c_library: str | None = None
    container: str | None = None
    image: str | None = None
    cpu: str
    sockets: int | None = None
    cores: int | None = None
    logical_cpus: int
    smt: bool | None = None
    numa_nodes: int | None = None
    max_cpu_mhz: float | None = None
    governor: str | None
    cpu_limit: float | None = None
    memory_bytes: int
    memory_limit_bytes: int | None = None
    driver: str | None = None
    cuda_driver: str | None = None
    devices: tuple[dict[str, Any], ...] = ()
    python: str
    packages: dict[str, str]
    git_commit: str | None = None
    meters: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


VOLATILE = frozenset({"taken_at", "meters", "notes", "pcie_generation"})
"""What changes while an environment stays the same: times, measured ticks, links that save power when idle."""


FailureClass = Literal[
    "oom",
    "timeout",
    "engine_start",
    "crashed",
    "unhealthy",
    "lost",
    "invalid_config",
    "not_measured",
    "cancelled",
]


class Failure(Record):
    """Why an experiment has no measurement: its class, one sentence, and the end of the log."""

    kind: FailureClass
    message: str
    log_tail: str = ""


class Result(Record):
    """One attempt at one experiment, as it lies on disk.

    Exactly one of `measurement` and `failure` is set, but for an experiment that was measured and then refused
    (`not_measured`): it keeps both.

    Attributes:
        gap_s: really waited before it.
        service_start_s: how long its service (container or worker process) took to come up for it; None: it was up.
    """

    schema_version: int = RESULT_SCHEMA_VERSION
    tool_version: str
    campaign: str
    run_id: str
    session_id: str
    experiment_id: str
    label: str
    axes: dict[str, Any]
    spec_hash: str
    engine_key: str
    cycle: int
    position: int
    attempt: int
    executor: str
    environment_hash: str | None
    status: Literal["completed", "failed"]
    started_at: datetime
    completed_at: datetime
    gap_s: float
    service_start_s: float | None = None
    configuration: Configuration
    measurement: Measurement | None = None
    failure: Failure | None = None

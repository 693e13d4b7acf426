"""What one experiment yielded, as the worker returns it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from pytest_llem.records.base import NonNegative, Record
from pytest_llem.records.quantities import Quantity, unavailable

NOT_RECORDED = unavailable("J", "not recorded by the version that measured this")

THROTTLED = "throttled"
"""The flag of a measurement in whose window heat or the power brake slowed a GPU down (docs/metrics.md)."""


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
        engine_cache: whether an engine that is compiled ahead was there (`hit`) or was built (`miss`) for this
            launch or for the conditioning before it; None: nothing was to be compiled.
        build_s, build_energy_j: used for it before the load began, and in no other number; None: it was not built.
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
    engine_cache: Literal["hit", "miss"] | None = None
    build_s: NonNegative | None = None
    build_energy_j: Quantity | None = None


class WarmupReport(Record):
    """What the warm-up did; `converged` is None when it was not asked to converge."""

    prompts: int
    passes: int
    seconds: float
    converged: bool | None


IdleKind = Literal["bare", "loaded"]


class Idle(Record):
    """The power of a machine that does nothing.

    Attributes:
        kind: `bare`: no engine is there; `loaded`: one is, with its model, and waits.
        seconds: over which it was measured.
        power_w: mean power by domain, as `Measurement.energy_j` has them.
        boot: id of the machine's boot: another machine, or this one after a restart, has another idle power.
    """

    kind: IdleKind
    measured_at: datetime
    seconds: float
    power_w: dict[str, Quantity]
    boot: str


class DeviceTrace(Record):
    """What the trace says of one GPU over the window; None where the device has no such sensor. Means are over time.

    Attributes:
        instant_power: whether the device tells the power of the moment, else its own average over 1 s.
        power_integral_j: power over time; None unless it is known for 99 % of the window.
        counter_integral_ratio: energy by the counter / by the power; None without both.
        throttle_share: of the time, from 0 to 1, that heat or the power brake slowed it down.
        throttle_reasons: which of them.
        longest_gap_s: the longest time without a sample.
    """

    instant_power: bool
    power_mean_w: float | None
    power_peak_w: float | None
    power_integral_j: float | None
    counter_integral_ratio: float | None
    temperature_start_c: float | None
    temperature_end_c: float | None
    temperature_max_c: float | None
    sm_clock_mean_mhz: float | None
    memory_clock_mean_mhz: float | None
    throttle_share: float | None
    throttle_reasons: tuple[str, ...]
    memory_peak_bytes: float | None
    samples: int
    longest_gap_s: float


class LoadReport(Record):
    """How requests came and waited during the window, for every `load.mode` but `batch`.

    Attributes:
        offered_rate: arrivals, in requests/s; None for `closed`, where a completion makes the next arrival.
        achieved_rate: completions, in requests/s.
        queue_begin, queue_end: requests that were waiting when the window opened and when it closed.
    """

    offered_rate: float | None
    achieved_rate: float
    queue_begin: int
    queue_end: int


class PrefillReport(Record):
    """The second window of an experiment, in which each request had one output token; fields as in `Measurement`."""

    window_s: float
    energy_window_s: float
    passes: int
    requests: int
    prompt_tokens: int
    cached_tokens: int | None
    padding_tokens: int
    output_tokens: int
    energy_edges_s: dict[str, tuple[float, float]]
    energy_j: dict[str, Quantity]
    edge_idle_j: dict[str, Quantity]


class Measurement(Record):
    """What one experiment yielded, as the worker returns it.

    Attributes:
        window_s: first submission to last completion, under load between the energy readings; throughput is
            over this.
        energy_window_s: between the two energy readings; at least `window_s`.
        passes: whole passes over the prompts; 0 under load.
        requests: those that were completed in the window.
        energy_edges_s: by domain of a meter, the times of its two readings on the clock of the trace
            (`time.monotonic()` of the machine).
        energy_j: gross energy by domain: `total`, `gpu`, `cpu`, `dram`, one `gpu:<uuid>` a device; without
            `edge_idle_j`, where that is known.
        edge_idle_j: by domain, what was counted before the first submission and after the last completion, at
            loaded idle power.
        idle: the idle powers that were counted with.
        devices: by `gpu:<uuid>`, what the trace says; empty without a trace.
        cached_tokens: prompt tokens that came from a prefix cache; None: the engine does not count them.
        mean_running_batch: time-weighted number of requests that the engine works on.
        full_batch_share: of the window in which that number is the batch limit; None: the limit is not known.
        load: None for an offline batch.
        prefill: the second window; None: none was wanted.
        metrics: by the names of `METRICS`.
        asked: what the configuration demanded of the engine, in the engine's names.
        effective: what the engine really applied, by parameter name.
        unconfirmed: names that were asked for and of which the engine says nothing.
    """

    launch: Launch
    warmup: WarmupReport | None
    window_s: float
    energy_window_s: float
    passes: int
    requests: int
    prompt_tokens: int
    cached_tokens: int | None
    padding_tokens: int
    output_tokens: int
    mean_running_batch: float
    full_batch_share: float | None = None
    preemptions: int | None = None
    load: LoadReport | None = None
    prefill: PrefillReport | None = None
    prompt_sha256: str
    energy_edges_s: dict[str, tuple[float, float]] = Field(default_factory=dict)
    energy_j: dict[str, Quantity]
    edge_idle_j: dict[str, Quantity] = Field(default_factory=dict)
    idle: dict[IdleKind, Idle] = Field(default_factory=dict)
    devices: dict[str, DeviceTrace] = Field(default_factory=dict)
    metrics: dict[str, Quantity]
    asked: dict[str, Any] = Field(default_factory=dict)
    effective: dict[str, Any]
    unconfirmed: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

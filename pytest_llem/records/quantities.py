"""Numbers with unit and source, and the metrics that are made of them."""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal, NamedTuple

from pytest_llem.records.base import Record

Source = Literal[
    "nvml_counter",
    "nvml_power_integral",
    "nvml_sensor",  # sampled by the trace
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
        parts: of a total of energy or power, the domains that it is the sum of; empty for any other number.
        note: why the value or a part of it is unavailable, or what a modelled value assumes.
    """

    value: float | None
    unit: str
    source: Source
    resolution: float | None = None
    parts: tuple[str, ...] = ()
    note: str | None = None


def unavailable(unit: str, note: str) -> Quantity:
    """Return the quantity that stands for "not known", with the reason."""
    return Quantity(value=None, unit=unit, source="unavailable", note=note)


class Metric(NamedTuple):
    """How one metric is treated: its unit, whether it lives on a log scale, and whether more is better."""

    unit: str
    logarithmic: bool = True
    more_is_better: bool = False

    @property
    def is_metered(self) -> bool:
        """Whether it is energy or power: their source and their parts depend on the machine's instruments."""
        return self.unit.startswith(("J", "W"))


METRICS = MappingProxyType(
    {
        "energy_per_output_token_j": Metric("J/token"),
        "energy_per_total_token_j": Metric("J/token"),
        "energy_per_request_j": Metric("J/request"),
        "energy_j": Metric("J"),
        "energy_above_loaded_idle_j": Metric("J", logarithmic=False),
        "energy_above_bare_idle_j": Metric("J", logarithmic=False),
        "prefill_energy_per_prompt_token_j": Metric("J/token"),
        "prefill_energy_per_request_j": Metric("J/request"),
        "decode_energy_per_output_token_j": Metric("J/token"),
        "decode_energy_per_request_j": Metric("J/request"),
        "power_mean_w": Metric("W"),
        "power_peak_w": Metric("W"),
        "output_tokens_per_second": Metric("token/s", more_is_better=True),
        "total_tokens_per_second": Metric("token/s", more_is_better=True),
        "requests_per_second": Metric("request/s", more_is_better=True),
        "prefill_tokens_per_second": Metric("token/s", more_is_better=True),
        "ttft_ms_mean": Metric("ms"),
        "ttft_ms_p50": Metric("ms"),
        "ttft_ms_p90": Metric("ms"),
        "ttft_ms_p99": Metric("ms"),
        "tpot_ms_mean": Metric("ms"),
        "tpot_ms_p50": Metric("ms"),
        "tpot_ms_p90": Metric("ms"),
        "tpot_ms_p99": Metric("ms"),
        "itl_ms_mean": Metric("ms"),
        "itl_ms_p50": Metric("ms"),
        "itl_ms_p90": Metric("ms"),
        "itl_ms_p99": Metric("ms"),
        "e2e_latency_ms_mean": Metric("ms"),
        "e2e_latency_ms_p50": Metric("ms"),
        "e2e_latency_ms_p90": Metric("ms"),
        "e2e_latency_ms_p99": Metric("ms"),
        "model_load_time_s": Metric("s"),
        "model_load_energy_j": Metric("J"),
        "cold_start_time_s": Metric("s"),
        "cold_start_energy_j": Metric("J"),
        "engine_build_time_s": Metric("s"),
        "engine_build_energy_j": Metric("J"),
        "memory_peak_bytes": Metric("B"),
        "flops_per_token": Metric("FLOP/token"),
    }
)
"""Every metric by name, in the order of tables and files. Definitions: docs/metrics.md."""

"""The keys of a campaign file, their types and defaults (docs/campaign-file.md).

Each model is one mapping of the YAML. What an experiment may say (`defaults`, `experiments`, axes) is a
fragment: a nested mapping of the fields of `records.Configuration` and of the backends' sections.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from pytest_llem.records import Count, NonNegative, Record

Fragment = dict[str, Any]
Positive = Annotated[float, Field(gt=0)]
Scalar = str | int | float | bool | None


def _file_name(value: str) -> str:
    if not value.strip() or value in (".", "..") or not value.isprintable() or set(value) & set("/\\"):
        raise ValueError(
            f"{value!r} cannot name a file: write some text without slashes and control characters"
        )
    return value


def _clock(value: str) -> str:
    if not re.fullmatch(r"([01]?[0-9]|2[0-3]):[0-5][0-9]", value):
        raise ValueError(f"{value!r} is no time of day: write HH:MM, such as 02:30")
    return value.zfill(5)


def _duration(value: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]*[smhd]", value):
        raise ValueError(
            f"{value!r} is no duration: write a whole number with s, m, h or d, such as 90s or 6h"
        )
    return value


def duration_s(value: str | None) -> int | None:
    """Return a `Duration` in seconds; None stays None."""
    return int(value[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[value[-1]] if value else None


def _url(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"https?://[^/\s?#]+[!-~]*", value.get_secret_value()):
        raise ValueError(  # the text is not shown: it may be a secret but for a slip of the pen
            "this is no address: write one that starts with https:// or http://, without blanks, others than"
            " ASCII letters as %XX"
        )
    return value


SafeName = Annotated[str, AfterValidator(_file_name)]
"""A name that may become part of a path."""

Clock = Annotated[str, AfterValidator(_clock)]
"""HH:MM, local time."""

Duration = Annotated[str, AfterValidator(_duration)]
"""A whole number of seconds, minutes, hours or days: 90s, 30m, 6h, 2d."""


class Grid(Record):
    """backends x models x shared axes x bundles x backend overrides, less what `exclude` drops."""

    backends: Annotated[tuple[str, ...], Field(min_length=1)]
    models: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    shared: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    bundles: dict[str, dict[str, Fragment]] = Field(default_factory=dict)
    backend_overrides: dict[str, Fragment] = Field(default_factory=dict)
    exclude: tuple[Fragment, ...] = ()


class ExperimentEntry(Record):
    """One explicit experiment: a file with overrides, or keys written in place (`inline`)."""

    config: str | None = None
    overrides: Fragment = Field(default_factory=dict)
    inline: Fragment = Field(default_factory=dict)


class Execution(Record):
    """How often, in which order and at which pace. None for a timeout means "derived"."""

    cycles: Count = 5
    structure: Literal["shuffled", "interleaved", "grouped"] = "shuffled"
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    warmup_prompts: Annotated[int, Field(ge=0)] = 5
    warmup_timeout_seconds: NonNegative = 120.0
    config_gap_seconds: NonNegative = 10.0
    cycle_gap_seconds: NonNegative = 10.0
    conditioning: bool = True
    gap: Literal["fixed", "thermal"] = "fixed"
    gap_band_celsius: Positive = 2.0
    timeout_seconds: Positive | None = None
    start_timeout_seconds: Positive | None = None
    silence_seconds: Positive = 300.0
    recycle_cycles: Annotated[int, Field(ge=0)] = 1
    max_experiments: Count = 100_000
    max_consecutive_failures: Count = 10
    budget_hours: Positive | None = None
    budget_kwh: Positive | None = None


class Window(Record):
    """Whole passes until both are reached."""

    seconds: NonNegative = 30.0
    passes: Count = 1


class HealthCheck(Record):
    """Health of the services between experiments."""

    enabled: bool = True
    interval_experiments: Annotated[int, Field(ge=0)] = 0
    gpu_memory_threshold_pct: Annotated[float, Field(ge=50, le=100)] = 90.0
    restart_on_failure: bool = True
    max_restarts: Annotated[int, Field(ge=0)] = 3


class ColdStart(Record):
    """A new launch for every experiment; with `restart_container` a new container too."""

    force_cold_start: bool = False
    restart_container: bool = False


class Daemon(Record):
    """Repetition on a clock."""

    enabled: bool = False
    at: Clock | None = None
    interval: Duration | None = None
    total_duration: Duration | None = None
    quiet: bool = True


class Service(Record):
    """Where one backend lives: its image, or under the local executor its own Python interpreter.

    Attributes:
        devices: GPUs by index or UUID, and paths such as `/dev/kfd` that a container is given.
    """

    image: str | None = None
    python: str | None = None
    env: dict[str, str] = Field(default_factory=dict)
    devices: tuple[str, ...] = ()

    def gpus(self) -> list[str]:
        """Return the GPUs among the devices."""
        return [device for device in self.devices if not device.startswith("/")]

    def device_files(self) -> list[str]:
        """Return the device files among the devices."""
        return [device for device in self.devices if device.startswith("/")]


class Confidence(Record):
    """The intervals of the summary (docs/statistics.md)."""

    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    method: Literal["auto", "student", "bootstrap-t", "percentile", "bca"] = "auto"
    resamples: Annotated[int, Field(ge=99, le=1_000_000)] = 9999


class Budget(Record):
    """Bounds on one metric, in the metric's unit, judged on the configuration's interval."""

    max: float | None = None
    min: float | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.max is None and self.min is None:
            raise ValueError("a budget needs max or min")
        if self.max is not None and self.min is not None and self.max < self.min:
            raise ValueError("max is below min")
        return self


class Notify(Record):
    """Who is told. The address of a webhook is its password too, so it hides from every text."""

    webhook_url: Annotated[SecretStr, AfterValidator(_url)] | None = None
    on: tuple[Literal["complete", "failure"], ...] = ("complete", "failure")


class Cost(Record):
    """What energy costs."""

    price_per_kwh: NonNegative | None = None
    carbon_g_per_kwh: NonNegative | None = None


class Io(Record):
    """Where files go.

    Attributes:
        results_dir: a path below pytest's root folder, or an absolute one.
    """

    results_dir: str = "results"


class Campaign(Record):
    """One campaign file."""

    campaign_name: SafeName
    schema_version: str | None = None
    model: str | None = None
    dataset: str | None = None
    num_samples: Count | None = None
    defaults: Fragment = Field(default_factory=dict)
    configs: tuple[str, ...] = ()
    experiments: tuple[ExperimentEntry, ...] = ()
    grid: Grid | None = None
    execution: Execution = Execution()
    window: Window = Window()
    health_check: HealthCheck = HealthCheck()
    cold_start: ColdStart = ColdStart()
    daemon: Daemon = Daemon()
    services: dict[str, Service] = Field(default_factory=dict)
    confidence: Confidence = Confidence()
    isolation: Literal["flag", "fail"] = "flag"
    group_by: tuple[str, ...] = ()
    expect: dict[str, Budget] = Field(default_factory=dict)
    notify: Notify = Notify()
    cost: Cost = Cost()
    io: Io = Io()


NOT_YET: MappingProxyType[str, str] = MappingProxyType({})
"""Keys that are checked but have no effect yet, with what they wait for. `defaults.` stands for every place
where an experiment key may be written. Setting one says so; a test asks every other key for its effect."""

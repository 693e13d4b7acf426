"""How long a session will take: what is certain before it starts, and what is likely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from pytest_llem.campaign import windows
from pytest_llem.campaign.schedule import Condition, Gap, Stop
from pytest_llem.campaign.schema import Campaign
from pytest_llem.records import Baseline, Configuration

SLICE_S = 10.0
"""A slice of a warm-up takes whole passes up to this long (docs/metrics.md)."""

ASSUMED_START_S = 60.0
"""An engine's start with its load, where none was measured: a guess, and the header says so."""

SETTLING_S = 10.0
"""What the measurement of an idle power waits before it, at most."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """How long a session will take.

    Attributes:
        least_s: windows, gaps and the least of the warm-ups: it is not over before.
        about_s: with what was measured before, or is assumed.
        experiments: that it has.
        measured: those of them whose configuration was measured before.
        starts: engine starts of `ASSUMED_START_S` that `about_s` assumes.
        unlimited: experiments whose window, until `load.requests` are complete, is of unknown length: in no number.
    """

    least_s: float
    about_s: float
    experiments: int
    measured: int
    starts: int
    unlimited: int


def forecast(
    stops: Sequence[Stop], campaign: Campaign, known_s: Mapping[str, float], *, has_instruments: bool
) -> Forecast:
    """Return how long it takes to go through `stops`.

    Args:
        stops: what the session has to do.
        campaign: the resolved campaign.
        known_s: how long an experiment of a configuration took, from its order to its answer, by spec hash.
        has_instruments: whether idle powers will be measured.
    """
    gaps = [step for stop in stops for step in stop.before if isinstance(step, Gap)]
    unknown = [stop for stop in stops if stop.experiment.point.spec_hash not in known_s]
    conditioned = any(isinstance(step, Condition) for stop in unknown for step in stop.before)
    starts = sum(stop.new_launch for stop in unknown) + conditioned
    likely_s = [windows.likely_s(_configuration(stop), campaign.window) for stop in unknown]
    least_s = sum(gap.least_s for gap in gaps) + sum(
        _least_s(_configuration(stop), campaign) for stop in stops
    )
    about_s = sum(gap.seconds for gap in gaps)
    about_s += sum(known_s.get(stop.experiment.point.spec_hash, 0.0) for stop in stops)
    about_s += sum(seconds or 0.0 for seconds in likely_s)
    about_s += sum(_likely_warmup_s(_configuration(stop), campaign) for stop in unknown)
    about_s += starts * ASSUMED_START_S
    if has_instruments:
        about_s += _idle_s(unknown, about_s)
    return Forecast(
        least_s,
        max(least_s, about_s),
        experiments=len(stops),
        measured=len(stops) - len(unknown),
        starts=starts,
        unlimited=likely_s.count(None),
    )


def _configuration(stop: Stop) -> Configuration:
    return stop.experiment.point.configuration


def _least_s(configuration: Configuration, campaign: Campaign) -> float:
    return windows.least_s(configuration, campaign.window) + _least_warmup_s(configuration, campaign)


def _least_warmup_s(configuration: Configuration, campaign: Campaign) -> float:
    """Return two slices if the warm-up has to converge; a cap in prompts, or slices in passes, may end it at once."""
    wanted = configuration.warmup
    if not (wanted.enabled and wanted.convergence_detection) or wanted.max_prompts or wanted.window_size:
        return 0.0
    return min(2 * SLICE_S, campaign.execution.warmup_timeout_seconds)


def _likely_warmup_s(configuration: Configuration, campaign: Campaign) -> float:
    """Return a first pass, as long as a slice, and two slices more if the warm-up has to converge."""
    wanted = configuration.warmup
    if not wanted.enabled:
        return 0.0
    further_s = 2 * SLICE_S if wanted.convergence_detection else 0.0
    return SLICE_S + min(further_s, campaign.execution.warmup_timeout_seconds)


def _idle_s(unknown: Sequence[Stop], about_s: float) -> float:
    """Return what the measurements of idle powers take: of the bare machine, and of each backend's engine."""
    wanted: dict[str, Baseline] = {}
    for stop in unknown:
        configuration = _configuration(stop)
        if configuration.baseline.enabled:
            wanted.setdefault(configuration.backend, configuration.baseline)
    launches = sum(stop.new_launch for stop in unknown)
    idle_s = 0.0
    for number, baseline in enumerate(wanted.values()):
        ages = ceil(about_s / baseline.cache_ttl_sec) if baseline.cache_ttl_sec else launches
        kinds = 1 if number else 2
        settling_s = min(SETTLING_S, baseline.duration_sec / 3)
        idle_s += kinds * min(launches, max(1, ages)) * (baseline.duration_sec + settling_s)
    return idle_s

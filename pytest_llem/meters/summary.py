"""What a trace says about a window, device by device. Zero-order hold: each sample counts until the next one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pytest_llem.meters.base import COUNTER_RESET, Sample
from pytest_llem.meters.devices import AVERAGING_S

COVERED = 0.99
"""The share of a window in which power must be known, for its integral to be that of the window."""

THROTTLE_REASONS = {0x08: "hw_slowdown", 0x20: "sw_thermal", 0x40: "hw_thermal", 0x80: "hw_power_brake"}
"""The reasons that make a device slower than its own settings allow (`nvmlClocksEventReasons`, NVML API reference).

Heat and the power brake, in hardware and software; `hw_slowdown` stands for either of them and for power that
rose too fast. Not among them: idle clocks, clocks that were set, and the power cap (0x04), which is how a device
at full load runs.
"""


@dataclass(frozen=True)
class Summary:
    """One device over one window; None where the device has no such sensor. Means are over time.

    Attributes:
        integral_j: power over time; None unless it is known for 99 % of the window.
        instant: whether power is that of the moment, else the device's own average.
        throttle_share: of the time, from 0 to 1, with one of `THROTTLE_REASONS`; these are in `throttle_reasons`.
        longest_gap_s: the longest time without a sample.
        flags: words for what failed: `device_lost`, `reading_failed`, `counter_reset`.
    """

    integral_j: float | None
    instant: bool
    power_mean_w: float | None
    power_peak_w: float | None
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
    flags: frozenset[str]


Held = tuple[Sample, float]
"""A sample with the time in s for which it holds inside the window."""


def summarize(samples: Iterable[Sample], windows: Mapping[str, tuple[float, float]]) -> dict[str, Summary]:
    """Return a summary of each device that was sampled in its window.

    Args:
        samples: in the order of time, from the one that holds when the first window begins.
        windows: by domain, begin and end, `time.monotonic()` in s.
    """
    by_device: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.domain in windows and sample.domain.startswith("gpu:"):
            by_device.setdefault(sample.domain, []).append(sample)
    held_by_device = {domain: list(held(found, *windows[domain])) for domain, found in by_device.items()}
    return {
        domain: _summary(found, windows[domain][1] - windows[domain][0])
        for domain, found in held_by_device.items()
        if found
    }


def peak_power_w(samples: Iterable[Sample], domains: Iterable[str]) -> float | None:
    """Return the highest power of all devices among `domains` together; None unless each of them has told one."""
    devices = [domain for domain in domains if domain.startswith("gpu:")]
    now_w: dict[str, float] = {}
    peak_w: float | None = None
    for sample in samples:
        power_w = sample.average_power_w if sample.instant_power_w is None else sample.instant_power_w
        if sample.domain in devices and power_w is not None:
            now_w[sample.domain] = power_w
            if len(now_w) == len(devices):
                peak_w = max(sum(now_w.values()), peak_w or 0.0)
    return peak_w


def held(samples: Iterable[Sample], begin_s: float, end_s: float) -> Iterator[Held]:
    """Yield the samples of one domain that hold inside a window, each with its time there in s."""
    last: Sample | None = None
    for sample in samples:
        if sample.at_s > end_s:
            break
        if last and sample.at_s > begin_s:
            yield last, sample.at_s - max(last.at_s, begin_s)
        last = sample
    if last:
        yield last, end_s - max(last.at_s, begin_s)


def _summary(found: Sequence[Held], window_s: float) -> Summary:
    instant = any(sample.instant_power_w is not None for sample, _ in found)
    power_w = _known(found, "instant_power_w" if instant else "average_power_w")
    temperature_c = [celsius for celsius, _ in _known(found, "temperature_c")]
    reasons = [(int(mask), seconds) for mask, seconds in _known(found, "throttle_reasons")]
    return Summary(
        integral_j=_integral_j(power_w, window_s, averaging_s=0.0 if instant else AVERAGING_S),
        instant=instant,
        power_mean_w=_mean(power_w),
        power_peak_w=max((watts for watts, _ in power_w), default=None),
        temperature_start_c=temperature_c[0] if temperature_c else None,
        temperature_end_c=temperature_c[-1] if temperature_c else None,
        temperature_max_c=max(temperature_c, default=None),
        sm_clock_mean_mhz=_mean(_known(found, "sm_clock_mhz")),
        memory_clock_mean_mhz=_mean(_known(found, "memory_clock_mhz")),
        throttle_share=_mean([(any(mask & bit for bit in THROTTLE_REASONS), s) for mask, s in reasons]),
        throttle_reasons=tuple(
            name for bit, name in THROTTLE_REASONS.items() if any(mask & bit for mask, _ in reasons)
        ),
        memory_peak_bytes=max((used for used, _ in _known(found, "memory_used_bytes")), default=None),
        samples=len(found),
        longest_gap_s=max(seconds for _, seconds in found),
        flags=_flags([sample for sample, _ in found]),
    )


def _known(found: Sequence[Held], name: str) -> list[tuple[float, float]]:
    """Return the values of a sensor, each with its time in s, without those that failed."""
    values = [(getattr(sample, name), seconds) for sample, seconds in found]
    return [(value, seconds) for value, seconds in values if value is not None]


def _mean(values: Sequence[tuple[float, float]]) -> float | None:
    known_s = sum(seconds for _, seconds in values)
    return sum(value * seconds for value, seconds in values) / known_s if known_s else None


def _integral_j(power_w: Sequence[tuple[float, float]], window_s: float, averaging_s: float) -> float | None:
    """Return power x time, and for a mean what is on its way at the edges (see `power.PowerIntegral`)."""
    if sum(seconds for _, seconds in power_w) < COVERED * window_s:
        return None
    on_its_way_j = averaging_s / 2 * (power_w[-1][0] - power_w[0][0])
    return sum(watts * seconds for watts, seconds in power_w) + on_its_way_j


def _flags(samples: Sequence[Sample]) -> frozenset[str]:
    counters_j = [sample.energy_j for sample in samples if sample.energy_j is not None]
    fell = any(after < before for before, after in pairwise(counters_j))
    failed = {sample.flag for sample in samples if sample.flag}
    return frozenset(failed | {COUNTER_RESET} if fell else failed)

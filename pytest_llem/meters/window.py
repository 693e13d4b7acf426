"""One window as all instruments saw it: energy, what the trace adds, and whether the two agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_llem.meters.base import COUNTER_RESET, Sample
from pytest_llem.meters.choose import Meters, Readings, times_s
from pytest_llem.meters.summary import Summary, peak_power_w, summarize
from pytest_llem.meters.trace import TRACE_INCOMPLETE, Trace
from pytest_llem.records import THROTTLED, Quantity

COUNTER_INTEGRAL_DISAGREE = "counter_integral_disagree"
"""The flag of a window in which a GPU's energy counter and its integrated power are further apart than allowed."""

THROTTLED_SHARE = 0.01
"""The share of a window above which throttling is flagged: less of it makes the window at most about 1 % longer."""

AGREEMENT = 0.05
AGREEMENT_FROM_S = 10.0
"""Counter and integral agree within 5 % on windows of 10 s and more; edges make shorter ones a matter of chance."""


@dataclass(frozen=True)
class Window:
    """One window.

    Attributes:
        energy_j: by domain, as `Meters.between` returns it.
        flags: words for what a reader should know, in alphabetical order.
        summaries: by device; empty without a trace.
        counter_integral_ratio: by device that has both, energy by its counter / energy by its power.
        power_peak_w: the highest power of all devices together; None without a trace of all of them.
    """

    energy_j: dict[str, Quantity]
    flags: tuple[str, ...]
    summaries: dict[str, Summary] = field(default_factory=dict)
    counter_integral_ratio: dict[str, float] = field(default_factory=dict)
    power_peak_w: float | None = None


def judge(meters: Meters, begin: Readings, end: Readings, trace: Trace | None = None) -> Window:
    """Return the energy between two readings, and what the trace says about it.

    A counter that the trace saw fall gives no number, though it may have risen above its first value again.

    Args:
        meters: that gave the readings.
        begin: before the work.
        end: after it.
        trace: one that ran all the time between, or None.
    """
    times = times_s(begin, end)
    samples = _samples(trace, times) if trace and times else []
    summaries = summarize(samples, times)
    fell = {domain: summary for domain, summary in summaries.items() if COUNTER_RESET in summary.flags}
    reason = "the energy counter fell inside the window: it was reset"
    energy_j = meters.between(begin, end, refused=dict.fromkeys(fell, reason))
    ratios = _ratios(energy_j, summaries)
    lasts_s = {domain: end_s - begin_s for domain, (begin_s, end_s) in times.items()}
    flags = meters.flags(begin, end) | _flags(summaries, ratios, lasts_s)
    if trace and trace.problem:
        flags.add(TRACE_INCOMPLETE)
    return Window(energy_j, tuple(sorted(flags)), summaries, ratios, peak_power_w(samples, times))


def edge_idle_s(begin: Readings, end: Readings, work_begin_s: float, work_end_s: float) -> dict[str, float]:
    """Return by domain for how long its energy was counted without work, before and after, in s.

    Args:
        begin: before the work.
        end: after it.
        work_begin_s: the first submission, `time.monotonic()`.
        work_end_s: the last completion.
    """
    return {
        domain: (work_begin_s - begin_s) + (end_s - work_end_s)
        for domain, (begin_s, end_s) in times_s(begin, end).items()
    }


def _samples(trace: Trace, times: Mapping[str, tuple[float, float]]) -> list[Sample]:
    begins_s, ends_s = zip(*times.values(), strict=True)
    return list(trace.between(min(begins_s), max(ends_s)))


def _flags(
    summaries: Mapping[str, Summary], ratios: Mapping[str, float], lasts_s: Mapping[str, float]
) -> set[str]:
    """Return what the trace has to say of the devices."""
    flags = {flag for summary in summaries.values() for flag in summary.flags}
    if any(
        abs(ratio - 1) > AGREEMENT and lasts_s[domain] >= AGREEMENT_FROM_S for domain, ratio in ratios.items()
    ):
        flags.add(COUNTER_INTEGRAL_DISAGREE)
    if any((summary.throttle_share or 0.0) > THROTTLED_SHARE for summary in summaries.values()):
        flags.add(THROTTLED)
    return flags


def _ratios(energy_j: Mapping[str, Quantity], summaries: Mapping[str, Summary]) -> dict[str, float]:
    return {
        domain: counted.value / summary.integral_j
        for domain, summary in summaries.items()
        if (counted := energy_j[domain]).source == "nvml_counter" and counted.value and summary.integral_j
    }

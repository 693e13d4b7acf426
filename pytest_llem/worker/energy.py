"""What the energy of a window amounts to, once it is known how long the machine idled in it and at which power."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_llem.meters import excess
from pytest_llem.meters.choose import Readings, times_s
from pytest_llem.meters.sums import with_sums
from pytest_llem.meters.window import Window, edge_idle_s
from pytest_llem.records import METRICS, IdleKind, Quantity, unavailable
from pytest_llem.worker.idle import IdlePowers


@dataclass(frozen=True)
class Metered:
    """What the instruments saw of one window.

    Attributes:
        begin: before the work.
        end: after it.
        window: energy between the two, and the trace.
        traced: whether a trace was wanted.
        idle: the idle powers.
    """

    begin: Readings
    end: Readings
    window: Window
    traced: bool
    idle: IdlePowers


@dataclass(frozen=True)
class Account:
    """Energy of the work alone: that of the idle edges before and after it is left out as far as it is known.

    Attributes:
        energy_j: by domain, with the sums.
        edge_idle_j: what was left out, likewise.
        metrics: of energy and power that need no tokens.
    """

    energy_j: dict[str, Quantity]
    edge_idle_j: dict[str, Quantity]
    metrics: dict[str, Quantity]


def account(metered: Metered, work_s: tuple[float, float] | None) -> Account:
    """Return the energy of the work.

    Args:
        metered: of its window.
        work_s: when it was submitted first and completed last; None: it went on at the edges, so they were not idle.
    """
    lasts_s = {domain: end - begin for domain, (begin, end) in times_s(metered.begin, metered.end).items()}
    idle_edges_s = edge_idle_s(metered.begin, metered.end, *work_s) if work_s else {}
    edges_s = dict.fromkeys(lasts_s, 0.0) | idle_edges_s
    edge_idle_j = _idle_j(metered.idle, "loaded", edges_s)
    counted_j = {domain: metered.window.energy_j[domain] for domain in lasts_s}
    work_j = excess.without_known(counted_j, edge_idle_j)
    counts_s = {
        domain: lasts_s[domain] - (0.0 if edge.value is None else edges_s[domain])
        for domain, edge in edge_idle_j.items()
    }
    return Account(
        energy_j=with_sums(work_j, "J"),
        edge_idle_j=with_sums(edge_idle_j, "J"),
        metrics={
            "energy_above_loaded_idle_j": _above(work_j, _idle_j(metered.idle, "loaded", counts_s)),
            "energy_above_bare_idle_j": _above(work_j, _idle_j(metered.idle, "bare", counts_s)),
            "power_mean_w": with_sums(excess.mean_power_w(work_j, counts_s), "W")["total"],
            "power_peak_w": _peak(metered),
        },
    )


def _idle_j(idle: IdlePowers, kind: IdleKind, seconds: Mapping[str, float]) -> dict[str, Quantity]:
    known = idle.known.get(kind)
    return excess.over_time(known.power_w if known else {}, seconds, idle.why_unknown(kind))


def _above(energy_j: Mapping[str, Quantity], idle_j: Mapping[str, Quantity]) -> Quantity:
    return with_sums(excess.above(energy_j, idle_j), "J")["total"]


def _peak(metered: Metered) -> Quantity:
    """Return the highest power that the trace saw, of GPUs alone: nothing else has a power of the moment."""
    unit = METRICS["power_peak_w"].unit
    if not metered.traced:
        return unavailable(unit, "no trace was taken: timeseries.enabled is false")
    if metered.window.power_peak_w is None:
        return unavailable(unit, "no GPU tells its power here")
    return Quantity(value=metered.window.power_peak_w, unit=unit, source="nvml_sensor", parts=("gpu",))

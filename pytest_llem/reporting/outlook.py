"""What a session says of the time, the energy and the money that it takes."""

from __future__ import annotations

from typing import NamedTuple

from pytest_llem.analysis.expenses import Bill, SpendingReport
from pytest_llem.campaign.forecast import ASSUMED_START_S, Forecast
from pytest_llem.reporting.digits import number
from pytest_llem.reporting.names import counted

LEAST_HOURS_S = 180.0
"""Shorter times are told in seconds."""

WORTH_TELLING = 0.01
"""The share of a run's time from which on it is told that its energy is not known."""


def plan(found: Forecast, run_id: str | None) -> str:
    """Return how long the session will take, and on what that rests.

    Args:
        found: the forecast.
        run_id: of the run whose times it has; None: there was none.
    """
    assumed = f"{ASSUMED_START_S:g} s assumed for each of {counted(found.starts, 'engine start')}"
    if not found.measured:
        basis = f"{assumed}, and warm-ups that converge at once; after the first cycle measured times tell"
    elif found.measured < found.experiments:
        basis = f"{found.measured} of {found.experiments} experiments by the times of run {run_id}; else {assumed}"
    else:
        basis = f"by the times of run {run_id}"
    return f"plan: about {_time(found.about_s)} ({basis})"


def boundary(what: str, report: SpendingReport) -> str:
    """Return the line between two cycles.

    Args:
        what: is over.
        report: on the run.
    """
    return f"{what} is over: {_so_far(report)}{_in_all(report)}"


def spent(report: SpendingReport) -> list[str]:
    """Return what a run has taken at the end of a session; nothing where nothing has run."""
    if not report.so_far.seconds:
        return []
    lines = [f"spent: {_so_far(report)}{_in_all(report)}"]
    return [*lines, f"stopped by {report.stopped_by}"] if report.stopped_by else lines


class Needs(NamedTuple):
    """One budget of a run beside what was used of it and what is needed next, in its unit."""

    key: str
    unit: str
    limit: float
    used: float
    needed: float


def over_budget(found: Needs, what: str, *, is_first: bool) -> str:
    """Return which budget of a run leaves no room for more, and what to do.

    Args:
        found: the budget.
        what: sessions do at a time: a cycle, or a configuration.
        is_first: whether only one of them was begun in the run.
    """
    used = f"{number(found.used)} {found.unit}"
    if found.used < found.limit:
        needed = f"the next {what} would take about {number(found.needed)} {found.unit}"
        found_out = f"{used} are used, and {needed}"
    elif is_first:
        found_out = f"the first {what} alone took {used}"
    else:
        found_out = f"{used} are used"
    return f"{found.key} ({found.limit:g} {found.unit}): {found_out}; raise it to go on"


def _so_far(report: SpendingReport) -> str:
    found = report.so_far
    if found.energy_kwh is None:
        return f"{_time(found.seconds)}, energy not known"
    notes = [" + ".join(report.domains)]
    if _is_estimated(found):
        measured = f"{number(found.measured_kwh)} of it measured, in windows and engine starts"
        notes.append(measured if found.measured_kwh else "modelled")
    if found.unknown_energy_s > WORTH_TELLING * found.seconds:
        notes.append(f"without that of {_time(found.unknown_energy_s)}, which is not known")
    return f"{_time(found.seconds)}, {_energy(found)} ({'; '.join(notes)}){_price(found)}"


def _in_all(report: SpendingReport) -> str:
    found = report.in_all
    if found is None:
        return ""
    energy = "" if found.energy_kwh is None else f", {_energy(found)}{_price(found)}"
    return f"; in all about {_time(found.seconds)}{energy}"


def _time(seconds: float) -> str:
    """Return hours, and seconds where these would be a long row of zeros."""
    return f"{number(seconds / 3600, 2)} h" if seconds >= LEAST_HOURS_S else f"{number(seconds, 2)} s"


def _energy(found: Bill) -> str:
    assert found.energy_kwh is not None
    return f"{'~' if _is_estimated(found) else ''}{number(found.energy_kwh)} kWh"


def _is_estimated(found: Bill) -> bool:
    return found.energy_kwh is not None and found.measured_kwh < found.energy_kwh * (1 - 1e-9)


def _price(found: Bill) -> str:
    parts = []
    if found.cost is not None:
        parts.append(f", cost {number(found.cost)}")
    if found.carbon_g is not None:
        parts.append(f", {number(found.carbon_g)} g CO2e")
    return "".join(parts)

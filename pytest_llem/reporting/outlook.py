"""What a session says of the time, the energy and the money that it takes."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from pytest_llem.analysis.expenses import Bill, Expenses, SpendingReport, bill
from pytest_llem.campaign.forecast import ASSUMED_START_S, Forecast
from pytest_llem.campaign.schema import Cost
from pytest_llem.reporting.digits import number
from pytest_llem.reporting.names import counted

LEAST_HOURS_S = 180.0
"""Shorter times are told in seconds."""

WORTH_TELLING = 0.01
"""The share of a run's time from which on it is told that its energy is not known."""


class Prospect(NamedTuple):
    """What a session will take, as far as that is known before it starts.

    Attributes:
        forecast: of its time.
        run_id: of the earlier run whose times the forecast has; None: there was none.
        earlier: what that run took; None: that is not known.
        cost: prices of energy.
    """

    forecast: Forecast
    run_id: str | None
    earlier: Expenses | None
    cost: Cost

    def bill(self, sessions: int = 1) -> Bill | None:
        """Return what so many sessions take, at the mean power of the earlier run; None: not all of it was measured."""
        if self.earlier is None or self.forecast.measured < self.forecast.experiments:
            return None
        return bill(self.earlier.times(sessions * self.forecast.about_s / self.earlier.seconds), self.cost)


def plan(found: Prospect) -> str:
    """Return what the session will take, and on what that rests."""
    basis = [_basis(found.forecast, found.run_id)]
    if found.forecast.unlimited:
        windows = counted(found.forecast.unlimited, "window")
        basis.append(f"without {windows} that load.requests end and nobody has timed yet")
    if (taken := found.bill()) is not None:
        basis += _unknown(taken)
    return f"plan: about {_sessions(found)} ({'; '.join(basis)})"


def rounds(found: Prospect, interval_s: int | None, total_s: int | None) -> list[str]:
    """Return which starts of a daemon cannot happen, and what all its rounds take; nothing where it has one round."""
    if interval_s is None:
        return []
    lines, step = [], max(1, ceil(found.forecast.about_s / interval_s))
    if step > 1:
        longer = f"a round takes about {_time(found.forecast.about_s)}, longer than daemon.interval"
        lines.append(f"{longer}: only one start in {step} happens")
    if total_s is not None:
        count = ceil(ceil(total_s / interval_s) / step)
        lines.append(f"{counted(count, 'round')}, about {_sessions(found, count)} in all")
    return lines


def _basis(found: Forecast, run_id: str | None) -> str:
    assumed = f"{ASSUMED_START_S:g} s assumed for each of {counted(found.starts, 'engine start')}"
    if not found.measured:
        return f"{assumed}, and warm-ups that converge at once; after the first cycle measured times tell"
    if found.measured < found.experiments:
        return f"{found.measured} of {found.experiments} experiments by the times of run {run_id}; else {assumed}"
    return f"by the times of run {run_id}"


def _sessions(found: Prospect, count: int = 1) -> str:
    taken = found.bill(count)
    return _amount(taken) if taken else _time(count * found.forecast.about_s)


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
    notes += _unknown(found)
    return f"{_time(found.seconds)}, {_energy(found)} ({'; '.join(notes)}){_price(found)}"


def _unknown(found: Bill) -> list[str]:
    """Return the note on time whose energy is in no number."""
    if found.energy_kwh is None or found.unknown_energy_s <= WORTH_TELLING * found.seconds:
        return []
    return [f"without the energy of {_time(found.unknown_energy_s)}, which is not known"]


def _in_all(report: SpendingReport) -> str:
    return f"; in all about {_amount(report.in_all)}" if report.in_all else ""


def _amount(found: Bill) -> str:
    energy = "" if found.energy_kwh is None else f", {_energy(found)}{_price(found)}"
    return f"{_time(found.seconds)}{energy}"


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

"""What a session says of the time, the energy and the money that it takes."""

from __future__ import annotations

import pytest

from pytest_llem.analysis.expenses import Bill, Expenses, SpendingReport
from pytest_llem.campaign.forecast import Forecast
from pytest_llem.campaign.schema import Cost
from pytest_llem.reporting import outlook

SO_FAR = Bill(
    seconds=1872, energy_kwh=0.214, measured_kwh=0.131, unknown_energy_s=0, cost=0.0642, carbon_g=81.3
)
IN_ALL = Bill(seconds=9360, energy_kwh=1.07, measured_kwh=0.655, unknown_energy_s=0, cost=0.321, carbon_g=407)
REPORT = SpendingReport(domains=("gpu", "cpu"), so_far=SO_FAR, in_all=IN_ALL, stopped_by=None)


def changed(**bill: float | None) -> SpendingReport:
    return REPORT.model_copy(update={"so_far": SO_FAR.model_copy(update=bill)})


def test_the_line_between_cycles() -> None:
    """It says what was taken, how much of that is measured, what it costs, and what all will take."""
    assert outlook.boundary("cycle 1 of 5", REPORT) == (
        "cycle 1 of 5 is over: 0.52 h, ~0.214 kWh (gpu + cpu; 0.131 of it measured, in windows and engine starts), "
        "cost 0.0642, 81.3 g CO2e; in all about 2.6 h, ~1.07 kWh, cost 0.321, 407 g CO2e"
    )


def test_the_line_at_the_end_names_the_budget() -> None:
    """Nothing to come: no forecast; a budget that ended the session has a line of its own."""
    done = REPORT.model_copy(update={"in_all": None})
    (line,) = outlook.spent(done)
    assert line.startswith("spent: 0.52 h")
    assert "in all" not in line
    stopped = done.model_copy(update={"stopped_by": "execution.budget_hours"})
    assert outlook.spent(stopped)[1] == "stopped by execution.budget_hours"


@pytest.mark.parametrize(
    ("bill", "words"),
    [
        ({"measured_kwh": 0.214}, "0.52 h, 0.214 kWh (gpu + cpu), cost"),
        ({"measured_kwh": 0.0}, "~0.214 kWh (gpu + cpu; modelled)"),
        ({"unknown_energy_s": 936.0}, "without the energy of 0.26 h, which is not known)"),
        ({"energy_kwh": None, "cost": None, "carbon_g": None}, "0.52 h, energy not known; in all"),
        ({"cost": None, "carbon_g": None}, "engine starts); in all"),
        ({"seconds": 42.0}, "is over: 42 s, "),
    ],
)
def test_what_is_not_known_is_not_said(bill: dict[str, float | None], words: str) -> None:
    """An estimate has its tilde, time without energy its length, and a number that is not known no place."""
    assert words in outlook.boundary("cycle 1 of 5", changed(**bill))


def test_little_time_without_energy_is_not_worth_a_word() -> None:
    """Below 1 % of the time nothing is said of it."""
    assert "not known" not in outlook.boundary("cycle 1 of 5", changed(unknown_energy_s=18.0))
    assert "not known" in outlook.boundary("cycle 1 of 5", changed(unknown_energy_s=19.0))


def prospect(
    *,
    measured: int = 60,
    starts: int = 0,
    unlimited: int = 0,
    earlier: Expenses | None = None,
    cost: Cost | None = None,
) -> outlook.Prospect:
    """Return what is known of a session of 60 experiments and 2.5 h."""
    found = Forecast(3600, 9000, 60, measured=measured, starts=starts, unlimited=unlimited)
    return outlook.Prospect(found, run_id="run-1", earlier=earlier, cost=cost or Cost())


HALF_AN_HOUR = Expenses(seconds=1800, energy_j=0.2 * 3.6e6, measured_j=0.2 * 3.6e6, unknown_s=0)


def test_the_plan_says_what_it_rests_on() -> None:
    """Times of an earlier run are named with it, and so are assumptions and what is not in it."""
    assert outlook.plan(prospect()) == "plan: about 2.5 h (by the times of run run-1)"
    assert outlook.plan(prospect(measured=0, starts=61)).startswith(
        "plan: about 2.5 h (60 s assumed for each of 61 engine starts"
    )
    assert outlook.plan(prospect(measured=40, starts=1, unlimited=20)) == (
        "plan: about 2.5 h (40 of 60 experiments by the times of run run-1; else 60 s assumed for each of 1 engine "
        "start; without 20 windows that load.requests end and nobody has timed yet)"
    )


def test_the_plan_says_what_the_energy_costs() -> None:
    """Where all times are those of an earlier run, so is the mean power; the price is that of today."""
    cost = Cost(price_per_kwh=0.3, carbon_g_per_kwh=380)
    assert outlook.plan(prospect(earlier=HALF_AN_HOUR, cost=cost)) == (
        "plan: about 2.5 h, 1.00 kWh, cost 0.300, 380 g CO2e (by the times of run run-1)"
    )
    half_known = HALF_AN_HOUR.model_copy(update={"measured_j": 0.0, "unknown_s": 900.0})
    assert outlook.plan(prospect(earlier=half_known)) == (
        "plan: about 2.5 h, ~1.00 kWh (by the times of run run-1; without the energy of 1.2 h, which is not known)"
    )
    assert "kWh" not in outlook.plan(prospect(measured=40, starts=1, earlier=HALF_AN_HOUR))


@pytest.mark.parametrize(
    ("interval_s", "total_s", "lines"),
    [
        (None, None, []),
        (21_600, None, []),
        (21_600, 172_800, ["8 rounds, about 20 h, 8.00 kWh in all"]),
        (9000, 9000, ["1 round, about 2.5 h, 1.00 kWh in all"]),
        (3600, None, ["a round takes about 2.5 h, longer than daemon.interval: only one start in 3 happens"]),
        (
            3600,
            36_000,
            [
                "a round takes about 2.5 h, longer than daemon.interval: only one start in 3 happens",
                "4 rounds, about 10 h, 4.00 kWh in all",
            ],
        ),
    ],
)
def test_the_plan_of_a_daemon_says_what_its_rounds_take(
    interval_s: int | None, total_s: int | None, lines: list[str]
) -> None:
    """Starts that come before the end of a round are said not to happen, and all other rounds are added up."""
    assert outlook.rounds(prospect(earlier=HALF_AN_HOUR), interval_s, total_s) == lines


@pytest.mark.parametrize(
    ("used", "is_first", "found"),
    [
        (1.62, False, "1.62 h are used, and the next cycle would take about 0.540 h"),
        (2.31, False, "2.31 h are used"),
        (2.31, True, "the first cycle alone took 2.31 h"),
    ],
)
def test_a_budget_says_why_it_is_over(used: float, is_first: bool, found: str) -> None:
    """It names its key, its size, what was used and what the next cycle would take."""
    needs = outlook.Needs("execution.budget_hours", "h", 2, used, 0.54)
    said = outlook.over_budget(needs, "cycle", is_first=is_first)
    assert said == f"execution.budget_hours (2 h): {found}; raise it to go on"

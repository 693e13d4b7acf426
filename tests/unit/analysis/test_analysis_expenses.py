"""What a run takes: time and energy, with what lies between the windows."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import BEGIN, GPU, measurement, result
from pytest_llem.analysis.expenses import Book, Expenses, bill, together
from pytest_llem.campaign.schema import Cost
from pytest_llem.records import (
    Idle,
    IdleKind,
    Launch,
    PrefillReport,
    Quantity,
    Result,
    Source,
    unavailable,
)

LAUNCH = Launch(
    id="launch-1",
    engine_key="key",
    warm=False,
    start_method="forkserver",
    start_s=2.0,
    load_s=4.0,
    load_energy_j=unavailable("J", "no meter"),
    cold_start_energy_j=Quantity(value=600.0, unit="J", source="nvml_counter", parts=("gpu",)),
)


def idle(kind: IdleKind, power_w: float | None, at_s: float = 0) -> Idle:
    power = (
        unavailable("W", "lost")
        if power_w is None
        else Quantity(value=power_w, unit="W", source="nvml_counter")
    )
    begun = BEGIN + timedelta(seconds=at_s)
    return Idle(
        kind=kind, measured_at=begun, seconds=30, power_w={"total": power, f"gpu:{GPU}": power}, boot="boot"
    )


IDLE = {"bare": idle("bare", 50.0), "loaded": idle("loaded", 100.0)}


def experiment(
    begin_s: float = 0.0,
    *,
    seconds: float = 60.0,
    gap_s: float = 10.0,
    name: str = "a",
    cycle: int = 1,
    session: str = "one",
    warm: bool = False,
    found: dict[str, Any] | None = None,
    **changes: Any,
) -> Result:
    """Return an attempt: a gap of 10 s, a start of 6 s for 600 J, a warm-up of 12 s, a window of 30 s for 6000 J."""
    started = BEGIN + timedelta(seconds=begin_s + gap_s)
    energy_source: Source = (found or {}).pop("energy_source", "nvml_counter") if found else "nvml_counter"
    facts: dict[str, Any] = {
        "launch": LAUNCH.model_copy(update={"warm": warm}),
        "energy_window_s": 30.0,
        "idle": IDLE,
        "edge_idle_j": {"total": Quantity(value=730.0, unit="J", source="nvml_counter")},
    }
    fields: dict[str, Any] = {
        "session_id": session,
        "started_at": started,
        "completed_at": started + timedelta(seconds=seconds),
        "gap_s": gap_s,
        "measurement": measurement(energy_source=energy_source, **facts | (found or {})),
    }
    return result(name, cycle, **fields | changes)


def book_of(*results: Result) -> Book:
    book = Book()
    for one in results:
        book.add(one)
    return book


WINDOW_J, START_J = 5270.0 + 730.0, 600.0
WARMUP_J = WINDOW_J / 30 * 12.5


def test_all_time_of_an_experiment_has_an_energy() -> None:
    """Window and start are as measured; warm-up, gap and rest are estimated at window, bare and loaded power."""
    found = book_of(experiment()).so_far()
    rest_s = 60 - 30 - 12.5 - 6
    assert found.seconds == 70
    assert found.measured_j == WINDOW_J + START_J
    assert found.energy_j == pytest.approx(WINDOW_J + START_J + WARMUP_J + 10 * 50 + rest_s * 100)
    assert found.unknown_s == 0


@pytest.mark.parametrize("known", [True, False])
def test_the_window_of_the_prefill_is_no_idle_time(known: bool) -> None:
    """What it took is measured with its edges; where it has no energy, its time is of unknown energy."""
    second = PrefillReport(
        window_s=10,
        energy_window_s=11,
        passes=1,
        requests=1,
        prompt_tokens=9,
        cached_tokens=0,
        padding_tokens=0,
        output_tokens=1,
        energy_edges_s={},
        energy_j={
            "total": Quantity(value=800, unit="J", source="nvml_counter") if known else unavailable("J", "")
        },
        edge_idle_j={"total": Quantity(value=70, unit="J", source="nvml_counter")},
    )
    without = book_of(experiment()).so_far()
    found = book_of(experiment(found={"prefill": second})).so_far()
    assert found.measured_j - without.measured_j == (870 if known else 0)
    assert found.unknown_s == (0 if known else 11)
    added_j = (found.energy_j or 0) - (without.energy_j or 0)
    assert added_j == pytest.approx((870 if known else 0) - 11 * 100)


def test_a_warm_experiment_has_no_start() -> None:
    """The start counts once a launch, and a gap beside a loaded engine has the loaded power."""
    found = book_of(experiment(warm=True)).so_far()
    assert found.measured_j == WINDOW_J
    assert found.energy_j == pytest.approx(WINDOW_J + WARMUP_J + (70 - 30 - 12.5) * 100)


def test_without_an_idle_power_the_time_is_named() -> None:
    """Idle time without a power is not counted as 0 J in silence: its seconds are said."""
    found = book_of(experiment(found={"idle": {}})).so_far()
    assert found.energy_j == pytest.approx(WINDOW_J + START_J + WARMUP_J)
    assert found.unknown_s == pytest.approx(70 - 30 - 12.5 - 6)


def test_a_gpu_without_a_power_leaves_no_idle_power() -> None:
    """An idle power that lacks a device is none: the rest would pass for the whole."""
    lost = {"bare": idle("bare", None), "loaded": idle("loaded", None)}
    assert book_of(experiment(found={"idle": lost})).so_far().unknown_s > 0


def test_without_energy_there_is_none() -> None:
    """Where no window has an energy the sum is not known, rather than that of idle time alone."""
    found = book_of(
        experiment(
            found={
                "energy_source": "unavailable",
                "launch": LAUNCH.model_copy(update={"cold_start_energy_j": unavailable("J", "no meter")}),
            }
        )
    ).so_far()
    assert (found.energy_j, found.measured_j, found.unknown_s) == (None, 0, 70)


def test_work_without_energy_does_not_pass_for_idling() -> None:
    """Where one window of several has no energy, the time of its work is of unknown energy."""
    lost = experiment(70, cycle=2, warm=True, found={"energy_source": "unavailable"})
    found = book_of(experiment(), lost).so_far()
    assert found.unknown_s == 30 + 12.5
    alone = book_of(experiment()).so_far().energy_j or 0
    assert found.energy_j == pytest.approx(alone + (70 - 30 - 12.5) * 100)


def test_a_model_is_no_measurement() -> None:
    """Modelled energy is in the sum, and not in what instruments counted."""
    found = book_of(experiment(warm=True, found={"energy_source": "model", "idle": {}})).so_far()
    assert found.measured_j == 0
    assert found.energy_j == pytest.approx(WINDOW_J + WARMUP_J)


def test_a_failed_attempt_takes_time_and_idle_energy() -> None:
    """What failed is paid for too."""
    failed = experiment(70, cycle=2, status="failed", measurement=None, failure=result(failed="oom").failure)
    both = book_of(experiment(), failed).so_far()
    alone = book_of(experiment()).so_far()
    assert both.seconds == 140
    assert both.energy_j == pytest.approx((alone.energy_j or 0) + 70 * 100)


def test_time_between_experiments_counts_and_time_between_sessions_does_not() -> None:
    """A session is from its first gap to its last result."""
    book = book_of(experiment(), experiment(100, cycle=2), experiment(100_000, cycle=3, session="two"))
    assert book.so_far().seconds == 170 + 70


def test_the_newest_idle_power_holds() -> None:
    """Of idle powers that were measured twice the later one counts."""
    later = {"bare": idle("bare", 50.0, 99), "loaded": idle("loaded", 200.0, 99)}
    old, new = book_of(experiment()).so_far(), book_of(experiment(), experiment(70, found={"idle": later}))
    assert (new.so_far().energy_j or 0) > 2 * (old.energy_j or 0)


@given(st.permutations(range(6)))
def test_the_order_of_results_does_not_matter(places: list[int]) -> None:
    """Results may be read in any order."""
    results = [
        experiment(80 * n, cycle=n, name="ab"[n % 2], session="one" if n < 4 else "two") for n in range(6)
    ]
    shuffled = book_of(*(results[place] for place in places)).so_far()
    assert shuffled.model_dump() == pytest.approx(book_of(*results).so_far().model_dump())


def test_what_comes_is_what_was() -> None:
    """A configuration will take what it took on average; an unknown one the mean of all."""
    book = book_of(experiment(seconds=60), experiment(70, seconds=160, name="b"))
    ahead = book.ahead(["hash of a", "hash of a", "hash of b", "hash of c"])
    assert ahead is not None
    assert ahead.seconds == pytest.approx(70 + 70 + 170 + 120)
    one = book.ahead(["hash of a"])
    assert one is not None
    assert one.energy_j == pytest.approx(book_of(experiment()).so_far().energy_j)


def test_nothing_is_known_before_the_first_result() -> None:
    """Without a result there is no forecast, and nothing was taken."""
    assert Book().ahead(["a"]) is None
    assert Book().so_far() == Expenses(seconds=0, energy_j=None, measured_j=0, unknown_s=0)


def test_the_domains_are_those_of_the_totals() -> None:
    """What a total is the sum of is named: here the GPU, while the CPU is not readable."""
    assert list(book_of(experiment()).domains) == ["gpu"]


def test_the_domains_are_those_of_starts_too() -> None:
    """Where no window has energy, but the start of an engine has, the domains of that are named."""
    assert list(book_of(experiment(found={"energy_source": "unavailable"})).domains) == ["gpu"]


@given(st.integers(2, 12), st.integers(0, 2**16))
def test_all_cycles_together_are_foreseen_from_the_first(cycles: int, seed: int) -> None:
    """If each cycle takes what the first took, the run takes what was foreseen after the first."""
    random = Random(seed)
    own_s = {name: random.uniform(60, 600) for name in "abc"}
    results, now_s = [], 0.0
    for cycle in range(1, cycles + 1):
        for name in random.sample("abc", 3):
            results.append(experiment(now_s, seconds=own_s[name], name=name, cycle=cycle))
            now_s += 10 + own_s[name]
    first = book_of(*results[:3])
    ahead = first.ahead(f"hash of {name}" for name in "abc" for _ in range(cycles - 1))
    assert ahead is not None
    foreseen, taken = together(first.so_far(), ahead), book_of(*results).so_far()
    assert foreseen.seconds == pytest.approx(taken.seconds)
    assert foreseen.energy_j == pytest.approx(taken.energy_j)


@pytest.mark.key("cost.price_per_kwh", "cost.carbon_g_per_kwh")
def test_a_kwh_has_a_price() -> None:
    """Half a kWh costs half of each price; without a price, or without energy, there is no cost."""
    taken = Expenses(seconds=3600, energy_j=1.8e6, measured_j=0.9e6, unknown_s=60)
    priced = bill(taken, Cost(price_per_kwh=0.3, carbon_g_per_kwh=380))
    assert (priced.energy_kwh, priced.measured_kwh, priced.cost, priced.carbon_g) == (0.5, 0.25, 0.15, 190)
    free = bill(taken, Cost())
    assert (free.cost, free.carbon_g) == (None, None)
    unknown = bill(taken.model_copy(update={"energy_j": None}), Cost(price_per_kwh=0.3))
    assert unknown.cost is None

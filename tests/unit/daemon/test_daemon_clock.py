"""When rounds start: local times, changes of daylight saving, and no drift."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, time, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.daemon.clock import DAY_S, Schedule

BERLIN = ZoneInfo("Europe/Berlin")
"""In 2026 clocks go from 02:00 to 03:00 on 29 March, and from 03:00 back to 02:00 on 25 October."""

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Nuuk", "Asia/Kolkata")


def at(text: str, zone: ZoneInfo = BERLIN) -> float:
    """Return a local time as a Unix time; of one that occurs twice the first."""
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def clocks(schedule: Schedule, first_s: float, count: int) -> list[str]:
    """Return what clocks on the wall show at the first starts."""
    return [f"{schedule.local(start_s):%d %H:%M}" for start_s in islice(schedule.starts(first_s), count)]


@pytest.mark.parametrize(
    ("now", "first"),
    [
        ("2026-07-01 01:59:59", "2026-07-01 02:30"),
        ("2026-07-01 02:30:00", "2026-07-01 02:30"),
        ("2026-07-01 02:30:01", "2026-07-02 02:30"),
        ("2026-12-31 23:00:00", "2027-01-01 02:30"),
    ],
)
def test_the_first_start_is_today_or_tomorrow(now: str, first: str) -> None:
    """`at` is today's, and tomorrow's if it is past."""
    assert Schedule(time(2, 30), zone=BERLIN).first(at(now)) == at(first)


def test_without_a_time_the_first_start_is_now() -> None:
    """Without `at` the first round begins at once."""
    assert Schedule().first(12345.6) == 12345.6


def test_a_missing_hour_is_taken_with_the_offset_before_it() -> None:
    """02:30 does not occur when clocks go forward: that day it is 03:30, as RFC 5545 has it, and 02:30 the next day."""
    schedule = Schedule(time(2, 30), DAY_S, zone=BERLIN)
    first_s = schedule.first(at("2026-03-28 00:00"))
    assert clocks(schedule, first_s, 4) == ["28 02:30", "29 03:30", "30 02:30", "31 02:30"]
    assert schedule.first(at("2026-03-29 00:00")) == at("2026-03-29 03:30")


def test_a_double_hour_has_one_start() -> None:
    """02:30 occurs twice when clocks go back: the start is the first, and there is no second."""
    schedule = Schedule(time(2, 30), DAY_S, zone=BERLIN)
    first_s = schedule.first(at("2026-10-24 00:00"))
    assert clocks(schedule, first_s, 3) == ["24 02:30", "25 02:30", "26 02:30"]
    twice_s = at("2026-10-25 02:30")
    assert list(islice(schedule.starts(first_s), 3)) == [first_s, twice_s, twice_s + 25 * 3600]
    between_s = twice_s + 1800
    assert schedule.first(between_s) == at("2026-10-26 02:30")


def test_whole_days_keep_the_local_time_through_a_year() -> None:
    """Every day at 12:00 stays 12:00 over both changes of daylight saving; two of those days have not 24 hours."""
    schedule = Schedule(time(12), DAY_S, zone=BERLIN)
    starts = list(islice(schedule.starts(schedule.first(at("2026-01-01 00:00"))), 365))
    assert {schedule.local(start_s).time() for start_s in starts} == {time(12)}
    days_h = [(b - a) / 3600 for a, b in pairwise(starts)]
    assert (days_h.count(23), days_h.count(25), days_h.count(24)) == (1, 1, 362)


def test_hours_are_elapsed_time() -> None:
    """Every 6 hours is every 6 hours also when clocks change, so the clock on the wall shows another hour then."""
    schedule = Schedule(time(2), 6 * 3600, zone=BERLIN)
    first_s = schedule.first(at("2026-10-24 20:00"))
    assert clocks(schedule, first_s, 4) == ["25 02:00", "25 07:00", "25 13:00", "25 19:00"]
    starts = list(islice(schedule.starts(first_s), 100))
    assert {b - a for a, b in pairwise(starts)} == {6 * 3600}


def test_total_duration_begins_with_the_first_start() -> None:
    """Two days of every six hours are eight rounds, however long the first one was waited for; the end starts none."""
    schedule = Schedule(time(2), 6 * 3600, 2 * DAY_S, BERLIN)
    first_s = schedule.first(at("2026-07-01 03:00"))
    starts = list(schedule.starts(first_s))
    assert len(starts) == 8
    assert schedule.end(first_s) == first_s + 2 * DAY_S == starts[-1] + 6 * 3600


def test_without_an_interval_there_is_one_round() -> None:
    """A schedule without `interval` is a delayed start."""
    schedule = Schedule(time(2), zone=BERLIN)
    first_s = schedule.first(at("2026-07-01 03:00"))
    assert list(schedule.starts(first_s)) == [first_s]
    assert schedule.next(first_s, first_s) is None


def test_missed_starts_do_not_pile_up() -> None:
    """After hours of absence the next start is the next one on the clock."""
    schedule = Schedule(time(2), 3600, zone=BERLIN)
    first_s = schedule.first(at("2026-07-01 00:00"))
    assert schedule.next(first_s, first_s + 5.5 * 3600) == first_s + 6 * 3600


MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)).map(  # noqa: DTZ001 - made aware below
    lambda moment: moment.replace(tzinfo=UTC).timestamp()
)
SCHEDULES = st.builds(
    Schedule,
    at=st.none() | st.times().map(lambda found: found.replace(second=0, microsecond=0)),
    interval_s=st.sampled_from([60, 1800, 6 * 3600, 36 * 3600, DAY_S, 7 * DAY_S]),
    zone=st.sampled_from(ZONES).map(ZoneInfo),
)


@given(SCHEDULES, MOMENTS)
def test_the_first_start_is_near(schedule: Schedule, now_s: float) -> None:
    """The first start is never past, and at most a day away, an hour more where clocks change."""
    wait_s = schedule.first(now_s) - now_s
    assert 0 <= wait_s <= DAY_S + 2 * 3600


@given(SCHEDULES, MOMENTS, st.integers(1, 2000))
def test_every_start_is_found_again(schedule: Schedule, now_s: float, tick: int) -> None:
    """The start after any moment is the earliest that is later, whoever asks and whenever."""
    first_s = schedule.first(now_s)
    before_s, start_s = schedule.start(first_s, tick - 1), schedule.start(first_s, tick)
    assert before_s < start_s
    assert schedule.next(first_s, before_s) == start_s
    assert schedule.next(first_s, start_s - 1e-3) == start_s


@given(SCHEDULES, MOMENTS, st.integers(0, 2000))
def test_starts_do_not_drift(schedule: Schedule, now_s: float, tick: int) -> None:
    """However many rounds there were, a start is on its tick: elapsed intervals, or whole days at the local time."""
    first_s = schedule.first(now_s)
    start_s = schedule.start(first_s, tick)
    assert schedule.interval_s is not None
    if schedule.at is None or schedule.interval_s % DAY_S:
        assert start_s == pytest.approx(first_s + tick * schedule.interval_s, abs=1e-3)
        return
    naive = datetime.combine(schedule.local(start_s), schedule.at)
    apart = schedule.local(start_s).replace(tzinfo=None) - naive
    assert abs(apart) <= timedelta(hours=1) or abs(apart) >= timedelta(hours=23)  # a skipped time


@pytest.mark.parametrize("zone", ZONES)
def test_the_machines_zone_counts_as_a_named_one(zone: str) -> None:
    """Without a zone the machine's is taken, with the same starts on days without and with the hour in question."""
    program = (
        "from datetime import time; from pytest_llem.daemon.clock import Schedule;"
        "s = Schedule(time(2, 30), 86400); first = s.first(1767225600.0);"
        "print([s.start(first, tick) for tick in range(400)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"TZ": zone},
        capture_output=True,
        text=True,
        check=True,
    )
    named = Schedule(time(2, 30), DAY_S, zone=ZoneInfo(zone))
    first_s = named.first(1767225600.0)
    assert done.stdout.strip() == str([named.start(first_s, tick) for tick in range(400)])

"""When rounds start, as arithmetic. Times are Unix times in seconds; nothing here looks at a clock.

A local time that a change of daylight saving skips or repeats means what RFC 5545 (3.3.5) says: one that does not
occur is taken with the offset before the gap (02:30 becomes 03:30), of one that occurs twice it is the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Schedule:
    """The `daemon` section of a campaign.

    Starts are counted from the first one and never from how long a round took, so nothing adds up. An interval of
    whole days keeps to the local time `at`, on the 23 and 25 hours of a change of daylight saving too; any other
    interval, and one without `at`, is elapsed time. The end is counted as the interval is.

    Attributes:
        at: local time of the first start; None: at once.
        interval_s: from start to start; None: there is one round.
        total_s: from the first start; no round begins later, and one that runs then ends early. None: no end.
        zone: of `at`; None: the machine's.
    """

    at: time | None = None
    interval_s: int | None = None
    total_s: int | None = None
    zone: tzinfo | None = None

    def first(self, now_s: float) -> float:
        """Return the first start of a series that is asked for now: today's `at`, or tomorrow's if that is over."""
        if self.at is None:
            return now_s
        today = self.local(now_s).date()
        moments = (self._moment(today + timedelta(days=days), self.at) for days in (-1, 0, 1))
        return next(moment for moment in moments if moment >= now_s)

    def end(self, first_s: float) -> float:
        """Return when the series is over."""
        return math.inf if self.total_s is None else self._later(first_s, self.total_s)

    def start(self, first_s: float, tick: int) -> float:
        """Return the start number `tick`; 0 is the first."""
        return self._later(first_s, tick * (self.interval_s or 0))

    def next(self, first_s: float, after_s: float) -> float | None:
        """Return the first start later than `after_s`; None if the series has no more."""
        return next(self.starts(first_s, after_s), None)

    def starts(self, first_s: float, after_s: float = -math.inf) -> Iterator[float]:
        """Yield the starts later than `after_s`, in order."""
        tick = 0
        if self.interval_s is not None and after_s > first_s:
            tick = max(0, int((after_s - first_s) // self.interval_s) - 1)  # a day may have 25 hours
        while (start_s := self.start(first_s, tick)) < self.end(first_s):
            if start_s > after_s:
                yield start_s
            if self.interval_s is None:
                return
            tick += 1

    def local(self, moment_s: float) -> datetime:
        """Return a time as clocks on the wall show it."""
        return datetime.fromtimestamp(moment_s, self.zone).astimezone(self.zone)

    def _later(self, first_s: float, seconds: int) -> float:
        """Return a time after the first start: in calendar days where the interval is one, else in elapsed time."""
        if self.at is None or (self.interval_s or 0) % DAY_S or seconds % DAY_S:
            return first_s + seconds
        return self._moment(self._date(first_s, self.at) + timedelta(days=seconds // DAY_S), self.at)

    def _date(self, first_s: float, at: time) -> date:
        """Return the day whose `at` the first start is: the day before, if a gap moved it beyond midnight."""
        day = self.local(first_s).date()
        before = day - timedelta(days=1)
        return before if self._moment(before, at) == first_s else day

    def _moment(self, day: date, at: time) -> float:
        return datetime.combine(day, at, self.zone).timestamp()

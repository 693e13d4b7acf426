"""The daemon on a clock of the test's own: weeks in milliseconds. What real processes do is in tests/faults."""

from __future__ import annotations

import random
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pytest_llem.daemon import series as account
from pytest_llem.daemon.assignment import Assignment
from pytest_llem.daemon.clock import DAY_S, Schedule
from pytest_llem.daemon.herald import Herald
from pytest_llem.daemon.locks import Leash
from pytest_llem.daemon.repeat import INTERRUPTED, Campaign, Daemon
from pytest_llem.daemon.series import Round, Series
from pytest_llem.daemon.words import Speaker

BERLIN = ZoneInfo("Europe/Berlin")
BEGIN_S = datetime(2026, 3, 20, 12, tzinfo=BERLIN).timestamp()


@dataclass
class Night:
    """A clock that goes as fast as somebody sleeps on it, and the processes that end on it.

    Attributes:
        now_s: Unix time.
        stops: when signals ask the daemon to stop.
        lasts_s: how long a round lasts.
        codes: exit codes of the rounds; 0 when they run out.
        late_s: how long after a time the sleeper wakes.
        rounds: that were started.
        leash: of the daemon that lives.
        analysed: whether each analysis was to be shown.
    """

    now_s: float = BEGIN_S
    stops: list[float] = field(default_factory=list)
    lasts_s: Callable[[], float] = lambda: 60.0
    codes: list[int] = field(default_factory=list)
    late_s: Callable[[], float] = lambda: 0.0
    rounds: list[RoundProcess] = field(default_factory=list)
    leash: Leash | None = None
    analysed: list[bool] = field(default_factory=list)

    def now(self) -> float:
        return self.now_s

    def sleep(self, until_s: float, wake: Callable[[], bool] = lambda: False) -> bool:
        running = [one.ends_s for one in self.rounds[-1:] if one.poll() is None]
        stop_s = min(self.stops, default=float("inf"))
        next_s = min([until_s, stop_s, *running])
        self.now_s = max(self.now_s, next_s) + (self.late_s() if next_s == until_s else 0.0)
        if stop_s <= self.now_s:
            self.stops.remove(stop_s)
            return True
        assert wake() or self.now_s >= until_s or running
        return False

    def round(self, assignment: Assignment) -> RoundProcess:
        code = self.codes.pop(0) if self.codes else 0
        self.rounds.append(RoundProcess(self, assignment, self.now_s + self.lasts_s(), code))
        return self.rounds[-1]

    def analysis(self, _series: Path, *, show: bool) -> Done:
        self.analysed.append(show)
        return Done()


class Done:
    """The process of an analysis, over at once."""

    def __init__(self, code: int = 0) -> None:
        self._code = code

    def poll(self) -> int | None:
        return self._code

    def send_signal(self, _number: int, /) -> None:
        raise AssertionError("nobody stops an analysis")


class RoundProcess:
    """A round that ends at its time; let off the leash, 30 s later with exit code 2; interrupted, at once."""

    def __init__(self, night: Night, assignment: Assignment, ends_s: float, code: int) -> None:
        self.night, self.assignment, self.began_s = night, assignment, night.now_s
        self._ends_s, self._code = ends_s, code

    @property
    def ends_s(self) -> float:
        assert self.night.leash is not None
        if self.night.leash.is_held or self._code == 2:
            return self._ends_s
        self._code, self._ends_s = 2, min(self._ends_s, self.night.now_s + 30)
        return self._ends_s

    def poll(self) -> int | None:
        return self._code if self.night.now_s >= self.ends_s else None

    def send_signal(self, number: int, /) -> None:
        assert number == signal.SIGTERM
        self._ends_s = self.night.now_s


class Diary(Speaker):
    """Keeps what is said."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule)
        self.lines: list[str] = []

    def say(self, now_s: float, line: str) -> None:
        assert now_s >= BEGIN_S
        self.lines.append(line)


TOY = Campaign("toy", "a", "b", "local", Path())


@dataclass
class Home:
    """A campaign's folder, in which daemons live one after the other."""

    folder: Path
    leashes: list[Leash] = field(default_factory=list)

    def live(
        self, schedule: Schedule, night: Night, campaign: Campaign = TOY
    ) -> tuple[int, Series, list[str]]:
        """Let a daemon run to its end; return its exit code, the account on disk, and what it said."""
        daemon, diary = self.daemon(schedule, night, campaign)
        series = daemon.take_up()
        code = daemon.run(series)
        self.leashes.pop().let_go()
        return code, account.read(daemon.folder(series)), diary.lines

    def daemon(self, schedule: Schedule, night: Night, campaign: Campaign = TOY) -> tuple[Daemon, Diary]:
        leash = night.leash = Leash(self.folder / account.LEASH_FILE)
        self.leashes.append(leash)
        diary = Diary(schedule)
        campaign = replace(campaign, folder=self.folder)
        return Daemon(
            campaign, schedule, bed=night, starter=night, speaker=diary, leash=leash, herald=Herald()
        ), diary


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    for leash in home.leashes:
        leash.let_go()


HOURLY = Schedule(interval_s=3600, total_s=5 * 3600)


def test_a_thousand_rounds_drift_by_less_than_a_second(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever rounds last and however late the sleeper wakes, round 1,000 starts on its tick like the first."""
    draw = random.Random(1)
    night = Night(lasts_s=lambda: draw.uniform(1, 3000), late_s=lambda: draw.uniform(0, 0.5))
    daemon, _ = home.daemon(Schedule(interval_s=3600, total_s=1000 * 3600), night)
    series = daemon.take_up()
    monkeypatch.setattr(
        account, "write", lambda _folder, _series: None
    )  # grows with the rounds, and takes long
    assert daemon.run(series) == 0
    assert len(series.rounds) == len(night.rounds) == 1000
    drifts_s = [one.began_s - (BEGIN_S + tick * 3600) for tick, one in enumerate(night.rounds)]
    assert max(drifts_s) < 1
    assert min(drifts_s) >= 0


def test_six_weeks_of_nights_over_a_change_of_daylight_saving(home: Home) -> None:
    """Every night at 02:30, and at 03:30 in the one night that has no 02:30."""
    schedule = Schedule(time(2, 30), DAY_S, 42 * DAY_S, BERLIN)
    night = Night(lasts_s=lambda: 3 * 3600)
    _, series, _ = home.live(schedule, night)
    clocks = [f"{schedule.local(one.began_s):%m-%d %H:%M}" for one in night.rounds]
    assert len(clocks) == len(set(clocks)) == len(series.rounds) == 42
    assert [shown for shown in clocks if not shown.endswith("02:30")] == ["03-29 03:30"]


def test_a_round_longer_than_the_interval_leaves_a_start_out(home: Home) -> None:
    """The next round starts at the next tick and no sooner, and it is said that one is left out."""
    lasts = iter([2.5 * 3600, 60, 60])
    night = Night(lasts_s=lambda: next(lasts))
    _, series, said = home.live(HOURLY, night)
    assert [(one.began_s - BEGIN_S) / 3600 for one in night.rounds] == [0, 3, 4]
    (line,) = [line for line in said if "left out" in line]
    assert line.startswith("round 1 took longer than the interval: the start at ")
    assert [one.due - BEGIN_S for one in series.rounds] == [0, 3 * 3600, 4 * 3600]


def test_a_start_that_the_daemon_itself_has_missed_is_not_blamed_on_the_round(home: Home) -> None:
    """A start that passes between the end of a round and that of its summary is left out because of the summary."""

    class Slow(Night):
        def analysis(self, _series: Path, *, show: bool) -> Done:
            self.now_s += 0 if show else 120
            return Done()

    _, series, said = home.live(HOURLY, Slow(lasts_s=lambda: 3590))
    assert [one.due - BEGIN_S for one in series.rounds] == [0, 2 * 3600, 4 * 3600]
    lines = [line.partition(":")[0] for line in said if "left out" in line]
    assert lines == [f"the summary of round {number} was not ready in time" for number in (1, 2)]


def test_only_a_round_that_has_told_nobody_is_told_of(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its exit code, a crashed round that has left its mark is left alone, and the mark is its own alone."""
    told_of: list[int] = []

    def tell_lost(_herald: Herald, _folder: Path, _series: Series, lost: Round) -> None:
        told_of.append(lost.number)

    class Telling(Night):
        def round(self, assignment: Assignment) -> RoundProcess:
            if assignment.number % 2:
                assignment.note_told()
            return super().round(assignment)

    monkeypatch.setattr(Herald, "tell_lost", tell_lost)
    home.live(HOURLY, Telling(codes=[3, 3, 4, 4, -9]))
    assert told_of == [2, 4]


def test_the_end_lets_the_experiment_in_progress_finish(home: Home) -> None:
    """When total_duration is over the running round is let off the leash, and it is said how many were completed."""
    night = Night(lasts_s=lambda: 1.8 * 3600)
    code, series, said = home.live(Schedule(interval_s=2 * 3600, total_s=3 * 3600), night)
    assert [one.outcome for one in series.rounds] == ["passed", "cut"]
    assert night.now_s == BEGIN_S + 3 * 3600 + 30
    assert said[-1].endswith("ended: 1 of 2 rounds completed")
    assert (code, series.ended) == (0, True)


def test_exit_codes_of_rounds_make_that_of_the_daemon(home: Home) -> None:
    """A failed, a crashed and a killed round are told apart, do not end the daemon, and make its exit code 1."""
    code, series, said = home.live(HOURLY, Night(codes=[0, 1, 3, -9, 0]))
    assert [one.outcome for one in series.rounds] == ["passed", "failed", "crashed", "crashed", "passed"]
    assert code == 1
    assert any("round 3 ended with pytest's exit code 3" in line for line in said)
    assert any("round 4 killed by SIGKILL" in line for line in said)


def test_the_series_is_analysed_after_each_round_and_shown_at_the_end(home: Home) -> None:
    """The summary is written anew after each round; it is shown once, when the series is over."""
    night = Night()
    home.live(HOURLY, night)
    assert night.analysed == [False] * 5 + [True]


def test_a_budget_that_is_not_kept_over_the_rounds_fails_the_daemon(home: Home) -> None:
    """Where every round passed and the analysis of all of them objects, the exit code is 1."""

    class Dear(Night):
        def analysis(self, series: Path, *, show: bool) -> Done:
            super().analysis(series, show=show)
            return Done(1)

    code, series, _ = home.live(HOURLY, Dear())
    assert (code, [one.outcome for one in series.rounds]) == (1, ["passed"] * 5)


def test_a_stop_between_rounds_is_at_once_and_the_series_goes_on(home: Home) -> None:
    """A signal during a wait ends the daemon with 2; started again it keeps to the same ticks."""
    night = Night(stops=[BEGIN_S + 1.5 * 3600])
    code, series, _ = home.live(HOURLY, night)
    assert (code, len(series.rounds), series.ended) == (INTERRUPTED, 2, False)
    assert night.now_s == BEGIN_S + 1.5 * 3600
    again = Night(now_s=BEGIN_S + 1.7 * 3600)
    code, whole, _ = home.live(HOURLY, again)
    assert (code, whole.id, len(whole.rounds)) == (0, series.id, 5)
    assert [one.due - BEGIN_S for one in whole.rounds] == [tick * 3600 for tick in range(5)]


def test_a_stop_in_a_round_goes_on_with_its_run(home: Home) -> None:
    """A first signal lets the experiment finish; started again the same round goes on in the same run."""
    night = Night(lasts_s=lambda: 1800, stops=[BEGIN_S + 600])
    code, series, _ = home.live(HOURLY, night)
    assert (code, [one.outcome for one in series.rounds]) == (INTERRUPTED, ["interrupted"])
    assert night.now_s == BEGIN_S + 630
    again = Night(now_s=BEGIN_S + 1000)
    _, whole, _ = home.live(HOURLY, again)
    assert again.rounds[0].assignment.run_id == series.rounds[0].run_id
    assert [one.number for one in whole.rounds] == [1, 2, 3, 4, 5]
    assert [one.due - BEGIN_S for one in whole.rounds] == [tick * 3600 for tick in range(5)]


def test_a_pause_is_no_part_of_what_a_round_took(home: Home) -> None:
    """A round that went on after an interruption keeps its first start, and took what its two sessions took."""
    stop_s, again_s = 600, 1500
    home.live(HOURLY, Night(lasts_s=lambda: 1800, stops=[BEGIN_S + stop_s]))
    _, series, said = home.live(HOURLY, Night(now_s=BEGIN_S + again_s, lasts_s=lambda: 900))
    first = series.rounds[0]
    assert (first.started_at, first.ended_at) == (BEGIN_S, BEGIN_S + again_s + 900)
    assert first.ran_s == stop_s + 30 + 900
    assert "round 1 passed after 25:30" in said


def test_a_round_that_goes_on_has_not_ended(home: Home) -> None:
    """While an interrupted round goes on its account has neither an end nor an exit code."""
    home.live(HOURLY, Night(lasts_s=lambda: 1800, stops=[BEGIN_S + 600]))
    seen: list[Round] = []

    class Watched(Night):
        def round(self, assignment: Assignment) -> RoundProcess:
            seen.append(account.read(home.folder / assignment.series).rounds[0])
            return super().round(assignment)

    home.live(HOURLY, Watched(now_s=BEGIN_S + 1000))
    assert (seen[0].outcome, seen[0].ended_at, seen[0].exit_code) == ("running", None, None)


def test_a_second_signal_stops_at_once(home: Home) -> None:
    """The second signal interrupts the round's session."""
    night = Night(lasts_s=lambda: 1800, stops=[BEGIN_S + 600, BEGIN_S + 610])
    _, series, said = home.live(HOURLY, night)
    assert night.now_s == BEGIN_S + 610
    assert series.rounds[0].outcome == "interrupted"
    assert any("at once" in line for line in said)


def test_a_restart_after_missed_starts_takes_the_next(home: Home) -> None:
    """What was missed is not made up for; a round whose next start has passed says so."""
    home.live(HOURLY, Night(lasts_s=lambda: 1800, stops=[BEGIN_S + 600]))
    _, series, said = home.live(HOURLY, Night(now_s=BEGIN_S + 2.5 * 3600))
    assert [one.due - BEGIN_S for one in series.rounds] == [0, 3 * 3600, 4 * 3600]
    assert any("left out" in line for line in said if line.startswith("round 1 was interrupted"))


@pytest.mark.parametrize(
    ("campaign", "later_s", "why"),
    [
        (replace(TOY, sha256="b"), 600, "the campaign has changed"),
        (replace(TOY, points_sha256="c"), 600, "what is measured .*prompts.* has changed"),
        (TOY, 9 * 3600, "is over"),
    ],
)
def test_a_new_series_begins_where_the_old_one_cannot_go_on(
    home: Home, campaign: Campaign, later_s: float, why: str
) -> None:
    """A changed campaign, changed files, and a series whose time has passed begin a new one, and it is said why."""
    _, old, _ = home.live(HOURLY, Night(stops=[BEGIN_S + 600]))
    _, new, said = home.live(HOURLY, Night(now_s=BEGIN_S + later_s), campaign)
    assert new.id != old.id
    assert new.first_start == pytest.approx(BEGIN_S + later_s)
    assert any(re.search(why, line) for line in said)
    assert account.read(home.folder / old.id).ended


def test_the_rounds_of_a_series_are_all_told_its_first_executor(home: Home) -> None:
    """A daemon that starts again where `auto` would now choose otherwise goes on with the executor of the series."""
    first = Night(stops=[BEGIN_S + 1.5 * 3600])
    home.live(HOURLY, first)
    again = Night(now_s=BEGIN_S + 1.7 * 3600)
    home.live(HOURLY, again, replace(TOY, executor="compose"))
    assert {one.assignment.executor for one in first.rounds + again.rounds} == {"local"}


def test_an_ended_series_is_followed_by_a_new_one(home: Home) -> None:
    """The same command after the end of a series begins again."""
    _, old, _ = home.live(HOURLY, Night())
    _, new, _ = home.live(HOURLY, Night(now_s=BEGIN_S + 9 * 3600))
    assert new.id > old.id
    assert len(new.rounds) == 5


def test_a_round_that_cannot_be_started_does_not_end_the_daemon(home: Home) -> None:
    """Where a machine has no process left the round is counted as crashed, and the next one has its time."""

    class Crowded(Night):
        def round(self, assignment: Assignment) -> RoundProcess:
            if assignment.number == 2:
                raise BlockingIOError(11, "Resource temporarily unavailable")
            return super().round(assignment)

    code, series, said = home.live(HOURLY, Crowded())
    assert code == 1
    assert [one.outcome for one in series.rounds] == ["passed", "crashed", "passed", "passed", "passed"]
    assert any("round 2 cannot be started" in line for line in said)
    assert (series.rounds[1].exit_code, series.rounds[1].how()) == (None, "could not be started")


def test_a_full_disk_does_not_end_the_daemon(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the account cannot be written it is said, and the rounds go on."""

    def refuse(folder: Path, series: Series) -> None:
        raise OSError(28, "No space left on device")

    night = Night()
    daemon, diary = home.daemon(HOURLY, night)
    series = daemon.take_up()
    monkeypatch.setattr(account, "write", refuse)
    assert daemon.run(series) == 0
    assert len(night.rounds) == 5
    assert any("No space left on device" in line for line in diary.lines)

"""The daemon itself: takes up a series, waits for its starts, carries out its rounds, and ends it."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path

from pytest_llem.daemon import series as account
from pytest_llem.daemon.assignment import NOT_IN_THE_CAMPAIGN, Assignment
from pytest_llem.daemon.clock import Schedule
from pytest_llem.daemon.herald import Herald
from pytest_llem.daemon.locks import Leash
from pytest_llem.daemon.rounds import Process, Starter, stop_at_once
from pytest_llem.daemon.series import Round, Series, Stopped
from pytest_llem.daemon.sleep import Bed
from pytest_llem.daemon.words import Speaker, every, moment
from pytest_llem.reporting.digits import duration

INTERRUPTED = 2
"""Exit code of a daemon that was stopped; the series goes on when it starts again."""

RETRY_S = 1.0
"""Between two looks at a round that a dead daemon has left."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """What is repeated.

    Attributes:
        name: of the campaign.
        sha256, points_sha256: of what it says, and of what is measured.
        executor: where a new series of it runs.
        folder: of its series, one folder each.
    """

    name: str
    sha256: str
    points_sha256: str
    executor: str
    folder: Path


class Daemon:
    """Repeats one campaign until its series is over or it is stopped.

    Args:
        campaign: what is repeated.
        schedule: when.
        bed: the clock, and where it sleeps.
        starter: of child processes.
        speaker: is told each event.
        leash: of the rounds.
        herald: tells the campaign's owner.
    """

    def __init__(
        self,
        campaign: Campaign,
        schedule: Schedule,
        *,
        bed: Bed,
        starter: Starter,
        speaker: Speaker,
        leash: Leash,
        herald: Herald,
    ) -> None:
        self._campaign = campaign
        self._schedule = schedule
        self._bed = bed
        self._starter = starter
        self._speaker = speaker
        self._leash = leash
        self._herald = herald
        self._began_s = bed.now()
        self._stopped = False
        self._news: list[str] = []

    def take_up(self) -> Series:
        """Return the series to carry out: the campaign's unfinished one, else a new one. `run` says which.

        Raises:
            SeriesError, OSError: its account cannot be read or written.
        """
        older = account.unfinished(self._campaign.folder)
        if older is not None:
            if self._goes_on(older):
                return older
            older.ended = True
            self._write(older)
        series = self._new_series()
        self.folder(series).mkdir(parents=True)
        self._write(series)
        self._news.append(f"series {series.id} of {series.campaign}: {every(self._schedule)}")
        return series

    def _new_series(self) -> Series:
        now_s, campaign = self._bed.now(), self._campaign
        return Series(
            id=account.new_id(now_s),
            campaign=campaign.name,
            campaign_sha256=campaign.sha256,
            points_sha256=campaign.points_sha256,
            executor=campaign.executor,
            first_start=self._schedule.first(now_s),
        )

    def folder(self, series: Series) -> Path:
        """Return where a series lies."""
        return self._campaign.folder / series.id

    def run(self, series: Series) -> int:
        """Carry out what a series still lacks.

        Returns:
            0: no round failed or was lost; 1: one was, or a budget is not kept on all of them; 2: it was stopped.
        """
        for line in self._news:
            self._say(line)
        if not self._wait_for_leash():
            return INTERRUPTED
        if (interrupted := series.open_round()) is not None:
            self._go_on_with(series, interrupted)
        while not self._stopped and (due_s := self._next(series)) is not None:
            self._say(f"round {len(series.rounds) + 1} starts {moment(self._schedule, due_s)}")
            if self._sleep(due_s):
                break
            begun = series.begin_round(due_s, self._bed.now())
            self._say(f"round {begun.number} begins (run {begun.run_id})")
            self._carry_out(series, begun)
        return self._conclude(series)

    # --- Taking up ---

    def _goes_on(self, series: Series) -> bool:
        """Tell whether an unfinished series is still this campaign's, and has something left to do."""
        now_s = self._bed.now()
        where = f"series {series.id} ({account.completed(series.rounds)} rounds completed)"
        if (changed := self._changed_since(series)) is not None:
            self._news.append(f"{changed} has changed since {where}; a new series begins")
            return False
        is_late = now_s >= self._schedule.end(series.first_start)
        if is_late or not (
            series.open_round() or self._schedule.next(series.first_start, self._after(series))
        ):
            self._news.append(f"{where} is over: its time had passed before the daemon started again")
            return False
        again = f"python -m pytest_llem rounds {self.folder(series)} --end"
        self._news.append(f"going on with {where}; to begin a new one, end it first: {again}")
        return True

    def _changed_since(self, series: Series) -> str | None:
        """Return what makes the campaign another one than that of a series; None: it is the same."""
        if series.campaign_sha256 != self._campaign.sha256:
            return "the campaign"
        if series.points_sha256 != self._campaign.points_sha256:
            return f"what is measured (by {NOT_IN_THE_CAMPAIGN})"
        return None

    def _wait_for_leash(self) -> bool:
        """Take the leash; wait while a round that a dead daemon has left ends its experiment."""
        has_told = False
        while not self._leash.take():
            if not has_told:
                self._say("a round of a daemon that was killed still ends its experiment; waiting for it")
                has_told = True
            if self._sleep(self._bed.now() + RETRY_S):
                return False
        return True

    def _go_on_with(self, series: Series, interrupted: Round) -> None:
        due_s = self._next(series, after_s=interrupted.due)
        left_out = ""
        if due_s is not None and due_s <= self._bed.now():
            left_out = f"; the start at {moment(self._schedule, due_s)} is left out"
        what = f"round {interrupted.number} was interrupted; it goes on with what it lacks"
        self._say(f"{what} (run {interrupted.run_id}){left_out}")
        self._carry_out(series, interrupted)

    # --- Starts ---

    def _after(self, series: Series) -> float:
        """Return the time after which the next start is looked for: now; the first of a new series is never missed."""
        if series.rounds:
            return max(series.rounds[-1].due, self._bed.now())
        return -math.inf if series.first_start >= self._began_s else self._bed.now()

    def _next(self, series: Series, after_s: float | None = None) -> float | None:
        after_s = self._after(series) if after_s is None else after_s
        return self._schedule.next(series.first_start, after_s)

    def _sleep(self, until_s: float) -> bool:
        self._stopped = self._bed.sleep(until_s)
        return self._stopped

    # --- A round ---

    def _carry_out(self, series: Series, begun: Round) -> None:
        begun.go_on()
        self._write(series)
        told = self._campaign.folder / account.TOLD_FILE
        with contextlib.suppress(OSError):
            told.unlink()
        self._run_session(series, begun, told)
        self._write(series)
        if begun.outcome == "crashed" and not told.exists():
            self._complain(self._herald.tell_lost(self.folder(series), series, begun))
        self._analyse(series, show=False)
        self._tell_left_out(series, begun)

    def _run_session(self, series: Series, begun: Round, told: Path) -> None:
        began_s = self._bed.now()
        try:
            process = self._starter.round(self._assignment(series, begun, told))
        except OSError as error:
            self._say(f"round {begun.number} cannot be started: {error}")
            begun.end(began_s, 0.0, None, None)
            return
        stopped = self._attend(process, self._schedule.end(series.first_start))
        now_s = self._bed.now()
        begun.end(now_s, now_s - began_s, _exit_code(process), stopped)
        self._say(f"round {begun.number} {begun.how()} after {duration(begun.ran_s)}")

    def _assignment(self, series: Series, begun: Round, told: Path) -> Assignment:
        return Assignment(
            series=series.id,
            number=begun.number,
            run_id=begun.run_id,
            campaign_sha256=series.campaign_sha256,
            points_sha256=series.points_sha256,
            executor=series.executor,
            leash=str(self._leash.path),
            told=str(told),
        )

    def _attend(self, process: Process, end_s: float) -> Stopped | None:
        """Wait for the end of a round; ask it to stop when the daemon is asked to, or the series is over."""

        def is_over() -> bool:
            return process.poll() is not None

        asked: Stopped | None = None
        while not is_over():
            if self._bed.sleep(math.inf if asked else end_s, is_over):
                self._stopped = True
                if asked is None:
                    asked = self._let_go("interrupted")
                else:
                    self._say("stopping at once")
                    stop_at_once(process)
            elif asked is None and not is_over():
                asked = self._let_go("cut")
        return asked

    def _let_go(self, why: Stopped) -> Stopped:
        reason = "stopping" if why == "interrupted" else "daemon.total_duration is over: stopping"
        self._say(f"{reason} after the experiment in progress; a further Ctrl-C or SIGTERM stops at once")
        self._leash.let_go()
        return why

    def _tell_left_out(self, series: Series, over: Round) -> None:
        due_s = self._next(series, after_s=over.due)
        if due_s is None or due_s > self._bed.now():
            return
        why = f"round {over.number} took longer than the interval"
        if over.ended_at is not None and over.ended_at < due_s:
            why = f"the summary of round {over.number} was not ready in time"
        self._say(f"{why}: the start at {moment(self._schedule, due_s)} is left out")

    def _analyse(self, series: Series, *, show: bool) -> int:
        """Write the series' summary; show it in the log, or to those who listen."""
        try:
            process = self._starter.analysis(self.folder(series), show=show)
        except OSError as error:
            self._say(f"the summary of the series cannot be made: {error}")
            return 1
        while process.poll() is None:
            if self._bed.sleep(math.inf, lambda: process.poll() is not None):
                self._stopped = True
        return _exit_code(process)

    # --- The end ---

    def _conclude(self, series: Series) -> int:
        goes_on = series.open_round() is not None or self._next(series) is not None
        series.ended = not (self._stopped and goes_on)
        self._write(series)
        code = self._analyse(series, show=True) if series.rounds else 0
        done = account.completed(series.rounds)
        words = "ended" if series.ended else "interrupted; the same command goes on with it"
        self._say(f"series {series.id} {words}: {done} of {len(series.rounds)} rounds completed")
        code = INTERRUPTED if not series.ended else 1 if code else series.exit_code
        self._complain(self._herald.tell_end(self.folder(series), series, code))
        return code

    def _complain(self, problem: str | None) -> None:
        if problem:
            self._say(problem)

    def _write(self, series: Series) -> None:
        """Put the account on disk; where that is not possible, the daemon knows it and goes on."""
        try:
            account.write(self.folder(series), series)
        except OSError as error:
            self._say(f"cannot write {self.folder(series)}: {error.strerror}; a restart would not know of it")

    def _say(self, line: str) -> None:
        self._speaker.say(self._bed.now(), line)


def _exit_code(process: Process) -> int:
    code = process.poll()
    assert code is not None
    return code

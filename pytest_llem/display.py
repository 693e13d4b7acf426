"""What a campaign session writes on pytest's terminal, and when. The words come from `reporting.terminal`.

It is also the runner's observer: on a terminal it shows phases and counts gaps down in one line that goes away.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from pytest_llem.campaign.schedule import Experiment
from pytest_llem.command_line import CommandLine
from pytest_llem.long_waits import LongWaits
from pytest_llem.records import Result
from pytest_llem.reporting import outlook, terminal
from pytest_llem.reporting.digits import duration
from pytest_llem.reporting.names import counted
from pytest_llem.session import CampaignSession

if TYPE_CHECKING:
    from pytest_llem.analysis.summary import Summary

LABEL_WIDTH = 40
"""Longer labels are not waited for when the lines of experiments are aligned."""


class Display:
    """The voice of one session.

    Args:
        config: pytest's; its terminal reporter is absent in xdist workers, and then nothing is shown.
        session: what is talked about.
        commands: what it is told to type next.
    """

    def __init__(self, config: Any, session: CampaignSession, commands: CommandLine) -> None:
        self._config = config
        self._session = session
        self._commands = commands
        self._pending = 0
        self._over = 0
        self._label_width = 0
        self._problem: str | None = None
        self._began_s = time.monotonic()
        self._has_status_line = False
        self._long_waits = LongWaits(self._line)

    @property
    def _reporter(self) -> Any:
        return self._config.pluginmanager.get_plugin("terminalreporter")

    @property
    def _verbosity(self) -> int:
        return int(self._config.get_verbosity())

    # --- Before ---

    def header(self) -> list[str]:
        """Return what stands in pytest's header: the campaign, its validation, the run."""
        session = self._session
        expansion = session.expansion
        forecast = session.prospect.forecast
        lines = [f"campaign: {session.campaign.campaign_name} ({self._relative(session.settings.path)})"]
        cycles = session.campaign.execution.cycles
        lines += terminal.validation(expansion, cycles=cycles, least_s=forecast.least_s)
        lines += [outlook.plan(session.prospect)] if forecast.experiments else []
        lines += [f"note: {note}" for note in (*session.loaded.notes, *expansion.notes)]
        lines += terminal.unjudged(expansion) if session.settings.dry else []
        lines += self._order_lines()
        lines.append(f"executor: {session.executor.name} ({session.executor.reason})")
        lines += self._device_lines()
        return lines + self._run_lines()

    def _device_lines(self) -> list[str]:
        """Return which GPUs are used; nothing on a machine without any."""
        placement = self._session.placement
        if placement.session.visible is None:
            return []
        own = [f"devices of {name}: {choice.reason}" for name, choice in placement.own.items()]
        problems = [f"note: {problem}" for problem in placement.problems.values()]
        return [f"devices: {placement.session.reason}", *own, *problems]

    def _order_lines(self) -> list[str]:
        structure = self._session.campaign.execution.structure
        seed = f", seed {self._session.info.seed}" if structure == "shuffled" else ""
        return [f"order: {structure}{seed}"]

    def _run_lines(self) -> list[str]:
        session = self._session
        run_id = session.info.run_id
        if session.settings.dry and not session.resumed:
            return []
        if session.settings.cache is None:
            return [f"run: {run_id}; pytest's cache is off (-p no:cacheprovider), so it cannot be continued"]
        if session.resumed:
            return [f"run: {run_id}", self._resuming(), *self._difference()]
        if session.settings.resume:
            return [f"run: {run_id} (new: there is none to continue)"]
        return [f"run: {run_id}", *self._older_run()]

    def _resuming(self) -> str:
        session = self._session
        assert session.standing is not None
        failed = sum(map(session.progress.has_failed, session.experiments))
        completed = sum(map(session.progress.is_done, session.experiments))
        return terminal.resuming(len(session.experiments) - completed, completed, failed)

    def _difference(self) -> list[str]:
        difference = self._session.difference
        return terminal.difference(difference) if difference else []

    def _older_run(self) -> list[str]:
        session = self._session
        counts = session.older_counts()
        if session.older_trouble is not None:
            return [f"note: an older run cannot be continued: {session.older_trouble}"]
        if session.older_run is None or counts is None:
            return []
        completed, failed = counts
        had = f"{completed} completed and {failed} failed"
        return [f"an older run, {session.older_run}, had {had}; --lf would continue it"]

    # --- While it runs ---

    def plan(self, pending: Sequence[Experiment]) -> None:
        """Note what this session has to measure."""
        self._pending = len(pending)
        self._label_width = min(max((len(e.point.label) for e in pending), default=0), LABEL_WIDTH)
        self._began_s = time.monotonic()

    def waiting(self, what: str, left_s: float) -> None:
        """See `Observer`."""
        self._show("wait", f"{what}: {duration(left_s)}" if left_s else "")

    def phase(self, what: str, phase: str) -> None:
        """See `Observer`."""
        self._show(f"{what}: {phase}", f"{what}: {phase}" if phase else "")

    def note(self, line: str) -> None:
        """See `Observer`."""
        if self._reporter is not None:
            self.nothing_goes_on()
            self._line(line)

    def aside(self, line: str) -> None:
        """Print a line that a quiet session can do without."""
        if self._verbosity >= 0:
            self.note(line)

    def nothing_goes_on(self) -> None:
        """Note that no phase and no wait is under way."""
        self._status_line("")
        self._long_waits.end()

    def _show(self, key: str, line: str) -> None:
        """Show what goes on: on a terminal in a line that goes away, in a log in one that stays, if it lasts long."""
        if not line:
            self.nothing_goes_on()
        elif self._reporter is not None and self._reporter.isatty:
            self._status_line(line)
        elif self._reporter is not None and self._verbosity >= 0:
            self._long_waits.begin(key, line)

    def _line(self, line: str) -> None:
        """Write a line of its own, also while a test runs."""
        with self._uncaptured():
            self._reporter.ensure_newline()
            self._reporter.write_line(line)

    def _uncaptured(self) -> AbstractContextManager[None]:
        """Let what is written while a test runs reach the terminal."""
        manager = self._config.pluginmanager.get_plugin("capturemanager")
        return manager.global_and_fixture_disabled() if manager else nullcontext()

    def _status_line(self, text: str) -> None:
        """Show a line that the next one overwrites; only a terminal sees it."""
        reporter = self._reporter
        if reporter is None or not reporter.isatty or self._verbosity < 0:
            return
        if not text and not self._has_status_line:
            return
        width = shutil.get_terminal_size().columns - 1
        with self._uncaptured():
            if not self._has_status_line:
                reporter.ensure_newline()
            reporter.rewrite(text[:width], erase=True)
            if not text:
                reporter.write("\r")  # what comes next begins at the left
        self._has_status_line = bool(text)

    def status(self, report: Any) -> tuple[str, str, str] | None:
        """Return the status of an experiment's report: its line replaces the letter, its number joins the word.

        Args:
            report: of a phase of a test, or of a collection, which has no properties.
        """
        headline = terminal.Headline.from_properties(getattr(report, "user_properties", ()))
        if headline is None or report.when != "call" or report.outcome not in ("passed", "failed"):
            return None
        if self._verbosity == 0 and not self._is_of_campaign(report.nodeid):
            return None  # a user's own test has pytest's letter, whatever its experiment's line says
        word = f"{report.outcome.upper()} {headline.energy_or_rate()}" if report.passed else "FAILED"
        if self._verbosity == 0:  # a word without a letter would count for pytest's own percentage
            return report.outcome, "", "" if report.passed else word
        return report.outcome, "." if report.passed else "F", word

    def is_beginning(self, nodeid: str) -> None:
        """Keep pytest from repeating the file's name before each of our lines."""
        if self._reporter is not None and self._verbosity == 0:
            self._reporter.showfspath = not self._is_of_campaign(nodeid)

    def _is_of_campaign(self, nodeid: str) -> bool:
        return nodeid.partition("::")[0] == self._relative(self._session.settings.path)

    def experiment_is_over(self, report: Any) -> None:
        """Print the experiment's line once its call is over; several tests may ask for one experiment."""
        headline = terminal.Headline.from_properties(report.user_properties)
        if headline is None or report.when != "call" or headline.is_stored:
            return
        self._over += 1
        reporter = self._reporter
        if reporter is None or self._verbosity != 0:
            return
        self.nothing_goes_on()
        reporter.ensure_newline()
        reporter.write_line(
            terminal.progress(
                headline,
                done=self._over,
                of=max(self._pending, self._over),
                cycles=self._session.campaign.execution.cycles,
                left_s=self._left_s(),
                label_width=self._label_width,
            )
        )

    def _left_s(self) -> float | None:
        elapsed_s = time.monotonic() - self._began_s
        return terminal.time_left_s(elapsed_s, done=self._over, of=max(self._pending, self._over))

    # --- After ---

    def problem(self, sentence: str) -> None:
        """Note why the session's end went wrong; it stands below the table."""
        self._problem = sentence

    def summary(self) -> None:
        """Print the table, what must be said beside it, the failures, and where the files are."""
        summary, reporter = self._session.summary, self._reporter
        if summary is None or reporter is None:
            return
        reporter.section(f"campaign {self._session.campaign.campaign_name}", sep="=")
        colour = bool(reporter.hasmarkup)
        lines = [
            *self._table(summary, colour=colour),
            *terminal.messages(summary),
            *terminal.health(self._session.health),
            *terminal.failures(self._session.failed_results(), rerun=self._again),
            *outlook.spent(self._session.spent()),
            f"results: {self._relative(self._session.results_folder)}",
        ]
        for line in lines:
            reporter.write_line(line)
        if self._problem:
            reporter.write_line(self._problem, red=True)
        left = len(self._session.pending())
        if left:
            reporter.write_line(f"{left} experiments remain: {self._commands.go_on()}")
        unkept = sum(verdict.failed for row in summary.rows for verdict in row.budgets)
        if unkept:
            reporter.write_line(f"{counted(unkept, 'budget')} of expect not kept: exit code 1", red=True)

    def _table(self, summary: Summary, *, colour: bool) -> list[str]:
        if not any(row.n for row in summary.rows):
            return ["no experiment was completed"]
        from pytest_llem.reporting.table import table  # noqa: PLC0415 - rich: not to collect

        return table(summary, width=shutil.get_terminal_size().columns, colour=colour).splitlines()

    def _again(self, result: Result) -> str:
        return self._commands.again(result.experiment_id)

    def _relative(self, path: Any) -> str:
        rootdir = self._session.settings.rootdir
        return path.relative_to(rootdir).as_posix() if path.is_relative_to(rootdir) else str(path)

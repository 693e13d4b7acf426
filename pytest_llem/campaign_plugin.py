"""The hooks of a session that has a campaign. They ask `CampaignSession`, and hold no logic of their own."""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from pytest_llem import compose_fixtures
from pytest_llem.campaign.schedule import Experiment
from pytest_llem.collection import CampaignFile, experiment_of, in_schedule_order
from pytest_llem.command_line import CommandLine
from pytest_llem.display import Display
from pytest_llem.executors.compose.executor import ComposeExecutor, ComposeSetup
from pytest_llem.fixtures import ExperimentHandle
from pytest_llem.records import Result
from pytest_llem.reporting import terminal
from pytest_llem.runner import CampaignStopped
from pytest_llem.session import CampaignSession
from pytest_llem.state.results import StorageError
from pytest_llem.station import NotReadyError

STOPPED_BY = "llem_stopped_by"


class CampaignPlugin:
    """One campaign session's hooks."""

    def __init__(self, config: pytest.Config, session: CampaignSession) -> None:
        self._config = config
        self._session = session
        self._is_worker = hasattr(config, "workerinput")
        self._commands = CommandLine(
            session.settings,
            config.invocation_params.dir,
            rootdir=config.getoption("rootdir"),
            is_daemons=session.campaign.daemon.enabled,
        )
        self._display = Display(config, session, self._commands)
        session.progress.spending.say = self._display.aside
        # a controller of xdist collects nothing itself
        self._has_begun = self._has_workers() and not session.settings.dry
        self._pending: list[Experiment] = []
        self._signal_before: Any = None
        self._stop_on_sigterm()

    # --- What will run ---

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell an xdist worker which run it measures for, and what of it is done."""
        node.workerinput["llem_seat"] = asdict(self._session.seat(node.gateway.id))

    def pytest_report_header(self) -> list[str]:
        """Say what the campaign amounts to."""
        return [] if self._is_worker else self._display.header()

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """Collect the campaign's experiments from its file."""
        if file_path != self._session.settings.path:
            return None
        collector: CampaignFile = CampaignFile.from_parent(parent, path=file_path)
        collector.experiments, collector.commands = self._session.experiments, self._commands
        return collector

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a user's own test once for each experiment it asks for."""
        if "experiment" in metafunc.fixturenames:
            experiments = self._session.experiments
            metafunc.parametrize("experiment", experiments, indirect=True, ids=[e.id for e in experiments])

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the schedule's order, and under `--lf` only what the run still lacks."""
        failed_first = None
        if self._config.getoption("failedfirst", default=False) and self._config.cache is not None:
            failed_first = self._config.cache.get("cache/lastfailed", {})
        in_schedule_order(items, failed_first)
        if self._session.resumed:
            done = [item for item in items if self._is_done(item)]
            if done:
                self._config.hook.pytest_deselected(items=done)
                items[:] = [item for item in items if not self._is_done(item)]

    def _is_done(self, item: pytest.Item) -> bool:
        """Tell whether the run has this item's result. A user's own test judges a stored result again."""
        experiment = experiment_of(item)
        own_test = not isinstance(item.parent, CampaignFile)
        return experiment is not None and not own_test and self._session.progress.is_done(experiment)

    # --- Measuring ---

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note what is left after all selection."""
        left = {e.position: e for item in session.items if (e := experiment_of(item)) is not None}
        self._pending = self._session.progress.pending(left.values())
        self._display.plan(self._pending)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Make ready for the experiments before the first item."""
        broken = session.testsfailed and not self._config.option.continue_on_collection_errors
        if not (self._session.settings.dry or self._has_workers() or broken):
            self._start(session)
        return (yield)

    def _start(self, session: pytest.Session) -> None:
        try:
            self._session.start(self._pending, self._display, self._compose_setup(session))
        except NotReadyError as error:
            if not self._is_worker:
                raise pytest.UsageError(str(error)) from error
            session.shouldfail = str(error)  # an xdist controller knows no usage error of a worker
            return
        except (CampaignStopped, StorageError) as stop:
            session.shouldfail = str(stop)  # no item is run: all stays pending
        self._has_begun = True

    def _compose_setup(self, session: pytest.Session) -> ComposeSetup | None:
        """Return what the project says of its containers; None where experiments do not run in containers."""
        if self._session.executor.name != ComposeExecutor.name or not self._pending:
            return None
        beside = next(item for item in session.items if experiment_of(item) is not None)
        return compose_fixtures.setup_of(session, beside)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Wait, cool, end the old engine before the item's own phases, so that those are the experiment."""
        if item.session.shouldfail:
            return True  # an xdist worker would still run one item
        experiment = experiment_of(item)
        if experiment is None:
            return None
        try:
            if not self._session.may_begin(experiment):
                return True  # the budget of the run: it stays pending
            self._session.prepare(experiment)
        except (CampaignStopped, StorageError) as stop:
            item.session.shouldfail = str(stop)
            return True  # the item is not run: it stays pending
        return None

    def handle(self, experiment: Experiment, item: pytest.Item) -> ExperimentHandle:
        """Return what the `experiment` fixture gives to `item`."""

        def run(wanted: Experiment) -> Result:
            try:
                result, is_new = self._session.measure(wanted)
            except (CampaignStopped, StorageError) as stop:
                item.session.shouldfail = str(stop)
                pytest.fail(str(stop), pytrace=False)
            item.user_properties.extend(terminal.Headline.of(result, is_new=is_new).to_properties())
            if is_new:
                self._config.hook.pytest_llem_result(config=self._config, result=result)
            return result

        return ExperimentHandle(experiment, run)

    # --- Telling ---

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Put the headline number beside PASSED."""
        return self._display.status(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Prepare the terminal for an experiment's line."""
        self._display.is_beginning(nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print one line an experiment."""
        self._display.experiment_is_over(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_json_runtest_metadata(self, item: pytest.Item, call: pytest.CallInfo[None]) -> dict[str, Any]:
        """Put the numbers into pytest-json-report's metadata."""
        if call.when != "call" or experiment_of(item) is None:
            return {}
        return dict(item.user_properties)

    # --- The end ---

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Learn from an xdist worker that the run's budget has ended its session; a crashed one tells nothing."""
        self._session.progress.spending.stopped_by = getattr(node, "workeroutput", {}).get(STOPPED_BY)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Stop the services, summarise, judge the budgets, and settle the exit code."""
        if not self._has_begun:
            return
        self._display.nothing_goes_on()
        self._session.stop_services()
        if self._is_worker:
            self._config.workeroutput[STOPPED_BY] = self._session.progress.spending.stopped_by  # type: ignore[attr-defined]
            return
        try:
            summary = self._session.conclude()
        except StorageError as error:
            self._display.problem(str(error))
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            return
        self._settle_exit_code(session, exitstatus)
        try:
            self._config.hook.pytest_llem_summary(config=self._config, summary=summary)
        except Exception as error:  # noqa: BLE001 - whatever somebody's hook raises, the table is shown
            where = f"pytest_llem_summary, {traceback.extract_tb(error.__traceback__)[-1].filename}"
            self._display.problem(f"{where}: {type(error).__name__}: {error}")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _settle_exit_code(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self._session.resumed:
            session.exitstatus = pytest.ExitCode.OK
        if session.exitstatus == pytest.ExitCode.OK and self._session.is_over_budget():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self) -> None:
        """Print the table, what must be said beside it, and where the files are."""
        if self._has_begun:
            self._display.summary()

    def pytest_unconfigure(self) -> None:
        """Leave nothing behind, however the session ended."""
        self._session.close()
        if self._signal_before is not None:
            signal.signal(signal.SIGTERM, self._signal_before)

    def _has_workers(self) -> bool:
        return not self._is_worker and bool(getattr(self._config.option, "tx", None))

    def _stop_on_sigterm(self) -> None:
        """Treat SIGTERM as Ctrl-C: by default it would run no teardown at all."""
        if threading.current_thread() is threading.main_thread():
            self._signal_before = signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt("SIGTERM")

"""The two ends of a daemon in pytest: the session that becomes it, and the session of one of its rounds."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import time as time_of_day
from typing import Any, NoReturn

import pytest

from pytest_llem.campaign.schema import duration_s
from pytest_llem.daemon import locks, words
from pytest_llem.daemon.assignment import Assignment
from pytest_llem.daemon.clock import Schedule
from pytest_llem.daemon.herald import Herald
from pytest_llem.reporting import outlook
from pytest_llem.session import CampaignSession


def register(config: pytest.Config, session: CampaignSession) -> None:
    """Let a session of a campaign with `daemon.enabled` hand over, or in a round heed its daemon.

    Raises:
        pytest.UsageError: it cannot be handed over as it was started.
    """
    if session.settings.round is not None:
        config.pluginmanager.register(RoundPlugin(config, session.settings.round), "llem-round")
        return
    _refuse(config, session)
    config.pluginmanager.set_blocked("dsession")  # pytest-xdist's: it would start workers for nothing
    config.option.tx = []
    config.pluginmanager.register(HandOver(config, session), "llem-daemon")


def _refuse(config: pytest.Config, session: CampaignSession) -> None:
    if config.getoption("lf", default=False):
        raise pytest.UsageError(
            "--lf: a daemon goes on with an interrupted round by itself; leave it out. To finish the run of a failed"
            " round add --campaign-set daemon.enabled=false"
        )
    if session.settings.cache is None:
        raise pytest.UsageError(
            "-p no:cacheprovider: a daemon's interrupted round could not be continued; leave it out"
        )
    if tuple(sys.argv[1:]) != config.invocation_params.args:
        raise pytest.UsageError(
            "daemon.enabled: this process becomes the daemon, and it is not pytest's own but a program that calls"
            " pytest.main; start the pytest command instead"
        )


class HandOver:
    """Becomes the daemon once the campaign is known to be valid and has something to run."""

    def __init__(self, config: pytest.Config, session: CampaignSession) -> None:
        self._config = config
        self._session = session
        self._daemon = session.campaign.daemon
        self._schedule = Schedule(
            at=time_of_day.fromisoformat(self._daemon.at) if self._daemon.at else None,
            interval_s=duration_s(self._daemon.interval),
            total_s=duration_s(self._daemon.total_duration),
        )

    def pytest_report_header(self) -> list[str]:
        """Print the plan of starts, and what all rounds take."""
        now_s, schedule = time.time(), self._schedule
        starts = words.plan(schedule, schedule.first(now_s), now_s)
        rounds = outlook.rounds(self._session.prospect, schedule.interval_s, schedule.total_s)
        return [f"daemon: {words.every(schedule)}; a new series would start", *starts, *rounds]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Hand over instead of running; pytest itself says what is wrong with a collection."""
        if session.items and not session.testsfailed and not self._config.getoption("collectonly"):
            capture: Any = self._config.pluginmanager.getplugin("capturemanager")
            with capture.global_and_fixture_disabled() if capture else nullcontext():
                self._become_daemon()

    def _become_daemon(self) -> NoReturn:
        sys.stdout.flush()
        sys.stderr.flush()
        os.chdir(self._config.invocation_params.dir)
        command = [sys.executable, "-P", "-m", "pytest_llem.daemon", *self._arguments()]
        environment = os.environ | self._herald().environment()
        os.execve(sys.executable, command, environment)  # noqa: S606 - a new program in this process

    def _herald(self) -> Herald:
        wanted = self._session.campaign.notify
        return Herald(wanted.webhook_url.get_secret_value(), wanted.on) if wanted.webhook_url else Herald()

    def _arguments(self) -> Iterator[str]:
        yield f"--folder={self._session.series_folder}"
        yield f"--campaign={self._session.campaign.campaign_name}"
        yield f"--sha256={self._session.loaded.sha256}"
        yield f"--points-sha256={self._session.info.points_sha256}"
        yield f"--executor={self._session.executor.name}"
        if self._daemon.at:
            yield f"--at={self._daemon.at}"
        if self._schedule.interval_s:
            yield f"--interval={self._schedule.interval_s}"
        if self._schedule.total_s:
            yield f"--total={self._schedule.total_s}"
        if self._daemon.quiet:
            yield "--quiet"
        yield "--"
        yield sys.executable
        yield from sys.orig_argv[1:]


class RoundPlugin:
    """Ends the session of a round after the experiment in progress when its daemon lets go of the leash.

    Args:
        config: pytest's. A controller of xdist measures nothing and only holds its share of the leash.
        assigned: by the daemon.
    """

    def __init__(self, config: pytest.Config, assigned: Assignment) -> None:
        self._heeds = not getattr(config.option, "tx", None) or hasattr(config, "workerinput")
        self._assigned = assigned
        self._is_waiting = False

    def pytest_report_header(self) -> str:
        """Say which round this is."""
        return f"round: {self._assigned.number} of series {self._assigned.series}"

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Watch the leash."""
        watch = threading.Thread(target=self._watch, args=(session,), name="llem-leash", daemon=True)
        watch.start()

    def pytest_collection_finish(self) -> None:
        """From here to the first experiment there is nothing to lose: a wait for the slot can be long."""
        self._is_waiting = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Begin no experiment once the session is to stop; gaps and loads before one are cut short."""
        self._is_waiting = True
        return True if item.session.shouldstop else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        """From here to its end an experiment is left in peace."""
        self._is_waiting = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Leave the summary in peace."""
        self._is_waiting = False

    def _watch(self, session: pytest.Session) -> None:
        self._held = locks.wait_for_release(self._assigned.leash)  # and kept until this process ends
        if self._heeds:
            session.shouldstop = "the daemon of this round was stopped"
            if self._is_waiting:
                os.kill(os.getpid(), signal.SIGTERM)

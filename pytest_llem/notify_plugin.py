"""The hooks that tell a campaign's owner how a session ended."""

from __future__ import annotations

import time
from collections.abc import Generator

import pytest

from pytest_llem.notify import origin, send
from pytest_llem.reporting.webhook import EVENTS, Ending, Told, payload, status_of
from pytest_llem.session import CampaignSession


def register(config: pytest.Config, session: CampaignSession) -> None:
    """Have the owner told, if the campaign names a webhook: by the process that has the whole session before it."""
    is_worker = hasattr(config, "workerinput")
    if session.campaign.notify.webhook_url is not None and not is_worker and not session.settings.dry:
        config.pluginmanager.register(Notifier(config, session), "llem-notify")


class Notifier:
    """Tells once, as late as the terminal can still show that it failed."""

    def __init__(self, config: pytest.Config, session: CampaignSession) -> None:
        self._config = config
        self._session = session
        self._began_s = time.monotonic()
        self._pytest: pytest.Session | None = None
        self._reason: str | None = None
        self._is_told = False

    def pytest_report_header(self) -> list[str]:
        """Say who will be told, without the part of the address that is a secret."""
        wanted = self._session.campaign.notify
        return [f"notify: {origin(self._url)} on {' and '.join(wanted.on) or 'nothing'}"]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> Generator[None, object, object]:
        """Learn that there is something to tell of."""
        self._pytest = session
        return (yield from self._noting_the_reason())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        """Learn what ended the session before its time."""
        return (yield from self._noting_the_reason())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Learn what ended the session before its time."""
        return (yield from self._noting_the_reason())

    def _noting_the_reason(self) -> Generator[None, object, object]:
        try:
            return (yield)
        except BaseException as error:
            self._reason = str(error) or type(error).__name__
            raise

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Tell when results and summary are on disk and on the terminal."""
        if self._pytest and (problem := self._tell(self._pytest.exitstatus)):
            terminalreporter.write_line(problem, yellow=True)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        """Tell of a session of which pytest's own exit code does not tell that its end has crashed."""
        try:
            return (yield)
        except Exception as error:
            self._reason = f"{type(error).__name__}: {error}"
            self._tell(pytest.ExitCode.INTERNAL_ERROR)
            raise

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self) -> None:
        """Tell of a session that ended without a summary: before its first item, or without a terminal."""
        if self._pytest:
            self._tell(self._pytest.exitstatus)

    @property
    def _url(self) -> str:
        address = self._session.campaign.notify.webhook_url
        assert address is not None
        return address.get_secret_value()

    def _tell(self, exit_code: int) -> str | None:
        """Post how the session ended, once, if that is asked for; return why it failed."""
        if self._is_told:
            return None
        self._is_told = True
        problem = self._post(exit_code)
        if self._session.settings.round is not None:
            self._session.settings.round.note_told()
        return problem

    def _post(self, exit_code: int) -> str | None:
        ending = Ending(int(exit_code), time.monotonic() - self._began_s, self._reason)
        told = self._told()
        status = status_of(ending, told)
        event = EVENTS[status]
        if event is None or event not in self._session.campaign.notify.on:
            return None
        return send(self._url, payload(event, status, ending, told))

    def _told(self) -> Told:
        session = self._session
        return Told(
            campaign=session.campaign.campaign_name,
            info=session.info,
            experiments=len(session.experiments),
            remaining=len(session.pending()),
            failed=session.failed_results(),
            spending=session.spent(),
            summary=session.summary,
            results=session.results_folder,
        )

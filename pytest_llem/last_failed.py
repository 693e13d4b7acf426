"""pytest's own record of failures, kept true for a campaign that is continued.

`cache/lastfailed` knows failures only, is written at the end, and not at all by a killed session. What a run lacks is
known by the run's own journal; so the record must neither hide such experiments nor call them failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

RECORD = "cache/lastfailed"


class LastFailed:
    """What `--lf` believes of one campaign's file.

    Args:
        config: of a session with `--lf` and a cache.
        campaign: node id of the campaign's file.
        failed: returns the ids of its experiments that have failed, at the session's end; None: it changed nothing.
    """

    def __init__(
        self, config: pytest.Config, campaign: str, failed: Callable[[], Iterable[str] | None]
    ) -> None:
        assert config.cache is not None
        self._config, self._campaign, self._failed = config, campaign, failed
        self._cache = config.cache
        self._before: dict[str, bool] = self._cache.get(RECORD, {})
        self._reader = self._select_all()

    def pytest_collection_finish(self) -> None:
        """Keep pytest from a line that would call failed what has never run; our header has the counts."""
        self._reader.active = False

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Correct what pytest has just written."""
        failed = self._failed()
        if failed is None:
            self._cache.set(RECORD, self._before)
        elif not hasattr(self._config, "workerinput"):
            ours = {f"{self._campaign}::{experiment_id}": True for experiment_id in failed}
            self._cache.set(RECORD, self._without_ours(self._cache.get(RECORD, {})) | ours)

    def _select_all(self) -> Any:
        """Let pytest select the whole file, and return its plugin: a collector's id selects all that it collects."""
        self._cache.set(RECORD, self._without_ours(self._before) | {self._campaign: True})
        manager = self._config.pluginmanager
        manager.unregister(name="lfplugin-collwrapper")
        old: Any = manager.unregister(name="lfplugin")
        reader = type(old)(self._config)  # reads the record anew
        manager.register(reader, "lfplugin")
        self._cache.set(RECORD, self._before)
        return reader

    def _without_ours(self, record: dict[str, bool]) -> dict[str, bool]:
        return {nodeid: True for nodeid in record if nodeid.partition("::")[0] != self._campaign}

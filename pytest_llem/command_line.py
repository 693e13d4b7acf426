"""The commands that a session prints: what its user types next, with the options that were typed before."""

from __future__ import annotations

import fnmatch
import os
import shlex
from dataclasses import dataclass
from itertools import filterfalse
from pathlib import Path

from pytest_llem.settings import Settings

NOT_REPEATED = ("notify.*", "services.*.env*")
"""Their values may be secrets, and these commands also stand in reports; no result's identity depends on them."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Commands that go on with a session's run.

    Attributes:
        settings: of the session.
        here: the folder in which pytest was started.
        rootdir: as it was typed, if it was.
        is_daemons: whether the campaign is a daemon's; then its own session must be asked for.
    """

    settings: Settings
    here: Path
    rootdir: str | None = None
    is_daemons: bool = False

    def go_on(self) -> str:
        """Return the command that measures what the run lacks."""
        return " ".join([f"pytest --campaign={shlex.quote(self._campaign())} --lf", *self._options()])

    def again(self, experiment_id: str) -> str:
        """Return the command that measures one failed experiment again, within its run."""
        return " ".join(
            [f"pytest {shlex.quote(f'{self._campaign()}::{experiment_id}')} --lf", *self._options()]
        )

    def _campaign(self) -> str:
        return os.path.relpath(self.settings.path, self.here)

    def _options(self) -> list[str]:
        """Return the options with which the measurements agree with those before."""
        asked = self.settings
        options = [f"--rootdir={shlex.quote(self.rootdir)}"] if self.rootdir else []
        told = filterfalse(_may_be_secret, asked.overrides)
        options += [f"--campaign-set {shlex.quote(override)}" for override in told]
        if self.is_daemons:
            options.append("--campaign-set daemon.enabled=false")
        if asked.gpus is not None:
            options.append(f"--campaign-gpus {shlex.quote(asked.gpus)}")
        if asked.require_measured:
            options.append("--campaign-require measured")
        return options


def _may_be_secret(override: str) -> bool:
    key = override.partition("=")[0]
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in NOT_REPEATED)

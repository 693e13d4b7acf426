"""What a session is told from outside: its options, and in an xdist worker the run of its controller."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_llem.daemon.assignment import Assignment


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of a session.

    Attributes:
        path: the campaign file.
        rootdir: where relative paths begin and below which the file must lie.
        overrides: `KEY=VALUE` of `--campaign-set`, and what other options amount to.
        cache: the plugin's folder in pytest's cache; None without a cache: nothing can be continued.
        resume: `--lf`.
        dry: `--collect-only`: nothing is written, nothing started.
        require_measured, fetch: the options of that name.
        executor, gpus: `--campaign-executor`, `--campaign-gpus`.
        round: what a daemon tells the session of a round; None for a session that somebody started.
    """

    path: Path
    rootdir: Path
    overrides: tuple[str, ...] = ()
    cache: Path | None = None
    resume: bool = False
    dry: bool = False
    require_measured: bool = False
    fetch: bool = False
    executor: str = "auto"
    gpus: str | None = None
    round: Assignment | None = None


@dataclass(frozen=True, slots=True)
class Seat:
    """What an xdist worker needs to sit at its controller's run; plain values only."""

    info: str
    resumed: bool
    writer: str

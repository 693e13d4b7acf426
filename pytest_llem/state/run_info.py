"""What a run is, as `run.json` says it, and what an edit of the campaign changed in it."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from pytest_llem.records import Record

RUN_SCHEMA_VERSION = 1
"""Raised when a field of `RunInfo` changes its meaning or goes."""


class Session(Record):
    """One pytest session at a run."""

    id: str
    pid: int
    hostname: str


def new_session() -> Session:
    """Return a fresh identity for the session of this process."""
    return Session(id=secrets.token_hex(4), pid=os.getpid(), hostname=socket.gethostname())


class SeriesRound(Record):
    """Which round of a daemon's series a run is, from 1."""

    series: str
    number: int


class RunInfo(Record):
    """What a run is: `run.json` beside its results. Rewritten when a session begins.

    Attributes:
        seed: of the order of experiments; a session that continues the run takes it from here.
        created: when the first session began.
        campaign_sha256, tool_version, cycles, points: as of the latest session.
        points: label of each configuration by its spec hash.
        executor: where its experiments run.
        round: of a daemon's series; None for a run that somebody started.
        session: the latest; alive while the run's lock is held.
    """

    schema_version: int = RUN_SCHEMA_VERSION
    run_id: str
    campaign_key: str
    seed: int
    created: datetime
    campaign_sha256: str
    tool_version: str
    cycles: int
    points: dict[str, str]
    executor: str = "local"
    round: SeriesRound | None = None
    session: Session

    @property
    def points_sha256(self) -> str:
        """Hash of the configurations, whatever they are called: equal for two runs that measure the same."""
        return hashlib.sha256(" ".join(sorted(self.points)).encode()).hexdigest()


class Difference(NamedTuple):
    """Labels of the configurations that an edit of the campaign added, altered and removed."""

    new: tuple[str, ...]
    changed: tuple[str, ...]
    gone: tuple[str, ...]


def compare(before: Mapping[str, str], now: Mapping[str, str]) -> Difference:
    """Compare two `RunInfo.points`. A configuration that was only renamed is in none of the three."""
    removed = [label for spec_hash, label in before.items() if spec_hash not in now]
    added = [label for spec_hash, label in now.items() if spec_hash not in before]
    return Difference(
        new=tuple(label for label in added if label not in removed),
        changed=tuple(label for label in added if label in removed),
        gone=tuple(label for label in removed if label not in added),
    )

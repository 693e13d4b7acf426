"""Which run a session is at: a new one, or an older one that it continues."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from random import Random
from typing import NamedTuple

from pytest_llem import __version__
from pytest_llem.campaign.grid import Expansion
from pytest_llem.campaign.loader import LoadedCampaign
from pytest_llem.settings import Seat, Settings
from pytest_llem.state.results import DamagedFileError
from pytest_llem.state.run import Runs
from pytest_llem.state.run_id import new_run_id
from pytest_llem.state.run_info import RunInfo, SeriesRound, new_session


class RunChoice(NamedTuple):
    """What is there to continue, and whether it is continued.

    Attributes:
        older_run: id of the run that may be continued; None: there is none.
        older: what its `run.json` says.
        resumed: whether the session continues it.
        joined: whether `older` is the run of an xdist worker's controller, whatever that does with it.
        trouble: why the newest run cannot be continued, where nobody asked for that.
    """

    older_run: str | None
    older: RunInfo | None
    resumed: bool
    joined: bool = False
    trouble: str | None = None

    @property
    def executor(self) -> str | None:
        """The executor of the run that goes on."""
        return self.older.executor if self.older and (self.resumed or self.joined) else None

    def info(
        self, settings: Settings, loaded: LoadedCampaign, expansion: Expansion, executor: str
    ) -> RunInfo:
        """Return what the run is as of this session."""
        if self.joined and self.older:
            return self.older
        execution, assigned = loaded.campaign.execution, settings.round
        earlier = self.older if self.resumed else None
        now = datetime.now(UTC)
        run_id = assigned.run_id if assigned else new_run_id(now, Random())  # noqa: S311 - a name, no secret
        seed = execution.seed
        if seed is None:
            seed = earlier.seed if earlier else secrets.randbelow(2**32)
        return RunInfo(
            run_id=self.older_run if self.resumed and self.older_run else run_id,
            campaign_key=loaded.key,
            seed=seed,
            created=earlier.created if earlier else now,
            campaign_sha256=loaded.sha256,
            tool_version=__version__,
            cycles=execution.cycles,
            points={p.spec_hash: p.label for p in expansion.points},
            executor=executor,
            round=_round_of(settings, earlier),
            session=new_session(),
        )


def _round_of(settings: Settings, earlier: RunInfo | None) -> SeriesRound | None:
    """Return which round a run is; one that somebody finishes by hand stays a round."""
    if settings.round is not None:
        return SeriesRound(series=settings.round.series, number=settings.round.number)
    return earlier.round if earlier else None


def choose_run(runs: Runs, settings: Settings, seat: Seat | None) -> RunChoice:
    """Return which run a session is at; an xdist worker (`seat`) is at its controller's.

    Raises:
        DamagedFileError: the run that should be continued cannot be read.
    """
    if seat is not None:
        return RunChoice(None, RunInfo.model_validate_json(seat.info), seat.resumed, joined=True)
    asked = settings.resume or settings.round is not None
    try:
        older_run = _latest(runs, settings)
        older = runs.info(older_run) if older_run else None
    except DamagedFileError as error:
        if asked:
            raise
        return RunChoice(None, None, resumed=False, trouble=str(error))
    return RunChoice(older_run, older, resumed=asked and older_run is not None and settings.cache is not None)


def _latest(runs: Runs, settings: Settings) -> str | None:
    """Return the run that may be continued: the newest, in a round of a daemon its own if that has begun."""
    if settings.round is None:
        return runs.newest()
    own = settings.round.run_id
    return own if runs.info(own) is not None else None

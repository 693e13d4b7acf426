"""What a daemon tells the session of one round, in one variable of its environment."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

VARIABLE = "LLEM_ROUND"

NOT_IN_THE_CAMPAIGN = (
    "prompts, a dataset, a model's files, the executor, this machine's GPUs, or a newer pytest-llem"
)
"""What decides on the configurations beside the campaign's own text."""


class CampaignChangedError(Exception):
    """The campaign is not that of the series any more."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which round a session is; a session without one hands over to a daemon.

    Attributes:
        series, number: the series, and the round in it from 1.
        run_id: of the round's own run, begun or not.
        campaign_sha256, points_sha256: of the series; a round of something else would not belong to it.
        executor: of the series; `auto` keeps to it.
        leash: see `locks`.
        told: the file that the session makes once the campaign's owner has heard from it how it ended.
    """

    series: str
    number: int
    run_id: str
    campaign_sha256: str
    points_sha256: str
    executor: str
    leash: str
    told: str

    def check_campaign(self, campaign_sha256: str) -> None:
        """Refuse another campaign than that of the series.

        Raises:
            CampaignChangedError: it has been edited.
        """
        if campaign_sha256 != self.campaign_sha256:
            raise self._has_changed("the campaign has changed")

    def check_points(self, points_sha256: str) -> None:
        """Refuse to measure something else under the same campaign.

        Raises:
            CampaignChangedError: a file that the campaign names is another one, or the machine is.
        """
        if points_sha256 != self.points_sha256:
            raise self._has_changed(f"what is measured (by {NOT_IN_THE_CAMPAIGN}) has changed")

    def _has_changed(self, what: str) -> CampaignChangedError:
        return CampaignChangedError(
            f"{what} since series {self.series} began, and all rounds of a series measure the same: undo that, or"
            " restart the daemon, which then begins a new series"
        )

    def note_told(self) -> None:
        """Leave the mark that nobody else has to tell of the round; without it the daemon would once more."""
        with contextlib.suppress(OSError):
            Path(self.told).touch()

    def environment(self) -> dict[str, str]:
        """Return it as the variable."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Assignment | None:
        """Return what the variable says; None where it is not set."""
        said = environment.get(VARIABLE)
        return cls(**json.loads(said)) if said else None

"""What a daemon tells the session of one round, in one variable of its environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

VARIABLE = "LLEM_ROUND"


class CampaignChangedError(Exception):
    """The campaign is not that of the series any more."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which round a session is; a session without one hands over to a daemon.

    Attributes:
        series, number: the series, and the round in it from 1.
        run_id: of the round's own run, begun or not.
        campaign_sha256: of the series; a round of an edited campaign would not belong to it.
        leash: see `locks`.
    """

    series: str
    number: int
    run_id: str
    campaign_sha256: str
    leash: str

    def check(self, campaign_sha256: str) -> None:
        """Refuse another campaign than that of the series.

        Raises:
            CampaignChangedError: it has been edited.
        """
        if campaign_sha256 != self.campaign_sha256:
            raise CampaignChangedError(
                f"the campaign has changed since series {self.series} began, and all rounds of a series are of one"
                " campaign: restart the daemon, which then begins a new series"
            )

    def environment(self) -> dict[str, str]:
        """Return it as the variable."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Assignment | None:
        """Return what the variable says; None where it is not set."""
        said = environment.get(VARIABLE)
        return cls(**json.loads(said)) if said else None

"""Work that the meters of this machine do not see: no value, and the reason why."""

from __future__ import annotations

import time

from pytest_llem.meters.base import Reading, Sample, energy_between
from pytest_llem.meters.sums import DOMAINS
from pytest_llem.records import Quantity, Source


class Unmetered:
    """Stands where the energy of a model is not that of this machine, or of the processes that are looked at.

    Args:
        reason: why there is no value.
    """

    source: Source = "unavailable"

    def __init__(self, reason: str) -> None:
        self._absent = dict.fromkeys(("total", *DOMAINS), reason)

    def read(self, *, at_tick: bool = False) -> Reading:
        """Read the clock alone."""
        del at_tick
        return Reading(time.monotonic(), {}, errors=dict(self._absent))

    def between(self, begin: Reading, end: Reading) -> dict[str, Quantity]:
        """Return every domain as unavailable, with the reason."""
        return energy_between(begin, end, self.source)

    def flags(self, begin: Reading, end: Reading) -> set[str]:
        """Return nothing: no instrument has failed."""
        del begin, end
        return set()

    def sample(self) -> list[Sample]:
        """Return nothing."""
        return []

    def describe(self) -> str:
        """Return the reason."""
        return f"{self.source}: {self._absent['total']}"

    def close(self) -> None:
        """Do nothing: there is no resource."""

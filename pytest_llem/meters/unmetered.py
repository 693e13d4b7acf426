"""Work that the meters of this machine do not see: no value, and the reason why."""

from __future__ import annotations

import time
from collections.abc import Iterable

from pytest_llem.meters.base import Reading, Sample, energy_between
from pytest_llem.meters.sums import DOMAINS
from pytest_llem.records import Quantity, Source


class Unmetered:
    """Stands where energy is not that of this machine, or of what the other meters look at.

    Args:
        reason: why there is no value.
        domains: which have none.
    """

    source: Source = "unavailable"

    def __init__(self, reason: str, domains: Iterable[str] = ("total", *DOMAINS)) -> None:
        self._reason = reason
        self._absent = dict.fromkeys(domains, reason)

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
        return f"{self.source}: {self._reason}"

    def close(self) -> None:
        """Do nothing: there is no resource."""

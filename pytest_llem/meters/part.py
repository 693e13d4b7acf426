"""A meter without the GPUs that an experiment does not use: others may work on them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TypeVar

from pytest_llem.meters.base import Meter, Reading, Sample
from pytest_llem.records import Quantity, Source

T = TypeVar("T")

WHOLE_DRIVER = "gpu:all"
"""The domain of a driver that does not answer, or is not there: it stands for every device."""


class PartOfMeter:
    """What a meter says of some GPUs, and of all that is no GPU.

    Args:
        whole: the meter; to close it is left to its owner.
        devices: UUIDs.
    """

    def __init__(self, whole: Meter, devices: Collection[str]) -> None:
        self._whole = whole
        self.source: Source = whole.source
        self._domains = {f"gpu:{uuid}" for uuid in devices} | ({WHOLE_DRIVER} if devices else set())

    def read(self, *, at_tick: bool = False) -> Reading:
        """See `Meter`."""
        reading = self._whole.read(at_tick=at_tick)
        return replace(
            reading,
            energy_j=self._part(reading.energy_j),
            errors=self._part(reading.errors),
            at_s_by_domain=self._part(reading.at_s_by_domain),
            lag_s=self._part(reading.lag_s),
            flags=self._part(reading.flags),
            breaks=self._part(reading.breaks),
            unsettled_j=self._part(reading.unsettled_j),
        )

    def between(self, begin: Reading, end: Reading) -> dict[str, Quantity]:
        """See `Meter`."""
        return self._whole.between(begin, end)

    def flags(self, begin: Reading, end: Reading) -> set[str]:
        """See `Meter`."""
        return self._whole.flags(begin, end)

    def sample(self) -> list[Sample]:
        """See `Meter`."""
        return [sample for sample in self._whole.sample() if self._counts(sample.domain)]

    def describe(self) -> str:
        """See `Meter`."""
        return self._whole.describe()

    def close(self) -> None:
        """See `Meter`: the whole stays open."""

    def _part(self, by_domain: dict[str, T]) -> dict[str, T]:
        return {domain: value for domain, value in by_domain.items() if self._counts(domain)}

    def _counts(self, domain: str) -> bool:
        return not domain.startswith("gpu:") or domain in self._domains

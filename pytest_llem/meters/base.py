"""What a meter is: something that can say how much energy each of its domains has used so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from pytest_llem.records import Quantity, Source, unavailable


@dataclass(frozen=True, slots=True)
class Reading:
    """Cumulative energy of every domain of one meter at one instant.

    Each domain of the meter is either in `energy_j` or in `errors`, in every reading.

    Attributes:
        at_s: `time.monotonic()` when the last of the values was taken.
        energy_j: by domain (`cpu`, `dram`, `gpu:<uuid>`); only differences mean anything.
        errors: by domain, why it has no value in this reading.
        at_s_by_domain: of domains that were read before `at_s`, such as GPUs at their own ticks.
        lag_s: by domain, how old the value can be at its time; absent where that is not known.
    """

    at_s: float
    energy_j: dict[str, float]
    errors: dict[str, str] = field(default_factory=dict)
    at_s_by_domain: dict[str, float] = field(default_factory=dict)
    lag_s: dict[str, float] = field(default_factory=dict)


class Meter(Protocol):
    """One source of energy readings. Made by the `open_meter` of its module; None there means "not here"."""

    source: Source

    def read(self, *, at_tick: bool = False) -> Reading:
        """Read now, or with `at_tick` wait for the counter's next step first, at most 2 s."""

    def between(self, begin: Reading, end: Reading) -> dict[str, Quantity]:
        """Return the energy in J that each domain used from `begin` to `end`, with source and resolution."""

    def describe(self) -> str:
        """Return one line for the environment snapshot: source, domains, what is assumed."""

    def close(self) -> None:
        """Release the source."""


def energy_between(
    begin: Reading, end: Reading, source: Source, *, note: str | None = None
) -> dict[str, Quantity]:
    """Return the energy in J of every domain from `begin` to `end`.

    A domain that failed in either reading, or whose counter fell or stood still, is unavailable, with the
    reason. `note` goes beside every value.
    """
    domains = dict.fromkeys([*begin.energy_j, *begin.errors])
    return {domain: _energy(domain, begin, end, source, note) for domain in domains}


def _energy(domain: str, begin: Reading, end: Reading, source: Source, note: str | None) -> Quantity:
    if reason := begin.errors.get(domain) or end.errors.get(domain):
        return unavailable("J", reason)
    elapsed_s = end.at_s_by_domain.get(domain, end.at_s) - begin.at_s_by_domain.get(domain, begin.at_s)
    used_j = end.energy_j[domain] - begin.energy_j[domain]
    if used_j < 0:
        return unavailable("J", f"the energy counter fell by {-used_j:.6g} J: it was reset inside the window")
    if used_j == 0:
        return unavailable("J", f"the energy counter did not move in {elapsed_s:.3g} s")
    return Quantity(
        value=used_j,
        unit="J",
        source=source,
        resolution=_resolution_j(domain, begin, end, used_j / elapsed_s),
        note=note,
    )


def _resolution_j(domain: str, begin: Reading, end: Reading, mean_power_w: float) -> float | None:
    """Return the larger lag of the two edges times the mean power: both values are late, never early."""
    if domain not in begin.lag_s or domain not in end.lag_s:
        return None
    return max(begin.lag_s[domain], end.lag_s[domain]) * mean_power_w

"""What a meter is: something that can say how much energy each of its domains has used so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from pytest_llem.records import Quantity, Source, unavailable

DEVICE_LOST = "device_lost"
READING_FAILED = "reading_failed"
COUNTER_RESET = "counter_reset"
COUNTER_STUCK = "counter_stuck"


class Clock(Protocol):
    """What a meter needs of the module `time`, which is the default everywhere."""

    def monotonic(self) -> float:
        """Return the time in s."""

    def sleep(self, seconds: float, /) -> None:
        """Let time pass."""


class Break(NamedTuple):
    """A moment up to which a domain was not counted, why, and the word for it."""

    until_s: float
    reason: str
    flag: str = READING_FAILED


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
        flags: by domain, the word for an error that was not there when the meter was opened.
        breaks: of domains that were not counted all the time: the latest such moment.
        unsettled_j: of domains whose source answers late: by how much that can falsify this value, in J.
    """

    at_s: float
    energy_j: dict[str, float]
    errors: dict[str, str] = field(default_factory=dict)
    at_s_by_domain: dict[str, float] = field(default_factory=dict)
    lag_s: dict[str, float] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)
    breaks: dict[str, Break] = field(default_factory=dict)
    unsettled_j: dict[str, float] = field(default_factory=dict)

    def time_of(self, domain: str) -> float:
        """Return when the value of a domain was taken, `time.monotonic()` in s."""
        return self.at_s_by_domain.get(domain, self.at_s)


class Sample(NamedTuple):
    """One domain at one instant, as a trace records it; None: the domain has no such sensor, or it failed.

    Attributes:
        at_s: `time.monotonic()`.
        energy_j: the counter, as in `Reading`.
        instant_power_w: power now.
        average_power_w: power averaged by the device, over 1 s where it is an NVIDIA GPU.
        throttle_reasons: NVML's bit mask (`nvmlClocksEventReasons`).
        flag: the word for what failed.
    """

    at_s: float
    domain: str
    energy_j: float | None = None
    instant_power_w: float | None = None
    average_power_w: float | None = None
    temperature_c: float | None = None
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    throttle_reasons: float | None = None
    memory_used_bytes: float | None = None
    flag: str | None = None


class Meter(Protocol):
    """One source of energy readings. Made by the `open_meter` of its module; None there means "not here"."""

    source: Source

    def read(self, *, at_tick: bool = False) -> Reading:
        """Read now, or with `at_tick` wait for the counter's next step first, at most 2 s."""

    def between(self, begin: Reading, end: Reading) -> dict[str, Quantity]:
        """Return the energy in J that each domain used from `begin` to `end`, with source and resolution."""

    def flags(self, begin: Reading, end: Reading) -> set[str]:
        """Return the words for what went wrong from `begin` to `end`, where that is news."""

    def sample(self) -> list[Sample]:
        """Return what a trace records now; nothing where that would cost more than it tells."""

    def describe(self) -> str:
        """Return one line for the environment snapshot: source, domains, what is assumed."""

    def close(self) -> None:
        """Release the source."""


def energy_between(
    begin: Reading, end: Reading, source: Source, *, note: str | None = None
) -> dict[str, Quantity]:
    """Return the energy in J of every domain from `begin` to `end`.

    A domain that failed in or between the readings, or whose counter fell or stood still, is unavailable, with
    the reason. `note` goes beside every value.
    """
    return {domain: _energy(domain, begin, end, source, note) for domain in _domains(begin)}


def flags_between(begin: Reading, end: Reading) -> set[str]:
    """Return the words for why domains have no energy from `begin` to `end`, where that is news."""
    troubles = (_trouble(domain, begin, end) for domain in _domains(begin))
    return {trouble.flag for trouble in troubles if trouble and trouble.flag}


def _elapsed_s(domain: str, begin: Reading, end: Reading) -> float:
    return end.time_of(domain) - begin.time_of(domain)


def samples_of(reading: Reading) -> list[Sample]:
    """Return the values of a reading as a trace records them."""
    return [Sample(reading.time_of(domain), domain, value) for domain, value in reading.energy_j.items()]


class _Trouble(NamedTuple):
    """Why a domain has no energy; `flag` None: that was known before."""

    reason: str
    flag: str | None


def _domains(reading: Reading) -> list[str]:
    return [*reading.energy_j, *reading.errors]


def _trouble(domain: str, begin: Reading, end: Reading) -> _Trouble | None:
    for edge in (begin, end):
        if reason := edge.errors.get(domain):
            return _Trouble(reason, edge.flags.get(domain))
    broken = end.breaks.get(domain)
    if broken and broken.until_s > begin.time_of(domain):
        return _Trouble(f"not counted all through the window: {broken.reason}", broken.flag)
    used_j = end.energy_j[domain] - begin.energy_j[domain]
    if used_j < 0:
        reason = f"the energy counter fell by {-used_j:.6g} J: it was reset inside the window"
        return _Trouble(reason, COUNTER_RESET)
    if used_j == 0:
        reason = f"the energy counter did not move in {_elapsed_s(domain, begin, end):.3g} s"
        return _Trouble(reason, COUNTER_STUCK)
    return None


def _energy(domain: str, begin: Reading, end: Reading, source: Source, note: str | None) -> Quantity:
    if trouble := _trouble(domain, begin, end):
        return unavailable("J", trouble.reason)
    return Quantity(
        value=end.energy_j[domain] - begin.energy_j[domain],
        unit="J",
        source=source,
        resolution=_resolution_j(domain, begin, end),
        note=note,
    )


def _resolution_j(domain: str, begin: Reading, end: Reading) -> float | None:
    """Return the larger lag of the two edges times the mean power, for both values are late, never early.

    What is unsettled at the edges comes on top.
    """
    if domain not in begin.lag_s or domain not in end.lag_s:
        return None
    mean_power_w = (end.energy_j[domain] - begin.energy_j[domain]) / _elapsed_s(domain, begin, end)
    unsettled_j = begin.unsettled_j.get(domain, 0.0) + end.unsettled_j.get(domain, 0.0)
    return max(begin.lag_s[domain], end.lag_s[domain]) * mean_power_w + unsettled_j

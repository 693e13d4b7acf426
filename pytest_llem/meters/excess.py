"""Energy and power by domain, and energy without what an idle machine would have used. Sums come after it."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_llem.records import Quantity, unavailable

ByDomain = Mapping[str, Quantity]


def mean_power_w(energy_j: ByDomain, seconds: Mapping[str, float]) -> dict[str, Quantity]:
    """Return energy / time in W of each domain."""
    return {domain: _scaled(energy, "W", 1 / seconds[domain]) for domain, energy in energy_j.items()}


def over_time(power_w: ByDomain, seconds: Mapping[str, float], why_unknown: str) -> dict[str, Quantity]:
    """Return power x time in J of each domain that has a time; `why_unknown` where it has no power."""
    nothing = unavailable("W", why_unknown)
    return {domain: _scaled(power_w.get(domain, nothing), "J", time_s) for domain, time_s in seconds.items()}


def _scaled(quantity: Quantity, unit: str, factor: float) -> Quantity:
    scaled = {
        name: None if number is None else number * factor
        for name, number in (("value", quantity.value), ("resolution", quantity.resolution))
    }
    return quantity.model_copy(update={"unit": unit, **scaled})


def above(energy_j: ByDomain, idle_j: ByDomain) -> dict[str, Quantity]:
    """Return energy less idle energy in J of each domain; it may be negative, and needs both."""
    return {domain: _difference(energy, idle_j[domain]) for domain, energy in energy_j.items()}


def without_known(energy_j: ByDomain, idle_j: ByDomain) -> dict[str, Quantity]:
    """Return the same, where the idle energy is not known the whole energy."""
    return {
        domain: energy if idle_j[domain].value is None else _difference(energy, idle_j[domain])
        for domain, energy in energy_j.items()
    }


def _difference(energy: Quantity, idle: Quantity) -> Quantity:
    """Return a difference; its resolution is the worst case of both."""
    if energy.value is None or idle.value is None:
        return energy if energy.value is None else idle
    resolutions = (energy.resolution, idle.resolution)
    return energy.model_copy(
        update={
            "value": energy.value - idle.value,
            "resolution": None if None in resolutions else sum(filter(None, resolutions)),
        }
    )

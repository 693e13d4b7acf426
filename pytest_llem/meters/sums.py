"""Sums over domains, of energy in J and of power in W alike.

`gpu` is the sum over devices. `total`, the headline, is the sum of `gpu`, `cpu` and `dram` as far as they are
measured: these are its parts, and its note says which is missing and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_llem.records import Quantity, Source, unavailable

DOMAINS = {
    "gpu": "no NVIDIA GPU is measured here",
    "cpu": "no RAPL counter on this machine",
    "dram": "no RAPL counter for DRAM on this machine",
}
"""The parts of a machine in the order in which they lead a total, with the reason where no meter has them."""


def with_sums(quantities: Mapping[str, Quantity], unit: str) -> dict[str, Quantity]:
    """Add `total`, `gpu`, `cpu` and `dram`, unavailable with the reason where nothing measures them.

    Args:
        quantities: by domain: `cpu`, `dram`, `gpu:<uuid>`.
        unit: of what is not there.
    """
    absent = {domain: unavailable(unit, reason) for domain, reason in DOMAINS.items()}
    return {"total": total(quantities, unit)} | absent | _parts(quantities) | dict(quantities)


def total(quantities: Mapping[str, Quantity], unit: str = "J") -> Quantity:
    """Return the headline: the sum of GPUs, CPU packages and DRAM as far as they are measured.

    The first of them that the machine has leads: it gives the source, and without its value there is no
    total, for the rest would pass for the whole. A follower without a value is named in the note as missing.
    Modelled and measured values are never summed.

    Args:
        quantities: by domain: `cpu`, `dram`, `gpu:<uuid>`.
        unit: of what is not there.
    """
    parts = _parts(quantities)
    if not parts:
        return unavailable(unit, "no energy source on this machine")
    name, leader = next(iter(parts.items()))
    if leader.value is None:
        return unavailable(unit, f"{name}: {leader.note}")
    summed = {
        domain: part
        for domain, part in parts.items()
        if part.value is not None and (part.source == "model") == (leader.source == "model")
    }
    notes = [leader.note] if leader.note else []
    notes += [f"without {domain}: {part.note}" for domain, part in parts.items() if domain not in summed]
    whole = _sum(list(summed.values()), leader.source, "; ".join(notes) or None)
    return whole.model_copy(update={"parts": tuple(summed)})


def without(whole: Quantity, part: Quantity) -> Quantity:
    """Return one domain's energy in a time but for a part of it; unknown where either of them is."""
    if whole.value is None or part.value is None:
        return whole if whole.value is None else part
    rest = _sum([whole, part.model_copy(update={"value": -part.value})], whole.source, whole.note)
    return rest.model_copy(update={"parts": whole.parts})


def _parts(quantities: Mapping[str, Quantity]) -> dict[str, Quantity]:
    """Return those of `gpu`, `cpu` and `dram` that some meter has, `gpu` as the sum over devices."""
    parts = {domain: quantities[domain] for domain in ("cpu", "dram") if domain in quantities}
    devices = {domain: device for domain, device in quantities.items() if domain.startswith("gpu:")}
    return {"gpu": _gpu(devices)} | parts if devices else parts


def _gpu(devices: Mapping[str, Quantity]) -> Quantity:
    """Add devices up; where some of them have no counter, the sum is no better than their integrals."""
    for domain, device in devices.items():
        if device.value is None:
            return unavailable(device.unit, f"{domain.removeprefix('gpu:')}: {device.note}")
    sources = [device.source for device in devices.values()]
    source: Source = "nvml_power_integral" if "nvml_power_integral" in sources else sources[0]
    notes = dict.fromkeys(device.note for device in devices.values() if device.note)
    return _sum(list(devices.values()), source, "; ".join(notes) or None)


def _sum(addends: Sequence[Quantity], source: Source, note: str | None = None) -> Quantity:
    """Add values and, as the worst case, resolutions; None if one of these is not known."""
    values, resolutions = zip(*((addend.value, addend.resolution) for addend in addends), strict=True)
    return Quantity(
        value=sum(values),
        unit=addends[0].unit,
        source=source,
        resolution=None if None in resolutions else sum(resolutions),
        note=note,
    )

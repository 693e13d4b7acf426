"""The columns of results.csv about devices and idle power. Of several GPUs a column has the worst; JSON has each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pytest_llem.records import DeviceTrace, Idle, IdleKind, Measurement, Quantity
from pytest_llem.reporting.cells import Row, listed

KINDS: tuple[IdleKind, ...] = ("bare", "loaded")

Worst = Callable[[Sequence[float]], float]

_WORST: dict[str, Worst] = {
    "temperature_start_c": max,
    "temperature_end_c": max,
    "temperature_max_c": max,
    "sm_clock_mean_mhz": min,
    "memory_clock_mean_mhz": min,
    "throttle_share": max,
    "counter_integral_ratio": lambda ratios: max(ratios, key=lambda ratio: abs(ratio - 1)),
}
"""Which of several devices speaks for all: the hottest, the slowest, the one whose instruments agree least."""


def row(found: Measurement | None) -> Row:
    """Return the columns of one attempt."""
    devices = list(found.devices.values()) if found else []
    edges_s = found.energy_edges_s if found else {}
    return {
        "gpus": listed(domain.removeprefix("gpu:") for domain in edges_s if domain.startswith("gpu:")),
        **{name: _of_all(worst, name, devices) for name, worst in _WORST.items()},
        "throttle_reasons": listed(dict.fromkeys(_reasons(devices))),
        **_quantity("edge_idle", "j", found.edge_idle_j.get("total") if found else None),
        **_idle_powers(found.idle if found else {}),
    }


def _of_all(worst: Worst, name: str, devices: Iterable[DeviceTrace]) -> float | None:
    values = [value for device in devices if (value := getattr(device, name)) is not None]
    return worst(values) if values else None


def _reasons(devices: Iterable[DeviceTrace]) -> list[str]:
    return [reason for device in devices for reason in device.throttle_reasons]


def _idle_powers(idle: dict[IdleKind, Idle]) -> Row:
    found: dict[str, Any] = {}
    for kind in KINDS:
        power_w = idle[kind].power_w.get("total") if kind in idle else None
        found |= _quantity(f"{kind}_idle_power", "w", power_w)
    return found


def _quantity(name: str, unit: str, quantity: Quantity | None) -> Row:
    return {
        f"{name}_{unit}": quantity.value if quantity else None,
        f"{name}_source": quantity.source if quantity else None,
    }

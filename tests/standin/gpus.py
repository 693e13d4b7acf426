"""The devices that whole campaigns are measured on: sound ones, and one of each kind that goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from standin.build import Curve, Gpu, uuid
from standin.curves import burst, flat, noise, ramp, step

CURVES: dict[str, Curve] = {
    "flat": flat(250),
    "step": step(100, 400, 1.5),
    # So low that a trace which samples it once more or less each time is not 5 % off.
    "burst": burst(200, 450, 0.8, 1.1),
    "ramp": ramp(60, 500, 0.5, 2.5),
    "noise": noise(300, 60, 3.0),
}

TICKS_MS = {"flat": 200.0, "step": 70.0, "burst": 20.0, "ramp": 100.0, "noise": 50.0}

SOUND = {name: Gpu(power_w, period_s=3.0, tick_ms=TICKS_MS[name]) for name, power_w in CURVES.items()}


def of_all_kinds(happens_s: float) -> dict[str, Gpu]:
    """Return the sound devices and the others; one is reset and one lost at `happens_s` of the script."""
    return SOUND | {
        "lying": Gpu(flat(300), counter_factor=1.1),
        "no counter": Gpu(step(200, 300, 2.0), period_s=4.0, counter=False),
        "burst at an edge": Gpu(step(100, 600, 0.95), period_s=1.9, counter=False, instant=False),
        "reset": Gpu(flat(200), reset_after_s=happens_s),
        "lost": Gpu(flat(200), lost_after_s=happens_s),
    }


DOMAINS = {name: f"gpu:{uuid(index)}" for index, name in enumerate(of_all_kinds(0))}
"""The name of each in results."""


def unaligned_share(measurement: Mapping[str, Any]) -> float:
    """Return how much of a whole tick the edges of sound devices may be off, as the median of their resolutions.

    It is 1 where readings do not wait for a tick. The median, for a busy machine can miss the moment of one.
    """
    shares: list[float] = []
    for name, gpu in SOUND.items():
        energy = measurement["energy_j"][DOMAINS[name]]
        begin_s, end_s = measurement["energy_edges_s"][DOMAINS[name]]
        tick_j = gpu.tick_ms / 1000 * energy["value"] / (end_s - begin_s)
        shares.append(energy["resolution"] / tick_j)
    return median(shares)

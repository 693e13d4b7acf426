"""The devices that whole campaigns are measured on: sound ones, and one of each kind that goes wrong."""

from __future__ import annotations

from standin.build import Curve, Gpu, uuid
from standin.curves import burst, flat, noise, ramp, step

CURVES: dict[str, Curve] = {
    "flat": flat(250),
    "step": step(100, 400, 1.5),
    "burst": burst(100, 600, 0.8, 1.1),
    "ramp": ramp(60, 500, 0.5, 2.5),
    "noise": noise(300, 60, 3.0),
}

SOUND = {name: Gpu(power_w, period_s=3.0) for name, power_w in CURVES.items()}


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

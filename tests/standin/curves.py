"""Power curves for the stand-in, in steps short enough that no sensor tells them from smooth ones."""

from __future__ import annotations

import random

from standin.build import Curve


def flat(watts: float) -> Curve:
    return ((0.0, watts),)


def step(before_w: float, after_w: float, at_s: float) -> Curve:
    return ((0.0, before_w), (at_s, after_w))


def burst(base_w: float, burst_w: float, begin_s: float, end_s: float) -> Curve:
    return ((0.0, base_w), (begin_s, burst_w), (end_s, base_w))


def ramp(from_w: float, to_w: float, begin_s: float, end_s: float, step_s: float = 0.01) -> Curve:
    steps = round((end_s - begin_s) / step_s)
    rise_w = (to_w - from_w) / steps
    middle = [(begin_s + step_s * n, from_w + rise_w * (n + 0.5)) for n in range(steps)]
    return ((0.0, from_w), *middle, (end_s, to_w))


def noise(mean_w: float, spread_w: float, until_s: float, step_s: float = 0.02, seed: int = 0) -> Curve:
    """Return powers drawn evenly from mean_w ± spread_w, independent of each other."""
    draw = random.Random(seed)
    times_s = [step_s * n for n in range(round(until_s / step_s))]
    return tuple((at_s, draw.uniform(mean_w - spread_w, mean_w + spread_w)) for at_s in times_s)

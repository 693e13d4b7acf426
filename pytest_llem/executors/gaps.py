"""Waits between experiments: a time, or until the GPUs are as cool as at the start of the session."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from pytest_llem.campaign.schedule import Gap
from pytest_llem.executors.base import Observer
from pytest_llem.records import Cooling, ThermalGap

TICK_S = 1.0
"""How often a countdown is shown, and the temperatures are read."""

NO_TEMPERATURE = "execution.gap: no GPU here tells its temperature, so gaps are waited whole"

Temperatures = Mapping[str, float]
"""In degrees Celsius, by UUID; without the GPUs that do not tell theirs."""


class Waited(NamedTuple):
    """A gap that is over; `thermal` is None where nothing but the time was waited for."""

    seconds: float
    thermal: ThermalGap | None


class Gaps:
    """The waits of one session.

    Args:
        read: returns the temperatures of the slot's GPUs.
        observer: sees countdowns, and is told once if there is no temperature to wait for.
    """

    def __init__(self, read: Callable[[], Temperatures], observer: Observer) -> None:
        self._read = read
        self._observer = observer
        self._start_c: Temperatures | None = None
        self._has_told = False

    def note_start(self) -> None:
        """Take the temperatures of now for those that thermal gaps wait for, unless that was done before."""
        if self._start_c is None:
            self._start_c = self._read()

    def wait(self, gap: Gap) -> Waited:
        """Wait for a gap's time, or for less if it is thermal and the GPUs are cool."""
        begin_s = time.monotonic()
        thermal = None if gap.band_celsius is None else self._cool_down(gap, gap.band_celsius, begin_s)
        if thermal is None:
            while (left_s := _left_s(gap, begin_s)) > 0:
                self._tick(f"{gap.kind} gap", left_s)
        self._observer.waiting(f"{gap.kind} gap", 0.0)
        return Waited(time.monotonic() - begin_s, thermal)

    def _cool_down(self, gap: Gap, band_celsius: float, begin_s: float) -> ThermalGap | None:
        """Wait until no GPU is more than the band above its start; None where none tells its temperature."""
        self.note_start()
        before_c = self._read()
        start_c = {uuid: celsius for uuid, celsius in (self._start_c or {}).items() if uuid in before_c}
        if not start_c:
            self._tell_once()
            return None
        goals_c = {uuid: celsius + band_celsius for uuid, celsius in start_c.items()}
        now_c: Temperatures = before_c
        while (warmest := _warmest(now_c, goals_c)) and (left_s := _left_s(gap, begin_s)) > 0:
            self._tick(f"{gap.kind} gap, {warmest}", left_s)
            now_c = self._read()
        devices = {
            uuid: Cooling(start_c=celsius, before_c=before_c[uuid], after_c=now_c.get(uuid))
            for uuid, celsius in start_c.items()
        }
        return ThermalGap(reached=warmest is None, devices=devices)

    def _tick(self, what: str, left_s: float) -> None:
        self._observer.waiting(what, left_s)
        time.sleep(min(left_s, TICK_S))

    def _tell_once(self) -> None:
        if not self._has_told:
            self._has_told = True
            self._observer.note(NO_TEMPERATURE)


def _left_s(gap: Gap, begin_s: float) -> float:
    return gap.seconds - (time.monotonic() - begin_s)


def _warmest(now_c: Temperatures, goals_c: Temperatures) -> str | None:
    """Return the GPU that is furthest above its goal, with both; None when all are there."""
    above_c = {uuid: now_c.get(uuid, math.inf) - goal for uuid, goal in goals_c.items()}
    uuid = max(above_c, key=lambda uuid: above_c[uuid])
    if above_c[uuid] <= 0:
        return None
    now = f"{now_c[uuid]:.0f} °C" if uuid in now_c else "temperature unknown"
    return f"{uuid} {now} -> {goals_c[uuid]:.0f} °C"

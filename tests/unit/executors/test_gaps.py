"""Gaps of a time, and gaps until GPUs are cool, with scripted temperatures."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_llem.campaign.schedule import Gap
from pytest_llem.executors import gaps
from pytest_llem.executors.gaps import NO_TEMPERATURE, Gaps, Temperatures
from pytest_llem.records import Cooling, ThermalGap

HOUR = Gap("config", 3600.0, band_celsius=2.0)
BLINK = Gap("config", 0.05, band_celsius=2.0)


class Log:
    """Takes what an observer is told."""

    def __init__(self) -> None:
        self.waits: list[str] = []
        self.notes: list[str] = []

    def waiting(self, what: str, left_s: float) -> None:
        self.waits.append(what if left_s else "")

    def phase(self, what: str, phase: str) -> None:
        pass

    def note(self, line: str) -> None:
        self.notes.append(line)


def scripted(monkeypatch: pytest.MonkeyPatch, *readings: Temperatures) -> tuple[Gaps, Log]:
    """Return gaps that read these temperatures, the first at the start; the last one stays."""
    monkeypatch.setattr(gaps, "TICK_S", 0.001)
    left: Sequence[Temperatures] = list(readings)

    def read() -> Temperatures:
        nonlocal left
        now, left = left[0], left[1:] or left
        return now

    log = Log()
    waits = Gaps(read, log)
    waits.note_start()
    return waits, log


def test_a_gap_ends_when_every_device_is_within_the_band(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with the last device, and shows the one that is furthest away."""
    start = {"GPU-a": 40.0, "GPU-b": 50.0}
    hot, half, cool = (
        {"GPU-a": 60.0, "GPU-b": 60.0},
        {"GPU-a": 42.0, "GPU-b": 53.0},
        {"GPU-a": 42.0, "GPU-b": 52.0},
    )
    waits, log = scripted(monkeypatch, start, hot, half, cool)
    waited = waits.wait(HOUR)
    assert waited.seconds < HOUR.seconds
    assert waited.thermal == ThermalGap(
        reached=True,
        devices={
            "GPU-a": Cooling(start_c=40, before_c=60, after_c=42),
            "GPU-b": Cooling(start_c=50, before_c=60, after_c=52),
        },
    )
    assert log.waits == ["config gap, GPU-a 60 °C -> 42 °C", "config gap, GPU-b 53 °C -> 52 °C", ""]


def test_a_device_that_is_colder_than_at_the_start_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting would make it colder still."""
    waits, _ = scripted(monkeypatch, {"GPU-a": 40.0}, {"GPU-a": 30.0})
    waited = waits.wait(HOUR)
    assert waited.thermal == ThermalGap(
        reached=True, devices={"GPU-a": Cooling(start_c=40, before_c=30, after_c=30)}
    )


def test_a_gap_is_waited_whole_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that stays hot ends the wait at the gap's time, and the result says that it is hot."""
    waits, _ = scripted(monkeypatch, {"GPU-a": 40.0}, {"GPU-a": 60.0})
    waited = waits.wait(BLINK)
    assert waited.seconds >= BLINK.seconds
    assert waited.thermal == ThermalGap(
        reached=False, devices={"GPU-a": Cooling(start_c=40, before_c=60, after_c=60)}
    )


def test_a_device_that_falls_silent_is_not_called_cool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its temperature is unknown, so the gap is waited whole."""
    waits, log = scripted(monkeypatch, {"GPU-a": 40.0}, {"GPU-a": 60.0}, {})
    waited = waits.wait(BLINK)
    assert waited.seconds >= BLINK.seconds
    assert waited.thermal == ThermalGap(
        reached=False, devices={"GPU-a": Cooling(start_c=40, before_c=60, after_c=None)}
    )
    assert "config gap, GPU-a temperature unknown -> 42 °C" in log.waits


def test_without_temperatures_that_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every gap is waited whole; the note comes with the first one."""
    waits, log = scripted(monkeypatch, {})
    for _ in range(2):
        waited = waits.wait(BLINK)
        assert waited.seconds >= BLINK.seconds
        assert waited.thermal is None
    assert log.notes == [NO_TEMPERATURE]


def test_a_fixed_gap_reads_no_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is waited, however hot the device is."""
    waits, log = scripted(monkeypatch, {"GPU-a": 40.0}, {"GPU-a": 60.0})
    waited = waits.wait(Gap("cycle", 0.01))
    assert waited.seconds >= 0.01
    assert waited.thermal is None
    assert set(log.waits) == {"cycle gap", ""}

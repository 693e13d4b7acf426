"""Idle power: when it is measured, what it is, and what is counted with it."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from runs import rows
from scripted import Session
from standin.build import Gpu, uuid
from standin.curves import ramp

RISING = Gpu(ramp(50, 2050, 0, 100, step_s=0.1))
"""20 W more each second: a power says when it was measured."""

DOMAIN = f"gpu:{uuid(0)}"

WITH_IDLE = ("defaults.baseline.enabled=true", "defaults.baseline.duration_sec=0.6")


@pytest.fixture(scope="module")
def rising(tmp_path_factory: pytest.TempPathFactory, nvml: Path) -> Session:
    """Three cycles with a launch each."""
    settings = (*WITH_IDLE, "execution.cycles=3", "defaults.abacus.load_s=0.3", "window.seconds=0.5")
    return Session(tmp_path_factory.mktemp("rising"), nvml, [RISING], *settings)


def mean_power_w(session: Session, idle: dict[str, Any]) -> float:
    """Return the mean of the curve in the time for which an idle power says that it was measured."""
    behind_s = time.time() - time.monotonic()
    begin_s = datetime.fromisoformat(idle["measured_at"]).timestamp() - behind_s - session.epoch_s
    seconds = float(idle["seconds"])
    return RISING.energy_j(begin_s, begin_s + seconds) / seconds


@pytest.mark.key("defaults.baseline.enabled")
def test_idle_powers_are_those_of_their_time(rising: Session, tmp_path: Path, nvml: Path) -> None:
    """Bare and loaded idle power are the device's in their time; without `baseline.enabled` there are none."""
    idle = rising.results[0]["measurement"]["idle"]
    for kind in ("bare", "loaded"):
        power = idle[kind]["power_w"][DOMAIN]
        assert power["source"] == "nvml_counter"
        assert power["value"] == pytest.approx(mean_power_w(rising, idle[kind]), abs=20)
    without = Session(tmp_path, nvml, [Gpu()])
    assert without.measurement["idle"] == {}
    assert "baseline.enabled is false" in without.measurement["metrics"]["energy_above_bare_idle_j"]["note"]


def test_the_machine_is_bare_before_the_load_and_loaded_after_it(rising: Session) -> None:
    """Bare idle ends before the engine starts, loaded idle begins when it is loaded and ends before the window."""
    first = rising.results[0]["measurement"]
    bare, loaded = (
        datetime.fromisoformat(first["idle"][kind]["measured_at"]).timestamp() for kind in ("bare", "loaded")
    )
    began = datetime.fromisoformat(rising.results[0]["started_at"]).timestamp()
    assert began < bare + 0.6 < loaded - 0.3
    window_begins = first["energy_edges_s"][DOMAIN][0] + time.time() - time.monotonic()
    assert loaded + 0.6 <= window_begins + 0.1


@pytest.mark.key("defaults.baseline.duration_sec", "defaults.baseline.cache_ttl_sec")
def test_an_idle_power_is_measured_once_while_it_is_believed(
    rising: Session, tmp_path: Path, nvml: Path
) -> None:
    """All cycles count with the first; with a `cache_ttl_sec` of 0 each launch measures, for `duration_sec`."""
    assert len({str(result["measurement"]["idle"]) for result in rising.results}) == 1
    settings = (*WITH_IDLE, "execution.cycles=2", "defaults.baseline.cache_ttl_sec=0")
    anew = Session(tmp_path, nvml, [RISING], *settings, "defaults.baseline.duration_sec=0.3")
    for kind in ("bare", "loaded"):
        found = [result["measurement"]["idle"][kind] for result in anew.results]
        assert len({idle["measured_at"] for idle in found}) == 2
        assert {idle["seconds"] for idle in found} == {0.3}


def test_a_bare_idle_power_that_is_too_old_counts_no_more(tmp_path: Path, nvml: Path) -> None:
    """While a launch goes on the machine is not bare: what it drew then is not known any more, and that is said."""
    settings = (*WITH_IDLE, "execution.cycles=2", "execution.recycle_cycles=0")
    session = Session(tmp_path, nvml, [RISING], *settings, "defaults.baseline.cache_ttl_sec=0")
    first, second = (result["measurement"] for result in session.results)
    assert first["launch"]["id"] == second["launch"]["id"]
    assert (first["idle"].keys(), second["idle"].keys()) == ({"bare", "loaded"}, {"loaded"})
    above = second["metrics"]["energy_above_bare_idle_j"]
    assert above["value"] is None
    assert "too old (baseline.cache_ttl_sec: 0)" in above["note"]
    assert second["metrics"]["energy_above_loaded_idle_j"]["value"] is not None


def test_a_continued_run_believes_what_it_measured(tmp_path: Path, nvml: Path) -> None:
    """`--lf` measures no idle power again, neither bare nor loaded."""
    first = Session(tmp_path, nvml, [RISING], *WITH_IDLE)
    known = first.measurement["idle"]
    settings = (*WITH_IDLE, "execution.cycles=2")
    later = Session(tmp_path, nvml, [RISING], *settings, options=["--lf"])
    assert [result["measurement"]["idle"] for result in later.results] == [known, known]


def test_energy_above_idle_is_what_is_left_of_the_gross_energy(rising: Session) -> None:
    """Gross energy is without the idle edges; above idle it is less the idle power x the time of the work."""
    for result in rising.results:
        found = result["measurement"]
        energy, edges = found["energy_j"]["total"], found["edge_idle_j"]["total"]
        begin_s, end_s = found["energy_edges_s"][DOMAIN]
        counted_j = RISING.energy_j(begin_s - rising.epoch_s, end_s - rising.epoch_s)
        assert energy["value"] + edges["value"] == pytest.approx(counted_j, rel=0.05)
        assert 0 < edges["value"] < 0.5 * energy["value"]
        for kind in ("bare", "loaded"):
            above = found["metrics"][f"energy_above_{kind}_idle_j"]
            power_w = found["idle"][kind]["power_w"]["total"]["value"]
            assert above["value"] == pytest.approx(energy["value"] - power_w * found["window_s"])
            assert above["source"] == "nvml_counter"


def test_a_row_has_the_idle_powers(rising: Session) -> None:
    """results.csv has both idle powers, the energy above them and that of the edges, with their sources."""
    for row, result in zip(rows(rising.folder), rising.results, strict=True):
        found = result["measurement"]
        assert float(row["bare_idle_power_w"]) == found["idle"]["bare"]["power_w"]["total"]["value"]
        assert float(row["edge_idle_j"]) == found["edge_idle_j"]["total"]["value"]
        assert row["loaded_idle_power_source"] == row["energy_above_loaded_idle_j_source"] == "nvml_counter"


def test_energy_above_idle_may_be_negative(tmp_path: Path, nvml: Path) -> None:
    """A device that draws less at work than idle has a negative energy above idle, with a linear interval."""
    falling = Gpu(ramp(2050, 50, 0, 60, step_s=0.1))
    settings = (*WITH_IDLE, "execution.cycles=3", "window.seconds=0.3")
    session = Session(tmp_path, nvml, [falling], *settings)
    for result in session.results:
        assert result["measurement"]["metrics"]["energy_above_bare_idle_j"]["value"] < 0
    (summary,) = rows(tmp_path, "summary.csv")
    assert float(summary["energy_above_bare_idle_j_low"]) < float(summary["energy_above_bare_idle_j"]) < 0


def test_without_an_instrument_nothing_is_waited_for(tmp_path: Path, nvml: Path) -> None:
    """Where energy is modelled, an idle power of 1000 s is not measured, and the metric says why."""
    settings = (WITH_IDLE[0], "defaults.baseline.duration_sec=1000", "window.seconds=2")
    session = Session(tmp_path, nvml, [], *settings)
    assert session.measurement["idle"] == {}
    above = session.measurement["metrics"]["energy_above_loaded_idle_j"]
    assert (above["value"], above["source"]) == (None, "unavailable")
    assert "no instrument measures energy here" in above["note"]

"""Whole campaigns on scripted GPUs: the energy of a result is that of the power curve between the edges it reports."""

from __future__ import annotations

from operator import truediv
from pathlib import Path
from typing import Any

import pytest

from runs import flags_of_meters, rows
from scripted import Session
from standin.build import Gpu, uuid
from standin.curves import flat
from standin.gpus import DOMAINS, SOUND, of_all_kinds, unaligned_share

HAPPENS_S = 8.0
"""When a device is lost or reset, in seconds of the script: some seconds into a long window."""

GPUS = of_all_kinds(HAPPENS_S)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory, nvml: Path) -> Session:
    """A window of 10 s on one device of each kind."""
    return Session(tmp_path_factory.mktemp("long"), nvml, list(GPUS.values()), "window.seconds=10")


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, nvml: Path) -> Session:
    """A window of 2 s on sound devices."""
    return Session(tmp_path_factory.mktemp("short"), nvml, list(SOUND.values()), "window.seconds=2")


def assert_within(energy: dict[str, Any], truth_j: float, share: float) -> None:
    """Assert that a value is within a share of the truth, or where the machine was too busy, within its resolution."""
    assert energy["value"] == pytest.approx(truth_j, abs=max(share * truth_j, energy["resolution"]))


@pytest.mark.parametrize("name", SOUND)
def test_a_counter_gives_the_energy_of_the_curve(long: Session, short: Session, name: str) -> None:
    """The energy of a result is within 0.5 % of the integral over 10 s, and within 1 % over 2 s."""
    domain = DOMAINS[name]
    for session, share in ((long, 0.005), (short, 0.01)):
        energy = session.measurement["energy_j"][domain]
        assert energy["source"] == "nvml_counter"
        assert_within(energy, session.truth_j(SOUND[name], domain), share)


def test_energy_runs_from_tick_to_tick(long: Session, short: Session) -> None:
    """Counters are read just after they ticked: what is left of the error is less than half of a tick's energy."""
    for session in (long, short):
        assert unaligned_share(session.measurement) < 0.5


def test_a_gpu_without_a_counter_is_measured_by_its_power(long: Session) -> None:
    """Where the counter is not supported the integral of the power is within 2 % over 10 s, and says why."""
    energy = long.measurement["energy_j"][DOMAINS["no counter"]]
    assert energy["source"] == "nvml_power_integral"
    assert "no energy counter" in energy["note"]
    assert_within(energy, long.truth_j(GPUS["no counter"], DOMAINS["no counter"]), 0.02)


@pytest.mark.parametrize(("name", "reason"), [("reset", "reset"), ("lost", "GPU is lost")])
def test_a_failed_counter_leaves_no_number(long: Session, name: str, reason: str) -> None:
    """A device that is reset or lost inside the window has no energy, and none of the sums has any."""
    energy_j = long.measurement["energy_j"]
    assert energy_j[DOMAINS[name]]["value"] is None
    assert reason in energy_j[DOMAINS[name]]["note"]
    assert {energy_j[domain]["value"] for domain in ("gpu", "total")} == {None}
    assert long.measurement["metrics"]["energy_per_output_token_j"]["value"] is None


def test_the_window_is_flagged(long: Session, short: Session) -> None:
    """What went wrong stands in the flags of the result; where nothing did, they are empty."""
    assert flags_of_meters(long.measurement) == {
        "counter_integral_disagree",
        "counter_reset",
        "device_lost",
        "power_integral_edge",
    }
    assert flags_of_meters(short.measurement) == set()


def test_a_counter_that_lies_is_found_out(long: Session) -> None:
    """A counter that counts 10 % too much disagrees with the power by that much; the others agree within 5 %."""
    ratios = {
        name: long.measurement["devices"][domain]["counter_integral_ratio"]
        for name, domain in DOMAINS.items()
    }
    assert ratios["lying"] == pytest.approx(1.1, rel=0.02)
    assert {name: ratios[name] for name in SOUND} == pytest.approx(dict.fromkeys(SOUND, 1), rel=0.05)


def test_a_total_is_the_sum_over_devices(short: Session) -> None:
    """Total energy and mean power are those of all devices together, and the peak is the highest sum of powers."""
    found = short.measurement
    domains = [DOMAINS[name] for name in SOUND]
    energies = [found["energy_j"][domain]["value"] for domain in domains]
    lasts_s = [end_s - begin_s for begin_s, end_s in map(found["energy_edges_s"].get, domains)]
    assert found["energy_j"]["total"]["value"] == pytest.approx(sum(energies))
    mean = found["metrics"]["power_mean_w"]
    assert mean["source"] == "nvml_counter"
    assert mean["value"] == pytest.approx(sum(map(truediv, energies, lasts_s)))
    peak = found["metrics"]["power_peak_w"]
    assert peak["source"] == "nvml_sensor"
    assert mean["value"] < peak["value"] <= sum(max(w for _, w in gpu.power_w) for gpu in SOUND.values())


def test_an_experiment_whose_device_is_lost_fails_where_energy_is_required(
    tmp_path: Path, nvml: Path
) -> None:
    """With `--campaign-require measured` it is `not_measured`, keeps its measurement, and the session fails."""
    gone = Gpu(flat(200), lost_after_s=0.0)
    session = Session(tmp_path, nvml, [gone], options=["--campaign-require=measured"])
    assert session.done.returncode == pytest.ExitCode.TESTS_FAILED
    assert session.result["failure"]["kind"] == "not_measured"
    assert "GPU is lost" in session.result["failure"]["message"]
    assert session.measurement["output_tokens"] > 0


def test_a_row_says_how_the_devices_were(short: Session) -> None:
    """results.csv has devices, temperatures, clocks, throttling, ratio and trace of an experiment."""
    (row,) = rows(short.folder)
    assert row["gpus"] == "; ".join(uuid(index) for index in range(len(SOUND)))
    assert (row["temperature_start_c"], row["temperature_end_c"], row["temperature_max_c"]) == ("40.0",) * 3
    assert (float(row["sm_clock_mean_mhz"]), float(row["throttle_share"])) == (1500, 0)
    assert float(row["counter_integral_ratio"]) == pytest.approx(1, abs=0.2)
    assert row["trace"] == short.result["trace"]

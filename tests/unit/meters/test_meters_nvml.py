from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from standin.build import DRIVER_NOT_LOADED, VERSION_MISMATCH, Gpu, uuid

FIRST, SECOND = f"gpu:{uuid(0)}", f"gpu:{uuid(1)}"

MEASURE = """
    meter = nvml.open_meter()
    meter.check_counters()
    begin = meter.read(at_tick=True)
    time.sleep(0.6)
    end = meter.read(at_tick=True)
    show(begin=begin, end=end, energy=meter.between(begin, end), epoch_s=epoch_s())
"""

REPORT = """
    meter = nvml.open_meter()
    meter.check_counters()
    reading = meter.read()
    show(energy=meter.between(reading, reading), described=meter.describe())
"""


def edges_s(shown: dict[str, Any], domain: str) -> tuple[float, float]:
    """Return begin and end of a device's window, in seconds of the script."""
    begin, end = (shown[edge]["at_s_by_domain"][domain] - shown["epoch_s"] for edge in ("begin", "end"))
    return begin, end


@pytest.mark.parametrize(
    "gpu",
    [
        Gpu(power_w=((0.0, 300.0),), tick_ms=100),
        Gpu(power_w=((0.0, 200.0), (0.5, 400.0)), tick_ms=50),
    ],
    ids=["flat", "step"],
)
def test_an_aligned_window_holds_the_energy_between_its_two_ticks(play: Any, gpu: Gpu) -> None:
    """Between two readings at ticks, the energy is the integral of the power between these ticks."""
    shown = play(MEASURE, gpu)
    begin_s, end_s = (gpu.nearest_tick_s(edge_s) for edge_s in edges_s(shown, FIRST))
    energy = shown["energy"][FIRST]
    assert energy["value"] == pytest.approx(gpu.energy_j(begin_s, end_s), rel=0.005)
    assert (energy["unit"], energy["source"]) == ("J", "nvml_counter")


def test_each_device_is_aligned_to_its_own_tick(play: Any) -> None:
    """Two devices whose counters tick at different rates are each right over their own window."""
    gpus = Gpu(power_w=((0.0, 100.0),), tick_ms=70), Gpu(power_w=((0.0, 500.0),), tick_ms=110)
    shown = play(MEASURE, *gpus)
    for domain, gpu in zip((FIRST, SECOND), gpus, strict=True):
        begin_s, end_s = (gpu.nearest_tick_s(edge_s) for edge_s in edges_s(shown, domain))
        assert shown["energy"][domain]["value"] == pytest.approx(gpu.energy_j(begin_s, end_s), rel=0.005)


def test_the_error_of_an_aligned_window_is_within_its_resolution(play: Any) -> None:
    """An aligned window differs from the true energy between its readings by no more than its resolution."""
    gpu = Gpu(tick_ms=20)
    shown = play(MEASURE, gpu)
    energy = shown["energy"][FIRST]
    error_j = abs(energy["value"] - gpu.energy_j(*edges_s(shown, FIRST)))
    assert error_j <= 1.05 * energy["resolution"]


def test_the_resolution_of_an_unaligned_window_is_one_tick(play: Any) -> None:
    """Readings that did not wait say that they may be wrong by the energy of a tick."""
    shown = play(
        """
        meter = nvml.open_meter()
        meter.check_counters()
        begin = meter.read()
        time.sleep(0.3)
        show(energy=meter.between(begin, meter.read()))
        """,
        Gpu(power_w=((0.0, 300.0),), tick_ms=100),
    )
    assert 15 < shown["energy"][FIRST]["resolution"] < 90  # a tick is 30 J; a busy machine sees it late


def test_a_window_shorter_than_a_tick_is_unavailable(play: Any) -> None:
    """Two readings inside one tick give no number, where a difference would be 0 J."""
    shown = play(
        """
        meter = nvml.open_meter()
        show(energy=meter.between(meter.read(), meter.read()))
        """,
        Gpu(tick_ms=5000),
    )
    assert shown["energy"][FIRST]["value"] is None
    assert "did not move" in shown["energy"][FIRST]["note"]


@pytest.mark.parametrize(
    ("gpu", "reason"),
    [
        (Gpu(mig=True), "MIG is enabled"),
        (Gpu(counter=False), "no energy counter on this device"),
        (Gpu(power_w=((0.0, 0.0),)), "did not rise within 2 s"),
        (Gpu(lost_after_s=0.0), "GPU is lost"),
    ],
    ids=["mig", "unsupported", "stuck", "lost"],
)
def test_a_counter_that_cannot_be_used_is_unavailable_with_the_reason(
    play: Any, gpu: Gpu, reason: str
) -> None:
    """The check before a run makes a device without a working counter unavailable and says why."""
    shown = play(REPORT, gpu)
    energy = shown["energy"][FIRST]
    assert (energy["value"], energy["source"]) == (None, "unavailable")
    assert reason in energy["note"]
    assert reason in shown["described"]


def test_one_bad_device_leaves_the_others_measured(play: Any) -> None:
    """A device in MIG mode is unavailable while its neighbour is measured."""
    shown = play(MEASURE, Gpu(mig=True), Gpu())
    assert shown["energy"][FIRST]["value"] is None
    assert shown["energy"][SECOND]["value"] > 0


@pytest.mark.parametrize("at_tick", [False, True])
def test_a_device_lost_inside_the_window_is_unavailable(play: Any, *, at_tick: bool) -> None:
    """A counter that can no longer be read gives the driver's reason and no number."""
    shown = play(
        f"""
        meter = nvml.open_meter()
        begin = meter.read()
        while not (end := meter.read(at_tick={at_tick})).errors:
            pass
        show(energy=meter.between(begin, end))
        """,
        Gpu(lost_after_s=0.5),
    )
    assert shown["energy"][FIRST]["value"] is None
    assert "GPU is lost" in shown["energy"][FIRST]["note"]


def test_a_counter_that_falls_is_unavailable(play: Any) -> None:
    """A reset inside the window gives the reason, never the wrong difference."""
    shown = play(
        """
        meter = nvml.open_meter()
        begin = meter.read()
        energy_j = lambda reading: sum(reading.energy_j.values())
        while energy_j(end := meter.read()) >= energy_j(begin):
            time.sleep(0.01)
        show(energy=meter.between(begin, end))
        """,
        Gpu(reset_after_s=0.4),
    )
    assert shown["energy"][FIRST]["value"] is None
    assert "reset" in shown["energy"][FIRST]["note"]


@pytest.mark.parametrize("name", ["1", uuid(1)])
def test_devices_are_chosen_by_index_or_uuid(play: Any, name: str) -> None:
    """An index and a UUID open the same device, whose domain is its UUID."""
    shown = play(f"show(domains=list(nvml.open_meter([{name!r}]).read().energy_j))", Gpu(), Gpu())
    assert shown["domains"] == [SECOND]


@pytest.mark.parametrize("name", ["2", "GPU-of-another-machine"])
def test_a_device_that_is_not_there_is_refused(play: Any, name: str) -> None:
    """A device that the machine does not have is an error that names it."""
    shown = play(
        f"""
        try:
            nvml.open_meter([{name!r}])
        except ValueError as error:
            show(error=str(error))
        """,
        Gpu(),
        Gpu(),
    )
    assert repr(name) in shown["error"]


def test_a_mig_partition_is_unavailable(play: Any) -> None:
    """A partition named by its own UUID is unavailable, since the counter is that of the whole GPU."""
    shown = play(
        """
        meter = nvml.open_meter(["MIG-1"])
        show(errors=meter.read().errors)
        """,
        Gpu(mig=True),
    )
    assert "MIG partition" in shown["errors"]["gpu:MIG-1"]


@pytest.mark.parametrize(
    ("init", "gpus"), [(0, ()), (DRIVER_NOT_LOADED, (Gpu(),))], ids=["none", "no driver"]
)
def test_a_machine_without_devices_has_no_meter(play: Any, init: int, gpus: tuple[Gpu, ...]) -> None:
    """Without a device, or without its driver, there is no meter and no error."""
    assert play("show(meter=nvml.open_meter())", *gpus, init=init) == {"meter": None}


def test_a_machine_without_the_library_has_no_meter(play: Any, tmp_path: Path) -> None:
    """Where NVML cannot be loaded there is no meter and no error."""
    (tmp_path / "libnvidia-ml.so.1").touch()
    assert play("show(meter=nvml.open_meter())", LD_LIBRARY_PATH=str(tmp_path)) == {"meter": None}


def test_no_devices_asked_for_means_no_meter(play: Any) -> None:
    """An empty list of devices, as for a run on the CPU, opens nothing."""
    assert play("show(meter=nvml.open_meter([]))", Gpu()) == {"meter": None}


def test_a_driver_that_does_not_answer_is_heard(play: Any) -> None:
    """A driver that refuses is an unavailable domain with the reason, not a machine without GPUs."""
    shown = play("show(errors=nvml.open_meter().read().errors)", Gpu(), init=VERSION_MISMATCH)
    assert "version mismatch" in shown["errors"]["gpu:all"]

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.meters.choose import Meters, open_meters
from pytest_llem.meters.sums import total, without
from pytest_llem.records import Quantity, unavailable
from standin.build import Gpu, uuid, write_zone

MEASURE = """
    counter = Path({counter!r})
    meters = choose.Meters(choose.open_meters(engine_pids=list))
    begin = meters.read(at_tick=True)
    counter.write_text("8000000")
    end = meters.read(at_tick=True)
    show(**meters.between(begin, end), described=meters.describe())
"""


def joules(value: float, source: Any = "nvml_counter", resolution: float | None = 0.5) -> Quantity:
    return Quantity(value=value, unit="J", source=source, resolution=resolution)


def test_gpu_cpu_and_total_are_sums_of_what_was_measured(play: Any, tmp_path: Path) -> None:
    """On a machine with GPUs and RAPL, `gpu` sums the devices and `total` adds the CPU, and says so."""
    counter = write_zone(tmp_path / "intel-rapl" / "intel-rapl:0", "package-0", 1_000_000)
    shown = play(MEASURE.format(counter=str(counter)), Gpu(), Gpu(), LLEM_POWERCAP_ROOT=str(tmp_path))
    devices = [shown[f"gpu:{uuid(index)}"]["value"] for index in (0, 1)]
    assert shown["gpu"]["value"] == pytest.approx(sum(devices))
    assert shown["cpu"]["value"] == 7.0
    assert shown["total"]["value"] == pytest.approx(sum(devices) + 7.0)
    assert (shown["total"]["source"], shown["total"]["parts"]) == ("nvml_counter", ["gpu", "cpu"])
    assert shown["dram"]["note"] == "no RAPL counter for DRAM on this machine"
    assert [line.split(":")[0] for line in shown["described"]] == ["nvml_counter", "rapl"]


def test_the_model_never_stands_beside_a_gpu(play: Any, tmp_path: Path) -> None:
    """Where a GPU was found, even one that cannot be measured, nothing is modelled."""
    shown = play(
        MEASURE.format(counter=str(tmp_path / "unused")), Gpu(mig=True), LLEM_POWERCAP_ROOT=str(tmp_path)
    )
    assert {shown[domain]["source"] for domain in ("total", "gpu", "cpu", "dram")} == {"unavailable"}
    assert "MIG is enabled" in shown["total"]["note"]


def test_rapl_alone_gives_cpu_and_dram(tmp_path: Path) -> None:
    """Without GPUs the total is that of the CPU packages and their DRAM, from RAPL."""
    zone = tmp_path / "intel-rapl" / "intel-rapl:0"
    counters = write_zone(zone, "package-0", 0), write_zone(zone / "intel-rapl:0:0", "dram", 0)
    meters = Meters(open_meters(devices=[], powercap_root=tmp_path, engine_pids=list))
    begin = meters.read()
    for counter in counters:
        counter.write_text("2000000")
    energy = meters.between(begin, meters.read())
    meters.close()
    assert (energy["total"].value, energy["total"].source, energy["total"].parts) == (
        4.0,
        "rapl",
        ("cpu", "dram"),
    )
    assert energy["gpu"] == unavailable("J", "no NVIDIA GPU is measured here")


def test_a_machine_without_counters_is_modelled_and_says_why(tmp_path: Path) -> None:
    """The model stands in where RAPL cannot be read, and its note names itself and that reason."""
    counter = write_zone(tmp_path / "intel-rapl" / "intel-rapl:0", "package-0", 0)
    counter.unlink()
    counter.symlink_to("nowhere")
    (meter,) = open_meters(devices=[], powercap_root=tmp_path, engine_pids=list)
    assert meter.source == "model"
    assert "modelled" in meter.describe()
    assert "No such file" in meter.describe()


def test_no_meters_at_all_make_everything_unavailable() -> None:
    """Without any meter the headline is unavailable and says why."""
    energy = Meters([]).between((), ())
    assert energy["total"] == unavailable("J", "no energy source on this machine")
    assert {quantity.value for quantity in energy.values()} == {None}


def test_a_part_of_a_time_is_taken_out_if_both_are_known() -> None:
    """What is left of a time has its energy, resolutions added as the worst case; without either there is none."""
    lost = unavailable("J", "GPU is lost")
    assert without(joules(5), joules(3)) == joules(2, resolution=1.0)
    assert without(total({"cpu": joules(5)}), total({"cpu": joules(3)})).parts == ("cpu",)
    assert without(joules(5), lost) == without(lost, joules(5)) == lost


def test_a_gpu_without_a_value_leaves_no_total() -> None:
    """The CPU's energy alone is not passed off as that of a machine with GPUs."""
    lost = {"gpu:a": joules(5), "gpu:b": unavailable("J", "GPU is lost"), "cpu": joules(3, "rapl")}
    assert total(lost) == unavailable("J", "gpu: b: GPU is lost")


def test_a_missing_follower_is_named() -> None:
    """A total without the CPU has the GPU as its one part, and says that the CPU is missing, and why."""
    partly = {"gpu:a": joules(5), "cpu": unavailable("J", "no permission")}
    named = {"parts": ("gpu",), "note": "without cpu: no permission"}
    assert total(partly) == joules(5).model_copy(update=named)


def test_modelled_energy_is_never_added_to_measured_energy() -> None:
    """A modelled CPU beside a measured GPU is left out of the sum."""
    model = Quantity(value=3.0, unit="J", source="model", note="modelled: guess")
    mixed = total({"gpu:a": joules(5), "cpu": model})
    assert (mixed.value, mixed.parts) == (5.0, ("gpu",))
    assert mixed.note == "without cpu: modelled: guess"
    assert total({"cpu": model}) == model.model_copy(update={"parts": ("cpu",)})


energies = st.floats(0.001, 1e9)


@given(devices=st.lists(energies, max_size=8), cpu=st.none() | energies, dram=st.none() | energies)
def test_a_total_is_the_sum_of_its_parts(devices: list[float], cpu: float | None, dram: float | None) -> None:
    """Whatever is measured is in the total once, and the resolution of the total is the worst case."""
    parts = {f"gpu:{index}": joules(value) for index, value in enumerate(devices)}
    parts |= {name: joules(value, "rapl") for name, value in (("cpu", cpu), ("dram", dram)) if value}
    headline = total(parts)
    if not parts:
        assert headline.value is None
        return
    assert headline.value == pytest.approx(sum(part.value or 0 for part in parts.values()))
    assert headline.resolution == pytest.approx(0.5 * len(parts))
    assert headline.source == ("nvml_counter" if devices else "rapl")


def test_a_sum_is_no_better_than_its_weakest_source() -> None:
    """Where one of several GPUs has no counter, the sum is a power integral, and its note says why."""
    integral = joules(3, "nvml_power_integral").model_copy(update={"note": "no energy counter"})
    mixed = total({"gpu:a": joules(5), "gpu:b": integral})
    assert (mixed.value, mixed.source) == (8.0, "nvml_power_integral")
    assert mixed.note == "no energy counter"


def test_an_unknown_resolution_is_not_passed_off_as_known() -> None:
    """If one part does not know its resolution, the total does not either."""
    assert total({"gpu:a": joules(5), "cpu": joules(3, "rapl", resolution=None)}).resolution is None

"""What GPUs are, as the unmodified binding reads it from the stand-in for NVIDIA's library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_llem.meters.inventory import FACTS
from standin.build import DRIVER_NOT_LOADED, Gpu, facts, uuid

FORMATS = Path(__file__).parents[3] / "docs" / "formats.md"

TAKE = """
    from pytest_llem.meters import inventory
    show(taken=inventory.take()._asdict())
"""

MACHINE = {"driver": "550.54.14", "cuda": 12040}
DEVICE = {
    "vbios": "96.00.74.00.01",
    "power_limit_mw": 500000,
    "default_power_limit_mw": 700000,
    "enforced_power_limit_mw": 500000,
    "max_sm_mhz": 1980,
    "max_memory_mhz": 2619,
    "ecc": 1,
    "persistence": 0,
    "compute_mode": 3,
    "pcie_generation": 1,
    "max_pcie_generation": 5,
    "pcie_width": 16,
}


def test_a_gpu_is_described(play: Any, tmp_path: Path) -> None:
    """The inventory has what NVML tells, in units with names; what the library has no function for is null."""
    (tmp_path / "memory").write_text("81559 512\n")
    variables = facts(tmp_path / "facts", MACHINE, DEVICE) | {"NVML_STANDIN_MEMORY": str(tmp_path / "memory")}
    taken = play(TAKE, Gpu(mig=True), **variables)["taken"]
    assert (taken["driver"], taken["cuda_driver"]) == ("550.54.14", "12.4")
    assert taken["devices"] == [
        {
            "uuid": uuid(0),
            "name": "Stand-in 0",
            "vbios": "96.00.74.00.01",
            "memory_bytes": 81559 << 20,
            "power_limit_w": 500.0,
            "default_power_limit_w": 700.0,
            "enforced_power_limit_w": 500.0,
            "max_sm_clock_mhz": 1980,
            "max_memory_clock_mhz": 2619,
            "application_graphics_clock_mhz": None,
            "application_memory_clock_mhz": None,
            "ecc": True,
            "persistence": False,
            "mig": True,
            "compute_mode": "exclusive_process",
            "pcie_generation": 1,
            "max_pcie_generation": 5,
            "pcie_width": 16,
            "max_pcie_width": None,
        }
    ]


def test_a_gpu_that_tells_nothing_is_still_named(play: Any) -> None:
    """Every answer that fails is null, and none of them ends the worker."""
    taken = play(TAKE, Gpu())["taken"]
    known = {key: value for key, value in taken["devices"][0].items() if value is not None}
    assert known == {"uuid": uuid(0), "name": "Stand-in 0", "mig": False}
    assert (taken["driver"], taken["cuda_driver"]) == (None, None)


def test_only_the_named_gpus_are_described(play: Any) -> None:
    """By index or UUID, those that the experiment may use are described; one that is not there is left out."""
    shown = play(
        """
        from pytest_llem.meters import inventory
        named = inventory.take(["1", "GPU-standin-0", "7", "GPU-nowhere"])
        show(named=[gpu["uuid"] for gpu in named.devices], none=inventory.take([])._asdict())
        """,
        Gpu(),
        Gpu(),
    )
    assert shown["named"] == [uuid(1), uuid(0)]
    assert shown["none"]["devices"] == []


def test_a_machine_without_a_driver_has_an_empty_inventory(play: Any) -> None:
    """Where NVML does not start there are no devices, and nothing fails."""
    taken = play(TAKE, init=DRIVER_NOT_LOADED)["taken"]
    assert taken == {"driver": None, "cuda_driver": None, "devices": []}


def test_the_inventory_leaves_an_open_meter_alone(play: Any) -> None:
    """Describing GPUs ends its own NVML session and not that of a meter."""
    shown = play(
        """
        import pynvml
        from pytest_llem.meters import inventory
        pynvml.nvmlInit()
        inventory.take()
        show(count=pynvml.nvmlDeviceGetCount())
        """,
        Gpu(),
    )
    assert shown["count"] == 1


def test_every_fact_is_published() -> None:
    """docs/formats.md names each fact about a device."""
    section = FORMATS.read_text().partition("\nA device.")[2].partition("\n## ")[0]
    assert [fact for fact in FACTS if f"`{fact}`" not in section] == []

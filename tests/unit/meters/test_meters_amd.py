"""The AMD meter against a fake `zeus.device`: such a device cannot be had everywhere, so its protocol alone is held."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ZEUS = """
import os

class ZeusGPUInitError(Exception): pass

class Gpus:
    def __init__(self):
        self.asked = 0
    def __len__(self):
        return 3
    def supports_get_total_energy_consumption(self, number):
        return number != 1
    def get_total_energy_consumption(self, number):
        if number == 2 and os.environ.get("LOST"):
            raise RuntimeError("AMDSMI_STATUS_NO_DATA")
        self.asked += 1
        return 1000 * (1000 + self.asked * (number + 1))  # mJ

def get_gpus():
    if problem := os.environ.get("PROBLEM"):
        raise {"no gpu": ZeusGPUInitError, "no driver": OSError}[problem](problem)
    return Gpus()
"""

SHOW = """
import os
from pytest_llem.meters import amd
meter = amd.open_meter({names})
if meter:
    begin = meter.read()
    os.environ["LOST"] = {lost!r}
    end = meter.read(at_tick=True)
    for domain, energy in meter.between(begin, end).items():
        print(domain, energy.value, energy.source, energy.note)
    print(meter.flags(begin, end), meter.describe())
    print([sample.domain for sample in meter.sample()])
else:
    print("no meter")
"""


@pytest.fixture
def zeus(tmp_path: Path) -> Path:
    """Return a folder with a package `zeus` that has the functions which the real one has."""
    gpu = tmp_path / "zeus" / "device" / "gpu"
    gpu.mkdir(parents=True)
    (tmp_path / "zeus" / "__init__.py").touch()
    (tmp_path / "zeus" / "device" / "__init__.py").write_text("from zeus.device.gpu import get_gpus")
    (gpu / "__init__.py").write_text(ZEUS)
    return tmp_path


def show(folder: Path, *, names: object = None, lost: str = "", **variables: str) -> list[str]:
    child = subprocess.run(
        [sys.executable, "-c", SHOW.format(names=names, lost=lost)],
        env={"PYTHONPATH": str(folder), **variables},
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return child.stdout.splitlines()


def test_each_device_with_a_counter_is_measured(zeus: Path) -> None:
    """Counters are read in mJ and differ in J; a device whose counter zeus does not trust is unavailable."""
    first, third, second, said, sampled = show(zeus)
    assert first == "gpu:amd-0 2.0 amdsmi None"
    assert third == "gpu:amd-2 6.0 amdsmi None"
    assert second == f"gpu:amd-1 None unavailable {said.split('unavailable: ')[1].rstrip(')')}"
    assert said.startswith(
        "set() amdsmi: gpu:amd-0, gpu:amd-2, gpu:amd-1 (unavailable: zeus finds no energy counter"
    )
    assert sampled == "['gpu:amd-0', 'gpu:amd-2']"


def test_a_device_that_no_longer_answers_is_unavailable_and_flagged(zeus: Path) -> None:
    """Whatever amdsmi raises becomes the reason, and leaves the other device's number."""
    first, third, *_, said, _ = show(zeus, lost="yes")
    assert first.startswith("gpu:amd-0 ")
    assert " amdsmi " in first
    assert third == "gpu:amd-2 None unavailable the energy counter could not be read: AMDSMI_STATUS_NO_DATA"
    assert said.startswith("{'reading_failed'}")


def test_a_driver_that_does_not_answer_is_heard(zeus: Path) -> None:
    """A library that is there and fails is an unavailable domain with the reason."""
    assert (
        show(zeus, PROBLEM="no driver")[0] == "gpu:all None unavailable the AMD GPUs do not answer: no driver"
    )


@pytest.mark.parametrize(
    ("installed", "names", "problem"), [(False, None, ""), (True, [], ""), (True, None, "no gpu")]
)
def test_no_extra_no_device_no_meter(
    zeus: Path, tmp_path_factory: pytest.TempPathFactory, *, installed: bool, names: object, problem: str
) -> None:
    """Without zeus, without a device asked for, or without a device there, there is no meter and no error."""
    folder = zeus if installed else tmp_path_factory.mktemp("empty")
    assert show(folder, names=names, PROBLEM=problem) == ["no meter"]

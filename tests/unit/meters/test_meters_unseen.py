"""GPUs that an engine can work on while no meter sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_llem.meters import presence
from standin.build import DRIVER_NOT_LOADED, build_cuda, write_zone

MEASURE = """
    from pytest_llem.meters import presence
    presence.CUDA_FILES = ({cuda_file!r},)
    presence.ROCM_FILE = {rocm_file!r}
    counter = Path({counter!r})
    whole = choose.Meters(choose.open_meters(engine_pids=list))
    on_cpu = whole.of([])
    begin, cpu_begin = whole.read(at_tick=True), on_cpu.read()
    counter.write_text("8000000")
    end, cpu_end = whole.read(at_tick=True), on_cpu.read()
    show(whole=whole.between(begin, end), on_cpu=on_cpu.between(cpu_begin, cpu_end), described=whole.describe())
"""


@pytest.fixture
def cuda_driver(tmp_path: Path) -> Path:
    """The folder of a library with the CUDA driver's name."""
    folder = tmp_path / "driver"
    folder.mkdir()
    return build_cuda(folder)


@pytest.fixture
def torch_for_rocm(tmp_path: Path) -> Path:
    """The folder of a torch with the library that builds for ROCm have."""
    library = tmp_path / "rocm" / "torch" / presence.ROCM_LIBRARY
    library.parent.mkdir(parents=True)
    library.touch()
    (tmp_path / "rocm/torch/__init__.py").touch()
    return tmp_path / "rocm"


@pytest.fixture
def measured(play: Any, tmp_path: Path) -> Any:
    """Return a function that measures 7 J of a CPU package in a child where NVML finds no driver."""

    def measured(*files: str, **variables: str) -> dict[str, Any]:
        counter = write_zone(tmp_path / "intel-rapl" / "intel-rapl:0", "package-0", 1_000_000)
        for file in files:
            (tmp_path / file).touch()
        code = MEASURE.format(
            cuda_file=str(tmp_path / "nvidia[0-9]*"), rocm_file=str(tmp_path / "kfd"), counter=str(counter)
        )
        shown: dict[str, Any] = play(
            code, init=DRIVER_NOT_LOADED, LLEM_POWERCAP_ROOT=str(tmp_path), **variables
        )
        return shown

    return measured


def with_path(first: Path, variable: str, *others: Path) -> dict[str, str]:
    return {variable: ":".join(map(str, (first, *others)))}


def test_a_cuda_gpu_without_nvml_leaves_no_total(
    measured: Any, cuda_driver: Path, nvml_library: Path
) -> None:
    """The CPU's energy is not passed off as that of work on a GPU, and the reason names the capability."""
    shown = measured("nvidia3", **with_path(cuda_driver, "LD_LIBRARY_PATH", nvml_library))
    assert shown["whole"]["cpu"]["value"] == 7.0
    for domain in ("gpu", "total"):
        assert shown["whole"][domain]["value"] is None
        assert "driver capability `utility`" in shown["whole"][domain]["note"]
    assert shown["described"][0].startswith("unavailable: there is a GPU for CUDA")


def test_an_experiment_on_the_cpu_is_measured_beside_it(
    measured: Any, cuda_driver: Path, nvml_library: Path
) -> None:
    """With `gpus: []` an unseen GPU is none of the experiment's, and the total is that of the CPU."""
    shown = measured("nvidia0", **with_path(cuda_driver, "LD_LIBRARY_PATH", nvml_library))
    assert (shown["on_cpu"]["total"]["value"], shown["on_cpu"]["total"]["source"]) == (7.0, "rapl")


@pytest.mark.parametrize("there", ["driver", "file"])
def test_a_driver_or_a_file_alone_is_no_gpu(
    measured: Any, cuda_driver: Path, nvml_library: Path, there: str
) -> None:
    """CUDA's library without a device, and a device without the library, leave the total to the CPU."""
    paths = with_path(cuda_driver, "LD_LIBRARY_PATH", nvml_library) if there == "driver" else {}
    shown = measured("nvidiactl" if there == "driver" else "nvidia0", **paths)
    assert shown["whole"]["total"]["value"] == 7.0


def test_a_rocm_gpu_without_zeus_leaves_no_total(measured: Any, torch_for_rocm: Path) -> None:
    """Where a torch for ROCm meets a GPU, the reason names the extra that reads it."""
    tests = Path(__file__).parents[2]
    shown = measured("kfd", **with_path(torch_for_rocm, "PYTHONPATH", tests))
    assert shown["whole"]["total"]["value"] is None
    assert "pip install 'pytest-llem[amd]'" in shown["whole"]["total"]["note"]


def test_a_small_gpu_of_a_processor_is_none_without_torch_for_rocm(measured: Any) -> None:
    """A driver file of ROCm's alone, as many desktops have it, leaves the total to the CPU."""
    assert measured("kfd")["whole"]["total"]["value"] == 7.0

"""Energy of campaigns in containers: GPUs by a stand-in for their library, mounted; CPU by a powercap tree."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runs import flags_of_meters, results_of
from standin.build import Curve, Gpu, build_nvml, environment, uuid
from standin.curves import burst, noise, step

CURVES: dict[str, Curve] = {
    "step": step(100, 400, 1.5),
    "burst": burst(100, 600, 0.8, 1.1),
    "noise": noise(300, 60, 3.0),
}

GPUS = {name: Gpu(power_w, period_s=3.0) for name, power_w in CURVES.items()}

OVERRIDE = """
services:
  abacus:
    volumes:
      - {library}:/standin:ro
    environment:
      NVML_STANDIN: /campaign/script
      LD_LIBRARY_PATH: /standin
      LLEM_POWERCAP_ROOT: /nowhere
"""


@pytest.fixture
def scripted(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> float:
    """Give containers some GPUs, of which the host knows nothing, and return when their script began."""
    if shutil.which("cc") is None:
        pytest.skip("the stand-in for NVML needs a C compiler")
    epoch_s = time.monotonic()
    library = build_nvml(tmp_path_factory.mktemp("nvml"))
    environment(library, pytester.path / "script", list(GPUS.values()), epoch_s=epoch_s)
    (pytester.path / "docker-compose.override.yml").write_text(OVERRIDE.format(library=library))
    return epoch_s


def test_energy_in_a_container_is_that_of_the_curves(
    pytester: pytest.Pytester, docker_campaign: Callable[..., Path], scripted: float
) -> None:
    """Over 10 s each device has the energy of its curve between its edges; the trace lies beside the result."""
    docker_campaign(grid="backends: [abacus]\n")
    options = [
        "--campaign-executor=compose",
        "--campaign-set=window.seconds=10",
        "--campaign-set=execution.cycles=1",
    ]
    pytester.runpytest_subprocess("--campaign=grid.yaml", *options).assert_outcomes(passed=1)
    (result,) = results_of(pytester.path)
    found = result["measurement"]
    for index, gpu in enumerate(GPUS.values()):
        domain = f"gpu:{uuid(index)}"
        begin_s, end_s = (edge_s - scripted for edge_s in found["energy_edges_s"][domain])
        energy, truth_j = found["energy_j"][domain], gpu.energy_j(begin_s, end_s)
        assert energy["source"] == "nvml_counter"
        assert energy["value"] == pytest.approx(truth_j, abs=max(0.005 * truth_j, energy["resolution"]))
        assert found["devices"][domain]["counter_integral_ratio"] == pytest.approx(1, rel=0.05)
    assert flags_of_meters(found) == set()
    assert len(list(pytester.path.rglob(result["trace"]))) == 1


def test_idle_powers_outlive_a_container(
    pytester: pytest.Pytester, docker_campaign: Callable[..., Path], scripted: float
) -> None:
    """With a new container for each experiment, bare and loaded idle power are those of the first."""
    docker_campaign(
        "cold_start: {force_cold_start: true, restart_container: true}\n",
        grid="backends: [abacus]\n",
    )
    options = (
        "--campaign-executor=compose",
        "--campaign-set=defaults.baseline.enabled=true",
        "--campaign-set=defaults.baseline.duration_sec=0.5",
    )
    pytester.runpytest_subprocess("--campaign=grid.yaml", *options).assert_outcomes(passed=2)
    first, second = (result["measurement"] for result in results_of(pytester.path))
    assert first["launch"]["id"] != second["launch"]["id"]
    assert first["idle"].keys() == {"bare", "loaded"}
    assert first["idle"] == second["idle"]

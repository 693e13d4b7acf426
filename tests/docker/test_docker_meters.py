"""Energy of campaigns in containers: GPUs by a stand-in for their library, mounted; CPU by a powercap tree."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runs import flags_of_meters, results_of
from standin.build import build_nvml, environment
from standin.gpus import DOMAINS, SOUND, of_all_kinds, unaligned_share

HAPPENS_S = 10.0
"""When a device is lost or reset, in seconds of the script: inside a window of 10 s that begins after some seconds."""

GPUS = of_all_kinds(HAPPENS_S)

INTEGRATED = ("no counter", "nvml_power_integral", 0.02)

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
    epoch_s = time.monotonic()
    library = build_nvml(tmp_path_factory.mktemp("nvml"))
    environment(library, pytester.path / "script", list(GPUS.values()), epoch_s=epoch_s)
    (pytester.path / "docker-compose.override.yml").write_text(OVERRIDE.format(library=library))
    return epoch_s


def test_energy_in_a_container_is_that_of_the_curves(
    pytester: pytest.Pytester, docker_campaign: Callable[..., Path], scripted: float
) -> None:
    """Over 10 s sound devices have the energy of their curves, and none that goes wrong has a wrong number."""
    docker_campaign(grid="backends: [abacus]\n")
    options = [
        "--campaign-executor=compose",
        "--campaign-set=window.seconds=10",
        "--campaign-set=execution.cycles=1",
    ]
    pytester.runpytest_subprocess("--campaign=grid.yaml", *options).assert_outcomes(passed=1)
    (result,) = results_of(pytester.path)
    found = result["measurement"]

    def truth_j(name: str) -> float:
        begin_s, end_s = (edge_s - scripted for edge_s in found["energy_edges_s"][DOMAINS[name]])
        return GPUS[name].energy_j(begin_s, end_s)

    for name, source, share in [*((name, "nvml_counter", 0.005) for name in SOUND), INTEGRATED]:
        energy = found["energy_j"][DOMAINS[name]]
        assert energy["source"] == source
        assert energy["value"] == pytest.approx(
            truth_j(name), abs=max(share * truth_j(name), energy["resolution"])
        )
    assert unaligned_share(found) < 0.5
    for name in SOUND:
        assert found["devices"][DOMAINS[name]]["counter_integral_ratio"] == pytest.approx(1, rel=0.05)
    assert {found["energy_j"][DOMAINS[name]]["value"] for name in ("reset", "lost")} == {None}
    assert flags_of_meters(found) == {
        "counter_integral_disagree",
        "counter_reset",
        "device_lost",
        "power_integral_edge",
    }


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

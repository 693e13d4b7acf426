"""Another driver or GPU setting within a run is named below the table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runs import results_of, run_folders, summary
from standin.build import Gpu, build_nvml, environment, facts

MOOD = """
    backends: [abacus]
    backend_overrides:
      abacus: {mood_file: mood}
"""


@pytest.fixture
def machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, int], None]:
    """Return a function that gives this machine a GPU, with this driver and power limit in W."""
    folder = tmp_path_factory.mktemp("nvml")
    for name, value in environment(build_nvml(folder), folder / "script", [Gpu()]).items():
        monkeypatch.setenv(name, value)

    def give(driver: str, limit_w: int) -> None:
        written = facts(folder / "facts", {"driver": driver}, {"power_limit_mw": limit_w * 1000})
        monkeypatch.setenv("NVML_STANDIN_FACTS", written["NVML_STANDIN_FACTS"])

    return give


def test_another_driver_in_a_later_session_is_named(
    pytester: pytest.Pytester, campaign: Callable[..., Path], machine: Callable[[str, int], None]
) -> None:
    """After an update of the driver, the session that goes on with a run says so, on screen and in summary.json."""
    campaign(grid=MOOD)
    machine("550.54.14", 300)
    pytester.runpytest_subprocess("--campaign=grid.yaml", "-x", "-k", "c1").assert_outcomes(
        passed=1, deselected=1
    )
    machine("560.12", 250)
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "--lf")
    change = "driver 550.54.14 -> 560.12, GPU power limit 300 -> 250 W (cycle 2 on, "
    done.stdout.fnmatch_lines([f"*Environment changed within the run: {change}*UTC)*"])
    told = summary(pytester.path)
    assert [message for message in told["messages"] if change in message]
    assert len(told["environments"]) == 2


SET_BY_THE_OPERATOR = """
import os
from pathlib import Path

def pytest_llem_result(result):
    if result.cycle == 1:
        facts = Path(os.environ["NVML_STANDIN_FACTS"])
        facts.write_text(facts.read_text().replace("=300000", "=250000"))
"""
"""A conftest in whose session the power limit becomes 250 W after the first cycle."""


def test_a_setting_that_changes_within_a_session_is_named(
    pytester: pytest.Pytester, campaign: Callable[..., Path], machine: Callable[[str, int], None]
) -> None:
    """A power limit set while the services run is seen: each result names the environment that it ran in."""
    campaign(grid=MOOD)
    pytester.makeconftest(SET_BY_THE_OPERATOR)
    machine("550.54.14", 300)
    done = pytester.runpytest_subprocess("--campaign=grid.yaml")
    change = "GPU power limit 300 -> 250 W (cycle 2 on, "
    done.stdout.fnmatch_lines([f"*Environment changed within the run: {change}*UTC)*"])
    environments = json.loads((run_folders(pytester.path)[-1] / "environment.json").read_text())
    limits_w = [
        environments[result["environment_hash"]]["devices"][0]["power_limit_w"]
        for result in results_of(pytester.path)
    ]
    assert limits_w == [300, *[250] * (len(limits_w) - 1)]
    assert len(limits_w) > 1


def test_an_environment_is_the_same_in_the_next_session(
    pytester: pytest.Pytester, campaign: Callable[..., Path], machine: Callable[[str, int], None]
) -> None:
    """Two sessions on one machine find one environment, although its counters tick a little differently."""
    campaign(grid=MOOD)
    machine("550.54.14", 300)
    pytester.runpytest_subprocess("--campaign=grid.yaml", "-k", "c1")
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "--lf")
    done.stdout.no_fnmatch_line("*Environment changed*")
    assert len({result["environment_hash"] for result in results_of(pytester.path)}) == 1
    assert (run_folders(pytester.path)[-1] / "environment.json").read_text().count('"driver": "550') == 1

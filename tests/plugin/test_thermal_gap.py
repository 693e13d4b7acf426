"""`execution.gap: thermal`: gaps that are over when the GPU is cool."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runs import events, results_of
from standin.build import Gpu, build_nvml, environment, facts, uuid

Campaign = Callable[..., Path]

ONE_GAP = "backends: [abacus]\nbackend_overrides: {abacus: {batch_size: 20}}\n"

HOT_AFTER_EACH = """
    from pathlib import Path
    from pytest_llem.display import Display

    FACTS = Path("facts")

    def pytest_llem_result(config, result):
        FACTS.write_text("\\ncelsius=60\\n")

    def waiting(self, what, left_s, before=Display.waiting):
        with Path("waits").open("a") as file:
            file.write(what + "\\n")
        FACTS.write_text("\\ncelsius=43\\n")
        before(self, what, left_s)

    Display.waiting = waiting
    """
"""A conftest.py by which the GPU is at 60 °C after an experiment, and after the first look of a gap at 43 °C."""


@pytest.fixture
def warm_gpu(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[[Gpu], None]:
    """Return a function that gives this machine a GPU at 40 °C; `facts` in the session's folder says how warm it is."""

    def make(gpu: Gpu) -> None:
        library = build_nvml(pytester.mkdir("nvml"))
        script = environment(library, library / "script", [gpu])
        for name, value in (script | facts(pytester.path / "facts", {}, {"celsius": 40})).items():
            monkeypatch.setenv(name, value)

    return make


@pytest.mark.key("execution.gap", "execution.gap_band_celsius")
@pytest.mark.parametrize(
    ("settings", "reached"),
    [
        ("cycle_gap_seconds: 1\n", None),
        ("cycle_gap_seconds: 3600\ngap: thermal\ngap_band_celsius: 5\n", True),
        ("cycle_gap_seconds: 2\ngap: thermal\n", False),
    ],
)
def test_a_thermal_gap_ends_when_the_gpu_is_cool(
    pytester: pytest.Pytester,
    campaign: Campaign,
    warm_gpu: Callable[[Gpu], None],
    settings: str,
    reached: bool | None,
) -> None:
    """At 43 °C, 3 above the start, a band of 5 ends an hour's gap; the default one of 2 waits the gap whole."""
    warm_gpu(Gpu())
    pytester.makeconftest(HOT_AFTER_EACH)
    path = campaign(grid=ONE_GAP, execution=settings)
    path.write_text(path.read_text().replace("  cycle_gap_seconds: 0\n", "", 1))
    pytester.runpytest_subprocess("--campaign=grid.yaml").assert_outcomes(passed=2)
    first, second = results_of(pytester.path)
    assert first["thermal_gap"] is None
    (gap,) = events(pytester.path, "gap")
    assert gap["thermal"] == second["thermal_gap"]
    assert gap["waited_s"] == second["gap_s"]
    if reached is None:
        assert second["thermal_gap"] is None
        return
    cooling = {"start_c": 40.0, "before_c": 60.0, "after_c": 43.0}
    assert second["thermal_gap"] == {"reached": reached, "devices": {uuid(0): cooling}}
    assert (second["gap_s"] < gap["asked_s"]) is reached
    goal = 45 if reached else 42
    assert f"cycle gap, {uuid(0)} 60 °C -> {goal} °C" in (pytester.path / "waits").read_text()


@pytest.mark.parametrize("has_gpu", [True, False])
def test_without_a_temperature_the_gap_is_a_time(
    pytester: pytest.Pytester, campaign: Campaign, warm_gpu: Callable[[Gpu], None], has_gpu: bool
) -> None:
    """No GPU, or one that tells no temperature: gaps are waited whole, and that is said once."""
    if has_gpu:
        warm_gpu(Gpu(temperature_c=()))
        (pytester.path / "facts").write_text("")
    path = campaign(execution="config_gap_seconds: 0.2\ngap: thermal\n")
    path.write_text(path.read_text().replace("  config_gap_seconds: 0\n", "", 1))
    done = pytester.runpytest_subprocess("--campaign=grid.yaml")
    done.assert_outcomes(passed=4)
    assert [gap["waited_s"] >= 0.2 for gap in events(pytester.path, "gap")] == [True, True]
    assert [result["thermal_gap"] for result in results_of(pytester.path)] == [None] * 4
    assert sum("no GPU here tells its temperature" in line for line in done.stdout.lines) == 1

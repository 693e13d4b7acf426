"""How near the meters come to the truth: every curve, as counter and as integrated power."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from standin.build import Curve, Gpu, uuid
from standin.curves import burst, flat, noise, ramp, step

BEGIN_S = 5.0
"""Of every window, in the script's time."""

CURVES: dict[str, Callable[[float], Curve]] = {
    "flat": lambda _: flat(300),
    "step": lambda window_s: step(200, 400, BEGIN_S + window_s / 2),
    "late burst": lambda window_s: burst(200, 600, BEGIN_S + window_s - 0.5, BEGIN_S + window_s + 1),
    "ramp": lambda window_s: ramp(200, 400, BEGIN_S, BEGIN_S + window_s),
    "noise": lambda window_s: noise(300, 90, BEGIN_S + window_s + 1),
}
TICKS_MS = (20.0, 70.0, 100.0, 200.0)

NOISE = 3 * 90 / 300 / 3**0.5 / 100**0.5
"""Three standard errors of the mean of 100 readings of the noise, a tenth of a second apart, as a share."""

SENSORS: dict[str, dict[str, Any]] = {
    "instant": {"instant": True},
    "averaged": {"instant": False, "average_s": 1.0},
    "before ampere": {"instant": False, "average_s": 0.0},
}

MEASURE = """
    begin = meters.read(at_tick=True)
    work_s = [clock.monotonic()]
    sleep_until(work_s[0] + {window_s}, *sampled)
    work_s.append(clock.monotonic())
    end = meters.read(at_tick=True)
    found = window.judge(meters, begin, end, running)
    show(begin=begin, end=end, energy=found.energy_j, flags=found.flags, ratios=found.counter_integral_ratio,
         work_s=work_s[1] - work_s[0], edge_idle_s=window.edge_idle_s(begin, end, *work_s))
"""

COUNTERS = """
    counters = nvml.open_meter(clock=clock)
    counters.check_counters()
    meters = choose.Meters([counters])
    running, sampled = None, []
    sleep_until({begin_s})
"""

TRACED = """
    meters = choose.Meters([nvml.open_meter(clock=clock)])
    running = trace.Trace(meters, Path("trace.csv"), clock=clock)
    sampled = [running.sample]
    sleep_until({begin_s}, *sampled)
"""

INTEGRALS = """
    power.PowerMeter._keep_reading = lambda self: None  # its thread knows nothing of the script's time
    integrals = power.open_meter(nvml.open_meter(clock=clock).hand_over(), clock)
    meters = choose.Meters([integrals])
    running, sampled = None, [meters.read]
    sleep_until({begin_s}, *sampled)
"""


@pytest.fixture
def measure(play: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Return a function that measures a window of scripted time and returns what it found."""
    monkeypatch.chdir(tmp_path)

    def measure(prepare: str, gpus: Sequence[Gpu], window_s: float) -> dict[str, Any]:
        code = (prepare + MEASURE).format(begin_s=BEGIN_S, window_s=window_s)
        shown: dict[str, Any] = play(code, *gpus, speed=0)
        return shown

    return measure


def errors(shown: dict[str, Any], gpus: Sequence[Gpu]) -> list[float]:
    """Return each device's relative error against the integral between its reported edges."""
    domains = [f"gpu:{uuid(index)}" for index in range(len(gpus))]
    edges_s = [[shown[edge][0]["at_s_by_domain"][domain] for edge in ("begin", "end")] for domain in domains]
    truths_j = [gpu.energy_j(*edges) for gpu, edges in zip(gpus, edges_s, strict=True)]
    values_j = [shown["energy"][domain]["value"] for domain in domains]
    return [value_j / truth_j - 1 for value_j, truth_j in zip(values_j, truths_j, strict=True)]


def nothing_off(gpus: Sequence[Gpu], allowed: float) -> Any:
    return pytest.approx([0.0] * len(gpus), abs=allowed)


@pytest.mark.parametrize(("window_s", "allowed"), [(2.0, 0.01), (10.0, 0.005)])
@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
def test_a_counter_is_near_the_truth(
    measure: Any, curve: Callable[[float], Curve], window_s: float, allowed: float
) -> None:
    """From counters of any tick, energy is within 0.5 % at 10 s and 1 % at 2 s, whatever the power does."""
    gpus = [Gpu(curve(window_s), tick_ms=tick_ms) for tick_ms in TICKS_MS]
    shown = measure(COUNTERS, gpus, window_s)
    assert errors(shown, gpus) == nothing_off(gpus, allowed)
    assert shown["flags"] == []


def test_an_edge_costs_at_most_one_tick(measure: Any) -> None:
    """Before the work a device waits for the others' ticks, after it for its own; both are known exactly."""
    gpus = [Gpu(flat(300), tick_ms=tick_ms) for tick_ms in TICKS_MS]
    shown = measure(COUNTERS, gpus, 2.0)
    for index, gpu in enumerate(gpus):
        domain = f"gpu:{uuid(index)}"
        assert 0 <= shown["edge_idle_s"][domain] <= (max(TICKS_MS) + gpu.tick_ms) / 1000 + 0.002
        work_j = shown["energy"][domain]["value"] - 300 * shown["edge_idle_s"][domain]
        assert work_j == pytest.approx(300 * shown["work_s"], rel=0.001)


@pytest.mark.parametrize("sensor", SENSORS.values(), ids=SENSORS)
@pytest.mark.parametrize("name", ["flat", "step", "ramp"])
def test_an_integral_of_power_is_near_the_truth(measure: Any, name: str, sensor: dict[str, Any]) -> None:
    """From power, of the moment or averaged over 1 s, energy is within 2 % at 10 s for flat, step and ramp."""
    gpus = [Gpu(CURVES[name](10), tick_ms=tick_ms, counter=False, **sensor) for tick_ms in TICKS_MS]
    shown = measure(INTEGRALS, gpus, 10.0)
    assert errors(shown, gpus) == nothing_off(gpus, 0.02)
    assert shown["energy"]["gpu"]["source"] == "nvml_power_integral"
    assert shown["flags"] == []


@pytest.mark.parametrize(
    ("sensor", "allowed"), [("averaged", 0.02), ("instant", NOISE), ("before ampere", NOISE)]
)
def test_an_integral_of_noise_is_as_near_as_its_readings(measure: Any, sensor: str, allowed: float) -> None:
    """Of power that jumps every 20 ms an average is within 2 % at 10 s, 100 moments within three standard errors."""
    noisy = CURVES["noise"](10)
    gpus = [Gpu(noisy, tick_ms=tick_ms, counter=False, **SENSORS[sensor]) for tick_ms in TICKS_MS]
    shown = measure(INTEGRALS, gpus, 10.0)
    assert errors(shown, gpus) == nothing_off(gpus, allowed)


def test_a_late_burst_raises_the_flag_of_an_average(measure: Any) -> None:
    """A burst in the last half second, which a 1 s mean misses in part, is flagged and bounded by the resolution."""
    gpus = [
        Gpu(CURVES["late burst"](10), tick_ms=tick_ms, counter=False, instant=False) for tick_ms in TICKS_MS
    ]
    shown = measure(INTEGRALS, gpus, 10.0)
    assert shown["flags"] == ["power_integral_edge"]
    for index, error in enumerate(errors(shown, gpus)):
        energy = shown["energy"][f"gpu:{uuid(index)}"]
        assert error < -0.005  # so the flag is not for nothing
        assert abs(error) * energy["value"] <= energy["resolution"]


def test_a_late_burst_is_seen_by_instant_power(measure: Any) -> None:
    """A device that tells the power of the moment needs no flag: its burst is in the number."""
    gpus = [Gpu(CURVES["late burst"](10), tick_ms=tick_ms, counter=False) for tick_ms in TICKS_MS]
    shown = measure(INTEGRALS, gpus, 10.0)
    assert errors(shown, gpus) == nothing_off(gpus, 0.04)
    assert shown["flags"] == []


@pytest.mark.parametrize("sensor", SENSORS.values(), ids=SENSORS)
@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
def test_an_honest_counter_agrees_with_the_trace(
    measure: Any, curve: Callable[[float], Curve], sensor: dict[str, Any]
) -> None:
    """On no curve do a true counter and the integrated trace differ by 5 % over 10 s."""
    gpus = [Gpu(curve(10), tick_ms=tick_ms, **sensor) for tick_ms in TICKS_MS]
    shown = measure(TRACED, gpus, 10.0)
    assert list(shown["ratios"].values()) == pytest.approx([1.0] * len(gpus), abs=0.05)
    assert shown["flags"] == []


@pytest.mark.parametrize("factor", [0.9, 1.1])
@pytest.mark.parametrize("sensor", SENSORS.values(), ids=SENSORS)
def test_a_counter_that_lies_is_caught(measure: Any, factor: float, sensor: dict[str, Any]) -> None:
    """A counter 10 % off raises the flag over 10 s, and its ratio says by how much."""
    gpus = [Gpu(CURVES["step"](10), tick_ms=100, counter_factor=factor, **sensor)]
    shown = measure(TRACED, gpus, 10.0)
    assert shown["flags"] == ["counter_integral_disagree"]
    assert list(shown["ratios"].values()) == pytest.approx([factor], rel=0.02)


def test_a_short_window_is_not_judged(measure: Any) -> None:
    """Below 10 s the ratio is stored and no flag raised, since its edges are a matter of chance."""
    shown = measure(TRACED, [Gpu(counter_factor=1.1)], 2.0)
    assert shown["flags"] == []
    assert list(shown["ratios"].values()) == pytest.approx([1.1], rel=0.01)

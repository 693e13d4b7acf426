"""How long a session will take, before it starts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.campaign.forecast import ASSUMED_START_S, SLICE_S, Forecast, forecast
from pytest_llem.campaign.grid import Point
from pytest_llem.campaign.schedule import order, plan
from pytest_llem.campaign.schema import Campaign
from pytest_llem.records import Configuration
from pytest_llem.worker import serving

QUIET: dict[str, Any] = {"warmup": {"enabled": False}, "baseline": {"enabled": False}}


def foresee(
    configurations: int = 2,
    known_s: dict[str, float] | None = None,
    *,
    has_instruments: bool = False,
    configuration: dict[str, Any] | None = None,
    **execution: Any,
) -> Forecast:
    """Return the forecast of a campaign of windows of 30 s, with gaps of 10 s and engines of their own."""
    campaign = Campaign.model_validate(
        {
            "campaign_name": "sizes",
            "execution": {"conditioning": False, "structure": "interleaved"} | execution,
        }
    )
    wanted = Configuration.model_validate({"backend": "pytorch"} | (configuration or {}))
    points = [
        Point(str(n), str(n), {}, wanted, spec_hash=str(n), engine_key=str(n), verdict="valid", reasons=())
        for n in range(configurations)
    ]
    experiments = order(points, cycles=campaign.execution.cycles, structure="interleaved", seed=1)
    return forecast(plan(experiments, campaign), campaign, known_s or {}, has_instruments=has_instruments)


def test_windows_and_gaps_are_certain() -> None:
    """Without warm-ups the least is the windows and the gaps between them."""
    assert foresee(2, cycles=3, configuration=QUIET).least_s == 6 * 30 + 5 * 10


def test_prefill_has_a_window_of_its_own() -> None:
    """With `prefill.enabled` each experiment has two windows, surely and likely."""
    one, two = (
        foresee(2, cycles=3, configuration=QUIET | {"prefill": {"enabled": enabled}})
        for enabled in (False, True)
    )
    assert two.least_s - one.least_s == two.about_s - one.about_s == 6 * 30


@pytest.mark.parametrize(
    ("load", "likely_s", "unlimited"),
    [
        ({"mode": "poisson", "rate": 2, "requests": 3600}, 1800, 0),
        ({"mode": "constant", "rate": 2}, 30, 0),
        ({"mode": "closed", "concurrency": 8, "requests": 3600}, 0, 6),
        ({"mode": "closed", "concurrency": 8}, 30, 0),
    ],
)
def test_requests_end_a_window_instead_of_seconds(
    load: dict[str, Any], likely_s: float, unlimited: int
) -> None:
    """With `load.requests` a window takes as long as they need to come; in a closed load nobody knows that."""
    found, calm = (foresee(2, cycles=3, configuration=QUIET | changed) for changed in ({"load": load}, {}))
    assert found.about_s - calm.about_s == 6 * (likely_s - 30)
    assert found.unlimited == unlimited
    assert calm.least_s - found.least_s == (6 * 30 if "requests" in load else 0)


@pytest.mark.parametrize(
    ("warmup", "least_s"),
    [
        ({}, 20),
        ({"convergence_detection": False}, 0),
        ({"max_prompts": 5}, 0),
        ({"window_size": 1}, 0),
        ({"enabled": False}, 0),
    ],
)
def test_a_warm_up_takes_two_slices_at_least(warmup: dict[str, Any], least_s: float) -> None:
    """A warm-up that has to converge needs two slices, unless prompts or passes may end it sooner."""
    found = foresee(1, cycles=1, configuration={"warmup": warmup, "baseline": {"enabled": False}})
    assert found.least_s == 30 + least_s


def test_a_warm_up_is_no_longer_than_its_cap() -> None:
    """`execution.warmup_timeout_seconds` below two slices is the least."""
    assert foresee(1, cycles=1, warmup_timeout_seconds=5).least_s == 35


def test_a_slice_is_as_long_as_the_worker_makes_it() -> None:
    """The length of a slice is that of the warm-up itself."""
    assert SLICE_S == serving.SLICE_S


def test_a_thermal_gap_may_end_at_once() -> None:
    """A gap that waits for cool devices is nothing at least, and the whole of it at most."""
    fixed, thermal = (foresee(2, cycles=1, gap=gap, configuration=QUIET) for gap in ("fixed", "thermal"))
    assert (fixed.least_s, thermal.least_s) == (70, 60)
    assert fixed.about_s == thermal.about_s


def test_starts_are_assumed_and_counted() -> None:
    """Without an earlier run each start of an engine is assumed, that of the conditioning too."""
    cold = foresee(2, cycles=3, configuration=QUIET)
    assert (cold.starts, cold.about_s) == (6, 6 * 30 + 5 * 10 + 6 * ASSUMED_START_S)
    assert foresee(2, cycles=3, conditioning=True, configuration=QUIET).starts == 7


def test_measured_times_take_the_place_of_assumptions() -> None:
    """What a configuration took in an earlier run is what it takes; the others stay assumed."""
    known = foresee(2, {"0": 100.0, "1": 200.0}, cycles=3)
    assert (known.measured, known.experiments, known.starts) == (6, 6, 0)
    assert known.about_s == 3 * 300 + 5 * 10
    half = foresee(2, {"0": 100.0}, cycles=3, configuration=QUIET)
    assert (half.measured, half.starts) == (3, 3)
    assert half.about_s == 3 * 100 + 3 * (30 + ASSUMED_START_S) + 5 * 10


def test_idle_powers_are_measured_where_instruments_are() -> None:
    """Bare and loaded idle take 40 s each, again each hour; without instruments or `baseline` nothing."""
    without = foresee(1, cycles=1)
    assert foresee(1, cycles=1, has_instruments=True).about_s == without.about_s + 80
    off = {"baseline": {"enabled": False}}
    assert foresee(1, cycles=1, has_instruments=True, configuration=off).about_s == without.about_s
    always = {"baseline": {"cache_ttl_sec": 0}}
    assert foresee(1, cycles=3, has_instruments=True, configuration=always).about_s == pytest.approx(
        foresee(1, cycles=3).about_s + 3 * 80
    )


@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.dictionaries(st.sampled_from("0123"), st.floats(0, 1e4)),
    st.booleans(),
)
def test_what_is_likely_is_never_below_what_is_certain(
    configurations: int, cycles: int, known_s: dict[str, float], has_instruments: bool
) -> None:
    """Whatever was measured before, the likely time is at least the least."""
    found = foresee(configurations, known_s, cycles=cycles, has_instruments=has_instruments)
    assert found.about_s >= found.least_s >= 30 * configurations * cycles

"""Prefill and decode from two windows: sums, counts and resolutions."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.backends.application import Application
from pytest_llem.backends.base import PassReport, Request
from pytest_llem.meters.choose import Meters, open_meters
from pytest_llem.meters.window import Window
from pytest_llem.records import METRICS, Baseline, Configuration, Launch, Prefill, Quantity, unavailable
from pytest_llem.worker.assembly import assemble
from pytest_llem.worker.energy import Metered
from pytest_llem.worker.engine_process import Served
from pytest_llem.worker.idle import IdlePowers
from pytest_llem.worker.prefill import Phase, metrics
from pytest_llem.worker.protocol import Order, Timeouts, WarmupPolicy
from pytest_llem.worker.tally import Tally, of_passes
from standin.build import write_zone

INPUT_TOKENS = 10

ORDER = Order(
    experiment_id="one",
    launch="one",
    engine_key="key",
    engine="abacus.engine",
    model="beads",
    configuration=Configuration(prefill=Prefill(enabled=True)),
    warmup=WarmupPolicy(min_prompts=0, timeout_s=0),
    window_s=0,
    window_passes=1,
    timeouts=Timeouts(start_s=1, run_s=1, silence_s=1),
)
LAUNCH = Launch(
    id="one",
    engine_key="key",
    warm=True,
    start_method="spawn",
    start_s=0,
    load_s=0,
    load_energy_j=unavailable("J", "warm"),
)

counts = st.integers(1, 50)
energies = st.floats(0.01, 1e6)


def joules(value: float, resolution: float = 0.0, parts: tuple[str, ...] = ("gpu",)) -> Quantity:
    return Quantity(value=value, unit="J", source="nvml_counter", resolution=resolution, parts=parts)


def phase(requests: int, tokens: int, energy: Quantity) -> Phase:
    """Return a window of one pass of 2 s."""
    served = [Request(0.0, 1.0, 2.0, INPUT_TOKENS, tokens) for _ in range(requests)]
    return Phase(of_passes([PassReport(served)], None), energy)


@given(counts, counts, st.integers(2, 100), energies, energies)
def test_windows_of_any_length_are_compared_by_the_request(
    requests: int, prefilled: int, tokens: int, prefill_j: float, decode_j: float
) -> None:
    """However many requests each window had, one request has its prefill, and its decode shared by the other tokens."""
    whole = phase(requests, tokens, joules(requests * (prefill_j + decode_j)))
    found = metrics(whole, phase(prefilled, 1, joules(prefilled * prefill_j)))
    near = pytest.approx(decode_j, abs=1e-9 * prefill_j)
    assert found["prefill_energy_per_request_j"].value == pytest.approx(prefill_j)
    assert found["prefill_energy_per_prompt_token_j"].value == pytest.approx(prefill_j / INPUT_TOKENS)
    assert found["decode_energy_per_request_j"].value == near
    assert (found["decode_energy_per_output_token_j"].value or 0) * (tokens - 1) == near
    assert found["prefill_tokens_per_second"].value == prefilled * INPUT_TOKENS / 2
    assert all(quantity.unit == METRICS[name].unit for name, quantity in found.items())


@pytest.mark.parametrize(
    ("whole", "prefill", "reason"),
    [
        pytest.param(phase(4, 5, unavailable("J", "lost")), phase(2, 1, joules(2)), "lost", id="no whole"),
        pytest.param(phase(4, 5, joules(8)), phase(2, 1, unavailable("J", "lost")), "lost", id="no prefill"),
        pytest.param(
            phase(4, 5, joules(8, 2)),
            phase(2, 1, joules(2, 1)),
            "differ by 1 J a request, which is not above the resolution of 1 J",
            id="too small",
        ),
        pytest.param(phase(4, 5, joules(8)), phase(2, 1, joules(6)), "differ by -1 J", id="negative"),
        pytest.param(
            phase(4, 5, joules(8, parts=("gpu", "cpu"))),
            phase(2, 1, joules(2)),
            "not metered alike: gpu + cpu, gpu",
            id="other sums",
        ),
        pytest.param(phase(4, 1, joules(8)), phase(2, 1, joules(2)), "no token but the one", id="one token"),
    ],
)
def test_a_difference_that_says_nothing_is_no_number(whole: Phase, prefill: Phase, reason: str) -> None:
    """Where a window has no energy, both are not metered alike or too near, decode is null and says why."""
    found = metrics(whole, prefill)
    for name in ("decode_energy_per_request_j", "decode_energy_per_output_token_j"):
        assert found[name].value is None
        assert found[name].unit == METRICS[name].unit
        assert reason in (found[name].note or "")


def test_what_went_wrong_in_the_second_window_is_flagged(tmp_path: Path) -> None:
    """Flags of both windows are flags of the experiment, each once, and a cache that served prefill is one."""
    write_zone(tmp_path / "intel-rapl" / "intel-rapl:0", "package-0", 0)
    meters = Meters(open_meters(devices=[], powercap_root=tmp_path, engine_pids=list))
    idle = IdlePowers(meters, Baseline(enabled=False), [], lambda _: None)

    def metered(*flags: str) -> Metered:
        begin, end = meters.read(), meters.read()
        return Metered(begin, end, Window(meters.between(begin, end), flags), traced=False, idle=idle)

    def tally(cached_tokens: int) -> Tally:
        served = Request(0.0, 1.0, 2.0, INPUT_TOKENS, 1, cached_tokens)
        return of_passes([PassReport([served])], None)

    served = Served(None, tally(0), "", Application({}, {}), None, prefill=tally(5))
    first, second = metered("counter_reset"), metered("counter_reset", "throttled")
    found = assemble(ORDER, served, LAUNCH, first, second)
    meters.close()
    assert found.flags == ("counter_reset", "prompts_from_cache", "throttled")
    assert found.cached_tokens == 0
    assert found.prefill is not None
    assert found.prefill.cached_tokens == 5

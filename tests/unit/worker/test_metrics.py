"""Metrics are plain arithmetic over requests and joules."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.backends.base import PassReport, Request
from pytest_llem.records import METRICS, Quantity, unavailable
from pytest_llem.worker import metrics

seconds = st.floats(0.001, 100, allow_nan=False)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    submitted_s = draw(seconds)
    first_token_s = submitted_s + draw(seconds)
    return Request(
        submitted_s=submitted_s,
        first_token_s=first_token_s,
        completed_s=first_token_s + draw(seconds),
        prompt_tokens=draw(st.integers(1, 4096)),
        output_tokens=draw(st.integers(1, 4096)),
    )


many = st.lists(requests(), min_size=1, max_size=50)


def joules(value: float) -> Quantity:
    return Quantity(value=value, unit="J", source="nvml_counter", resolution=0.5)


def value(found: dict[str, Quantity], name: str) -> float:
    number = found[name].value
    assert number is not None
    return number


@given(many, seconds)
def test_rates_times_window_are_counts(served: list[Request], window_s: float) -> None:
    """Throughput is the count of the window divided by its length, for output, for all tokens, for requests."""
    found = metrics.throughput(served, window_s)
    output = sum(r.output_tokens for r in served)
    total = output + sum(r.prompt_tokens for r in served)
    assert value(found, "output_tokens_per_second") * window_s == pytest.approx(output)
    assert value(found, "total_tokens_per_second") * window_s == pytest.approx(total)
    assert value(found, "requests_per_second") * window_s == pytest.approx(len(served))


@given(many, seconds, st.floats(0.1, 1e6))
def test_energy_per_token_is_a_ratio_of_sums(served: list[Request], window_s: float, total_j: float) -> None:
    """J/token is all joules over all tokens, and keeps the energy's source; its resolution shrinks with it."""
    found = metrics.energy(joules(total_j), served, window_s)
    output = sum(r.output_tokens for r in served)
    per_token = found["energy_per_output_token_j"]
    assert value(found, "energy_per_output_token_j") * output == pytest.approx(total_j)
    assert value(found, "power_mean_w") * window_s == pytest.approx(total_j)
    assert per_token.source == "nvml_counter"
    assert per_token.resolution == pytest.approx(0.5 / output)


@given(many, seconds)
def test_unavailable_energy_stays_unavailable_with_its_reason(served: list[Request], window_s: float) -> None:
    """Without joules there is no J/token, and every one of them says why."""
    found = metrics.energy(unavailable("J", "MIG is enabled"), served, window_s)
    assert {(q.value, q.note) for q in found.values()} == {(None, "MIG is enabled")}


@given(many)
def test_tpot_leaves_the_first_token_out(served: list[Request]) -> None:
    """TPOT is (e2e - TTFT) / (n - 1); a request of one token has none."""
    found = metrics.latency(served)
    expected = [
        1e3 * (r.completed_s - r.first_token_s) / (r.output_tokens - 1)
        for r in served
        if r.first_token_s is not None and r.output_tokens > 1
    ]
    if expected:
        assert value(found, "tpot_ms_mean") == pytest.approx(statistics.fmean(expected))
    else:
        assert found["tpot_ms_mean"].value is None


@pytest.mark.parametrize(
    ("count", "known"), [(9, []), (10, [50]), (49, [50]), (50, [50, 90]), (500, [50, 90, 99])]
)
def test_percentiles_need_enough_requests(count: int, known: list[int]) -> None:
    """Below 5 / (1 - p) requests a percentile is n/a and says how many it needs."""
    found = metrics.latency([Request(0.0, 0.5, 1.0 + i, 1, 2) for i in range(count)])
    there = [p for p in (50, 90, 99) if found[f"e2e_latency_ms_p{p}"].value is not None]
    assert there == known
    missing = [found[f"e2e_latency_ms_p{p}"].note for p in (50, 90, 99) if p not in known]
    assert all(note is not None and f"{count} requests" in note for note in missing)


def test_percentiles_are_by_nearest_rank() -> None:
    """The p90 of 1..100 s is the 90th value."""
    found = metrics.latency([Request(0.0, 0.5, 1.0 + i, 1, 2) for i in range(100)])
    assert value(found, "e2e_latency_ms_p90") == pytest.approx(90_000)


@given(many)
def test_the_mean_running_batch_is_weighted_by_time(served: list[Request]) -> None:
    """Requests that all begin and end together are that many; it never exceeds their number."""
    batch = metrics.mean_running_batch([PassReport(requests=served)])
    assert 0 < batch <= len(served) + 1e-9
    together = [Request(1.0, None, 3.0, 1, 1)] * 7
    assert metrics.mean_running_batch([PassReport(requests=together)]) == pytest.approx(7)


@given(many, seconds)
def test_every_metric_is_a_known_one_with_its_unit(served: list[Request], window_s: float) -> None:
    """No metric is made up: each is in METRICS, with the unit that stands there."""
    found = metrics.merged(
        metrics.energy(joules(1), served, window_s),
        metrics.throughput(served, window_s),
        metrics.latency(served),
    )
    assert {name: quantity.unit for name, quantity in found.items()} == {
        name: METRICS[name].unit for name in found
    }
    assert list(found) == [name for name in METRICS if name in found]

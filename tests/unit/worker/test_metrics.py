"""Metrics are plain arithmetic over requests and joules."""

from __future__ import annotations

import dataclasses
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.backends.base import PassReport, Request
from pytest_llem.records import METRICS, Quantity, unavailable
from pytest_llem.worker import metrics
from pytest_llem.worker.tally import Tally, of_passes

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
    return Quantity(value=value, unit="J", source="nvml_counter", resolution=0.5, parts=("gpu", "cpu"))


def value(found: dict[str, Quantity], name: str) -> float:
    number = found[name].value
    assert number is not None
    return number


def tally(served: list[Request]) -> Tally:
    return of_passes([PassReport(requests=served)], None)


@given(many)
def test_rates_times_window_are_counts(served: list[Request]) -> None:
    """Throughput is the count of the window divided by its length, for output, for all tokens, for requests."""
    found = metrics.throughput(tally(served))
    output = sum(r.output_tokens for r in served)
    total = output + sum(r.prompt_tokens for r in served)
    window_s = max(r.completed_s for r in served) - min(r.submitted_s for r in served)
    assert value(found, "output_tokens_per_second") * window_s == pytest.approx(output)
    assert value(found, "total_tokens_per_second") * window_s == pytest.approx(total)
    assert value(found, "requests_per_second") * window_s == pytest.approx(len(served))


@given(many, st.floats(0.1, 1e6))
def test_energy_per_token_is_a_ratio_of_sums(served: list[Request], total_j: float) -> None:
    """J/token is all joules over all tokens, with the energy's source and parts; its resolution shrinks with it."""
    found = metrics.energy(joules(total_j), tally(served))
    output = sum(r.output_tokens for r in served)
    per_token = found["energy_per_output_token_j"]
    assert value(found, "energy_per_output_token_j") * output == pytest.approx(total_j)
    assert value(found, "energy_per_request_j") * len(served) == pytest.approx(total_j)
    assert (per_token.source, per_token.parts) == ("nvml_counter", ("gpu", "cpu"))
    assert per_token.resolution == pytest.approx(0.5 / output)


@given(many, st.floats(0.1, 1e6), st.integers(1, 10_000))
def test_energy_per_request_is_that_of_its_tokens(served: list[Request], total_j: float, made: int) -> None:
    """A window that cut requests counts tokens; a request's energy is that of as many as it has on average."""
    cut = dataclasses.replace(tally(served), output_tokens=made)
    found = metrics.energy(joules(total_j), cut)
    mean_tokens = sum(r.output_tokens for r in served) / len(served)
    assert value(found, "energy_per_request_j") == pytest.approx(total_j / made * mean_tokens)


@given(many)
def test_unavailable_energy_stays_unavailable_with_its_reason(served: list[Request]) -> None:
    """Without joules there is no J/token, and every one of them says why."""
    found = metrics.energy(unavailable("J", "MIG is enabled"), tally(served))
    assert {(q.value, q.note) for q in found.values()} == {(None, "MIG is enabled")}


@given(many)
def test_itl_is_from_token_to_token(served: list[Request]) -> None:
    """ITL has one sample a gap; where the engine kept no times it is n/a, and says how to have them."""
    assert "streaming: true" in (metrics.latency(served)["itl_ms_mean"].note or "")
    timed = [dataclasses.replace(r, token_s=[r.submitted_s + n for n in (1.0, 3.0, 4.0)]) for r in served]
    assert value(metrics.latency(timed), "itl_ms_mean") == pytest.approx(1500)


def test_percentiles_of_itl_count_gaps() -> None:
    """Eleven tokens are ten gaps, enough for a median of one request."""
    found = metrics.latency([Request(0, 0, 10, 1, 11, token_s=list(range(11)))])
    assert value(found, "itl_ms_p50") == pytest.approx(1000)
    assert found["e2e_latency_ms_p50"].value is None


def test_waiting_is_in_a_latency_under_load_alone() -> None:
    """In a pass a latency begins when the engine begins with the request, under load when the request arrives."""
    waited = [Request(0, 4, 10, prompt_tokens=1, output_tokens=3, started_s=3)]
    in_a_pass, under_load = metrics.latency(waited), metrics.latency(waited, under_load=True)
    assert [value(in_a_pass, name) for name in ("ttft_ms_mean", "e2e_latency_ms_mean")] == [1000, 7000]
    assert [value(under_load, name) for name in ("ttft_ms_mean", "e2e_latency_ms_mean")] == [4000, 10000]
    assert value(in_a_pass, "tpot_ms_mean") == value(under_load, "tpot_ms_mean") == 3000


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
    """Below 5 / (1 - p) distinct times a percentile is n/a and says how many it needs."""
    found = metrics.latency([Request(0.0, 0.5, 1.0 + i, 1, 2) for i in range(count)])
    there = [p for p in (50, 90, 99) if found[f"e2e_latency_ms_p{p}"].value is not None]
    assert there == known
    missing = [found[f"e2e_latency_ms_p{p}"].note for p in (50, 90, 99) if p not in known]
    assert all(note is not None and f"{count} distinct times; p" in note for note in missing)


@pytest.mark.parametrize("kind", ["ttft_ms", "tpot_ms", "e2e_latency_ms"])
def test_a_static_batch_is_one_time(kind: str) -> None:
    """512 requests in 8 batches that begin, start to answer and end together have 8 times, too few for a median."""
    served = [Request(batch, batch + 0.5, batch + 0.9, 1, 2 + n) for batch in range(8) for n in range(64)]
    found = metrics.latency(served)
    assert value(found, f"{kind}_mean") > 0
    assert [found[f"{kind}_p{p}"].note for p in (50, 90, 99)] == [
        f"8 distinct times; p{p} needs {needed}" for p, needed in ((50, 10), (90, 50), (99, 500))
    ]


def test_tokens_of_a_static_batch_are_one_time() -> None:
    """The gaps between tokens that all requests of a batch have at the same moments count once."""
    batch = [Request(0, 0, 10, 1, 11, token_s=list(range(11))) for _ in range(64)]
    assert value(metrics.latency(batch), "itl_ms_p50") == pytest.approx(1000)
    assert metrics.latency(batch)["itl_ms_p90"].note == "10 distinct times; p90 needs 50"


def test_percentiles_are_by_nearest_rank() -> None:
    """The p90 of 1..100 s is the 90th value."""
    found = metrics.latency([Request(0.0, 0.5, 1.0 + i, 1, 2) for i in range(100)])
    assert value(found, "e2e_latency_ms_p90") == pytest.approx(90_000)


@given(many)
def test_every_metric_is_a_known_one_with_its_unit(served: list[Request]) -> None:
    """No metric is made up: each is in METRICS, with the unit that stands there."""
    found = metrics.merged(
        metrics.energy(joules(1), tally(served)),
        metrics.throughput(tally(served)),
        metrics.latency(served),
    )
    assert {name: quantity.unit for name, quantity in found.items()} == {
        name: METRICS[name].unit for name in found
    }
    assert list(found) == [name for name in METRICS if name in found]

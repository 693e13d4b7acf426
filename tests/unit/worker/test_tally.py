"""What is counted between the edges of a window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.backends.base import PassReport, Request
from pytest_llem.worker.tally import Arrived, Tally, between, of_load, of_passes, running_batch, token_times

moments = st.floats(0, 100)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    submitted, started, first, completed = sorted(draw(st.lists(moments, min_size=4, max_size=4)))
    tokens = draw(st.integers(1, 50))
    inner = sorted(draw(st.lists(st.floats(first, completed), min_size=tokens, max_size=tokens)))
    return Request(
        submitted_s=submitted,
        first_token_s=first,
        completed_s=completed,
        prompt_tokens=draw(st.integers(1, 99)),
        output_tokens=tokens,
        started_s=started,
        token_s=draw(st.sampled_from([None, inner])),
    )


many = st.lists(requests(), min_size=1, max_size=20)


def window(served: list[Request], begin_s: float, end_s: float) -> Tally:
    submitted_s = sorted(request.submitted_s for request in served)
    reports = [(request.completed_s, PassReport([request])) for request in served]
    return of_load(Arrived(submitted_s, reports, [], open_loop=True), begin_s, end_s, 4)


@given(many, moments, moments, moments)
def test_windows_side_by_side_share_no_token_and_lose_none(
    served: list[Request], one: float, two: float, three: float
) -> None:
    """Tokens and requests of two adjacent windows are those of both together, whatever lies on the edge."""
    a, b, c = sorted((one, two, three))
    if a < b < c:
        left, right, both = window(served, a, b), window(served, b, c), window(served, a, c)
        for count in ("output_tokens", "prompt_tokens"):
            assert getattr(left, count) + getattr(right, count) == getattr(both, count)
        assert len(left.requests) + len(right.requests) == len(both.requests)


@given(many)
def test_a_window_around_everything_holds_everything(served: list[Request]) -> None:
    """No token is lost where the window holds all requests."""
    tally = window(served, -1, 101)
    assert tally.output_tokens == sum(r.output_tokens for r in served)
    assert tally.prompt_tokens == sum(r.prompt_tokens for r in served)
    assert tally.requests == served


def test_a_token_on_an_edge_is_in_the_window_that_ends_there() -> None:
    """The opening edge is outside and the closing edge inside."""
    assert between([1.0, 2.0, 3.0, 4.0], 1.0, 3.0) == 2


@given(requests())
def test_tokens_without_times_come_evenly(request_: Request) -> None:
    """Between first token and completion there is one token for each that was counted, at even gaps."""
    request_.token_s = None
    times = token_times(request_)
    assert len(times) == request_.output_tokens
    assert times[0] == request_.first_token_s
    assert list(times) == pytest.approx(sorted(times))
    if len(times) > 1:
        assert times[-1] == request_.completed_s


def test_a_request_that_was_not_finished_gives_its_tokens() -> None:
    """What an engine had made of a request when the load ended is counted by its times, and it has no latency."""
    begun = Request(0, 1, 3, 7, 3, token_s=[1, 2, 3])
    done = Request(0, 1, 2, 5, 2)
    tally = of_load(Arrived([0, 0], [(2, PassReport([done]))], [begun], open_loop=False), 0.5, 2.5, None)
    assert (tally.output_tokens, tally.prompt_tokens, tally.requests) == (4, 12, [done])
    assert tally.full_batch_share is None


@given(many)
def test_the_mean_running_batch_is_weighted_by_time(served: list[Request]) -> None:
    """It is the requests' time in the engine over the window, and never exceeds their number."""
    mean, share = running_batch(served, 0, 100, len(served))
    occupied_s = sum(r.completed_s - (r.started_s or 0) for r in served)
    assert mean == pytest.approx(occupied_s / 100)
    assert share is not None
    assert 0 <= share <= 1 + 1e-9


def test_the_share_at_full_batch_is_that_of_the_time() -> None:
    """Two requests of which one ends halfway fill a batch of two for half of the window."""
    served = [Request(1, None, 3, 1, 1), Request(1, None, 2, 1, 1)]
    tally = of_passes([PassReport(served)], 2)
    assert (tally.begin_s, tally.end_s) == (1, 3)
    assert tally.mean_running_batch == pytest.approx(1.5)
    assert tally.full_batch_share == pytest.approx(0.5)

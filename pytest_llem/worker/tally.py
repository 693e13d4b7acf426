"""What one window was made of: tokens, requests and the batch, counted between its edges. Pure arithmetic."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pytest_llem.backends.base import PassReport, Request
from pytest_llem.records import LoadReport

GROWTH = 0.05
"""A queue that grows by more than this part of the arrivals, and by more than one batch, has no end."""


@dataclass(frozen=True, slots=True)
class Tally:
    """One window.

    Attributes:
        begin_s, end_s: its edges, `time.monotonic()`.
        passes: whole ones; 0 under load.
        requests: those that were completed in the window; latencies are theirs.
        prompt_tokens, cached_tokens, output_tokens: by when they were computed, so under load also of requests
            that reach over an edge.
        mean_running_batch, full_batch_share: see `records.Measurement`.
        saturated: requests came faster than they were served.
    """

    begin_s: float
    end_s: float
    passes: int
    requests: list[Request]
    prompt_tokens: int
    cached_tokens: int | None
    padding_tokens: int
    output_tokens: int
    preemptions: int | None
    mean_running_batch: float
    full_batch_share: float | None
    load: LoadReport | None = None
    saturated: bool = False

    @property
    def window_s(self) -> float:
        """How long the window was open."""
        return self.end_s - self.begin_s


@dataclass(frozen=True, slots=True)
class Arrived:
    """All that a load was made of, before, in and after its window.

    Attributes:
        submitted_s: of every request, in order.
        reports: what was completed, with the time when that was known.
        unfinished: requests that had begun when the load ended.
        open_loop: requests came at a rate, whatever became of those before.
    """

    submitted_s: Sequence[float]
    reports: Sequence[tuple[float, PassReport]]
    unfinished: Sequence[Request]
    open_loop: bool


def of_passes(passes: Sequence[PassReport], batch_limit: int | None) -> Tally:
    """Return the tally of whole passes: from the first submission to the last completion, all is inside."""
    requests = [request for report in passes for request in report.requests]
    begin_s, end_s = min(r.submitted_s for r in requests), max(r.completed_s for r in requests)
    mean, full_share = running_batch(requests, begin_s, end_s, batch_limit)
    return Tally(
        begin_s=begin_s,
        end_s=end_s,
        passes=len(passes),
        requests=requests,
        prompt_tokens=sum(r.prompt_tokens for r in requests),
        cached_tokens=_cached_tokens(requests),
        padding_tokens=sum(report.padding_tokens for report in passes),
        output_tokens=sum(r.output_tokens for r in requests),
        preemptions=_preemptions(passes),
        mean_running_batch=mean,
        full_batch_share=full_share,
    )


def of_load(arrived: Arrived, begin_s: float, end_s: float, batch_limit: int | None) -> Tally:
    """Return the tally of a window in a load: what has its time after `begin_s` and not after `end_s`.

    The prompt of a request is computed when its first token is there.
    """
    reports = [report for known_s, report in arrived.reports if begin_s < known_s <= end_s]
    complete = [request for _, report in arrived.reports for request in report.requests]
    begun = [*complete, *arrived.unfinished]
    prefilled = [r for r in begun if (times := token_times(r)) and begin_s < times[0] <= end_s]
    requests = [r for r in complete if begin_s < r.completed_s <= end_s]
    mean, full_share = running_batch(begun, begin_s, end_s, batch_limit)
    load = _load_report(arrived, begun, len(requests), begin_s, end_s)
    return Tally(
        begin_s=begin_s,
        end_s=end_s,
        passes=0,
        requests=requests,
        prompt_tokens=sum(r.prompt_tokens for r in prefilled),
        cached_tokens=_cached_tokens(prefilled),
        padding_tokens=sum(report.padding_tokens for report in reports),
        output_tokens=sum(between(token_times(r), begin_s, end_s) for r in begun),
        preemptions=_preemptions(reports),
        mean_running_batch=mean,
        full_batch_share=full_share,
        load=load,
        saturated=_is_saturated(load, end_s - begin_s, batch_limit or 1),
    )


def token_times(request: Request) -> Sequence[float]:
    """Return when each output token was there.

    Without times between the first and the last token, those are taken to have come evenly; without that of the
    first, all came with the completion.
    """
    if request.token_s is not None:
        return request.token_s
    count, end_s = request.output_tokens, request.completed_s
    first_s = end_s if request.first_token_s is None else request.first_token_s
    if count < 2:
        return [first_s] * count
    gap_s = (end_s - first_s) / (count - 1)
    return [first_s + number * gap_s for number in range(count - 1)] + [end_s]


def between(times_s: Sequence[float], begin_s: float, end_s: float) -> int:
    """Return how many of ascending times lie after `begin_s` and not after `end_s`: no token is in two windows."""
    return bisect_right(times_s, end_s) - bisect_right(times_s, begin_s)


def running_batch(
    requests: Iterable[Request], begin_s: float, end_s: float, limit: int | None
) -> tuple[float, float | None]:
    """Return the mean number of running requests from `begin_s` to `end_s`, and the share of time at the limit."""
    changes: list[tuple[float, int]] = [(begin_s, 0), (end_s, 0)]
    for request in requests:
        first_s, last_s = max(started_s(request), begin_s), min(request.completed_s, end_s)
        if first_s < last_s:
            changes += [(first_s, 1), (last_s, -1)]
    running, area, full_s = 0, 0.0, 0.0
    for (at_s, change), (until_s, _) in pairwise(sorted(changes)):
        running += change
        area += running * (until_s - at_s)
        full_s += (until_s - at_s) if limit is not None and running >= limit else 0.0
    window_s = end_s - begin_s
    return area / window_s, None if limit is None else full_s / window_s


def started_s(request: Request) -> float:
    """Return when the engine began with a request."""
    return request.submitted_s if request.started_s is None else request.started_s


def _cached_tokens(requests: Iterable[Request]) -> int | None:
    counts = [request.cached_tokens for request in requests]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _preemptions(reports: Iterable[PassReport]) -> int | None:
    counts = [report.preemptions for report in reports if report.preemptions is not None]
    return sum(counts) if counts else None


def _load_report(
    arrived: Arrived, begun: Sequence[Request], completed: int, begin_s: float, end_s: float
) -> LoadReport:
    begun_s = sorted(map(started_s, begun))
    window_s = end_s - begin_s
    arrivals = between(arrived.submitted_s, begin_s, end_s)
    queues = [
        bisect_right(arrived.submitted_s, at_s) - bisect_right(begun_s, at_s) for at_s in (begin_s, end_s)
    ]
    return LoadReport(
        offered_rate=arrivals / window_s if arrived.open_loop else None,
        achieved_rate=completed / window_s,
        queue_begin=queues[0],
        queue_end=queues[1],
    )


def _is_saturated(load: LoadReport, window_s: float, batch_limit: int) -> bool:
    if load.offered_rate is None:
        return False
    growth = load.queue_end - load.queue_begin
    return growth > max(batch_limit, GROWTH * load.offered_rate * window_s)

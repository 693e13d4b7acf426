"""From requests and joules to metrics. Pure arithmetic; definitions and traps in docs/metrics.md."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from pytest_llem.backends.base import Request
from pytest_llem.records import METRICS, Quantity, Source, unavailable
from pytest_llem.worker.tally import Tally, started_s

PERCENTILES = (50, 90, 99)


class _Span(NamedTuple):
    """From one time to another, `steps` tokens apart."""

    begin_s: float
    end_s: float
    steps: int = 1

    @property
    def ms(self) -> float:
        """The time of one step."""
        return 1e3 * (self.end_s - self.begin_s) / self.steps


_WHY_NOT = {"itl_ms": "times of single tokens need streaming: true and answers of two tokens or more"}


def throughput(tally: Tally) -> dict[str, Quantity]:
    """Return tokens and requests per second of the window."""
    counts = {
        "output_tokens_per_second": tally.output_tokens,
        "total_tokens_per_second": tally.output_tokens + tally.prompt_tokens,
        "requests_per_second": len(tally.requests),
    }
    return {name: _known(name, count / tally.window_s, "clock") for name, count in counts.items()}


def energy(total_j: Quantity, tally: Tally) -> dict[str, Quantity]:
    """Return the gross energy of the window, and that per token and request; each keeps the energy's source.

    That per request is energy per output token x mean output tokens of a request: under load a request may reach
    over an edge of the window, and its tokens are counted where they were made.
    """
    output = tally.output_tokens
    answers = sum(r.output_tokens for r in tally.requests)
    divisors = {
        "energy_j": 1.0,
        "energy_per_output_token_j": output,
        "energy_per_total_token_j": output + tally.prompt_tokens,
        "energy_per_request_j": output * len(tally.requests) / answers if answers else 0,
    }
    return {name: share(total_j, name, divisor) for name, divisor in divisors.items()}


def latency(requests: Sequence[Request], *, under_load: bool = False) -> dict[str, Quantity]:
    """Return means and percentiles of TTFT, TPOT, ITL and end-to-end latency in ms.

    TTFT and e2e begin, under load, when the request arrives. In a pass, where all prompts are there at once and
    nobody waits, they begin when the engine begins with the request: a wait would only tell how many prompts there
    are. TPOT is (e2e - TTFT) / (n - 1), so the first token is not in it and one-token outputs have none. It has one
    sample a request; ITL, from one token to the next of a request, has one a gap.
    """
    begin_s: Callable[[Request], float] = attrgetter("submitted_s") if under_load else started_s
    spans = {
        "e2e_latency_ms": [_Span(begin_s(r), r.completed_s) for r in requests],
        "ttft_ms": [_Span(begin_s(r), r.first_token_s) for r in requests if r.first_token_s is not None],
        "tpot_ms": [
            _Span(r.first_token_s, r.completed_s, r.output_tokens - 1)
            for r in requests
            if r.first_token_s is not None and r.output_tokens > 1
        ],
        "itl_ms": [_Span(*edges) for r in requests if r.token_s is not None for edges in pairwise(r.token_s)],
    }
    return {name: value for kind, found in spans.items() for name, value in _spread(kind, found).items()}


def _spread(kind: str, spans: Sequence[_Span]) -> dict[str, Quantity]:
    """Return mean and percentiles; for these, requests that begin and end together, as in a static batch, are one."""
    if not spans:
        names = [f"{kind}_mean", *(f"{kind}_p{p}" for p in PERCENTILES)]
        return {name: unavailable("ms", _WHY_NOT.get(kind, "no request has a time for it")) for name in names}
    ordered = sorted(span.ms for span in spans)
    distinct = len({(span.begin_s, span.end_s) for span in spans})
    spread = {f"{kind}_mean": _known(f"{kind}_mean", statistics.fmean(ordered), "clock")}
    for percent in PERCENTILES:
        spread[f"{kind}_p{percent}"] = _percentile(f"{kind}_p{percent}", ordered, percent, distinct)
    return spread


def _percentile(name: str, ordered: Sequence[float], percent: int, distinct: int) -> Quantity:
    """Return the nearest-rank percentile, or why there are too few distinct times: p99 of 71 is the maximum."""
    needed = round(5 / (1 - percent / 100))
    if distinct < needed:
        return unavailable("ms", f"{distinct} distinct times; p{percent} needs {needed}")
    rank = -(-len(ordered) * percent // 100)
    return _known(name, ordered[rank - 1], "clock")


def _known(name: str, value: float, source: Source) -> Quantity:
    return Quantity(value=value, unit=METRICS[name].unit, source=source)


def share(total_j: Quantity, name: str, divisor: float) -> Quantity:
    """Return a metric that is energy over something, with the energy's source."""
    unit = METRICS[name].unit
    if total_j.value is None or not divisor:
        return unavailable(unit, total_j.note or "nothing to divide by")
    resolution = None if total_j.resolution is None else total_j.resolution / divisor
    return total_j.model_copy(
        update={"value": total_j.value / divisor, "unit": unit, "resolution": resolution}
    )


def known(name: str, value: float | None, source: Source, why_not: str) -> Quantity:
    """Return a metric's quantity, or its absence with the reason."""
    return unavailable(METRICS[name].unit, why_not) if value is None else _known(name, value, source)


def merged(*parts: Mapping[str, Quantity]) -> dict[str, Quantity]:
    """Return all metrics in the order of `METRICS`."""
    found = {name: quantity for part in parts for name, quantity in part.items()}
    return {name: found[name] for name in METRICS if name in found}

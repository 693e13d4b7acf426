"""From requests and joules to metrics. Pure arithmetic; definitions and traps in docs/metrics.md."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from operator import attrgetter

from pytest_llem.backends.base import Request
from pytest_llem.records import METRICS, Quantity, Source, unavailable
from pytest_llem.worker.tally import Tally, started_s

PERCENTILES = (50, 90, 99)

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
    return {name: _share(total_j, name, divisor) for name, divisor in divisors.items()}


def latency(requests: Sequence[Request], *, under_load: bool = False) -> dict[str, Quantity]:
    """Return means and percentiles of TTFT, TPOT, ITL and end-to-end latency in ms.

    TTFT and e2e begin, under load, when the request arrives. In a pass, where all prompts are there at once and
    nobody waits, they begin when the engine begins with the request: a wait would only tell how many prompts there
    are. TPOT is (e2e - TTFT) / (n - 1), so the first token is not in it and one-token outputs have none. It has one
    sample a request; ITL, from one token to the next of a request, has one a gap.
    """
    begin_s: Callable[[Request], float] = attrgetter("submitted_s") if under_load else started_s
    samples = {
        "e2e_latency_ms": [1e3 * (r.completed_s - begin_s(r)) for r in requests],
        "ttft_ms": [1e3 * (r.first_token_s - begin_s(r)) for r in requests if r.first_token_s is not None],
        "tpot_ms": [
            1e3 * (r.completed_s - r.first_token_s) / (r.output_tokens - 1)
            for r in requests
            if r.first_token_s is not None and r.output_tokens > 1
        ],
        "itl_ms": [1e3 * (b - a) for r in requests if r.token_s is not None for a, b in pairwise(r.token_s)],
    }
    return {name: value for kind, values in samples.items() for name, value in _spread(kind, values).items()}


def _spread(kind: str, values: Sequence[float]) -> dict[str, Quantity]:
    if not values:
        names = [f"{kind}_mean", *(f"{kind}_p{p}" for p in PERCENTILES)]
        return {name: unavailable("ms", _WHY_NOT.get(kind, "no request has a time for it")) for name in names}
    spread = {f"{kind}_mean": _known(f"{kind}_mean", statistics.fmean(values), "clock")}
    ordered = sorted(values)
    for percent in PERCENTILES:
        spread[f"{kind}_p{percent}"] = _percentile(f"{kind}_p{percent}", ordered, percent)
    return spread


def _percentile(name: str, ordered: Sequence[float], percent: int) -> Quantity:
    """Return the nearest-rank percentile, or why there are too few samples: p99 of 71 is the maximum."""
    needed = round(5 / (1 - percent / 100))
    if len(ordered) < needed:
        return unavailable("ms", f"{len(ordered)} samples; p{percent} needs {needed}")
    rank = -(-len(ordered) * percent // 100)
    return _known(name, ordered[rank - 1], "clock")


def _known(name: str, value: float, source: Source) -> Quantity:
    return Quantity(value=value, unit=METRICS[name].unit, source=source)


def _share(total_j: Quantity, name: str, divisor: float) -> Quantity:
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

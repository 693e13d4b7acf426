"""Limits for a mean, by Student's t and by the bootstrap: many samples of one size at a time.

The samples are the rows of a matrix and share one set of resamples, so that 24,000 bootstraps are a few
matrix products. Each is sorted, since its order must not matter, and measured from its mean in units of its
range.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

Array = NDArray[np.float64]
Method = Literal["student", "bootstrap-t", "percentile", "bca"]

_SAME = 1e-6
"""Differences, in ranges of the sample, that count as none: rounding must not break a tie."""

_CHUNK = 50_000
"""Statistics computed at a time: so few that they stay in the processor's cache, which is 3 times faster."""


def limits(samples: Array, method: Method, *, level: float, resamples: int, seed: int) -> tuple[Array, Array]:
    """Return the lower and the upper limits of the intervals for the means of the rows of `samples`.

    They never exclude the mean, and for a row of equal values both are that value.

    Args:
        samples: one sample a row, at least 2 values each.
        method: Student's t; the studentized bootstrap without its degenerate resamples, the percentile
            bootstrap, BCa (Efron and Tibshirani 1993, chapters 12, 13 and 14).
        level: nominal coverage.
        resamples: how many a bootstrap draws.
        seed: of the draw.
    """
    ordered = np.sort(samples, axis=1)
    ranges = np.ptp(ordered, axis=1)
    varied = ranges > 0
    means = np.where(varied, ordered.mean(axis=1), ordered[:, 0])
    scaled = (ordered[varied] - means[varied, None]) / ranges[varied, None]
    tail = (1 - level) / 2
    if method == "student":
        reach = stdtrit(ordered.shape[1] - 1, 1 - tail) * _standard_error(scaled)
        below, above = -reach, reach
    else:
        below, above = _bootstrap(scaled, method, tail, _weights(ordered.shape[1], resamples, seed))
    low, high = means.copy(), means.copy()
    low[varied] += ranges[varied] * np.minimum(below, 0)
    high[varied] += ranges[varied] * np.maximum(above, 0)
    return low, high


def _standard_error(scaled: Array) -> Array:
    error: Array = scaled.std(axis=1, ddof=1) / np.sqrt(scaled.shape[1])
    return error


def _weights(n: int, resamples: int, seed: int) -> Array:
    """Return the resamples, one a column: the share of each of the n values in it."""
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    return np.ascontiguousarray(drawn.T / n)


def _bootstrap(scaled: Array, method: Method, tail: float, weights: Array) -> tuple[Array, Array]:
    low, high = np.empty(len(scaled)), np.empty(len(scaled))
    compute = {"bootstrap-t": _studentized, "percentile": _percentile, "bca": _bca}[method]
    rows = max(1, _CHUNK // weights.shape[1])
    for first in range(0, len(scaled), rows):
        part = slice(first, first + rows)
        low[part], high[part] = compute(scaled[part], tail, weights)
    return low, high


def _studentized(scaled: Array, tail: float, weights: Array) -> tuple[Array, Array]:
    means = scaled @ weights
    variances = np.square(scaled) @ weights - np.square(means)
    degenerate = variances < _SAME**2  # a single value, which has no t statistic
    statistics = means / np.sqrt(np.where(degenerate, 1, variances) / (scaled.shape[1] - 1))
    statistics[degenerate] = np.inf  # to the end of the order, beyond what is counted
    counts = statistics.shape[1] - degenerate.sum(axis=1)
    ordered = _in_order(statistics)
    error = _standard_error(scaled)
    return -error * _pick(ordered, 1 - tail, counts), -error * _pick(ordered, tail, counts)


def _percentile(scaled: Array, tail: float, weights: Array) -> tuple[Array, Array]:
    ordered = _in_order(scaled @ weights)
    return _pick(ordered, tail), _pick(ordered, 1 - tail)


def _bca(scaled: Array, tail: float, weights: Array) -> tuple[Array, Array]:
    means = scaled @ weights
    # A mean that equals the sample's own, up to rounding, counts as half below it.
    below = (np.sum(means < -_SAME, axis=1) + np.sum(means <= _SAME, axis=1)) / 2
    bias = ndtri(np.clip(below / means.shape[1], 1 / means.shape[1], 1 - 1 / means.shape[1]))
    acceleration = np.sum(scaled**3, axis=1) / (6 * np.sum(scaled**2, axis=1) ** 1.5)
    ordered = _in_order(means)

    def limit(probability: float) -> Array:
        shift = bias + ndtri(probability)
        return _pick(ordered, ndtr(bias + shift / (1 - acceleration * shift)))

    return limit(tail), limit(1 - tail)


def _in_order(statistics: Array) -> NDArray[np.float32]:
    """Sort each row. In single precision: 7 times faster, and it moves no limit by 1e-6 of its half width."""
    return np.sort(statistics.astype(np.float32), axis=1)


def _pick(
    ordered: NDArray[np.float32], probability: float | Array, counts: NDArray[np.int64] | None = None
) -> Array:
    """Return the (B + 1) p-th of the first B = `counts` values of each row (Davison, Hinkley 1997)."""
    number = np.full(len(ordered), ordered.shape[1]) if counts is None else counts
    index = np.clip(np.rint((number + 1) * probability).astype(np.int64) - 1, 0, number - 1)
    return np.take_along_axis(ordered, index[:, None], axis=1)[:, 0].astype(np.float64)

"""Confidence intervals for a mean over few blocks, and what they really cover."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as checked

from pytest_llem.analysis.resampling import Method, limits

CHECKS = ConfigDict(extra="forbid", allow_inf_nan=False)
"""What a summary's many small parts have of a `Record`; with slots they take a quarter of its memory."""

LEAST = 3
"""Blocks below which there is no interval: two values say next to nothing about their spread."""

_PERCENTILE = (0.753, 0.793, 0.836, 0.867, 0.872, 0.880, 0.895, 0.897, 0.911, 0.915, 0.931, 0.936)
_BCA = (0.726, 0.794, 0.839, 0.868, 0.873, 0.880, 0.895, 0.893, 0.908, 0.912, 0.930, 0.937)
_SIZES = (3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 30)
_COVERAGE_95: MappingProxyType[Method, dict[int, float | None]] = MappingProxyType(
    {
        "percentile": dict(zip(_SIZES, _PERCENTILE, strict=True)),
        "bca": dict(zip(_SIZES, _BCA, strict=True)),
        "bootstrap-t": {3: 0.817, 4: None},
    }
)
"""True coverage of a nominal 95 % interval by number of blocks, from docs/measurements/interval-coverage.md.
None where the method keeps what it promises."""


@checked(frozen=True, slots=True, config=CHECKS)
class Interval:
    """An interval for a mean over blocks.

    Attributes:
        center: geometric mean, or arithmetic mean of a quantity that may be negative.
        method: as resolved, never `auto`.
        level: nominal coverage.
        n: number of blocks.
        df: degrees of freedom; None for a bootstrap.
        coverage: true coverage where it is known to fall short of `level`, else None.
    """

    center: float
    low: float
    high: float
    method: Method
    level: float
    n: int
    df: int | None
    coverage: float | None


@dataclass(frozen=True, slots=True)
class Sample:
    """One value a block, and whether they are averaged on natural logs."""

    values: tuple[float, ...]
    logarithmic: bool

    @property
    def scaled(self) -> tuple[float, ...]:
        """The values on the scale of the analysis."""
        return tuple(map(math.log, self.values)) if self.logarithmic else self.values

    @property
    def center(self) -> float | None:
        """The mean; None without values."""
        return mean(self.values, logarithmic=self.logarithmic) if self.values else None

    @property
    def sd(self) -> float | None:
        """Standard deviation on the scale of the analysis (on logs: about the CV); None below 2 values."""
        return float(np.std(self.scaled, ddof=1)) if len(self.values) > 1 else None

    def unscaled(self, value: float) -> float:
        """Return `value` on the scale of the metric; infinite beyond the range of a float."""
        if not self.logarithmic:
            return value
        return math.exp(value) if value < math.log(np.finfo(float).max) else math.inf


def mean(values: Sequence[float], *, logarithmic: bool) -> float:
    """Return the geometric mean, or the arithmetic one; no rounding carries it outside of the values."""
    scaled = map(math.log, values) if logarithmic else values
    average = math.fsum(scaled) / len(values)
    return min(max(math.exp(average) if logarithmic else average, min(values)), max(values))


def headline_method(asked: Method | Literal["auto"], n: int) -> Method:
    """Return the method of the headline interval: for `auto` Student's t up to n = 7, then bootstrap-t.

    Both cover 95 % there; at n = 5 the bootstrap is 1.3 times wider and moves with its seed.
    """
    if asked == "auto":
        return "student" if n < 8 else "bootstrap-t"
    return asked


def bootstrap_method(n: int) -> Method:
    """Return the best bootstrap for n blocks: below 5 the studentized one has too few distinct resamples."""
    return "percentile" if n < 5 else "bootstrap-t"


def interval(
    values: Sequence[float],
    *,
    method: Method | Literal["auto"] = "auto",
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
    logarithmic: bool = True,
) -> Interval | None:
    """Return the interval of the mean of `values`, one a block; None below 3 values, whatever the method.

    Raises:
        ValueError: a value is 0 or negative and `logarithmic` is true.
    """
    if logarithmic and min(values, default=1.0) <= 0:
        raise ValueError(
            f"an interval on logs needs values above 0, not {min(values)}: pass logarithmic=False"
        )
    return intervals(
        [Sample(tuple(values), logarithmic)],
        lambda n: headline_method(method, n),
        level=level,
        resamples=resamples,
        seed=seed,
    )[0]


def intervals(
    samples: Sequence[Sample], choose: Callable[[int], Method], *, level: float, resamples: int, seed: int
) -> list[Interval | None]:
    """Return one interval a sample, by the method that `choose` returns for its size.

    Samples of one size share their resamples, which is what makes 24,000 bootstraps a matter of seconds.
    """
    sizes: defaultdict[int, list[int]] = defaultdict(list)
    for place, sample in enumerate(samples):
        sizes[len(sample.values)].append(place)
    found: list[Interval | None] = [None] * len(samples)
    for n, places in sizes.items():
        if n < LEAST:
            continue
        method = choose(n)
        matrix = np.array([samples[place].scaled for place in places])
        bounds = limits(matrix, method, level=level, resamples=resamples, seed=seed)
        for place, (low, high) in zip(places, np.transpose(bounds).tolist(), strict=True):
            found[place] = _interval(samples[place], low, high, method, level)
    return found


def known_coverage(method: Method, level: float, n: int) -> float | None:
    """Return the true coverage of a bootstrap at n blocks, where it is known to fall short of `level`.

    Simulated at 95 % for the sizes in docs/measurements/interval-coverage.md; between two of them the smaller
    one's coverage stands, a lower bound. None at other levels.
    """
    table = _COVERAGE_95.get(method)
    if table is None or level != 0.95 or n < LEAST:
        return None
    return table[max(size for size in table if size <= n)]


def _interval(sample: Sample, low: float, high: float, method: Method, level: float) -> Interval | None:
    """Return the interval with limits given on the scale of the analysis; equal values collapse to theirs."""
    n, center = len(sample.values), sample.center
    assert center is not None
    if min(sample.values) < max(sample.values):
        low, high = min(sample.unscaled(low), center), max(sample.unscaled(high), center)
    else:
        low = high = center
    if math.isinf(high):
        return None  # wider than numbers go: it says nothing
    return Interval(
        center=center,
        low=low,
        high=high,
        method=method,
        level=level,
        n=n,
        df=n - 1 if method == "student" else None,
        coverage=known_coverage(method, level, n),
    )

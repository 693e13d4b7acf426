"""How often do the intervals of pytest-llem contain the true value?

Draws cycles around a known value, makes each replicate's interval with the package's own code, and counts.
Prints the page docs/measurements/interval-coverage.md; exits with 1 if `auto` does not cover.

    python benchmarks/coverage.py --date 2026-11-22 > docs/measurements/interval-coverage.md
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
import scipy

from pytest_llem.analysis.intervals import Sample, headline_method, intervals
from pytest_llem.analysis.resampling import Array, Method

REPLICATES = 4_000
BATCH = 500
"""Replicates that share their resamples; each batch draws its own, as each campaign does."""
RESAMPLES = 9_999
LEVEL = 0.95
SEED = 20_261_122
SIZES = (3, 5, 10)
ALL_SIZES = (3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 30)
METHODS: tuple[Method, ...] = ("percentile", "bca", "bootstrap-t", "student")
ALLOWED = (93.5, 96.5)
"""Coverage of `auto` in %; 4,000 replicates know it within 0.7."""

Noise = Callable[[np.random.Generator, int], Array]
Found = Mapping[tuple[Method, str, int], float]


def lognormal(cv: float) -> Noise:
    """Return independent cycles: natural logs around 0, the true value being 1."""
    return lambda rng, n: rng.normal(0, cv, size=(REPLICATES, n))


def autoregressive(rng: np.random.Generator, n: int) -> Array:
    """Cycles that follow their predecessor with a correlation of 0.6 and have a CV of 1 %."""
    logs = rng.normal(0, 0.01, size=(REPLICATES, n))
    for cycle in range(1, n):
        logs[:, cycle] = 0.6 * logs[:, cycle - 1] + np.sqrt(1 - 0.6**2) * logs[:, cycle]
    return logs


def drifting(rng: np.random.Generator, n: int) -> Array:
    """Cycles with a CV of 1 % that rise by 2 % from the first to the last; true is the middle."""
    return rng.normal(0, 0.01, size=(REPLICATES, n)) + np.linspace(-0.01, 0.01, n)


INDEPENDENT = {"lognormal 1 %": lognormal(0.01), "lognormal 5 %": lognormal(0.05)}
NOISES: dict[str, Noise] = INDEPENDENT | {"AR(1) 0.6": autoregressive, "linear drift 2 sigma": drifting}
FIRST = "lognormal 1 %"


def coverage(method: Method, noise: str, n: int) -> float:
    """Return in % how often the interval over `n` cycles contains the true geometric mean, 1."""
    logs = NOISES[noise](np.random.default_rng([SEED, n, list(NOISES).index(noise)]), n)
    hits = 0
    for batch, first in enumerate(range(0, REPLICATES, BATCH)):
        values = np.exp(logs[first : first + BATCH]).tolist()
        samples = [Sample(tuple(row), logarithmic=True) for row in values]
        found = intervals(samples, lambda _: method, level=LEVEL, resamples=RESAMPLES, seed=SEED + batch)
        hits += sum(one is not None and one.low <= 1 <= one.high for one in found)
    return 100 * hits / REPLICATES


def measure() -> Found:
    """Return the coverage of every method, noise and size that the page shows."""
    asked = [*product(METHODS, NOISES, SIZES), *product(METHODS, [FIRST], ALL_SIZES)]
    return {key: coverage(*key) for key in dict.fromkeys(asked)}


def by_noise(found: Found) -> str:
    """Return the rows of the first table."""
    lines = []
    for noise in NOISES:
        cells = [" / ".join(f"{found[method, noise, n]:.1f}" for n in SIZES) for method in METHODS]
        cells.append(" / ".join(f"{found[headline_method('auto', n), noise, n]:.1f}" for n in SIZES))
        lines.append(f"| {noise} | {' / '.join(map(str, SIZES))} | {' | '.join(cells)} |")
    return "\n".join(lines)


def by_size(found: Found) -> str:
    """Return the rows of the second table."""
    return "\n".join(
        f"| {n} | {' | '.join(f'{found[method, FIRST, n]:.1f}' for method in METHODS)} |" for n in ALL_SIZES
    )


def page(found: Found, date: str) -> str:
    """Return docs/measurements/interval-coverage.md."""
    system = f"{os.cpu_count()}-core {platform.machine().replace('_', '-')} {platform.system()} machine"
    versions = f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}"
    return f"""# What the intervals cover

Coverage in % of nominal {100 * LEVEL:.0f} % intervals for the geometric mean of n cycles: {REPLICATES:,}
simulated replicates, {RESAMPLES:,} resamples; two standard errors are 0.7 at 95 % and 1.4 at 75 %.

- command: `python benchmarks/coverage.py --date {date} > docs/measurements/interval-coverage.md`
- date: {date}
- machine: {system}
- versions: {versions}
- seed: {SEED}

`auto`, the default, is Student's t on logs up to n = 7 and the studentized bootstrap on logs from n = 8.
Where cycles are independent it has to cover {ALLOWED[0]} to {ALLOWED[1]} %; the script exits with 1 if not.

| noise | n | percentile | BCa | bootstrap-t | Student t | `auto` |
|---|---|---|---|---|---|---|
{by_noise(found)}

On logs the size of the noise cancels: the first two rows are two draws of one truth. At n = 3 the percentile
interval runs from the least value to the greatest whatever the resamples, and 1 - 2 (1/2)^3 = 75 % of such
ranges contain the middle. No method survives cycles that resemble their neighbours: that is why every cycle
has launches of its own, why its order is shuffled, and why the summary looks for autocorrelation and drift.

By number of cycles, {FIRST}. A percentile or BCa interval is shown with its coverage from this table
(between two sizes, that of the smaller one), and so is a studentized one of 3 cycles:

| n | percentile | BCa | bootstrap-t | Student t |
|---|---|---|---|---|
{by_size(found)}
"""


def main(arguments: Sequence[str]) -> int:
    """Print the page; return 1 if `auto` is outside of what is allowed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--date", required=True, help="of the run, for the page")
    date = parser.parse_args(arguments).date
    found = measure()
    print(page(found, date), end="")
    least, most = ALLOWED
    wrong = [
        f"{noise}, n = {n}"
        for noise, n in product(INDEPENDENT, SIZES)
        if not least <= found[headline_method("auto", n), noise, n] <= most
    ]
    if wrong:
        print(f"auto does not cover {least} to {most} %: {'; '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

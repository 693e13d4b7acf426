from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_llem.analysis.intervals import (
    Interval,
    Sample,
    bootstrap_method,
    headline_method,
    interval,
    intervals,
    known_coverage,
)
from pytest_llem.analysis.resampling import Array, Method, limits

METHODS: tuple[Method, ...] = ("student", "bootstrap-t", "percentile", "bca")
PAGE = Path(__file__).parents[3] / "docs" / "measurements" / "interval-coverage.md"

positive = st.integers(1000, 1_000_000).map(lambda thousandths: thousandths / 1000)
samples = st.lists(positive, min_size=3, max_size=12)
few = settings(max_examples=40, deadline=None)


def make(values: list[float], method: Method, **settings_: object) -> Interval:
    """Return an interval that is known to exist, by few resamples unless told otherwise."""
    found = interval(values, method=method, **{"resamples": 999} | settings_)  # type: ignore[arg-type]
    assert found is not None
    return found


def made(values: list[float], method: Method, **settings_: object) -> Interval:
    """Return the interval of values that hypothesis drew, passing over those that have none.

    Two values that are all but equal and a third far away: bootstrap-t is wider than numbers go.
    """
    found = interval(values, method=method, **{"resamples": 999} | settings_)  # type: ignore[arg-type]
    assume(found is not None)
    assert found is not None
    return found


def noisy(n: int, *, seed: int, cv: float = 0.05) -> list[float]:
    values: list[float] = (100 * np.exp(np.random.default_rng(seed).normal(0, cv, n))).tolist()
    return values


@pytest.mark.parametrize("n", [3, 5, 7, 20])
def test_student_agrees_with_scipy(n: int) -> None:
    """Student's interval is scipy's one-sample t interval of the logs, with n - 1 degrees of freedom."""
    values = noisy(n, seed=n)
    found = make(values, "student", level=0.9)
    reference = stats.ttest_1samp(np.log(values), 0).confidence_interval(0.9)
    low, high = math.exp(float(reference.low)), math.exp(float(reference.high))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert found.center == pytest.approx(stats.gmean(values), rel=1e-12)
    assert found.df == n - 1


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("n", [6, 15])
def test_percentile_and_bca_agree_with_scipy(method: Literal["percentile", "bca"], n: int) -> None:
    """Both limits are those of scipy.stats.bootstrap on the logs, but for the noise of the resamples."""
    logs = np.random.default_rng(n).exponential(1, n)  # skewed, so that BCa has something to correct
    found = make(np.exp(logs).tolist(), method, resamples=49_999)
    reference = stats.bootstrap((logs,), np.mean, n_resamples=49_999, method=method, rng=1)
    low, high = reference.confidence_interval
    assert math.log(found.low) == pytest.approx(low, abs=0.03 * (high - low))
    assert math.log(found.high) == pytest.approx(high, abs=0.03 * (high - low))


@pytest.mark.parametrize("n", [4, 8])
def test_bootstrap_t_agrees_with_its_definition(n: int) -> None:
    """The limits are those of a plain loop over resamples that drops the degenerate ones."""
    logs = np.log(noisy(n, seed=n))
    error = logs.std(ddof=1) / math.sqrt(n)
    rng = np.random.default_rng(7)
    statistics = []
    for _ in range(20_000):
        drawn = rng.choice(logs, n)
        if np.ptp(drawn) > 0:
            statistics.append((drawn.mean() - logs.mean()) / (drawn.std(ddof=1) / math.sqrt(n)))
    low, high = logs.mean() - np.quantile(statistics, [0.95, 0.05]) * error
    found = make(np.exp(logs).tolist(), "bootstrap-t", level=0.9, resamples=19_999)
    assert math.log(found.low) == pytest.approx(low, abs=0.05 * (high - low))
    assert math.log(found.high) == pytest.approx(high, abs=0.05 * (high - low))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("values", [[], [2.0], [2.0, 3.0]])
def test_no_method_makes_an_interval_below_three_values(method: Method, values: list[float]) -> None:
    """One or two values say next to nothing about their spread, so there is no interval by any method."""
    assert interval(values, method=method) is None


@pytest.mark.parametrize(("n", "method"), [(3, "student"), (7, "student"), (8, "bootstrap-t")])
def test_auto_takes_student_up_to_seven_and_the_studentized_bootstrap_from_eight(n: int, method: str) -> None:
    """`auto` resolves by the number of cycles alone, and the interval names what it became."""
    found = interval(noisy(n, seed=1))
    assert found is not None
    assert (found.method, found.n, found.df) == (method, n, n - 1 if method == "student" else None)


def test_the_second_interval_is_studentized_from_five() -> None:
    """At 3 and 4 values the bootstrap of choice is the percentile one, then the studentized one."""
    assert [bootstrap_method(n) for n in (3, 4, 5, 50)] == ["percentile", "percentile"] + ["bootstrap-t"] * 2


def test_an_asked_method_is_kept() -> None:
    """A method that is asked for by name is used at any number of cycles."""
    assert {headline_method("bca", n) for n in (3, 8, 100)} == {"bca"}


def test_the_percentile_interval_of_three_values_is_their_range() -> None:
    """At n = 3 the percentile interval runs from the least value to the greatest, whatever the resamples."""
    found = make([90.0, 100.0, 120.0], "percentile")
    assert (found.low, found.high) == pytest.approx((90, 120), rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_equal_values_collapse_to_the_value(method: Method) -> None:
    """Without any spread the interval is the value itself: no crash, no NaN."""
    found = make([0.1] * 5, method)
    assert found.low == found.center == found.high == 0.1


def test_a_bootstrap_survives_many_ties() -> None:
    """Nine equal values and one other leave few resamples with a t statistic, and still a finite interval."""
    found = make([4.0] * 9 + [4.2], "bootstrap-t")
    assert 0 < found.low <= found.center <= found.high < 10


@few
@given(samples, st.sampled_from(METHODS), st.booleans())
def test_an_interval_contains_its_center(values: list[float], method: Method, logarithmic: bool) -> None:
    """Whatever the values, the mean lies inside."""
    found = made(values, method, logarithmic=logarithmic)
    assert found.low <= found.center <= found.high


@few
@given(samples, st.sampled_from(METHODS), st.sampled_from([1e-9, 0.37, 3.6e6]))
def test_a_change_of_unit_changes_nothing_else(values: list[float], method: Method, factor: float) -> None:
    """On logs, an interval in J is the interval in kWh times 3.6e6."""
    plain = made(values, method)
    scaled = made([factor * value for value in values], method)
    for name in ("low", "center", "high"):
        assert getattr(scaled, name) == pytest.approx(factor * getattr(plain, name), rel=1e-5)


@few
@given(samples, st.sampled_from(METHODS), st.randoms())
def test_the_order_of_the_cycles_does_not_matter(
    values: list[float], method: Method, random: st.DataObject
) -> None:
    """A permutation of the values gives the same interval to the last bit."""
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert made(shuffled, method) == made(values, method)


@few
@given(samples, st.sampled_from(METHODS))
def test_a_higher_level_is_never_narrower(values: list[float], method: Method) -> None:
    """The 99 % interval contains the 90 % interval."""
    narrow, wide = made(values, method, level=0.9), made(values, method, level=0.99)
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high


@few
@given(samples, st.sampled_from(METHODS))
def test_a_linear_interval_moves_with_its_values(values: list[float], method: Method) -> None:
    """A quantity that may be negative has an arithmetic mean and an interval that shifts with it."""
    plain = made(values, method, logarithmic=False)
    shifted = made([value - 5000 for value in values], method, logarithmic=False)
    assert plain.center == pytest.approx(np.mean(values))
    assert (shifted.low, shifted.high) == pytest.approx((plain.low - 5000, plain.high - 5000), rel=1e-5)


def test_logs_of_zero_are_refused() -> None:
    """An interval on logs of a value that has none says which value, and what to do."""
    with pytest.raises(ValueError, match=r"not 0\.0: pass logarithmic=False"):
        interval([1.0, 0.0, 2.0])


@pytest.mark.parametrize("method", ["bootstrap-t", "percentile", "bca"])
def test_the_seed_decides_the_resamples(method: Method) -> None:
    """One seed gives one interval each time; another seed gives another."""
    values = noisy(9, seed=3)
    assert make(values, method, seed=4) == make(values, method, seed=4)
    assert make(values, method, seed=4) != make(values, method, seed=5)


def test_many_samples_at_once_are_what_they_are_alone() -> None:
    """Samples of several sizes and scales, made together, have the intervals that each has alone."""
    lists = [noisy(n, seed=n) for n in (2, 3, 8, 8, 5)] + [[-1.0, 0.0, 4.0]]
    asked = [Sample(tuple(values), logarithmic=min(values) > 0) for values in lists]
    found = intervals(asked, lambda n: headline_method("auto", n), level=0.95, resamples=999, seed=0)
    for values, together in zip(lists, found, strict=True):
        alone = interval(values, resamples=999, logarithmic=min(values) > 0)
        assert (together is None) == (alone is None) == (len(values) < 3)
        if together and alone:
            assert (together.low, together.high) == pytest.approx((alone.low, alone.high), rel=1e-6)


def test_an_interval_beyond_the_range_of_numbers_is_none() -> None:
    """A limit that no float can hold is no limit."""
    assert interval([1e-3, 1.0, 1e3], level=0.999999) is None


def covered(method: Method, logs: Array) -> float:
    """Return in % how often the 95 % interval of a row of `logs` contains 0."""
    low, high = limits(logs, method, level=0.95, resamples=999, seed=1)
    return float(100 * np.mean((low <= 0) & (high >= 0)))


@pytest.mark.parametrize(
    ("method", "n", "least", "most"),
    [
        ("percentile", 3, 71, 79),
        ("bca", 3, 68, 77),
        ("bootstrap-t", 3, 77, 86),
        ("student", 3, 93, 97),
        ("percentile", 5, 79, 88),
        ("bootstrap-t", 5, 92, 97),
        ("student", 5, 93, 97),
        ("bootstrap-t", 10, 93, 97),
    ],
)
def test_the_intervals_cover_what_they_are_said_to_cover(
    method: Method, n: int, least: float, most: float
) -> None:
    """In 2,000 simulated campaigns each method covers what the published table says."""
    logs = np.random.default_rng(n).normal(0, 0.01, size=(2000, n))
    assert least <= covered(method, logs) <= most


def rows(table: int) -> list[list[str]]:
    """Return the cells of one table of the published page, without its head."""
    tables = [part for part in PAGE.read_text().split("\n\n") if part.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in tables[table].splitlines()[2:]]


def test_the_known_coverage_is_the_published_one() -> None:
    """The coverage shown beside an interval is the entry of docs/measurements/interval-coverage.md."""
    for n, percentile, bca, bootstrap_t, _ in rows(1):
        assert known_coverage("percentile", 0.95, int(n)) == pytest.approx(float(percentile) / 100)
        assert known_coverage("bca", 0.95, int(n)) == pytest.approx(float(bca) / 100)
        known = known_coverage("bootstrap-t", 0.95, int(n))
        assert known == (pytest.approx(float(bootstrap_t) / 100) if float(bootstrap_t) < 93.5 else None)


def test_auto_was_measured_to_cover() -> None:
    """The published run found `auto` within 93.5 and 96.5 % at 3, 5 and 10 independent cycles."""
    independent = [cells for cells in rows(0) if cells[0].startswith("lognormal")]
    assert len(independent) == 2
    for cells in independent:
        assert all(93.5 <= float(value) <= 96.5 for value in cells[-1].split(" / "))


def test_coverage_is_known_at_95_percent_alone() -> None:
    """Between two simulated sizes the smaller one's coverage stands; at another level nothing is known."""
    assert known_coverage("percentile", 0.95, 11) == known_coverage("percentile", 0.95, 10)
    assert known_coverage("percentile", 0.95, 1000) == known_coverage("percentile", 0.95, 30)
    assert known_coverage("percentile", 0.9, 5) is None
    assert known_coverage("student", 0.95, 5) is None
    assert make(noisy(3, seed=1), "percentile").coverage == known_coverage("percentile", 0.95, 3)

"""How numbers are written for people."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.reporting.digits import at_least, duration, number, with_interval

MAGNITUDES = st.floats(min_value=1e-12, max_value=1e18)
SHARES = st.floats(min_value=0, max_value=3)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.41249, "0.412"),
        (0.82, "0.820"),
        (9.999, "10.0"),
        (154.2, "154"),
        (123_456.7, "123457"),
        (3.1e9, "3100000000"),
        (0.0000123, "0.0000123"),
        (1.23e-9, "1.23e-09"),
        (-0.25, "-0.250"),
        (0, "0"),
    ],
)
def test_a_number_has_three_significant_digits_and_no_exponent(value: float, text: str) -> None:
    """A lone number shows three significant digits, and all digits of a large one."""
    assert number(value) == text


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.41234, 0.39812, 0.42634), "0.412 [0.398, 0.426]"),
        ((1234.5, 1100.2, 1370.1), "1234 [1100, 1370]"),
        ((154.21, 153.94, 154.48), "154.21 [153.94, 154.48]"),
        ((0.4, 0.1, 1.6), "0.40 [0.10, 1.60]"),
        ((0.412, 0.001, 150.0), "0.41 [0.00, 150.00]"),
        ((0.25, 0.25, 0.25), "0.250 [0.250, 0.250]"),
        ((1234567.25, 1234567.2499, 1234567.2501), "1234567 [1234567, 1234567]"),
        ((-0.5, -1.25, 0.25), "-0.50 [-1.25, 0.25]"),
        ((0.1, -0.0004, 0.2), "0.10 [0.00, 0.20]"),
        ((0.0, -1.25, 1.25), "0.0 [-1.2, 1.2]"),
        ((0.0, 0.0, 0.0), "0 [0, 0]"),
        ((2e-9, 1e-9, 3e-9), "2.00e-09 [1.00e-09, 3.00e-09]"),
    ],
)
def test_the_half_width_decides_the_decimals(numbers: tuple[float, float, float], text: str) -> None:
    """Mean and limits share the decimals that show two digits of the half width."""
    assert with_interval(*numbers) == text


@given(MAGNITUDES, SHARES, SHARES)
def test_rounding_keeps_the_order_and_the_value(center: float, below: float, above: float) -> None:
    """What is shown keeps low <= mean <= high, and the mean within the 5 % of two significant digits."""
    text = with_interval(center, center * (1 - below), center * (1 + above))
    shown, low, high = (float(part) for part in re.split(r" \[|, |\]", text)[:3])
    assert low <= shown <= high
    assert shown == pytest.approx(center, rel=0.05)


@given(MAGNITUDES, st.integers(min_value=1, max_value=6))
def test_a_number_reads_back_as_itself(value: float, significant: int) -> None:
    """A number with n significant digits is read back within half a unit of the last one."""
    assert float(number(value, significant)) == pytest.approx(
        value, rel=0.5 * 10 ** (1 - significant) * 1.001
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0:00"), (41.6, "0:42"), (59.7, "1:00"), (3909, "1:05:09"), (90_000, "25:00:00")],
)
def test_a_duration_is_a_clock(seconds: float, text: str) -> None:
    """Durations are m:ss, from an hour on h:mm:ss, to the nearest second."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(59.9, "59 s"), (119.9, "1 min"), (7279, "2:01 h"), (360_000, "100:00 h")]
)
def test_at_least_is_never_more(seconds: float, text: str) -> None:
    """A lower bound is rounded down, to the minute from one on."""
    assert at_least(seconds) == text

"""How many digits a number is shown with. Units are the caller's business; files keep every digit."""

from __future__ import annotations

LEAST_PLAIN, MOST_PLAIN = 1e-6, 1e15
"""Magnitudes between which a number is written without an exponent."""


def number(value: float, significant: int = 3) -> str:
    """Return `value` with so many significant digits; digits before the point are never rounded away."""
    if not _is_plain(value):
        return f"{value:.{significant - 1}e}"
    return f"{value:.{_decimals(value, significant)}f}"


def with_interval(center: float, low: float, high: float) -> str:
    """Return `0.412 [0.398, 0.426]`: all three with the decimals that show two digits of the half width.

    The center keeps 2 to 6 significant digits: a wide interval does not make it 0, and a narrow one does not
    show digits that no instrument has.
    """
    if not _is_plain(center) or not _is_plain(max(abs(low), abs(high))):
        return f"{center:.2e} [{low:.2e}, {high:.2e}]"
    decimals = _decimals((high - low) / 2, 2) if high > low else _decimals(center, 3)
    if center:
        decimals = min(max(decimals, _decimals(center, 2)), _decimals(center, 6))
    return f"{center:z.{decimals}f} [{low:z.{decimals}f}, {high:z.{decimals}f}]"


def duration(seconds: float) -> str:
    """Return `0:42` or `1:05:09`, to the nearest second."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def at_least(seconds: float) -> str:
    """Return `30 s`, `18 min` or `7:05 h`, rounded down, so that "at least" in front of it is true."""
    minutes = int(seconds) // 60
    if not minutes:
        return f"{int(seconds)} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


def _is_plain(value: float) -> bool:
    return value == 0 or LEAST_PLAIN <= abs(value) < MOST_PLAIN


def _decimals(value: float, significant: int) -> int:
    """Return the decimals that show so many significant digits of `value`, at least 0."""
    if value == 0:
        return 0
    # The exponent after rounding: 0.0996 to two digits is 0.10.
    exponent = int(f"{value:.{significant - 1}e}".partition("e")[2])
    return max(significant - 1 - exponent, 0)

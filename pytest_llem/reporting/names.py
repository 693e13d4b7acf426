"""Lists of names in a sentence."""

from __future__ import annotations

from collections.abc import Sequence


def shortened(names: Sequence[str], most: int = 5) -> str:
    """Return `a, b, c`, and from there on `and 7 more`."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def counted(count: int, noun: str) -> str:
    """Return `1 cycle` or `3 cycles`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

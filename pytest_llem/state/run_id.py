"""Names of runs and of series of runs, which sort by time."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from random import Random

_LETTERS = "23456789abcdefghijkmnpqrstuvwxyz"
"""None that look alike, in the order in which they sort."""

RUN_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9]{4}")
"""What the name of a run looks like."""


def new_run_id(now: datetime, random: Random) -> str:
    """Return an id that sorts by time, such as `20261122-184512-x7k2` (UTC).

    The first two of its last letters are the part of the second in 1/1024 s, so that of two runs that a script
    starts in one second the newer one is known too.
    """
    part = now.microsecond * len(_LETTERS) ** 2 // 1_000_000
    letters = (
        _LETTERS[part // len(_LETTERS)]
        + _LETTERS[part % len(_LETTERS)]
        + "".join(random.choices(_LETTERS, k=2))
    )
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{letters}"

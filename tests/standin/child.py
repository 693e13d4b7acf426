"""What a child process that meets scripted GPUs has at hand: the script's clock, and `show`."""

from __future__ import annotations

import ctypes
import dataclasses
import json
from collections.abc import Callable
from functools import cache
from typing import Any


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libnvidia-ml.so.1")
    library.standin_epoch_s.restype = library.standin_now_s.restype = ctypes.c_double
    library.standin_skip.argtypes = [ctypes.c_double]
    return library


def epoch_s() -> float:
    """Return `time.monotonic()` at which the script's time began."""
    return float(_library().standin_epoch_s())


class ScriptClock:
    """The time of a script that stands still but for what is slept, so that 10 s pass in some ms."""

    def monotonic(self) -> float:
        return float(_library().standin_now_s())

    def sleep(self, seconds: float, /) -> None:
        _library().standin_skip(seconds)


clock = ScriptClock()


def sleep_until(at_s: float, *each_tenth_s: Callable[[], object]) -> None:
    """Let the script's time pass, and do in it what threads would do."""
    while (left_s := at_s - clock.monotonic()) > 1e-6:
        clock.sleep(min(left_s, 0.1))
        for act in each_tenth_s:
            act()


def show(**values: Any) -> None:
    """Print what the parent is to see."""
    print(json.dumps(values, default=_plain))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return sorted(value) if isinstance(value, (set, frozenset)) else value.model_dump()

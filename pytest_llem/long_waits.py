"""Lines on what lasts long, for a log: there nothing is overwritten, and a line for each phase would be too many."""

from __future__ import annotations

import threading
from collections.abc import Callable

LONG_S = 30.0
"""What lasts no longer needs no line: the end of an experiment has one anyway."""


class LongWaits:
    """Tells of what goes on once it has lasted for `LONG_S`, once, and while it still does.

    Telling happens in a thread, while the one that called `begin` waits for something. That one calls `end` before
    it goes on with anything else that writes.

    Args:
        tell: takes the line.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        self._key = self._line = ""

    def begin(self, key: str, line: str) -> None:
        """Note what goes on from now; with the same key it is the same as before, in other words."""
        with self._lock:
            if key != self._key:
                self.end()
                self._timer = threading.Timer(LONG_S, self._is_long)
                self._timer.daemon = True
                self._timer.start()
            self._key, self._line = key, line

    def end(self) -> None:
        """Note that it is over; a line that is being told is told first."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._key = None, ""

    def _is_long(self) -> None:
        with self._lock:
            if self._timer is threading.current_thread():  # else it was over in the last moment
                self._tell(f"{self._line} (for {LONG_S:g} s now)")

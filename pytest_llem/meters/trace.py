"""The trace of an experiment: samples of every meter, taken by one thread and appended to a file as they come.

The file is CSV. Its first line ties the samples' clock to the calendar:

    # at_s 8123.456789 is 2025-01-31T12:00:00.123456+00:00

The second names the columns, the fields of `Sample`. What a domain does not know is an empty cell.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from pytest_llem.meters.base import Clock, Sample

INTERVAL_S = 0.1

TRACE_INCOMPLETE = "trace_incomplete"
"""The flag of a trace that could not be written to its end, such as on a full disk."""

_TEXTS = {"domain", "flag"}


class Sampled(Protocol):
    """What a trace is made of."""

    def sample(self) -> Iterable[Sample]:
        """Return what there is now."""


class Trace:
    """Samples as they come, in a file. Start and stop it, or use it as a context.

    Args:
        meters: what is sampled.
        path: the file; it is written anew.
        interval_s: between two samples.
        clock: of the samples.
    """

    def __init__(
        self, meters: Sampled, path: Path, interval_s: float = INTERVAL_S, clock: Clock = time
    ) -> None:
        self.path = path
        self.problem: str | None = None
        self._meters = meters
        self._interval_s = interval_s
        self._clock = clock
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trace", daemon=True)
        self._file = path.open("w", encoding="ascii", buffering=1)
        anchor = f"# at_s {clock.monotonic():.6f} is {datetime.now(UTC).isoformat()}"
        self._append([anchor, ",".join(Sample._fields)])

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def stop(self) -> None:
        """Take a last sample and close the file; a second call does nothing."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.sample()
        with contextlib.suppress(OSError):
            self._file.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        due_s = self._clock.monotonic()
        while not self._stopped.wait(max(0.0, due_s - self._clock.monotonic())):
            self.sample()
            due_s = max(due_s + self._interval_s, self._clock.monotonic())

    def sample(self) -> None:
        """Append one sample of every domain."""
        self._append(",".join(_cell(value) for value in sample) for sample in self._meters.sample())

    def _append(self, lines: Iterable[str]) -> None:
        if self.problem:
            return
        try:
            self._file.write("".join(f"{line}\n" for line in lines))
        except OSError as error:
            self.problem = f"the trace could not be written: {error}"

    def between(self, begin_s: float, end_s: float) -> Iterator[Sample]:
        """Yield what was written of a time, in its order, beginning with what held when that began.

        Args:
            begin_s: `time.monotonic()`.
            end_s: likewise.
        """
        holding: dict[str, Sample] = {}
        for sample in read(self.path):
            if sample.at_s > end_s:
                break
            if sample.at_s > begin_s:
                yield from holding.values()
                holding.clear()
                yield sample
            else:
                holding[sample.domain] = sample
        yield from holding.values()


def _cell(value: float | str | None) -> str:
    return "" if value is None else str(value)


def read(path: Path) -> Iterator[Sample]:
    """Yield the samples of a trace; a torn last line is left out."""
    with path.open(encoding="ascii") as lines:
        for line in lines:
            if not line.startswith(("#", "at_s")) and line.endswith("\n"):
                yield _parsed(line.rstrip("\n").split(","))


def _parsed(cells: list[str]) -> Sample:
    values = dict(zip(Sample._fields, cells, strict=True))
    numbers = {name: float(cell) for name, cell in values.items() if cell and name not in _TEXTS}
    return Sample(domain=values["domain"], flag=values["flag"] or None, **numbers)

"""The trace of one experiment: taken beside it, summarised for its window, sent to the host when it is over."""

from __future__ import annotations

import contextlib
import gzip
import io
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from pytest_llem.meters.choose import Meters
from pytest_llem.meters.summary import Summary
from pytest_llem.meters.trace import Trace, read
from pytest_llem.meters.window import Window
from pytest_llem.records import DeviceTrace, Timeseries

FILE = "trace.csv"


@contextlib.contextmanager
def tracing(meters: Meters, wanted: Timeseries, folder: Path) -> Iterator[Trace | None]:
    """Take a trace for as long as the block lasts, in a file that goes with it; None where none is wanted.

    Args:
        meters: what is sampled.
        wanted: the experiment's `timeseries`.
        folder: a private folder.
    """
    if not wanted.enabled:
        yield None
        return
    path = folder / FILE
    trace = Trace(meters, path, wanted.sample_interval_ms / 1000)
    try:
        with trace:
            yield trace
    finally:
        path.unlink(missing_ok=True)


def compressed(trace: Trace) -> bytes | None:
    """Return the whole lines of a trace that is over, by gzip a tenth as long; None where nothing could be sampled.

    A disk that was full has torn the last one.
    """
    if next(read(trace.path), None) is None:
        return None
    packed = io.BytesIO()
    with trace.path.open("rb") as lines, gzip.open(packed, "wb") as file:
        file.writelines(line for line in lines if line.endswith(b"\n"))
    return packed.getvalue()


def of_devices(window: Window) -> dict[str, DeviceTrace]:
    """Return what a window's trace says of each device."""
    return {
        domain: _of_device(summary, window.counter_integral_ratio.get(domain))
        for domain, summary in window.summaries.items()
    }


def _of_device(summary: Summary, ratio: float | None) -> DeviceTrace:
    facts = asdict(summary)
    del facts["flags"]  # they are the window's
    return DeviceTrace(
        instant_power=facts.pop("instant"),
        power_integral_j=facts.pop("integral_j"),
        counter_integral_ratio=ratio,
        **facts,
    )

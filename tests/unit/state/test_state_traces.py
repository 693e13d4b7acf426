"""Traces on disk: what happens to one that cannot become Parquet."""

from __future__ import annotations

import gzip
from pathlib import Path

from pyarrow import parquet

from pytest_llem.meters.base import Sample
from pytest_llem.state import traces

LINES = f"""# at_s 8123.5 is 2025-01-31T12:00:00+00:00
{",".join(Sample._fields)}
8123.5,gpu:a{"," * (len(Sample._fields) - 2)}
8123.6,gpu:a{"," * (len(Sample._fields) - 2)}
"""


def test_a_trace_that_converts_is_parquet(tmp_path: Path) -> None:
    """A row a sample and domain, and nothing to note."""
    notes: list[str] = []
    path = traces.write(tmp_path / "e0" / "attempt-1.json", gzip.compress(LINES.encode()), notes.append)
    assert path.name == "attempt-1.trace.parquet"
    assert [row["at_s"] for row in parquet.read_table(path).to_pylist()] == [8123.5, 8123.6]
    assert notes == []


def test_a_trace_that_does_not_convert_is_kept_as_it_came(tmp_path: Path) -> None:
    """Every line is there as CSV, nothing is half written, and one note names the experiment and the reason."""
    notes: list[str] = []
    torn = gzip.compress((LINES + "8123.7,gp").encode())
    path = traces.write(tmp_path / "e0" / "attempt-1.json", torn, notes.append)
    assert path.name == "attempt-1.trace.csv.gz"
    assert path.read_bytes() == torn
    assert list(path.parent.iterdir()) == [path]
    (note,) = notes
    assert note.startswith("e0: the trace is kept as CSV, it does not convert to Parquet: CSV parse error")

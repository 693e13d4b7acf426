"""The trace of an experiment on disk: Parquet beside the result, or gzipped CSV where pyarrow is not installed."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from pytest_llem.state.results import StorageError, atomic_file, atomic_write

PARQUET, CSV = ".trace.parquet", ".trace.csv.gz"

INSTALL = "traces are kept as CSV: `pip install 'pytest-llem[traces]'` for Parquet"

_TEXTS = ("domain", "flag")


def can_be_parquet() -> bool:
    """Return whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


def write(result: Path, trace: bytes, note: Callable[[str], None]) -> Path:
    """Put a trace beside a result's file and return its path; one that does not convert is kept as it came.

    Args:
        result: the file of the result, whether it is there or not.
        trace: what the worker answered: the lines of `meters.trace`, gzipped.
        note: is told of a trace that did not convert.

    Raises:
        StorageError: the disk refuses.
    """
    if can_be_parquet():
        try:
            return _as_parquet(result.with_suffix(PARQUET), trace)
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever pyarrow finds in it must not cost the result
            note(f"{result.parent.name}: the trace is kept as CSV, it does not convert to Parquet: {error}")
    path = result.with_suffix(CSV)
    atomic_write(path, trace)
    return path


def _as_parquet(path: Path, trace: bytes) -> Path:
    with gzip.open(io.BytesIO(trace)) as lines, atomic_file(path) as file:
        _write_parquet(lines, file)
    return path


def _write_parquet(lines: gzip.GzipFile, file: io.BufferedWriter) -> None:
    """Copy a trace batch by batch; its first line, which ties the clock to the calendar, becomes metadata `clock`."""
    import pyarrow as pa  # noqa: PLC0415 - an extra, and 0.3 s
    from pyarrow import csv, parquet  # noqa: PLC0415

    clock = lines.readline().removeprefix(b"# ").strip()
    names = lines.readline().decode().strip().split(",")
    fields = [(name, pa.string() if name in _TEXTS else pa.float64()) for name in names]
    schema = pa.schema(fields, metadata={"clock": clock})
    options = csv.ConvertOptions(column_types=dict(fields), strings_can_be_null=True, null_values=[""])
    batches = csv.open_csv(lines, csv.ReadOptions(column_names=names), convert_options=options)
    with parquet.ParquetWriter(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch.cast(schema))

"""results.csv: one row an attempt at an experiment, appended as soon as it is over (docs/formats.md)."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from pytest_llem.records import METRICS, Launch, LoadReport, Measurement, Quantity, Result, WarmupReport
from pytest_llem.reporting import device_columns
from pytest_llem.reporting.cells import Cells, Row, as_line, as_page, cells, columns_of, listed
from pytest_llem.state.results import atomic_write, storage

RESULTS_CSV = "results.csv"

DOMAINS = ("total", "gpu", "cpu", "dram")
"""Domains of energy that every machine has columns for; a GPU has one of its own beside them."""

_COUNTED = (
    "window_s",
    "energy_window_s",
    "passes",
    "requests",
    "prompt_tokens",
    "cached_tokens",
    "padding_tokens",
    "output_tokens",
    "mean_running_batch",
    "full_batch_share",
    "preemptions",
    "prompt_sha256",
)
"""Fields of a measurement that are columns under their own names."""


def experiment_row(result: Result, axes: Iterable[str] = ()) -> Row:
    """Return the row of one attempt, by column; all of `axes` have one."""
    found = result.measurement
    names = dict.fromkeys([*axes, *result.axes])
    return {
        **_place(result, found.launch if found else None),
        **{f"axis:{name}": result.axes.get(name) for name in names},
        **_outcome(result),
        **_launch(result, found.launch if found else None),
        **_warmup(found.warmup if found else None),
        **{name: getattr(found, name, None) for name in _COUNTED},
        **_load(found.load if found else None),
        **_energies(found),
        **_metrics(found),
        **device_columns.row(found),
        "executor": result.executor,
        "environment_hash": result.environment_hash,
        "trace": result.trace,
        "tool_version": result.tool_version,
        **_devices(found),
    }


def _place(result: Result, launch: Launch | None) -> Row:
    return {
        "run_id": result.run_id,
        "session_id": result.session_id,
        "round": result.round,
        "cycle": result.cycle,
        "block": f"{result.cycle}:{result.session_id}",
        "position": result.position,
        "attempt": result.attempt,
        "launch_id": launch.id if launch else None,
        "experiment_id": result.experiment_id,
        "spec_hash": result.spec_hash,
        "engine_key": result.engine_key,
        "label": result.label,
    }


def _outcome(result: Result) -> Row:
    return {
        "backend": result.configuration.backend,
        "model": result.configuration.model_name,
        "status": result.status,
        "failure_class": result.failure.kind if result.failure else None,
        "failure_message": result.failure.message if result.failure else None,
        "flags": listed(result.measurement.flags) if result.measurement else None,
        "started_at": result.started_at.isoformat(),
        "completed_at": result.completed_at.isoformat(),
    }


def _launch(result: Result, launch: Launch | None) -> Row:
    start_energy = launch.start_energy_j if launch else None
    load_energy = launch.load_energy_j if launch else None
    build_energy = launch.build_energy_j if launch else None
    return {
        "warm": launch.warm if launch else None,
        "start_method": launch.start_method if launch else None,
        "gap_s": result.gap_s,
        "service_start_s": result.service_start_s,
        "start_s": launch.start_s if launch else None,
        "load_s": launch.load_s if launch else None,
        "start_energy_j": start_energy.value if start_energy else None,
        "start_energy_source": start_energy.source if start_energy else None,
        "load_energy_j": load_energy.value if load_energy else None,
        "load_energy_source": load_energy.source if load_energy else None,
        "engine_cache": launch.engine_cache if launch else None,
        "build_s": launch.build_s if launch else None,
        "build_energy_j": build_energy.value if build_energy else None,
        "build_energy_source": build_energy.source if build_energy else None,
    }


def _warmup(warmup: WarmupReport | None) -> Row:
    return {
        "warmup_prompts": warmup.prompts if warmup else None,
        "warmup_passes": warmup.passes if warmup else None,
        "warmup_s": warmup.seconds if warmup else None,
        "warmup_converged": warmup.converged if warmup else None,
    }


def _load(load: LoadReport | None) -> Row:
    return {name: getattr(load, name, None) for name in LoadReport.model_fields}


def _energies(found: Measurement | None) -> Row:
    energies = found.energy_j if found else {}
    return {
        column: value for domain in DOMAINS for column, value in _energy(domain, energies.get(domain)).items()
    }


def _devices(found: Measurement | None) -> Row:
    energies = found.energy_j if found else {}
    return {
        column: value
        for domain, energy in energies.items()
        if domain not in DOMAINS
        for column, value in _energy(domain, energy).items()
    }


def _energy(domain: str, energy: Quantity | None) -> Row:
    return {
        f"energy_{domain}_j": energy.value if energy else None,
        f"energy_{domain}_source": energy.source if energy else None,
        f"energy_{domain}_resolution_j": energy.resolution if energy else None,
    }


def _metrics(found: Measurement | None) -> Row:
    row: Row = {}
    for name, metric in METRICS.items():
        quantity = found.metrics.get(name) if found else None
        row[name] = quantity.value if quantity else None
        if metric.is_metered:  # all others have one source each, that of docs/metrics.md
            row[f"{name}_source"] = quantity.source if quantity else None
            row[f"{name}_parts"] = listed(quantity.parts) if quantity else None
    return row


class ResultsCsv:
    """The file of one run. It is a copy of what the results on disk say, and can be made again from them.

    Args:
        path: results.csv beside the results.
        axes: short names of the campaign's axes.
    """

    def __init__(self, path: Path, axes: Sequence[str] = ()) -> None:
        self._path = path
        self._axes = axes
        self._columns: list[str] | None = None

    def append(self, result: Result) -> None:
        """Add the row of one attempt; it is on disk when this returns.

        A file with other columns (the campaign was edited, a GPU was added) is rewritten with those of both.

        Raises:
            StorageError: the disk refuses.
        """
        row = cells(experiment_row(result, self._axes))
        columns = self._columns or self._sound_header()
        if row.keys() <= set(columns):
            self._columns = None  # until all of the line is known to be on disk
            self._append(as_line(row, columns))
            self._columns = columns
        else:
            self._write([*self._rows(), row], columns_of([row, dict.fromkeys(columns)]))

    def rebuild(self, results: Iterable[Result]) -> None:
        """Write the whole file again, atomically: one row a result, in the order given.

        Raises:
            StorageError: the disk refuses.
        """
        columns: dict[str, None] = {}
        lines = []
        for result in results:
            row = cells(experiment_row(result, self._axes))
            columns |= dict.fromkeys(row)
            lines.append((as_line(row, columns), len(columns)))
        if lines:
            padded = (f"{line[:-1]}{',' * (len(columns) - known)}\n".encode() for line, known in lines)
            atomic_write(self._path, chain([as_page([], columns).encode()], padded))
        else:
            with storage(self._path):
                self._path.unlink(missing_ok=True)
        self._columns = list(columns) or None

    def _append(self, line: str) -> None:
        with storage(self._path), self._path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())

    def _write(self, rows: Sequence[Cells], columns: list[str]) -> None:
        atomic_write(self._path, as_page(rows, columns).encode())
        self._columns = columns

    def _sound_header(self) -> list[str]:
        """Return the columns of the file; none if it has none, or ends inside a row."""
        text = self._text()
        return next(csv.reader([text.partition("\n")[0]]), []) if text.endswith("\n") else []

    def _rows(self) -> list[Cells]:
        """Return the rows of the file without one that a dead session left unfinished."""
        whole = self._text().rpartition("\n")[0]
        return [dict(row) for row in csv.DictReader(whole.split("\n"))]

    def _text(self) -> str:
        with storage(self._path):
            try:
                return self._path.read_text(encoding="utf-8", errors="replace")
            except FileNotFoundError:
                return ""

"""The table at the end of a session: one row a configuration, or one a group.

Each number is a mean with its interval. Where the terminal is too narrow for both in one line, the interval
stands below its mean. Rich lays the columns out; what comes back is text.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import StringIO
from typing import NamedTuple

from rich.box import Box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pytest_llem.analysis.estimates import MetricSummary
from pytest_llem.analysis.messages import describe_method
from pytest_llem.analysis.summary import RowSummary, Summary
from pytest_llem.records import MEASURED_ENERGY
from pytest_llem.reporting.digits import number, with_interval
from pytest_llem.reporting.names import shortened

ENERGY = "energy_per_output_token_j"
THROUGHPUT = "output_tokens_per_second"

LEAST_LABEL_WIDTH = 16
"""Narrower than this a label is not folded; the table is then wider than the terminal."""

_RULED = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
_UNLIMITED = 100_000


class _Column(NamedTuple):
    """One metric in the table; `optional` ones are left out where nothing has a value."""

    metric: str
    title: str
    unit: str
    optional: bool = False


_COLUMNS = (
    _Column(ENERGY, "energy", "J/output token"),
    _Column(THROUGHPUT, "throughput", "output token/s"),
    _Column("e2e_latency_ms_mean", "e2e latency", "ms, mean"),
    _Column("ttft_ms_mean", "TTFT", "ms, mean", optional=True),
)


def table(summary: Summary, *, width: int, colour: bool = False) -> str:
    """Return the table of a summary with what its numbers are, as lines of text.

    Args:
        summary: its groups are shown if it has any, else its configurations.
        width: columns of the terminal.
        colour: whether escape codes are wanted.
    """
    rows = summary.groups or summary.rows
    columns = [c for c in _COLUMNS if not c.optional or any(_is_known(row, c) for row in rows)]
    primary = ENERGY if _is_measured(rows) else THROUGHPUT
    second = primary if _has_second_interval(rows, primary) else None
    first = "group" if summary.groups else "configuration"
    labels = [row.label for row in rows]
    laid_out = _lay_out(first, labels, rows, columns, second, stacked=False)
    if _widest(laid_out) > width:
        labels = list(map(_with_breaks, labels))
        laid_out = _lay_out(first, labels, rows, columns, second, stacked=True)
    enough = _widest(laid_out) - _width_of(labels) + LEAST_LABEL_WIDTH
    lines = [_heading(summary), *([_about_bootstrap(rows, second)] if second else [])]
    notes = [*_notes(rows, columns)]
    return "\n".join(
        [*_wrapped(lines, width), "", *_render(laid_out, max(width, enough), colour), *_wrapped(notes, width)]
    )


# --- What is said about the numbers ---


def _heading(summary: Summary) -> str:
    rows = summary.groups or summary.rows
    if not any(metric.interval for row in rows for metric in row.metrics.values()):
        return f"Means over {summary.unit}s, without intervals"
    return f"Geometric means over {summary.unit}s [{100 * summary.level:g} % interval: {summary.method}]"


def _about_bootstrap(rows: Sequence[RowSummary], metric: str) -> str:
    found = [row.metrics[metric] for row in rows]
    as_headline = [{metric: replace(one, interval=one.bootstrap)} for one in found]
    title = next(column.title for column in _COLUMNS if column.metric == metric)
    return f"(bootstrap): second interval of the {title}, {describe_method(as_headline)}"


def _notes(rows: Sequence[RowSummary], columns: Sequence[_Column]) -> Iterator[str]:
    """Yield each reason for a missing value, each remark on a value or a row, and each set of sources, once."""
    about: dict[str, list[str]] = {}
    for say in (_remarks, _sources):
        for row in rows:
            for remark in say(row, columns):
                about.setdefault(remark, []).append(row.label)
    for remark, labels in about.items():
        yield remark if len(labels) == len(rows) else f"{remark} ({shortened(labels)})"


def _remarks(row: RowSummary, columns: Sequence[_Column]) -> Iterator[str]:
    if row.note:
        yield row.note
    for column in columns:
        metric = row.metrics[column.metric]
        if metric.center is None and row.n:
            yield f"{column.title} n/a: {metric.note or 'no completed cycle has a value'}"
        elif metric.note:
            yield f"{column.title}: {metric.note}"


def _sources(row: RowSummary, columns: Sequence[_Column]) -> Iterator[str]:
    """Yield `sources: energy nvml_counter (gpu + cpu); throughput, e2e latency clock`, of what has a value."""
    titles: dict[str, list[str]] = {}
    for column in columns:
        metric = row.metrics[column.metric]
        if metric.center is not None:
            parts = f" ({' + '.join(metric.parts)})" if metric.parts else ""
            titles.setdefault(f"{metric.source}{parts}", []).append(column.title)
    found = [f"{', '.join(named)} {source}" for source, named in titles.items()]
    if found:
        yield f"sources: {'; '.join(found)}"


def _wrapped(paragraphs: Sequence[str], width: int) -> Iterator[str]:
    for paragraph in paragraphs:
        yield from textwrap.wrap(paragraph, width, subsequent_indent="  ", break_on_hyphens=False)


# --- Rows and columns ---


def _lay_out(
    first: str,
    labels: Sequence[str],
    rows: Sequence[RowSummary],
    columns: Sequence[_Column],
    second: str | None,
    *,
    stacked: bool,
) -> Table:
    """Return the table; the bootstrap interval of the metric `second` has a column or, `stacked`, a line."""
    laid_out = Table(box=_RULED, show_edge=False, pad_edge=False, header_style="bold", padding=(0, 1))
    laid_out.add_column(first, overflow="fold")
    laid_out.add_column("n of N", no_wrap=True)
    for column in columns:
        header = _header(column, rows)
        if column.metric == second and stacked:
            header += "\n(bootstrap)"
        laid_out.add_column(header, no_wrap=True)
        if column.metric == second and not stacked:
            laid_out.add_column("(bootstrap)", no_wrap=True)
    for place, (label, row) in enumerate(zip(labels, rows, strict=True)):
        cells = [cell for column in columns for cell in _cells(row, column, second, stacked=stacked)]
        is_apart = stacked and place < len(rows) - 1
        laid_out.add_row(Text(label), f"{row.n} of {row.of}", *cells)
        if is_apart:
            laid_out.add_row()
    return laid_out


def _header(column: _Column, rows: Sequence[RowSummary]) -> str:
    is_modelled = any(row.metrics[column.metric].source == "model" for row in rows)
    return f"{'~modelled ' if is_modelled else ''}{column.title}\n{column.unit}"


def _cells(row: RowSummary, column: _Column, second: str | None, *, stacked: bool) -> list[Text]:
    metric = row.metrics[column.metric]
    mean, interval = _mean_and_interval(metric, known=bool(row.n))
    if column.metric != second:
        return [Text(f"{mean}\n{interval}" if stacked else f"{mean} {interval}".strip())]
    bootstrap = _bootstrap(metric)
    if stacked:
        return [Text(f"{mean}\n{interval}\n{bootstrap}")]
    return [Text(f"{mean} {interval}".strip()), Text(bootstrap)]


def _mean_and_interval(metric: MetricSummary, *, known: bool) -> tuple[str, str]:
    """Return `~0.412` and `[0.398, 0.426]`: `n/a` is measured and has no value, `-` is not measured."""
    if metric.center is None:
        return ("n/a" if known else "-"), ""
    modelled = "~" if metric.source == "model" else ""
    if metric.interval is None:
        return modelled + number(metric.center), ""
    mean, _, interval = with_interval(metric.center, metric.interval.low, metric.interval.high).partition(" ")
    return modelled + mean, interval


def _bootstrap(metric: MetricSummary) -> str:
    """Return `(0.401, 0.424)`, the limits of the bootstrap interval."""
    if metric.center is None or metric.bootstrap is None:
        return ""
    limits = with_interval(metric.center, metric.bootstrap.low, metric.bootstrap.high).partition(" ")[2]
    return f"({limits.strip('[]')})"


def _is_known(row: RowSummary, column: _Column) -> bool:
    return row.metrics[column.metric].center is not None


def _is_measured(rows: Sequence[RowSummary]) -> bool:
    return any(row.metrics[ENERGY].source in MEASURED_ENERGY for row in rows)


def _has_second_interval(rows: Sequence[RowSummary], metric: str) -> bool:
    """Tell whether some row has a bootstrap interval that is not its headline already."""
    found = [row.metrics[metric] for row in rows]
    return any(one.bootstrap is not None and one.bootstrap != one.interval for one in found)


# --- Text ---


def _with_breaks(label: str) -> str:
    """Return a label that folds between words, or after the sign of equality, before it folds within one."""
    if cell_len(label) <= LEAST_LABEL_WIDTH:
        return label
    return " ".join(
        word if cell_len(word) <= LEAST_LABEL_WIDTH else word.replace("=", "=\n  ", 1)
        for word in label.split(" ")
    )


def _width_of(labels: Sequence[str]) -> int:
    return max((cell_len(line) for label in labels for line in label.split("\n")), default=0)


def _widest(laid_out: Table) -> int:
    return Console(width=_UNLIMITED).measure(laid_out).maximum


def _render(laid_out: Table, width: int, colour: bool) -> list[str]:
    page = StringIO()
    console = Console(
        file=page,
        width=width,
        color_system="standard" if colour else None,
        force_terminal=colour,
        force_jupyter=False,
    )
    console.print(laid_out)
    return [line.rstrip() for line in page.getvalue().splitlines()]

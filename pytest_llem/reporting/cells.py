"""Rows as CSV text: what one cell holds, and what it must not do to the spreadsheet that opens it."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from io import StringIO
from typing import Any

Row = dict[str, Any]
"""One row, by column."""

Cells = dict[str, str]
"""One row as it stands in the file, by column."""

_FORMULA = ("=", "+", "-", "@", "\t")
_LINE_BREAK = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")


def listed(names: Iterable[str]) -> str:
    """Return names as one cell."""
    return "; ".join(names)


def cells(row: Row) -> Cells:
    """Return the text of each cell: numbers with every digit, what is not known empty."""
    return {column: _cell(value) for column, value in row.items()}


def as_line(row: Cells, columns: Iterable[str]) -> str:
    """Return one row as a line of CSV; a cell that it lacks is empty."""
    return _csv([[row.get(column, "") for column in columns]])


def as_page(rows: Iterable[Cells], columns: Iterable[str]) -> str:
    """Return rows as CSV below a header."""
    names = list(columns)
    return _csv([names, *([row.get(name, "") for name in names] for row in rows)])


def _csv(rows: Iterable[Iterable[str]]) -> str:
    page = StringIO()
    csv.writer(page, lineterminator="\n").writerows(rows)
    return page.getvalue()


def columns_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return every column of `rows`, in order of first appearance."""
    return list(dict.fromkeys(column for row in rows for column in row))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return json.dumps(value)
    return _harmless(value) if isinstance(value, str) else repr(value)


def _harmless(text: str) -> str:
    """Return `text` in one line, and as text also for a spreadsheet that would take it for a formula."""
    line = _LINE_BREAK.sub(" ", text)
    return f"'{line}" if line.startswith(_FORMULA) else line

"""Tables of text for a terminal, for Markdown and for a spreadsheet. Cells may be anyone's."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlrun.plain import printable
from rlrun.provenance import clean

_BETWEEN = "  "
_LONGEST = 40  # letters of a cell on a terminal
_MARKDOWN = re.compile(r"([\\`*\[\]|~])")


@dataclass(frozen=True)
class Table:
    """``title``: what it shows, in one line."""

    title: str
    columns: list[str]
    rows: list[list[str]]

    def turned(self) -> Table:
        """Columns as rows."""
        first, *others = zip(self.columns, *self.rows, strict=True)
        return Table(self.title, list(first), [list(row) for row in others])


def text_of(table: Table, width: int) -> list[str]:
    """Lines of at most ``width`` letters if that can be: columns that find no room follow below, beside the first one again."""
    cells = [[_cut(cell) for cell in row] for row in (table.columns, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines, start = [], 1
    while start < len(widths) or start == 1:
        end = start + 1
        while end < len(widths) and widths[0] + sum(len(_BETWEEN) + each for each in widths[start : end + 1]) <= width:
            end += 1
        shown = [0, *range(start, min(end, len(widths)))]
        lines += [_BETWEEN.join(row[each].ljust(widths[each]) for each in shown).rstrip() for row in cells]
        start = end
    return lines


def fits(table: Table, width: int) -> bool:
    """Whether no column has to go below."""
    return len(text_of(table, width)) == 1 + len(table.rows)


def markdown_of(table: Table) -> str:
    """A table in GitHub's Markdown, in which no cell is markup."""
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    lines = ["| " + " | ".join(map(markdown_cell, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def markdown_cell(text: str) -> str:
    """Text that Markdown shows as it is."""
    return _MARKDOWN.sub(r"\\\1", html.escape(printable(text), quote=False))


def csv_of(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Lines for a spreadsheet, in which no cell is a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in (columns, *rows):
        writer.writerow([spreadsheet_cell(clean(cell)) for cell in row])
    return text.getvalue()


def spreadsheet_cell(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets an apostrophe; numbers do not."""
    if not isinstance(value, str):
        return value
    value = printable(value)  # first: a spreadsheet looks behind a tab
    if not value.lstrip().startswith(("=", "+", "-", "@")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def _cut(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"

"""Text to a terminal or a pipe: tables, numbers, runs as a user would type them."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlrun.plain import printable


def say(line: str = "") -> None:
    """Print a line. A reader that has gone away does not stop the work."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def shown_path(path: Path) -> str:
    """A path as it can be pasted into a shell: relative where it is below the current folder."""
    with contextlib.suppress(ValueError, OSError):
        path = path.relative_to(Path.cwd())
    return shlex.quote(printable(path))


def shown_number(value: Any, digits: int = 1) -> str:
    """``1,234.5``, or ``-`` for what is not there."""
    return f"{value:,.{digits}f}" if isinstance(value, int | float) and not isinstance(value, bool) else "-"


def shown_evaluation(evaluation: Any, key: str = "return_mean") -> str:
    """One number of an evaluation as run.json holds it, or ``-``."""
    return shown_number(evaluation.get(key)) if isinstance(evaluation, dict) else "-"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table: with Rich on a terminal, else columns of plain text that a script can cut."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, box=box.SIMPLE_HEAD)
        for row in cells:
            table.add_row(*map(Text, row))
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for row in (list(columns), *cells):
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

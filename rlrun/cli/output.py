"""Text to a terminal or a pipe: tables, numbers, runs as a user would type them."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from weakref import WeakKeyDictionary

from rlrun.errors import StorageError
from rlrun.plain import printable, reason_of
from rlrun.provenance import clean

if TYPE_CHECKING:
    from rich.console import Console

_muted: ContextVar[bool] = ContextVar("muted", default=False)
_lost: WeakKeyDictionary[TextIO, OSError] = WeakKeyDictionary()
"""Why a stream was silenced that somebody may still read."""
_LONGEST = 1e15  # numbers from here on are shown with an exponent


def say(line: str = "") -> None:
    """Print a line, unless ``muted``. That nobody can read it any more does not stop the work."""
    if _muted.get():
        return
    with unless_closed():
        print(clean(line), flush=True)


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Let ``say`` print nothing here: of a caller in Python, who is given what it would say."""
    token = _muted.set(True)
    try:
        yield
    finally:
        _muted.reset(token)


def warn(line: str) -> None:
    """A notice on stderr, for whoever must not miss it; lost if nobody can read it any more."""
    with contextlib.suppress(OSError):
        print(f"rlrun: note: {printable(clean(line))}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def unless_closed() -> Iterator[None]:
    """Print here what may get lost: a reader that has gone, a closed terminal, a full disk silence all later output.

    What is to be delivered later is an error then, unless nobody wants it any more.
    """
    try:
        yield
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            _lost[sys.stdout] = error
        silence(sys.stdout)


def silence(stream: TextIO) -> None:
    """Send what ``stream`` still holds, and all that will be written to it, nowhere."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def deliver(text: str = "") -> None:
    """Print ``text``, and all printed before it, for a reader who must not take half of it for the whole.

    Raises:
        StorageError, BrokenPipeError: it can't be written.
    """
    try:
        if text and sys.stdout in _lost:
            raise _lost[sys.stdout]
        print(clean(text), end="", flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        silence(sys.stdout)
        raise StorageError(f"can't write the output: {reason_of(error)}") from error


def deliver_json(value: Any, indent: int | None = 2) -> None:
    """Print ``value``, without nan and infinity, which are no JSON. Raises what ``deliver`` raises."""
    deliver(json.dumps(clean(value), indent=indent) + "\n")


def shown_path(path: Path) -> str:
    """A path as it can be pasted into a shell: relative where it is below the current folder."""
    return shlex.quote(printable(from_here(path)))


def from_here(path: Path) -> Path:
    """``path`` relative to the current folder where it is below it, unless it would look like an option then."""
    here = path
    with contextlib.suppress(ValueError, OSError):
        here = path.relative_to(Path.cwd())
    return path.absolute() if os.fspath(here).startswith("-") else here


def counted(number: Any, what: str) -> str:
    """``1 episode``, ``2 episodes``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def shown_number(value: Any, digits: int = 1) -> str:
    """``1,234.5``, ``-`` for what is not there, and ``?`` for what is no number: manifests may be anyone's."""
    if value is None:
        return "-"
    try:
        if isinstance(value, bool) or not math.isfinite(value):
            return "?"
    except (TypeError, OverflowError):
        return "?"
    return f"{value:,.{digits}f}" if abs(value) < _LONGEST else f"{value:.4g}"


def shown_evaluation(evaluation: Any, key: str = "return_mean") -> str:
    """One number of an evaluation as run.json holds it, or ``-``."""
    if isinstance(evaluation, dict):
        return shown_number(evaluation.get(key))
    return "-" if evaluation is None else "?"


def deliver_line(line: str = "") -> None:
    """``deliver`` one line."""
    deliver(f"{line}\n")


def shown_size(size: float) -> str:
    """``650KB``, ``1.2MB``: of bytes, without a space, so that a column of them can be cut."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, "TB"
    return f"{size:.{0 if size >= 10 or unit == 'B' else 1}f}{unit}"


def shown_time(seconds: float | None) -> str:
    """``45s``, ``12m``, ``3h``, ``20d``, and ``-`` for what is not there."""
    if seconds is None:
        return "-"
    for unit, size, most in (("s", 1, 120), ("m", 60, 120), ("h", 3600, 48)):
        if seconds < most * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{shown_number(seconds / 86400, 0)}d"


def shown_truth(value: Any) -> str:
    """``yes``, ``no``, ``-`` for what is not there, and ``?`` for anything else."""
    return "-" if value is None else "?" if not isinstance(value, bool) else "yes" if value else "no"


def terminal() -> Console:
    """Rich, for a terminal: texts are shown as they are, for names and settings may be anyone's, and steer nothing."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False)


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    write: Callable[[str], None] = say,
    least: Sequence[str] = (),
    styles: Sequence[str] = (),
) -> None:
    """A table: with Rich on a terminal, else columns of plain text that a script can cut, each line given to ``write``.

    ``least``: columns that a terminal too narrow for all does without, the first ones first; then no line is folded.
    ``styles``: the colour of each column on a terminal.
    """
    columns = [printable(column) for column in columns]
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich import box
        from rich.table import Table

        console = terminal()
        shown = _fitting(columns, cells, console.width, least)
        table = Table(box=box.SIMPLE_HEAD)
        for number in shown:
            style = styles[number] if styles else None
            table.add_column(
                columns[number], style=style, no_wrap=bool(least), overflow="ellipsis" if least else "fold"
            )
        for row in cells:
            table.add_row(*(row[number] for number in shown))
        console.print(table)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for row in (columns, *cells):
        write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _fitting(columns: Sequence[str], cells: Sequence[Sequence[str]], width: int, least: Sequence[str]) -> list[int]:
    """The numbers of the columns that fit into ``width`` once those of ``least`` are left out one by one."""
    widths = [max(map(len, column)) + 3 for column in zip(columns, *cells, strict=True)]
    left_out: list[int] = []
    for name in least:
        if sum(widths) - sum(widths[number] for number in left_out) < width:
            break
        left_out.append(columns.index(name))
    for number in reversed(left_out):  # a narrow one may fit in place of a wide one that went after it
        if sum(widths) - sum(widths[other] for other in left_out if other != number) < width:
            left_out.remove(number)
    return [number for number in range(len(columns)) if number not in left_out]

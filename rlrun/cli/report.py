"""``rlrun report RUNS``: one HTML file of runs that opens offline."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rlrun.cli.arguments import Parser, add_outputs
from rlrun.cli.groups import check_is_folder
from rlrun.cli.output import counted, deliver_json, deliver_line, shown_path, warn
from rlrun.errors import UsageError
from rlrun.finding import SWEEP_LIST
from rlrun.plain import open_regular, printable, reason_of, write_atomically
from rlrun.reports.records import Record, select

_NAME = "report.html"
_EXAMPLES = """examples:
  rlrun report latest                      outputs/.../report.html, of the newest run
  rlrun report 2026-11-25_2053             a sweep
  rlrun report '*hopper*' -o hopper.html   all runs whose names fit"""


def main(arguments: list[str]) -> int:
    """Write a report."""
    parser = Parser(
        "report",
        "Write one HTML file of runs: curves, a table to sort and filter, what each swept setting did, settings,\n"
        "failures, videos, and the commands that make them again. It needs no network and loads nothing from one.\n"
        "It goes into the directory of the run or sweep; of several, into the current folder. Only a report is overwritten.",
        _EXAMPLES,
    )
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="runs and sweeps: directories, beginnings of names, latest, or globs")
    add("-o", "--output", type=Path, metavar="FILE", help="where to write it")
    add("--json", action="store_true", help="print path, bytes and number of runs as one JSON object")
    add_outputs(parser)
    options = parser.parse_args(arguments)
    if os.path.exists(options.outputs):
        check_is_folder("--outputs", options.outputs)
    if options.output is not None:
        _check_replaceable(options.output)  # before all the work

    from rlrun.reports.html.material import material_of
    from rlrun.reports.html.page import page_of

    selection = select(options.runs, options.outputs)
    path = options.output or _place(selection.records)
    _check_replaceable(path)
    material = material_of(selection)
    size = write_atomically(path, page_of(material, shown_path))
    if options.json:
        deliver_json({"path": str(path), "bytes": size, "runs": len(material.members)}, indent=None)
        return 0
    deliver_line(f"{shown_path(path)}: {counted(len(material.members), 'run')}, {size / 1e6:.1f} MB")
    for name, reason in material.problems.items():
        warn(f"{name}: {reason}")
    return 0


def _check_replaceable(path: Path) -> None:
    """Raises UsageError if there is something at ``path`` that no report has put there."""
    from rlrun.reports.html.page import BEGINNING

    if not os.path.lexists(path):
        return
    if path.is_symlink():
        raise UsageError(f"-o {printable(path)}: a symbolic link; name the file itself")
    if os.path.isdir(path):
        raise UsageError(f"-o {printable(path)}: a folder; name a file in it")
    try:
        with open_regular(path) as file:
            ours = file.read(len(BEGINNING)) == BEGINNING.encode()
    except OSError as error:
        raise UsageError(f"-o {printable(path)} can't be overwritten: {reason_of(error)}") from error
    if not ours:
        raise UsageError(f"-o {printable(path)}: there is a file that is no report; it stays as it is, name another")


def _place(records: Sequence[Record]) -> Path:
    """Into the one run or sweep that it is of, else where we are."""
    sweep = records[0].sweep
    if sweep is not None and all(record.sweep == sweep for record in records) and (sweep / SWEEP_LIST).is_file():
        return sweep / _NAME
    return records[0].directory / _NAME if len(records) == 1 else Path(_NAME)

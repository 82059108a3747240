"""``rlrun plot RUN...``: figures of runs and sweeps as PNG and SVG; and those that a run or a sweep draws when it has ended."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from rlrun.cli.arguments import Parser, Several, add_outputs
from rlrun.cli.folders import folder_for
from rlrun.cli.output import deliver_json, deliver_line, shown_path, warn
from rlrun.config.settings import nearest
from rlrun.errors import ResumeError, UsageError, in_users_terms
from rlrun.interrupts import Unwinding
from rlrun.metrics import FILES
from rlrun.plain import printable
from rlrun.reports import canvas
from rlrun.reports.figures import WANTED, draw, save
from rlrun.reports.panels import FIGURES
from rlrun.reports.records import Record, duplicates, group, read_record, select, why_duplicate
from rlrun.run import Run

_EXAMPLES = """examples:
  rlrun plot latest
  rlrun plot 2026-11-24_2158 --format svg -o figures       a sweep, by how its name begins
  rlrun plot '*_ppo_*' '*_dqn_*' --figures returns         runs beside each other"""

_MOST_RUNS, _MOST_BYTES = 500, 64 * 1024**2
"""Runs, and bytes of their files: what takes longer than a few seconds is drawn only if somebody asks for it."""


def main(arguments: list[str]) -> int:
    """Draw figures."""
    parser = Parser(
        "plot",
        "Draw learning curves, losses and diagnostics of runs; seeds of the same settings become one curve, with its interval.\n"
        "They go into the plots folder of the run or the sweep; those of several into plots in the current folder.",
        _EXAMPLES,
    )
    add = parser.add_argument
    add(
        "runs", nargs="+", metavar="RUN", help="a run or a sweep: its directory, how its name begins, latest, or a glob"
    )
    add("-o", "--output", type=Path, metavar="DIR", help="folder for the figures, made if it does not exist")
    usual = ",".join(canvas.FORMATS)
    add("--format", type=Several(canvas.FORMATS), default=usual, metavar="F,...", help="png, svg or both, the default")
    listed = f"default all that there is data for: {', '.join(FIGURES)}"
    add("--figures", type=Several(tuple(FIGURES)), metavar="NAME,...", help=listed)
    add("--json", action="store_true", help="print one JSON object with the paths")
    add_outputs(parser)
    options = parser.parse_args(arguments)
    formats = _chosen("--format", options.format, tuple(canvas.FORMATS))
    names = _chosen("--figures", options.figures, tuple(FIGURES)) if options.figures is not None else tuple(FIGURES)
    selection = select(options.runs, options.outputs)
    left_out = dict(selection.unreadable)
    named = _readable(selection.records, left_out)
    records = _counted(named, left_out)
    for name, reason in left_out.items():
        warn(f"{name} is left out: {reason}")
    with folder_for(*_place(options.output, named)) as folder:
        paths = draw_into(records, names, formats, folder)
    if not paths:
        raise ResumeError(f"nothing to draw: {_which(records)} recorded nothing that {' or '.join(names)} would show")
    missing = [name for name in names if not any(path.name.startswith(name) for path in paths)]
    if options.figures is not None and missing:
        warn(f"no {' and no '.join(missing)}: {_which(records)} recorded nothing for it")
    if options.json:
        deliver_json({"files": [str(path) for path in paths], "left_out": left_out})
        return 0
    for path in paths:
        deliver_line(shown_path(path))
    return 0


def draw_into(records: Sequence[Record], names: Sequence[str], formats: Sequence[str], folder: Path) -> list[Path]:
    """Draw what there is data for. Returns the files.

    Raises:
        ResumeError: a file of a run is damaged.
        StorageError: a figure can't be written.
    """
    paths: list[Path] = []
    with canvas.drawing():
        for picture in draw(records, names):
            paths += save(picture, folder, formats)
    return paths


def draw_at_end(runs: Sequence[Run], directory: Path, is_sweep: bool = False) -> str | None:
    """Draw what the configs of runs that have ended ask for, into their own ``directory``; returns that in words.

    A picture is never worth a run: what goes wrong, or a signal meanwhile, is one note, and nothing else changes.
    """
    names = list(dict.fromkeys(name for run in runs for name in WANTED[run.config.plot.figures]))
    if not names:
        return None
    again = f"rlrun plot {shown_path(directory)}"
    if len(runs) > _MOST_RUNS or sum(map(_bytes_of, runs)) > _MOST_BYTES:
        warn(f"no figures: there is a lot to read; draw them with: {again}")
        return None
    try:
        with Unwinding():  # all that matters is done: a signal ends what is done here, not the process
            left_out: dict[str, str] = {}
            records = [read_record(run.directory, directory if is_sweep else None) for run in runs]
            records = _counted(_readable(records, left_out), left_out)
            with folder_for(None, directory, "plots") as folder:
                paths = draw_into(records, names, canvas.FORMATS, folder)
    except KeyboardInterrupt:
        warn(f"no figures: interrupted; draw them with: {again}")
        return None
    except Exception as error:  # whatever it is, the run has ended as it has
        warn(f"no figures: {' '.join(str(in_users_terms(error)).split())}; try again with: {again}")
        return None
    for name, reason in left_out.items():
        warn(f"{name} is left out of the figures: {reason}")
    if not paths:
        return None
    return f"{shown_path(paths[0].parent)} ({', '.join(dict.fromkeys(path.stem for path in paths))})"


def _chosen(option: str, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """What ``a,b`` names, in the order of ``known``. Raises UsageError."""
    typed = [part.strip() for part in text.split(",")]
    for part in typed:
        if part not in known:
            raise UsageError(f"{option}={text}: unknown {part!r}{nearest(part, known)}; choices: {', '.join(known)}")
    return tuple(name for name in known if name in typed)


def _readable(records: Sequence[Record], left_out: dict[str, str]) -> list[Record]:
    """The records whose files can be read; of the others, ``left_out`` gets the reasons. Raises ResumeError if there is none."""
    readable = []
    for record in records:
        try:
            _ = record.rows, record.clock, record.episodes
            readable.append(record)
        except ResumeError as error:
            left_out[printable(record.name)] = str(error)
    if not readable:
        raise ResumeError("\n".join(left_out.values()))
    return readable


def _counted(records: Sequence[Record], left_out: dict[str, str]) -> list[Record]:
    """Each seed of the same settings once; why others are not drawn is told in ``left_out``."""
    older = {id(record): newer for record, newer in duplicates(group(records))}
    left_out |= {printable(record.name): why_duplicate(older[id(record)]) for record in records if id(record) in older}
    return [record for record in records if id(record) not in older]


def _place(wanted: Path | None, records: Sequence[Record]) -> tuple[Path | None, Path, str]:
    """What ``folder_for`` takes: figures of one run or sweep go into it."""
    sweeps = {record.sweep for record in records}
    (sweep,) = sweeps if len(sweeps) == 1 else (None,)
    if sweep is None and len(records) > 1:
        wanted = wanted or Path("plots")
    return wanted, sweep or records[0].directory, "plots"


def _which(records: Sequence[Record]) -> str:
    return shown_path(records[0].directory) if len(records) == 1 else f"these {len(records)} runs"


def _bytes_of(run: Run) -> int:
    """Of the files that figures are drawn from."""
    size = 0
    for name in FILES:
        with contextlib.suppress(OSError):
            size += os.lstat(run.directory / name).st_size
    return size

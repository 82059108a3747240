"""``rlrun gc``: free the space of what nobody needs any more. It asks, and leaves every run fit to be gone on with and played."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from rlrun.cli.arguments import Parser, add_outputs, integer
from rlrun.cli.asking import confirmed, require_someone, teller
from rlrun.cli.filters import seconds_of
from rlrun.cli.groups import check_is_folder
from rlrun.cli.output import deliver_json, deliver_line, print_table, shown_path, shown_size, warn
from rlrun.errors import LockedError, LostFileError, StorageError, UsageError
from rlrun.finding import all_runs, find_all, is_run, is_sweep, runs_in
from rlrun.garbage import CATEGORIES, Item, Wish, dispose, dispose_around, garbage_around, garbage_of, garbage_of_sweep

_EPILOG = """examples:
  rlrun gc --dry-run                     what would go
  rlrun gc 2026-11-24_2158 --keep 2      only of this sweep
  rlrun gc --older-than 30d --best -y    for cron: it does not ask

What goes: older checkpoints of finished runs, so that they can still be extended from the newest; damaged
checkpoints where an undamaged one is left; replay memory that no checkpoint refers to; temporary files; runs that
failed or were killed before their first checkpoint, unless they belong to a sweep; empty directories.
What is being trained, and runs that can't be read, are left alone; so are best checkpoints, unless --best is typed."""


def main(arguments: list[str]) -> int:
    """Free space."""
    options = _parser().parse_args(arguments)
    if options.json and not options.dry_run:
        raise UsageError("--json lists what would go; type --dry-run as well")
    wish = Wish(options.keep, options.older_than or 0.0, options.best)
    if os.path.exists(options.outputs):
        check_is_folder("--outputs", options.outputs)
    items = _find(options, wish)
    if options.json:
        deliver_json([{"what": item.category, "path": str(item.path), "bytes": item.size} for item in items])
        return 0
    if not items:
        deliver_line("nothing to free")
        return 0
    if options.dry_run:
        for item in items:
            deliver_line(f"{shown_path(item.path)}  {shown_size(item.size)}")
        deliver_line()
    else:
        require_someone(options.yes)
    tell = teller(asks=options.dry_run or not options.yes)
    _say(items, tell)
    size = sum(item.size for item in items)
    if options.dry_run:
        deliver_line(f"would free {shown_size(size)}")
    elif confirmed(f"delete these, {shown_size(size)}?", options.yes):
        freed, whole = _dispose(items, wish)
        tell(f"freed {shown_size(freed)}")
        if not whole:
            raise StorageError("not all could be freed; the notes say why")
    else:
        deliver_line("nothing deleted")
    return 0


def _parser() -> Parser:
    parser = Parser("gc", "Free the space of what nobody needs any more, after asking.", _EPILOG)
    add = parser.add_argument
    add("runs", nargs="*", metavar="RUN|SWEEP", help="only of these; default: all in the folder of the runs")
    add(
        "--keep",
        type=integer(1, 1000),
        default=1,
        metavar="N",
        help="newest checkpoints kept of a finished run; default 1",
    )
    add("--older-than", type=_age, metavar="AGE", help="only of runs that have not changed for 30d, 12h, ...")
    add("--best", action="store_true", help="best checkpoints of finished runs, too")
    add("-y", "--yes", action="store_true", help="do not ask")
    add("-n", "--dry-run", action="store_true", help="only list what would go")
    add("--json", action="store_true", help="with --dry-run: print one JSON list")
    add_outputs(parser)
    return parser


def _age(text: str) -> float:
    try:
        return seconds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _find(options: argparse.Namespace, wish: Wish) -> list[Item]:
    if not options.runs:
        runs = sorted(all_runs(options.outputs))
        around = [] if wish.older_than else garbage_around(options.outputs)
        return [*(item for run in runs for item in garbage_of(run, wish)), *around]
    named = find_all(options.runs, options.outputs)
    runs = [run for path in named for run in ([path] if is_run(path) else sorted(runs_in(path)))]
    sweeps = [] if wish.older_than else [path for path in named if is_sweep(path)]
    of_sweeps = [item for sweep in sweeps for item in garbage_of_sweep(sweep)]
    return [*(item for run in dict.fromkeys(runs) for item in garbage_of(run, wish)), *of_sweeps]


def _say(items: Sequence[Item], tell: Callable[[str], None]) -> None:
    rows = []
    for category in CATEGORIES:
        sizes = [item.size for item in items if item.category == category]
        if sizes:
            rows.append([category, str(len(sizes)), shown_size(sum(sizes))])
    print_table(("what", "number", "size"), rows, tell)


def _dispose(items: Sequence[Item], wish: Wish) -> tuple[int, bool]:
    """Delete, run by run: what can't be is noted, and the rest goes on. Returns the bytes freed, and whether nothing failed."""
    of_runs: dict[Path, list[Item]] = {}
    for item in items:
        if item.run is not None:
            of_runs.setdefault(item.run, []).append(item)
    deletions = [dispose(run, some, wish) for run, some in of_runs.items()]
    deletions += [dispose_around(item) for item in items if item.run is None]
    freed, whole = 0, True
    for sizes in deletions:
        try:
            for size in sizes:
                freed += size
        except LostFileError:  # somebody else has deleted it meanwhile
            continue
        except LockedError as error:
            warn(f"{error}; left alone")
        except StorageError as error:
            warn(str(error))
            whole = False
    return freed, whole

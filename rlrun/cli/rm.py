"""``rlrun rm RUN...``: delete runs and sweeps. It asks, and never takes what is being trained."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection
from pathlib import Path

from rlrun.checkpoint_names import BEST_FILE, CHECKPOINTS
from rlrun.cli.arguments import Parser, add_outputs
from rlrun.cli.asking import confirmed, require_someone, teller
from rlrun.cli.output import counted, deliver_line, shown_path, shown_size, warn
from rlrun.deletion import Inode, delete, foreign_entry, inode_of, require_unmoved, size_of
from rlrun.errors import LockedError, LostFileError, ResumeError, RlrunError, StorageError, UsageError
from rlrun.finding import DAY, find_all, is_run, is_sweep, listed, runs_in
from rlrun.locks import is_locked, lock
from rlrun.plain import printable

_EPILOG = """examples:
  rlrun rm 2026-11-24/0930
  rlrun rm '*_test_*' --dry-run      what would be deleted
  rlrun rm 2026-11-24_2158 -y        a sweep, without a question

Best checkpoints go with their runs: the question says how many. Without a question, with --yes, runs that
have one are only deleted if --best is typed as well."""


def main(arguments: list[str]) -> int:
    """Delete runs and sweeps."""
    options = _parser().parse_args(arguments)
    if options.best and not options.yes:
        raise UsageError("--best is for --yes only; without it you are asked")
    found = {path: inode_of(path) for path in find_all(options.runs, options.outputs)}
    for path in found:
        _check(path)
    if not options.dry_run:
        require_someone(options.yes)
    places = {path.resolve(): inode for path, inode in found.items()}  # whole: "." has no name that could be taken away
    targets = [path for path in places if places.keys().isdisjoint(path.parents)]  # else it goes with its sweep
    best = sum(_count_best(path) for path in targets)
    tell = teller(asks=options.dry_run or not options.yes)
    sizes = {path: _say(path, tell) for path in targets}
    what = _shown(sizes.values())
    with_best = f", with {counted(best, 'best checkpoint')}" if best else ""
    if options.dry_run:
        deliver_line(f"would delete {what}{with_best}")
        return 0
    if best and options.yes and not options.best:
        raise UsageError(
            f"{counted(best, 'best checkpoint')} would be deleted; type --best as well, or leave --yes out to be asked"
        )
    if not confirmed(f"delete {what}{with_best}?", options.yes):
        deliver_line("nothing deleted")
        return 0
    failures = {path: error for path in targets if (error := _failure_of(path, places[path])) is not None}
    if len(failures) < len(targets):
        tell(f"deleted {_shown([size for path, size in sizes.items() if path not in failures])}")
    if failures:
        *others, last = failures.values()
        for error in others:
            warn(str(error))
        raise last
    return 0


def _parser() -> Parser:
    parser = Parser(
        "rm",
        "Delete runs and sweeps with all they hold, after asking. What is being trained is refused.",
        _EPILOG,
    )
    add = parser.add_argument
    add(
        "runs", nargs="+", metavar="RUN|SWEEP", help="directory, the beginning of its name, latest, or a glob in quotes"
    )
    add("-y", "--yes", action="store_true", help="do not ask")
    add("--best", action="store_true", help="with --yes: also runs that have a best checkpoint")
    add("-n", "--dry-run", action="store_true", help="only say what would be deleted")
    add_outputs(parser)
    return parser


def _shown(sizes: Collection[int]) -> str:
    return f"{'1 directory' if len(sizes) == 1 else f'{len(sizes)} directories'}, {shown_size(sum(sizes))}"


def _failure_of(path: Path, known: Inode | None) -> RlrunError | None:
    """Delete a directory. Returns why that can't be: the others go all the same."""
    try:
        remove(path, known)
    except (LockedError, StorageError) as error:
        return error
    return None


def _check(path: Path) -> None:
    """Raises LockedError, or ResumeError for what can't be known to be rlrun's alone."""
    if path.is_symlink():
        raise ResumeError(f"{shown_path(path)} is a symbolic link; name the directory that it leads to")
    _require_idle(path, *filter(is_sweep, [path.resolve().parent]), *runs_in(path))
    for directory in (path, *runs_in(path)):
        entry = foreign_entry(directory)
        if entry is not None:
            raise ResumeError(
                f"{shown_path(directory)} holds {printable(entry)}, which is of no run; move it elsewhere first"
            )


def _require_idle(*directories: Path) -> None:
    for directory in directories:
        if is_locked(directory):
            raise LockedError(f"{shown_path(directory)} is in use; stop it first, or wait for it")


def _say(path: Path, tell: Callable[[str], None]) -> int:
    """One line of what will go. Returns its size."""
    size = size_of(path)
    if is_sweep(path) and not is_run(path):
        what = f"sweep of {counted(len(list(runs_in(path))), 'run')}"
    else:
        run = listed(path)
        what = run["status"] if "algo" not in run else f"{run['status']}, {run['algo']} on {run['env']}"
    tell(f"  {shown_path(path)}  {printable(what)}  {shown_size(size)}")
    return size


def _count_best(path: Path) -> int:
    return sum(os.path.lexists(directory / CHECKPOINTS / BEST_FILE) for directory in (path, *runs_in(path)))


def remove(path: Path, known: Inode | None) -> None:
    """Delete a run or a sweep while it is held, so that nobody begins to train it; and its day, if that is empty then.
    That somebody else has deleted it meanwhile is as well. ``known``: what ``inode_of`` it told when it was listed.

    Raises:
        LockedError: it is being trained by now.
        StorageError: it can't be deleted, or has been moved.
    """
    require_unmoved(path, known)  # before a lock is taken there, which would be a new file in it
    with contextlib.suppress(LostFileError), lock(path, "run" if is_run(path) else "sweep"):
        _require_idle(*runs_in(path))
        delete(path, known)
    if DAY.fullmatch(path.parent.name):
        with contextlib.suppress(OSError):  # not empty
            path.parent.rmdir()

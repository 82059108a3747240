"""Runs and sweeps among others: found by what a user types, and listed."""

from __future__ import annotations

import difflib
import glob
import itertools
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rlrun.errors import ResumeError, UsageError
from rlrun.locks import is_locked
from rlrun.manifest import MANIFEST, identity, read_manifest
from rlrun.plain import printable

SWEEPS, SWEEP_LIST = "sweeps", "sweep.json"
DAY = re.compile(r"\d{4}-\d\d-\d\d")
"""The name of a folder with the runs of one day."""
REMOVED = ".removed-"
"""How the name of a directory begins that is being deleted: it is no run any more."""


def find(selector: str, outputs: Path) -> Path:
    """The directory of the run meant by ``selector``: a path, how its name or ``<date>/<name>`` begins, or ``latest`` that has begun.

    Raises:
        UsageError: it fits several runs.
        ResumeError: it fits none.
    """
    if selector == "latest":
        latest = _latest(outputs)
        if latest is None:
            raise ResumeError(f"no run in {printable(outputs)} yet; start one with: rlrun")
        return latest
    wanted = selector.rstrip("/")
    if not wanted:
        raise UsageError("which run? give its directory, the beginning of its name, or latest")
    if os.path.isdir(wanted) and os.path.lexists(os.path.join(wanted, MANIFEST)):
        return Path(wanted)
    names = {path: (path.name, identity(path)) for path in all_runs(outputs)}
    matches = [path for path, forms in names.items() if wanted in forms]
    matches = matches or [path for path, forms in names.items() if any(form.startswith(wanted) for form in forms)]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        if os.path.isdir(wanted):
            raise ResumeError(f"{printable(wanted)} is not an rlrun run (it has no {MANIFEST})")
        if os.path.lexists(wanted):
            raise ResumeError(f"{printable(wanted)} is a file, not a run; give the directory of the run")
        raise no_run(wanted, names)
    some = ", ".join(printable(identity(path)) for path in sorted(matches)[:5])
    more = f" and {len(matches) - 5} more" if len(matches) > 5 else ""
    raise UsageError(f"'{printable(selector)}' fits {len(matches)} runs: {some}{more}; type more of the name")


def find_one(selector: str, outputs: Path) -> Path:
    """The directory of the run meant by ``selector``, as ``find`` has it. Raises also UsageError: it is a sweep."""
    try:
        return find(selector, outputs)
    except (UsageError, ResumeError):
        if find_sweep(selector, outputs) is None:
            raise
        shown = printable(selector)
        raise UsageError(f"{shown} is a sweep; name one of its runs: rlrun ls {shlex.quote(shown)}") from None


def find_sweep(selector: str, outputs: Path) -> Path | None:
    """The directory of the sweep meant by ``selector``: a path, how its name begins, or ``latest`` if the latest run is one of a
    sweep; None if it means none.

    Raises:
        UsageError: it fits several sweeps, or a sweep and runs beside.
    """
    if selector == "latest":
        latest = _latest(outputs)
        return latest.parent if latest is not None and is_sweep(latest.parent) else None
    wanted = selector.rstrip("/")
    if not wanted:
        return None
    if os.path.isdir(wanted):
        return Path(wanted) if os.path.isfile(os.path.join(wanted, SWEEP_LIST)) else None
    sweeps = [path for path in sweep_folders(outputs) if is_sweep(path)]
    fits = [path for path in sweeps if path.name == wanted] or [path for path in sweeps if path.name.startswith(wanted)]
    runs = [path for path in all_runs(outputs) if path.parent.parent.name != SWEEPS]
    others = [path for path in runs if path.name.startswith(wanted) or identity(path).startswith(wanted)]
    if not fits or (len(fits) == 1 and not others):
        return fits[0] if fits else None
    some = ", ".join(printable(path.name) for path in sorted([*fits, *others])[:5])
    raise UsageError(
        f"'{printable(selector)}' fits {len(fits) + len(others)} sweeps and runs: {some}; type more of the name"
    )


def _latest(outputs: Path) -> Path | None:
    """The newest run that has begun; None if there is none."""
    begun = (run for run in list_runs(outputs) if run["status"] not in ("unreadable", "waiting"))
    return next((Path(run["directory"]) for run in begun), None)


def find_all(selectors: Sequence[str], outputs: Path) -> list[Path]:
    """The directories of the runs and sweeps meant by ``selectors``, globs too, in that order, each once.

    Raises:
        UsageError: one of them fits several, and is no glob.
        ResumeError: one of them fits none.
    """
    found: dict[str, Path] = {}
    for selector in selectors:
        pattern = is_glob(selector)
        for path in (
            globbed(selector, outputs) if pattern else [find_sweep(selector, outputs) or find(selector, outputs)]
        ):
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def is_glob(selector: str) -> bool:
    """Whether a selector is a pattern, and not the name of something there that looks like one."""
    return any(letter in selector for letter in "*?[") and not os.path.lexists(selector)


def globbed(pattern: str, outputs: Path) -> list[Path]:
    """The directories of runs and sweeps whose paths, or else names in ``outputs``, fit; none that only a link leads to.

    Raises:
        ResumeError: none does.
    """
    typed_out = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))
    within = [(outputs, place) for place in (pattern, f"*/{pattern}", f"{SWEEPS}/*/{pattern}")]
    for top, wanted in [(Path(), pattern), *within]:
        paths = (top / name for name in sorted(glob.glob(wanted, root_dir=top)))
        fits = [
            path for path in paths if (is_run(path) or is_sweep(path)) and not _is_behind_link(path, typed_out, outputs)
        ]
        if fits:
            return fits
    raise ResumeError(f"no run or sweep fits {printable(pattern)}; rlrun ls lists them")


def _is_behind_link(path: Path, typed_out: Path, outputs: Path) -> bool:
    """Whether a link, which could lead anywhere, is on the way to ``path`` from ``outputs``, or else from what was ``typed_out``."""
    whole = path.absolute()
    top = outputs.absolute() if outputs.absolute() in whole.parents else typed_out.absolute()
    return any(os.path.islink(each) for each in (whole, *whole.parents) if top in each.parents)


def is_run(directory: Path) -> bool:
    return os.path.lexists(directory / MANIFEST)


def is_sweep(directory: Path) -> bool:
    return os.path.lexists(directory / SWEEP_LIST)


def list_runs(outputs: Path) -> list[dict[str, Any]]:
    """The manifests of all runs in ``outputs``, newest first, as ``listed`` has them."""
    runs = [listed(directory) for directory in all_runs(outputs)]
    return sorted(runs, key=lambda run: (run["created"], run["directory"]), reverse=True)


def listed(directory: Path) -> dict[str, Any]:
    """The manifest of a run, with its ``directory``.

    A manifest that can't be read becomes ``status`` unreadable with the reason in ``failure``; a run that says running
    while no process holds its lock becomes interrupted.
    """
    try:
        run = read_manifest(directory)
    except ResumeError as error:
        run = {"id": identity(directory), "status": "unreadable", "created": "", "failure": str(error)}
    if run["status"] == "running" and not is_locked(directory):
        run["status"] = "interrupted"
    return run | {"directory": str(directory)}


def all_runs(outputs: Path) -> Iterator[Path]:
    """The directories of all runs in ``outputs``, those of sweeps too."""
    for parent in parents(outputs):
        yield from runs_in(parent)


def parents(outputs: Path) -> list[Path]:
    """The folders in which runs are looked for: ``outputs``, those in it, and the sweeps."""
    return [outputs, *folders(outputs), *sweep_folders(outputs)]


def sweep_folders(outputs: Path) -> list[Path]:
    """The folders in which the sweeps in ``outputs`` are."""
    return [] if os.path.islink(outputs / SWEEPS) else folders(outputs / SWEEPS)


def runs_in(parent: Path) -> Iterator[Path]:
    """The directories of the runs directly in ``parent``."""
    return (directory for directory in folders(parent) if is_run(directory))


def folders(parent: Path) -> list[Path]:
    """The real folders in ``parent``: a link could lead anywhere."""
    try:
        with os.scandir(parent) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(REMOVED)
            ]
    except OSError:
        return []


def no_run(wanted: str, directories: Iterable[Path]) -> ResumeError:
    names = [directory.name for directory in directories]
    close = difflib.get_close_matches(os.path.basename(wanted), names, n=1, cutoff=0.3)
    return ResumeError(f"no run at {printable(wanted)}" + (f"; nearest: {printable(close[0])}" if close else ""))

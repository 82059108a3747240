"""How large a directory is, and deleting one so that a kill leaves no half of a run that looks like a run."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from rlrun.errors import StorageError
from rlrun.finding import REMOVED, is_run, is_sweep
from rlrun.plain import printable, reason_of
from rlrun.run import FOLDERS, PAGE

_MADE_NAME = re.compile(r"\d{6}_.+_s\d+(-\d+)?|\d{4}-\d\d-\d\d_\d{6}_.+")
"""Of directories that rlrun made for a run or a sweep, with an exclusive ``mkdir``: all in them is of the run."""
_FILES = re.compile(
    r"config\.yaml|(run|sweep)\.json|run\.lock|(metrics|timing)\.jsonl|(episodes|sweep)\.csv|crash\.log|worker-\d+\.log|\.tmp-.*|"
    + "|".join(map(re.escape, (*FOLDERS, PAGE)))
)
"""What rlrun writes into the directory of a run or a sweep."""


def was_made(directory: Path) -> bool:
    """Whether rlrun made ``directory``, as its name tells; ``run.dir=`` may put a run into any folder there is."""
    return _MADE_NAME.fullmatch(directory.name) is not None


def foreign_entry(directory: Path) -> str | None:
    """The name of something in a folder that rlrun did not make, and that is of no run; None if there is no such thing."""
    if was_made(directory):
        return None
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                within = entry.is_dir(follow_symlinks=False) and is_run(Path(entry.path)) and is_sweep(directory)
                if not within and not _FILES.fullmatch(entry.name):
                    return entry.name
    except OSError:
        return None
    return None


def size_of(directory: Path) -> int:
    """Bytes of the files in ``directory`` and below it. Links are not followed; what can't be read counts as nothing."""
    size, left = 0, [os.fspath(directory)]
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    else:
                        size += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return size


def delete(directory: Path) -> None:
    """Delete a real directory and all in it: first its name, in one step, then what it held.

    Raises:
        StorageError: it, or something in it, can't be deleted.
    """
    try:
        if directory.is_symlink() or not directory.is_dir():  # a link: what is behind it was not named
            raise NotADirectoryError(0, "not a folder of its own")
        hidden = _hide(directory)
        shutil.rmtree(hidden)
    except OSError as error:
        raise StorageError(f"can't delete {printable(directory)}: {reason_of(error)}") from error


def remains_in(parent: Path) -> Iterator[Path]:
    """What a kill has left of directories in ``parent`` that were being deleted."""
    try:
        with os.scandir(parent) as entries:
            found = [
                entry.path
                for entry in entries
                if entry.name.startswith(REMOVED) and entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return
    yield from map(Path, sorted(found))


def _hide(directory: Path) -> Path:
    """Rename to a name that no command looks at. Raises OSError."""
    for number in itertools.count():
        hidden = directory.with_name(f"{REMOVED}{os.getpid()}-{number}")
        if not os.path.lexists(hidden):  # only an earlier process of our number can have left one
            os.rename(directory, hidden)
            return hidden
    raise AssertionError("unreachable")

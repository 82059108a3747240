"""How large a directory is, and deleting one so that a kill leaves no half of a run that looks like a run."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from rlrun.errors import StorageError
from rlrun.finding import REMOVED
from rlrun.plain import printable, reason_of


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

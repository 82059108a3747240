"""What runs leave behind and nobody needs: found here, and deleted by whoever has asked. A best checkpoint is no garbage.

What stays is always enough to go on with each run, or to play with it.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlrun.checkpoint import read_header
from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.checkpoint_names import BEST_FILE, CHECKPOINTS, is_damaged, steps_in, tells_of_steps
from rlrun.deletion import Inode, delete, delete_file, inode_of, remains_in, require_unmoved, size_of, was_made
from rlrun.errors import ResumeError
from rlrun.finding import DAY, is_sweep, listed, parents
from rlrun.locks import is_locked, lock
from rlrun.manifest import MANIFEST
from rlrun.pieces import is_piece, names_of
from rlrun.plain import is_stale, is_temporary
from rlrun.run import FOLDERS

OLDER, DAMAGED, PIECES = "older checkpoints of finished runs", "damaged checkpoints", "replay memory of no checkpoint"
TEMPORARY, UNBEGUN, BEST = "temporary files", "runs that ended before their first checkpoint", "best checkpoints"
EMPTY, REMAINS = "empty directories", "directories whose deletion was cut short"
CATEGORIES = (OLDER, DAMAGED, PIECES, TEMPORARY, UNBEGUN, EMPTY, REMAINS, BEST)

_BEGINNING = re.compile(r"checkpoints|config\.yaml|run\.lock|\.tmp-.*")
_SETTLED = 3600.0
"""Seconds after which a run that no process holds is not one that is just being made."""
_CUT_SHORT = 60.0
"""Seconds after which a directory that loses nothing any more is not being deleted."""


@dataclass(frozen=True)
class Item:
    """A file or directory that can go. ``run``: the directory of the run that has to be held meanwhile."""

    category: str
    path: Path
    size: int
    run: Path | None = None
    inode: Inode | None = field(init=False, compare=False)
    """What ``inode_of`` it told when it was found."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "inode", inode_of(self.path))


@dataclass(frozen=True)
class Wish:
    """What is asked for. ``keep``: checkpoints of a finished run that stay (>= 1); ``older_than``: seconds since a run changed;
    ``best``: best checkpoints, too."""

    keep: int = 1
    older_than: float = 0.0
    best: bool = False


def garbage_of(directory: Path, wish: Wish) -> list[Item]:
    """What can go of a run, in the order in which it may; nothing of one that is being trained, or can't be read."""
    sweep = directory.resolve().parent
    busy = is_locked(directory) or (is_sweep(sweep) and is_locked(sweep))
    return [] if busy else _of_idle(directory, wish)


def dispose(directory: Path, items: Sequence[Item], wish: Wish) -> Iterator[int]:
    """Delete those ``items`` of a run that still can go, while it is held. Yields the bytes that each has freed.

    Raises:
        LostFileError: it, or its sweep, is not there any more.
        LockedError: it, or its sweep, is being trained by now.
        StorageError: something can't be deleted.
    """
    for item in items:  # before a lock is taken there, which would be a new file in it
        require_unmoved(item.path, item.inode)
    with contextlib.ExitStack() as stack:
        if is_sweep(directory.parent):  # whoever resumes it plans by the checkpoints that there are
            stack.enter_context(lock(directory.parent, "sweep"))
        stack.enter_context(lock(directory))
        still = {(item.category, item.path) for item in _of_idle(directory, wish)}
        for item in items:
            if (item.category, item.path) in still:
                _delete(item)
            elif item.category != TEMPORARY or os.path.lexists(item.path):  # whoever takes the lock deletes those
                continue
            yield item.size


def garbage_around(outputs: Path) -> list[Item]:
    """What lies beside the runs in ``outputs``: empty directories, and what a kill has left of others, or of files."""
    items = []
    for parent in parents(outputs):
        items += [Item(REMAINS, path, size_of(path)) for path in remains_in(parent) if seconds_since(path) > _CUT_SHORT]
        with contextlib.suppress(OSError), os.scandir(parent) as entries:
            folders = sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
            items += [Item(EMPTY, path, size_of(path)) for path in folders if _is_empty(path)]
        items += garbage_of_sweep(parent) if is_sweep(parent) else []
    return items + _old_temporary(outputs)


def garbage_of_sweep(directory: Path) -> list[Item]:
    """What can go of a sweep besides its runs."""
    return [item for folder in (directory, *_folders(directory)) for item in _old_temporary(folder)]


def dispose_around(item: Item) -> Iterator[int]:
    """Delete an ``item`` that belongs to no run, if it still can go. Yields the bytes that it has freed. Raises StorageError."""
    if not os.path.lexists(item.path) or (item.category == EMPTY and not _is_empty(item.path)):
        return
    _delete(item)
    yield item.size


def seconds_since(path: Path) -> float:
    """Since a file, or the names in a directory, changed; 0 if that can't be told."""
    try:
        return time.time() - os.lstat(path).st_mtime
    except OSError:
        return 0.0


def _of_idle(directory: Path, wish: Wish) -> list[Item]:
    if seconds_since(directory / MANIFEST) < wish.older_than:
        return []
    status = listed(directory)["status"]
    if status == "unreadable":
        return []
    folder = directory / CHECKPOINTS
    names = _files(folder)
    if _never_began(directory, status, names, wish):
        return [Item(UNBEGUN, directory, size_of(directory), directory)]
    going = _superseded(folder, names, status == "finished", wish)
    going += [(TEMPORARY, name) for name in _stale(folder, names)]
    items = [Item(category, folder / name, names[name], directory) for category, name in going]
    return items + _temporary(directory)


def _temporary(directory: Path) -> list[Item]:
    """What commands that were killed have left in a run besides its checkpoints."""
    files = _files(directory)
    items = [Item(TEMPORARY, directory / name, files[name], directory) for name in _stale(directory, files)]
    for folder in _folders(directory):
        if folder.name != CHECKPOINTS:
            items += _old_temporary(folder, directory)
    return items


def _stale(folder: Path, names: Iterable[str]) -> list[str]:
    """Those of the files in a folder that a killed process was writing."""
    return [name for name in names if is_temporary(name) and is_stale(folder / name)]


def _old_temporary(folder: Path, run: Path | None = None) -> list[Item]:
    """What killed commands have left in a folder. An export has no lock: what is young may be its own."""
    items = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        paths = [Path(entry.path) for entry in entries if is_temporary(entry.name) and not entry.is_symlink()]
        for path in sorted(path for path in paths if seconds_since(path) > _SETTLED):
            size = size_of(path) if path.is_dir() else path.lstat().st_size
            items.append(Item(TEMPORARY, path, size, run))
    return items


def _folders(directory: Path) -> list[Path]:
    """The real folders in which a run, or a sweep, keeps what it has made."""
    return [directory / name for name in FOLDERS if not (directory / name).is_symlink()]


def _never_began(directory: Path, status: str, names: Mapping[str, int], wish: Wish) -> bool:
    """Whether there is nothing of a run to go on with or to play with. One of a sweep is trained when that is resumed."""
    if status in ("finished", "waiting") or is_sweep(directory.parent) or not was_made(directory):
        return False
    if any(tells_of_steps(name) or (name.startswith("best.") and not wish.best) for name in names):
        return False
    return status == "failed" or seconds_since(directory / MANIFEST) > _SETTLED


def _superseded(folder: Path, names: Mapping[str, int], finished: bool, wish: Wish) -> list[tuple[str, str]]:
    """Category and name of the checkpoints, and of their pieces, that are not needed."""
    steps = [name for _, name in steps_in(names)]
    damaged = [name for name in names if is_damaged(name)]
    pieces = [name for name in names if is_piece(name)]
    if not steps or not (damaged or pieces or len(steps) > wish.keep or wish.best):
        return []
    good = CheckpointFolder(folder, wish.keep).last_good()  # reads it whole
    if good is None:  # nothing to go on with but what may be mended
        return []
    last = steps.index(good)
    older = steps[: max(0, last + 1 - wish.keep)] if finished else []
    stay = [name for name in steps if name not in older]
    going = [(OLDER, name) for name in older] + [(DAMAGED, name) for name in damaged]
    if finished and wish.best and BEST_FILE in names:
        going.append((BEST, BEST_FILE))
    return going + [(PIECES, name) for name in _unused(folder, pieces, stay)]


def _unused(folder: Path, pieces: Sequence[str], checkpoints: Sequence[str]) -> list[str]:
    """The pieces that none of ``checkpoints`` refers to; none if that can't be known."""
    used: set[str] = set()
    try:
        for name in checkpoints:
            used |= names_of(read_header(folder / name).get("pieces", []))
    except (ResumeError, ValueError):
        return []
    return [name for name in pieces if name not in used]


def _files(folder: Path) -> dict[str, int]:
    """Name and size of the regular files in a real folder."""
    if folder.is_symlink():
        return {}
    try:
        with os.scandir(folder) as entries:
            return {
                entry.name: entry.stat(follow_symlinks=False).st_size
                for entry in entries
                if entry.is_file(follow_symlinks=False)
            }
    except OSError:
        return {}


def _is_empty(path: Path) -> bool:
    """Whether nothing is in a directory of rlrun but what a run begins with, and nobody is just making one there."""
    made = was_made(path)
    if not (made or DAY.fullmatch(path.name)) or seconds_since(path) < _SETTLED:
        return False
    try:
        names = os.listdir(path)
        begun = all(made and _BEGINNING.fullmatch(name) for name in names)
        return begun and not any((path / CHECKPOINTS).glob("*"))
    except OSError:
        return False


def _delete(item: Item) -> None:
    if item.path.is_dir():
        delete(item.path, item.inode)
    else:
        delete_file(item.path, item.inode)

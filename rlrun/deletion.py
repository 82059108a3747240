"""How large a directory is, and deleting one so that a kill leaves no half of a run that looks like a run."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from rlrun.errors import StorageError
from rlrun.finding import REMOVED, is_run, is_sweep
from rlrun.plain import printable, reason_of
from rlrun.run import FOLDERS, PAGE

_MADE_NAME = re.compile(r"\d{6}_.+_s\d+(-\d+)?|\d{4}-\d\d-\d\d_\d{6}_.+")
"""Of directories that rlrun made for a run or a sweep, with an exclusive ``mkdir``: all in them is of the run."""
WORKER_LOG = re.compile(r"worker-(\d+)\.log")
_FILES = re.compile(
    r"config\.yaml|(run|sweep)\.json|run\.lock|(metrics|timing)\.jsonl|(episodes|sweep)\.csv|crash\.log|\.tmp-.*|"
    + "|".join([WORKER_LOG.pattern, *map(re.escape, (*FOLDERS, PAGE))])
)
"""What rlrun writes into the directory of a run or a sweep."""
Inode = tuple[int, int]
"""Device and number of a directory: by these it is known again, wherever its path leads by then."""
_MOVED = "it was moved meanwhile, or something else was put in its place"
_REAL_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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


def inode_of(path: Path) -> Inode | None:
    """Of a real directory, or of the folder that anything else is in; None if there is none. Links on the way there are followed."""
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        return _inode(status if stat.S_ISDIR(status.st_mode) else os.stat(path.parent))
    return None


def require_unmoved(path: Path, known: Inode | None) -> None:
    """Raises StorageError if what is at ``path`` is in another folder than ``inode_of`` it told; what has gone is no error."""
    if inode_of(path) not in (None, known):
        raise StorageError(f"can't delete {printable(path)}: {_MOVED}")


def delete(directory: Path, known: Inode | None) -> None:
    """Delete a real directory and all in it: first its name, in one step, then what it held. One that has gone is no error.

    ``known``: what ``inode_of`` it told when it was listed. Another one stays: a link may have been put on the way since.

    Raises:
        StorageError: it, or something in it, can't be deleted.
    """
    with contextlib.ExitStack() as stack:
        try:
            parent = stack.enter_context(_opened(directory.parent))
            status = os.lstat(directory.name, dir_fd=parent)
            if not stat.S_ISDIR(status.st_mode):  # a link: what is behind it was not named
                raise NotADirectoryError(0, "not a folder of its own")
            if _inode(status) != known:
                raise NotADirectoryError(0, _MOVED)
            hidden = _hide(directory.name, parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"can't delete {printable(directory)}: {reason_of(error)}") from error
        try:
            _empty(hidden, parent, status)
            os.rmdir(hidden, dir_fd=parent)
        except OSError as error:
            if _is_in(parent, hidden):  # else another process has found it, and deleted what we had left
                left = shlex.quote(printable(directory.with_name(hidden)))
                raise StorageError(
                    f"can't delete all of {printable(directory)}: {reason_of(error)}; "
                    f"what is left of it is in {left}; mend the cause, then delete that with rm -r"
                ) from error


def delete_file(path: Path, known: Inode | None) -> None:
    """Delete what is no directory, if the folder that it is in is the ``known`` one. What has gone is no error. Raises StorageError."""
    try:
        with _opened(path.parent) as parent:
            if _inode(os.fstat(parent)) != known:
                raise NotADirectoryError(0, _MOVED)
            os.unlink(path.name, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"can't delete {printable(path)}: {reason_of(error)}") from error


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """A descriptor of a folder, which may be behind a link. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _inode(status: os.stat_result) -> Inode:
    return status.st_dev, status.st_ino


def _is_in(parent: int, name: str) -> bool:
    """Whether there is something of this name in an open folder."""
    try:
        os.lstat(name, dir_fd=parent)
    except OSError:
        return False
    return True


def _empty(name: str, parent: int, expected: os.stat_result) -> None:
    """Delete all in the ``expected`` directory, which has this name in an open one, however deep it is. Raises OSError.

    It goes down and up by descriptors, one at a time: names can get too long, and whoever swaps a folder for a link is not followed.
    """
    here = os.open(name, _REAL_FOLDER, dir_fd=parent)
    try:
        if not os.path.samestat(expected, os.fstat(here)):
            raise NotADirectoryError(0, _MOVED)
        folders = _unlink_files(here)
        above: list[tuple[str, list[str], os.stat_result]] = []
        while folders or above:
            if folders:
                name = folders.pop()
                there = os.open(name, _REAL_FOLDER, dir_fd=here)
                above.append((name, folders, os.fstat(here)))
                left, here = here, there
                os.close(left)
                folders = _unlink_files(here)
            else:
                there = os.open("..", _REAL_FOLDER, dir_fd=here)
                left, here = here, there
                os.close(left)
                name, folders, before = above.pop()
                if not os.path.samestat(before, os.fstat(here)):
                    raise NotADirectoryError(0, f"{printable(name)} was moved meanwhile")
                os.rmdir(name, dir_fd=here)
    finally:
        os.close(here)


def _unlink_files(descriptor: int) -> list[str]:
    """Delete what is no folder in an open folder. Returns the names of the folders. Raises OSError."""
    with os.scandir(descriptor) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if not is_folder:
            os.unlink(name, dir_fd=descriptor)
    return [name for name, is_folder in found if is_folder]


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


def _hide(name: str, parent: int) -> str:
    """Rename something in an open folder to a name that no command looks at. Returns that. Raises OSError."""
    for number in itertools.count():
        hidden = f"{REMOVED}{os.getpid()}-{number}"
        if not _is_in(parent, hidden):  # only an earlier process of our number can have left one
            # Else gc takes it for what a deletion long ago has left.
            os.utime(name, dir_fd=parent, follow_symlinks=False)
            os.rename(name, hidden, src_dir_fd=parent, dst_dir_fd=parent)
            return hidden
    raise AssertionError("unreachable")

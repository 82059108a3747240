"""Locks on directories: held by a process until it ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from rlrun.errors import LockedError, LostFileError, ResumeError, StorageError
from rlrun.plain import printable, read_json, reason_of, refuse_other_names, remove_stale, write_all

_FILE = "run.lock"
_ATTEMPTS = 5  # a listing holds the lock for microseconds to see whether it is free


@contextlib.contextmanager
def lock(directory: Path, what: str = "run") -> Iterator[tuple[int, ...]]:
    """Hold ``directory``; gives the descriptors that do. A child process that inherits them holds the lock, too.

    Held are the directory itself, which nobody takes for stale and deletes, and ``run.lock``, which says by whom, and which
    other machines see as well.

    Raises:
        LockedError: another process (or this one) holds it.
        LostFileError: it is not there any more.
        StorageError: the lock file can't be made.
    """
    with contextlib.ExitStack() as stack:
        try:
            held = _take(directory, what, stack)
        except (LockedError, OSError) as error:
            if not os.path.lexists(directory):
                raise LostFileError(f"{what} {printable(directory)} is not there any more") from error
            if isinstance(error, LockedError):
                raise
            raise StorageError(f"can't lock {printable(directory / _FILE)}: {reason_of(error)}") from error
        remove_stale(directory)
        yield held


def is_locked(directory: Path) -> bool:
    """Whether a process holds ``directory``."""
    return _is_held(directory, os.O_DIRECTORY) or _is_held(directory / _FILE, os.O_NOFOLLOW | os.O_NONBLOCK)


def _is_held(path: Path, flags: int) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return path.name == _FILE  # a file system that can't tell; of directories many can't
    finally:
        os.close(descriptor)
    return False


def _take(directory: Path, what: str, stack: contextlib.ExitStack) -> tuple[int, ...]:
    """Descriptors that hold the lock until ``stack`` closes them; raises LockedError, OSError."""
    folder = _opened(directory, os.O_RDONLY | os.O_DIRECTORY, stack)
    with contextlib.suppress(OSError):  # a file system that has no locks on directories
        _hold(folder, directory, what)
    file = _opened(directory / _FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, stack)
    refuse_other_names(file)
    _hold(file, directory, what)
    since = datetime.now(UTC).isoformat(timespec="microseconds")
    os.ftruncate(file, 0)
    write_all(file, json.dumps({"pid": os.getpid(), "host": platform.node(), "since": since}).encode())
    return folder, file


def _opened(path: Path, flags: int, stack: contextlib.ExitStack) -> int:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    stack.callback(_close, descriptor)
    return descriptor


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # a network's error; it is closed all the same, and its bytes matter to nobody
        os.close(descriptor)


def _hold(descriptor: int, directory: Path, what: str) -> None:
    """Raises LockedError, OSError."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.02)
    raise LockedError(f"{what} {printable(directory)} is in use by {_holder(directory / _FILE)}")


def _holder(path: Path) -> str:
    try:
        holder = read_json(path)
        return printable(f"pid {holder['pid']} on host {holder['host']} since {holder['since']}")
    except (ResumeError, KeyError, TypeError):
        return "another process"

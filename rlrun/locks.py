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

from rlrun.errors import LockedError, LostFileError, StorageError
from rlrun.plain import parse_json, printable, reason_of, refuse_other_names, remove_stale, write_all

_FILE = "run.lock"
_ATTEMPTS = 5  # a listing holds the lock for microseconds to see whether it is free


@contextlib.contextmanager
def lock(directory: Path, what: str = "run") -> Iterator[int]:
    """Hold ``directory``; gives the descriptor that does. A child process that inherits it holds the lock, too.

    Raises:
        LockedError: another process (or this one) holds it.
        LostFileError: it is not there any more.
        StorageError: the lock file can't be made.
    """
    try:
        descriptor = _take(directory, what)
    except (LockedError, OSError) as error:
        if not os.path.lexists(directory):
            raise LostFileError(f"{what} {printable(directory)} is not there any more") from error
        if isinstance(error, LockedError):
            raise
        raise StorageError(f"can't lock {printable(directory / _FILE)}: {reason_of(error)}") from error
    try:
        remove_stale(directory)
        yield descriptor
    finally:
        with contextlib.suppress(
            OSError
        ):  # a network's error; it is closed all the same, and its bytes matter to nobody
            os.close(descriptor)


def is_locked(directory: Path) -> bool:
    """Whether a process holds ``directory``."""
    try:
        descriptor = os.open(directory / _FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True  # held, or a file system that can't tell
    finally:
        os.close(descriptor)
    return False


def _take(directory: Path, what: str) -> int:
    """A descriptor that holds the lock until it is closed; raises LockedError, OSError."""
    descriptor = os.open(directory / _FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        refuse_other_names(descriptor)
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.02)
        else:
            raise LockedError(f"{what} {printable(directory)} is in use by {_holder(os.pread(descriptor, 1024, 0))}")
        since = datetime.now(UTC).isoformat(timespec="microseconds")
        os.ftruncate(descriptor, 0)
        write_all(descriptor, json.dumps({"pid": os.getpid(), "host": platform.node(), "since": since}).encode())
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _holder(content: bytes) -> str:
    try:
        holder = parse_json(content)
        return printable(f"pid {holder['pid']} on host {holder['host']} since {holder['since']}")
    except (ValueError, KeyError, TypeError):
        return "another process"

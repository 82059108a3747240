"""Folders that the tools write to, and turns between processes that send the same run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

_SECONDS_BETWEEN_TRIES = 0.1


def own_folder(path: Path) -> Path:
    """A real folder, made if need be in the one above. Raises OSError: that one has gone, or here is something else, such as a link."""
    refuse_link(path)
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def refuse_link(path: Path) -> None:
    """Raises OSError: ``path`` is a symbolic link; a tool would write to wherever it leads."""
    if path.is_symlink():
        raise OSError(f"{path} is a symbolic link, which is not followed; remove it")


def refuse_links(path: Path) -> None:
    """Raises OSError: ``path``, or something in it at any depth, is a symbolic link."""
    refuse_link(path)
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            refuse_link(Path(folder, name))


@contextlib.contextmanager
def turn(path: Path, seconds: float) -> Iterator[None]:
    """Wait for at most ``seconds`` until no other process is in here with the same file or folder.

    Raises:
        OSError: there is no such thing.
        TimeoutError: the other one did not leave.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        until = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TimeoutError("another process still sends this run") from None
                time.sleep(_SECONDS_BETWEEN_TRIES)
            except OSError:
                break  # a file system without locks
        yield
    finally:
        os.close(descriptor)

"""Folders for what a command makes of runs: figures, videos, exported policies."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from rlrun.run import cannot_make, own_folder


@contextlib.contextmanager
def folder_for(wanted: Path | None, directory: Path, name: str) -> Iterator[Path]:
    """The folder ``wanted``, or else ``name`` within a run's or a sweep's ``directory``, made if it is not there.

    What was made of it, and of those above it, is taken away again if nothing came into it.

    Raises:
        StorageError: it can't be made, or leads out of the directory.
    """
    folder = directory / name if wanted is None else wanted
    missing = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    try:
        if wanted is None:
            own_folder(directory, name)
        else:
            _make(wanted)
        yield folder
    finally:
        for each in missing:
            with contextlib.suppress(OSError):  # not empty
                each.rmdir()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise cannot_make(folder, error) from error

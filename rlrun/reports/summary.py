"""One run as its files tell it: facts, checkpoints on the disk, settings that are not rlrun's defaults, what to type next."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlrun.checkpoint import read_header
from rlrun.checkpoint_names import BEST_FILE, CHECKPOINTS, frames_in, is_damaged
from rlrun.config import ALGORITHMS, RunConfig, to_mapping
from rlrun.config.resuming import leaves
from rlrun.errors import ResumeError
from rlrun.plain import printable

_MISSING = object()


@dataclass(frozen=True)
class SavedFile:
    """A checkpoint on the disk. ``frames``: None if its header can't be read, and ``problem`` says why."""

    name: str
    frames: int | None
    size: int
    problem: str | None = None


def checkpoints_of(directory: Path) -> list[SavedFile]:
    """The checkpoints of a run, oldest first, the best one and damaged ones last. Headers are read, contents not verified."""
    folder = directory / CHECKPOINTS
    if folder.is_symlink():
        return []
    try:
        with os.scandir(folder) as entries:
            sizes = {
                entry.name: entry.stat(follow_symlinks=False).st_size
                for entry in entries
                if _is_checkpoint(entry.name) and entry.is_file(follow_symlinks=False)
            }
    except OSError:
        return []
    order = sorted(sizes, key=lambda name: (is_damaged(name), name == BEST_FILE, name))
    return [_saved(folder / name, sizes[name]) for name in order]


def _is_checkpoint(name: str) -> bool:
    return name == BEST_FILE or frames_in(name) is not None or is_damaged(name)


def _saved(path: Path, size: int) -> SavedFile:
    if is_damaged(path.name):
        return SavedFile(path.name, None, size, "damaged")
    try:
        frames = read_header(path).get("frames")
    except ResumeError as error:
        return SavedFile(path.name, None, size, str(error).partition(f"{printable(path)} ")[2] or str(error))
    known = isinstance(frames, int) and not isinstance(frames, bool)
    return SavedFile(path.name, frames if known else None, size, None if known else "without a frame in its header")


def own_settings(settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings that are not rlrun's defaults: key -> value and default, None for what has no default."""
    algo = ALGORITHMS.get(str(settings.get("algo.name")))
    defaults = leaves(to_mapping(RunConfig(algo=algo()) if algo else RunConfig()))
    return {
        key: (value, defaults.get(key))
        for key, value in settings.items()
        if value != defaults.get(key, _MISSING) and key not in ("algo.name", "env.name")
    }

"""What runs will keep on the disk, held against what is free there before the first directory is made."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from rlrun import envs
from rlrun.config import DQNConfig, PPOConfig, RunConfig
from rlrun.errors import StorageError
from rlrun.pieces import CHAINS, SMALLEST
from rlrun.sweeps.resources import memory_of, weights_of

_FLOAT_BYTES = 4


def check_room(configs: Sequence[RunConfig], spaces: Mapping[str, envs.Spaces], place: Path, key: str) -> None:
    """Raises StorageError if the checkpoints of all runs are certain not to fit into ``place``, where they go: ``key`` says so.

    Everything else that a run writes is small beside them, or grows with its length and is not known.
    """
    status = os.statvfs(next(folder for folder in (place, *place.parents) if folder.exists()))
    if status.f_blocks == 0:  # some network file systems do not tell
        return
    free = status.f_bavail * status.f_frsize
    sizes = [kept_bytes(config, spaces[repr(config.env)]) for config in configs]
    if sum(sizes) <= free:
        return
    largest = configs[sizes.index(max(sizes))]
    files = sum(config.checkpoint.keep + 1 for config in configs)
    what = "network.hidden"
    if isinstance(largest.algo, DQNConfig):
        what = f"algo.buffer_size={largest.algo.buffer_size}, {what}"
    raise StorageError(
        f"{place} needs ~{_shown(sum(sizes))} for {files} checkpoints, {_shown(free)} free; free "
        f"some, choose another place ({key}=DIR), or make checkpoint.keep={largest.checkpoint.keep}, {what} smaller"
    )


def kept_bytes(config: RunConfig, spaces: envs.Spaces) -> int:
    """About what the checkpoints of one run take in the end: weights, moments and the part of the replay memory that it fills.

    While one more is written the ``checkpoint.keep`` newest are still there. They share the pieces of a large memory.
    """
    files = config.checkpoint.keep + 1
    weights = _FLOAT_BYTES * weights_of(config, spaces)
    match config.algo:
        case DQNConfig(buffer_size=rows, amsgrad=amsgrad):
            whole, collected = memory_of(config, spaces)[1], config.total_frames // config.env.frame_skip
            memory = whole * min(rows, collected) // rows * (CHAINS if whole >= SMALLEST else files)
            return memory + files * weights * (4 + amsgrad)  # with the target
        case PPOConfig():
            return files * weights * 3


def _shown(amount: int) -> str:
    return f"{amount / 1e9:,.1f} GB" if amount >= 1e9 else f"{amount / 1e6:,.0f} MB"

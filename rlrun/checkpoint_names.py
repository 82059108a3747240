"""What a run's checkpoints are called: ``step_<frames>.ckpt`` and ``best.ckpt``, with ``.bad`` behind it once it is damaged."""

from __future__ import annotations

import re
from collections.abc import Iterable

CHECKPOINTS = "checkpoints"
"""The folder in a run's directory."""
BEST_FILE = "best.ckpt"
DAMAGED = ".bad"

_STEP = "step_"
_STEP_FILE = re.compile(rf"{_STEP}([0-9]{{12,}})\.ckpt")


def step_file(frames: int) -> str:
    """The name of the checkpoint of ``frames``."""
    return f"{_STEP}{frames:012d}.ckpt"


def frames_in(name: str) -> int | None:
    """The frames in the name of a step file; None for any other name."""
    match = _STEP_FILE.fullmatch(name)
    return int(match[1]) if match else None


def steps_in(names: Iterable[str]) -> list[tuple[int, str]]:
    """Frames and name of every step file among ``names``, oldest first: of our own pattern, nothing else."""
    return sorted((frames, name) for name in names if (frames := frames_in(name)) is not None)


def is_damaged(name: str) -> bool:
    """Whether it is that of a step file that was found damaged."""
    return name.endswith(DAMAGED) and frames_in(name.removesuffix(DAMAGED)) is not None


def tells_of_steps(name: str) -> bool:
    """Whether it begins like that of a step file, whatever has become of that: the run had come to a checkpoint."""
    return name.startswith(_STEP)

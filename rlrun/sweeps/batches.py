"""Runs -> batches: which runs are trained together as one population, and from which frame each goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlrun.config import RunConfig, signature
from rlrun.run import Run


@dataclass(frozen=True)
class Place:
    """A run that is to be trained, and the frame of the checkpoint it goes on from; None: from the start."""

    run: Run
    frames: int | None = None


@dataclass(frozen=True)
class Batch:
    """Runs of one signature that one process trains together, all from the same frame."""

    runs: tuple[Run, ...]
    frames: int | None

    @property
    def cost(self) -> int:
        """Agent-frames that are left to train."""
        return len(self.runs) * (self.runs[0].config.total_frames - (self.frames or 0))


def plan(places: Sequence[Place], workers: int, largest: Callable[[RunConfig], int]) -> list[Batch]:
    """Batches of at most ``largest(config)`` members of even sizes, the most expensive first.

    The largest are cut in two until there is equal work for every worker, as far as that goes.
    """
    groups: dict[tuple[str, int | None, bool], list[Run]] = {}
    for place in places:
        # What failed may do so again, and take the process along.
        failed = place.run.manifest["status"] == "failed"
        groups.setdefault((signature(place.run.config), place.frames, failed), []).append(place.run)
    batches: list[Batch] = []
    for (_, frames, _), runs in groups.items():
        batches += _cut(Batch(tuple(runs), frames), math.ceil(len(runs) / largest(runs[0].config)))
    while len(batches) % workers and (several := [batch for batch in batches if len(batch.runs) > 1]):
        most = max(several, key=lambda batch: batch.cost)
        at = batches.index(most)
        batches[at : at + 1] = _cut(most, 2)
    return sorted(batches, key=lambda batch: batch.cost, reverse=True)


def _cut(batch: Batch, parts: int) -> list[Batch]:
    """Parts whose sizes differ by one at most, the larger ones first."""
    size, more = divmod(len(batch.runs), parts)
    ends = [part * size + min(part, more) for part in range(parts + 1)]
    return [Batch(batch.runs[ends[part] : ends[part + 1]], batch.frames) for part in range(parts)]


def common_frames(held: Sequence[Sequence[int]]) -> list[int | None]:
    """The frame that each member of a former population goes on from; ``held``: the frames of its checkpoints.

    A kill can fall between the saves of two members. So the members furthest behind go on from their newest checkpoint, and
    whoever still holds one of that frame goes back to it; the rest likewise. None for a member without checkpoints.
    """
    chosen: list[int | None] = [None] * len(held)
    left = {member for member, frames in enumerate(held) if frames}
    while left:
        frame = min(max(held[member]) for member in left)
        for member in [member for member in left if frame in held[member]]:
            chosen[member] = frame
            left.remove(member)
    return chosen

"""Large memories in a checkpoint, saved in pieces: each save writes what is new since the last one, and refers to the rest.

A piece is a container file of its own, ``<first>-<last>.piece``: the rows numbered ``first`` to ``last`` (exclusive) that were
ever written to a ring. A checkpoint lists the pieces of its ring with the digest of each.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlrun.arrays import Ring
from rlrun.checkpoint import Tree, digest_of, find_damage, read, save
from rlrun.errors import ResumeError

SMALLEST = 4 << 20  # bytes of a ring that is worth it; a smaller one is saved whole
MOST = 64  # pieces of a ring: then it is saved whole again

_NAME = re.compile(r"([0-9]{12,})-([0-9]{12,})\.piece")
_KEYS = {"written", "capacity", "pieces"}

Reference = list[Any]  # [first, last, digest]


class Pieces:
    """The pieces of one run's ring in a folder. What was there before belongs to other processes, and is only read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.saved: list[Reference] = []  # those of the newest checkpoint of this process

    def save(self, ring: Ring) -> Tree:
        """Write what is new of ``ring``; returns what a checkpoint must hold to find all of it. Raises StorageError."""
        capacity, written = len(next(iter(ring.arrays.values()))), ring.written
        oldest = max(0, written - capacity)
        pieces = [piece for piece in self.saved if piece[1] > oldest]
        first = pieces[-1][1] if pieces else oldest
        if len(pieces) >= MOST or first > written:
            pieces, first = [], oldest
        if first < written:
            slots = np.arange(first, written) % capacity
            path = self.directory / _name_of(first, written)
            save(path, {}, {name: array[slots] for name, array in ring.arrays.items()})
            pieces = [*pieces, [first, written, digest_of(path)]]
        self.saved = pieces
        return {"written": written, "capacity": capacity, "pieces": [list(piece) for piece in pieces]}

    def find_damage(self, references: Any) -> str | None:
        """What is wrong with the pieces that a checkpoint refers to, None if nothing is."""
        for first, last, digest in _checked(references):
            name = _name_of(first, last)
            try:
                reason = find_damage(self.directory / name)
                if reason is None and digest_of(self.directory / name) != digest:
                    reason = "another than it was saved with"
            except ResumeError:
                reason = "missing"
            if reason is not None:
                return f"damaged ({name} is {reason})"
        return None

    def load(self, tree: Tree) -> Tree:
        """The ring that ``save`` described, as ``Ring.whole`` has it. Raises ResumeError, ValueError for what it did not write."""
        written, capacity = tree["written"], tree["capacity"]
        references = _checked(tree["pieces"])
        if not all(type(number) is int and number >= 0 for number in (written, capacity)):
            raise ValueError("a ring without counts")
        size = min(written, capacity)
        ends = [last for _, last, _ in references]
        if [first for first, *_ in references[1:]] != ends[:-1] or (size and (not ends or ends[-1] != written)):
            raise ValueError("pieces that do not fit together")
        if size and references[0][0] > written - size:
            raise ValueError("pieces that are not all there")
        names = [_name_of(first, last) for first, last, _ in references]
        if size > sum(os.path.getsize(self.directory / name) for name in names):
            raise ValueError("a ring larger than its pieces")
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        for first, last, _ in references:
            rows = read(self.directory / _name_of(first, last))[1]
            start = max(first, written - size)
            for name, array in rows.items():
                if len(array) != last - first:
                    raise ValueError("a piece of another length than its name says")
                whole = arrays.setdefault(name, np.empty((size, *array.shape[1:]), array.dtype))
                whole[np.arange(start, last) % capacity] = array[start - first :]
        return {"written": written, **arrays}

    def prune(self, used: Collection[str]) -> None:
        """Delete pieces that no checkpoint refers to any more."""
        with contextlib.suppress(OSError), os.scandir(self.directory) as entries:
            for entry in entries:
                unused = _NAME.fullmatch(entry.name) and entry.name not in used
                if unused and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)


def names_of(references: Any) -> set[str]:
    """The file names of pieces. Raises ValueError for what ``Pieces`` did not write."""
    return {_name_of(first, last) for first, last, _ in _checked(references)}


def is_pieced(tree: Any) -> bool:
    """Whether a part of a checkpoint's state stands for a ring in pieces."""
    return isinstance(tree, Mapping) and tree.keys() == _KEYS


def _checked(references: Any) -> list[Reference]:
    if not isinstance(references, list) or len(references) > MOST:
        raise ValueError("no list of pieces")
    for reference in references:
        if not (isinstance(reference, list) and [type(item) for item in reference] == [int, int, str]):
            raise ValueError("no reference to a piece")
        if not 0 <= reference[0] < reference[1] < 10**18:
            raise ValueError("a piece without rows")
    return references


def _name_of(first: int, last: int) -> str:
    return f"{first:012d}-{last:012d}.piece"

"""Large memories in a checkpoint, saved in pieces: each save writes what is new, and refers to older pieces for the rest.

A piece is a container file of its own, ``<first>-<last>-<digest>.piece``: the rows numbered ``first`` to ``last`` (exclusive)
that were ever written to a ring. A checkpoint lists the pieces of its ring. Two checkpoints in a row have no piece in
common, so that one damaged file leaves the one before as it is: each row is written twice, by every other save.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlrun.arrays import Ring, whole
from rlrun.checkpoint import Tree, digest_of, find_damage, packed, read
from rlrun.plain import write_atomically

SMALLEST = 4 << 20  # bytes of a ring that is worth it; a smaller one is saved whole
MOST = 64  # pieces of a ring: then it is saved whole again
CHAINS = 2

_NAME = re.compile(r"[0-9]{12,}-[0-9]{12,}-[0-9a-f]{16}\.piece")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEYS = {"written", "capacity", "pieces"}

Reference = list[Any]  # [first, last, digest]


class Pieces:
    """The pieces of one run's ring in a folder. What was there before belongs to other processes, and is only read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._chains: list[list[Reference]] = [[] for _ in range(CHAINS)]  # that of the next save first

    def save(self, ring: Ring) -> Tree:
        """Write what the next checkpoint's chain lacks of ``ring``; returns what the checkpoint must hold. Raises StorageError."""
        capacity, written = len(next(iter(ring.arrays.values()))), ring.written
        oldest = max(0, written - capacity)
        pieces = [piece for piece in self._chains[0] if piece[1] > oldest]
        first = pieces[-1][1] if pieces else oldest
        if len(pieces) >= MOST:
            pieces, first = [], oldest
        if first < written:
            slots = np.arange(first, written) % capacity
            chunks = packed({}, {name: array[slots] for name, array in ring.arrays.items()})
            pieces = [*pieces, [first, written, chunks[-1].hex()]]
            write_atomically(self.directory / _name_of(pieces[-1]), *chunks)
        self._chains[0] = pieces
        return {"written": written, "capacity": capacity, "pieces": [list(piece) for piece in pieces]}

    def committed(self) -> None:
        """The checkpoint that refers to the pieces just saved is on the disk: the next one uses the other chain."""
        self._chains.append(self._chains.pop(0))

    @property
    def names(self) -> set[str]:
        """Of the files that this process will refer to again."""
        return {_name_of(piece) for chain in self._chains for piece in chain}

    def find_damage(self, references: Any) -> str | None:
        """What is wrong with the pieces that a checkpoint refers to, None if nothing is. Raises ResumeError, ValueError."""
        for piece in _checked(references):
            path = self.directory / _name_of(piece)
            reason = find_damage(path) if os.path.lexists(path) else "missing"
            if reason is None and digest_of(path) != piece[2]:
                reason = "another than it was saved with"
            if reason is not None:
                return f"damaged ({path.name} is {reason})"
        return None

    def load(self, tree: Tree) -> Tree:
        """The ring that ``save`` described, as ``Ring.whole`` has it. Raises ResumeError, ValueError for what it did not write."""
        written, capacity = whole(tree["written"], 1), whole(tree["capacity"], 1)
        references = _checked(tree["pieces"])
        size = min(written, capacity)
        if [last for _, last, _ in references] != [*(first for first, *_ in references[1:]), written]:
            raise ValueError("pieces that do not fit together")
        if references[0][0] > written - size:
            raise ValueError("pieces that are not all there")
        held = sum(os.path.getsize(self.directory / _name_of(piece)) for piece in references)
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        for piece in references:
            first, last, _ = piece
            rows = read(self.directory / _name_of(piece))[1]
            if arrays and rows.keys() != arrays.keys():
                raise ValueError("pieces of different arrays")
            start = max(first, written - size)
            for name, array in rows.items():
                if not isinstance(array, np.ndarray) or array.shape[:1] != (last - first,):
                    raise ValueError("a piece of another length than its name says")
                if size * max(array[0].nbytes, 1) > held:
                    raise ValueError("a ring larger than its pieces")
                target = arrays.setdefault(name, np.empty((size, *array.shape[1:]), array.dtype))
                if (array.shape[1:], array.dtype) != (target.shape[1:], target.dtype):
                    raise ValueError("pieces of different arrays")
                target[np.arange(start, last) % capacity] = array[start - first :]
        return {"written": written, **arrays}

    def prune(self, used: Collection[str]) -> None:
        """Delete pieces that neither a checkpoint refers to nor this process will."""
        used = self.names.union(used)
        with contextlib.suppress(OSError), os.scandir(self.directory) as entries:
            for entry in entries:
                unused = _NAME.fullmatch(entry.name) and entry.name not in used
                if unused and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)


def names_of(references: Any) -> set[str]:
    """The file names of pieces. Raises ValueError for what ``Pieces`` did not write."""
    return {_name_of(piece) for piece in _checked(references)}


def is_piece(name: str) -> bool:
    """Whether a file of this name is a piece."""
    return _NAME.fullmatch(name) is not None


def is_pieced(tree: Any) -> bool:
    """Whether a part of a checkpoint's state stands for a ring in pieces."""
    return isinstance(tree, Mapping) and tree.keys() == _KEYS


def _checked(references: Any) -> list[Reference]:
    if not isinstance(references, list) or len(references) > MOST:
        raise ValueError("no list of pieces")
    for reference in references:
        if not (isinstance(reference, list) and [type(item) for item in reference] == [int, int, str]):
            raise ValueError("no reference to a piece")
        if not (0 <= reference[0] < reference[1] < 10**18 and _DIGEST.fullmatch(reference[2])):
            raise ValueError("a piece that can't be")
    return references


def _name_of(piece: Reference) -> str:
    first, last, digest = piece
    return f"{first:012d}-{last:012d}-{digest[:16]}.piece"

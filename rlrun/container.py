"""What lies in the sections of a checkpoint: JSON, and arrays as safetensors has them. Both are read with suspicion.

``u64 length | JSON: name -> dtype, shape, data_offsets | the arrays, one after the other``
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from rlrun.arrays import whole

MAX_JSON_BYTES = 1 << 26
MAX_CONTAINERS = 1 << 21  # dicts and lists of JSON, which take many times as much memory once they are read
MALFORMED = (KeyError, TypeError, ValueError, RecursionError, AttributeError, struct.error)
"""What a section that rlrun has not written makes its reader raise."""

# What safetensors can hold, by its names.
DTYPES = {"BOOL": "bool", "F16": "float16", "F32": "float32", "F64": "float64", "C64": "complex64"} | {
    f"{letter}{bits}": f"{kind}{bits}" for letter, kind in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)
}

_LENGTH = struct.Struct("<Q")
_MAX_DIMENSIONS = 32


class Block(NamedTuple):
    """Where an array lies in a file."""

    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, file: BinaryIO) -> np.ndarray[Any, Any]:
        """The array: fresh, writable and contiguous. Raises ValueError: the file has become shorter."""
        array = np.empty(self.shape, self.dtype)
        file.seek(self.start)
        if file.readinto(array.reshape(-1).view(np.uint8)) != self.nbytes:  # type: ignore[attr-defined]
            raise ValueError("a file that was cut")
        return array


def blocks_of(file: BinaryIO, size: int) -> dict[str, Block]:
    """The arrays, by name, of a section of ``size`` bytes that begins here.

    Raises:
        One of MALFORMED: they don't fill it, or share a part of it, so that a small file would take a lot of memory.
    """
    end = file.tell() + size
    (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
    if length > min(size, MAX_JSON_BYTES):
        raise ValueError("a list of arrays out of proportion")
    entries = parse(file.read(length))
    entries.pop("__metadata__", None)
    first = place = file.tell()
    blocks = {}
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        if len(entry["shape"]) > _MAX_DIMENSIONS:
            raise ValueError("an array of too many dimensions")
        block = Block(place, np.dtype(DTYPES[entry["dtype"]]), tuple(map(whole, entry["shape"])))
        place += block.nbytes
        if entry["data_offsets"] != [block.start - first, place - first]:
            raise ValueError("arrays that do not lie one after the other")
        blocks[name] = block
    if place != end:
        raise ValueError("arrays that do not add up to their section")
    return blocks


def is_small(data: bytes) -> bool:
    """Whether JSON takes no more memory than what a checkpoint may hold of it."""
    return len(data) <= MAX_JSON_BYTES and data.count(b"[") + data.count(b"{") <= MAX_CONTAINERS


def parse(data: bytes) -> Any:
    """The value in JSON. Raises ValueError, RecursionError."""
    if not is_small(data):
        raise ValueError("plain data out of proportion")
    return json.loads(data)

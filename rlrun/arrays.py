"""Arrays and tensors to a checkpoint and back, held against those they are to replace."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def fitting(array: Any, like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """``array`` if it has the shape and type of ``like``; nothing is broadcast or converted.

    Raises:
        ValueError: it has not.
    """
    if not isinstance(array, np.ndarray) or array.shape != like.shape or array.dtype != like.dtype:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"expected {like.dtype} {like.shape}, found {found}")
    return array


def finite(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """``array`` if all its numbers are finite. Raises ValueError if one is not."""
    if not np.isfinite(array).all():
        raise ValueError("it holds numbers that are not finite")
    return array


def whole(value: Any, low: int = 0, high: int = 2**53) -> int:
    """``value`` if it is a whole number in [low, high]. Raises ValueError if it is anything else."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"expected a whole number from {low} to {high}, found {value!r:.40}")
    return value


def real(value: Any, low: float = -math.inf) -> float:
    """``value`` if it is a finite number of at least ``low``. Raises ValueError if it is anything else."""
    if type(value) not in (int, float) or not abs(value) <= sys.float_info.max or value < low:
        raise ValueError(f"expected a finite number{f' >= {low}' if low > -math.inf else ''}, found {value!r:.40}")
    return float(value)


def free_memory() -> int:
    """Bytes that can be had without swapping: file caches count as free, which sysconf does not know."""
    with contextlib.suppress(OSError, ValueError), open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            name, _, amount = line.partition(":")
            if name == "MemAvailable":
                return 1024 * int(amount.split()[0])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def as_array(values: np.ndarray[Any, Any] | Tensor) -> np.ndarray[Any, Any]:
    """A copy as a NumPy array, wherever ``values`` lie."""
    array: np.ndarray[Any, Any] = values if isinstance(values, np.ndarray) else values.numpy(force=True)
    return array.copy()


def shared(values: Any) -> np.ndarray[Any, Any]:
    """An array, or a tensor on the CPU, as an array of the same memory."""
    array: np.ndarray[Any, Any] = values if isinstance(values, np.ndarray) else values.numpy()
    return array


def fill(target: np.ndarray[Any, Any] | Tensor, array: Any) -> None:
    """Overwrite ``target``, an array or a tensor, with an array that fits.

    Raises:
        ValueError: it does not.
    """
    if isinstance(target, np.ndarray):
        target[...] = fitting(array, target)
    else:
        target.copy_(torch.from_numpy(fitting(array, target.numpy(force=True))))


def zeros_like(values: Any) -> Any:
    """Zeros of the shape and in the place of an array or a tensor."""
    return np.zeros_like(values) if isinstance(values, np.ndarray) else torch.zeros_like(values)


@dataclass(frozen=True)
class Ring:
    """Arrays to which ``written`` rows were written in turn: row ``i`` lies at ``i`` modulo their length. Views, not copies."""

    written: int
    arrays: dict[str, np.ndarray[Any, Any]]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())

    def whole(self) -> dict[str, Any]:
        """All of it as a tree: the rows in their places, without those never written to."""
        return {"written": self.written, **{name: array[: self.written].copy() for name, array in self.arrays.items()}}

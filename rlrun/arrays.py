"""Arrays and tensors to a checkpoint and back, held against those they are to replace."""

from __future__ import annotations

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

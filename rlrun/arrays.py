"""Arrays and tensors to a checkpoint and back, held against those they are to replace."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
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
    array: np.ndarray[Any, Any] = values.numpy(force=True) if isinstance(values, Tensor) else values
    return array.copy()


def fill(target: np.ndarray[Any, Any] | Tensor, array: Any) -> None:
    """Overwrite ``target``, an array or a tensor, with an array that fits.

    Raises:
        ValueError: it does not.
    """
    if isinstance(target, Tensor):
        target.copy_(torch.from_numpy(fitting(array, target.numpy(force=True))))
    else:
        target[...] = fitting(array, target)

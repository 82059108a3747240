"""Arrays that come from a checkpoint, held against those they are to replace."""

from __future__ import annotations

from typing import Any

import numpy as np


def fitting(array: Any, like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """``array`` if it has the shape and type of ``like``; nothing is broadcast or converted.

    Raises:
        ValueError: it has not.
    """
    if not isinstance(array, np.ndarray) or array.shape != like.shape or array.dtype != like.dtype:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"expected {like.dtype} {like.shape}, found {found}")
    return array

"""PyTorch, imported where it is first used: a second and 150 MB that a run with NumPy's kernels does not need.

``from rlrun.lazy import torch`` stands for ``import torch`` in every module that both kinds of run import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch as torch
else:

    class _Module:
        """A module that is imported when something of it is asked for."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module(self._name), name)

    torch = _Module("torch")

"""Loggers: the metrics of a run in TensorBoard, Weights & Biases or MLflow, besides the files that are always written.

A process of its own follows the files of the runs that are trained and hands what is new to the tools. So training never
waits for a tool, no hook or signal of a tool reaches it, and what a tool gets are the rows of ``metrics.jsonl``, no others.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from rlrun.errors import UnavailableError


def check_installed(loggers: Iterable[str]) -> None:
    """Raises UnavailableError, one line for each logger whose package is not installed. Imports none of them."""
    missing = [name for name in loggers if find_spec(name) is None]
    if missing:
        lines = [f"logger={name} needs {name}: pip install 'rlrun[{name}]'" for name in missing]
        raise UnavailableError("\n".join(lines))

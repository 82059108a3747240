"""Loggers: the metrics of a run in TensorBoard, Weights & Biases or MLflow, besides the files that are always written.

A process of its own follows the files of the runs that are trained and hands what is new to the tools. So training never
waits for a tool, no hook or signal of a tool reaches it, and what a tool gets are the rows of ``metrics.jsonl``, no others.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from importlib.util import find_spec

from rlrun.errors import UnavailableError

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def check_installed(loggers: Collection[str]) -> None:
    """Raises UnavailableError, one line for each logger whose package is not installed. Imports none of them."""
    lines = [f"logger={name} needs {name}: pip install 'rlrun[{name}]'" for name in loggers if find_spec(name) is None]
    scheme = os.environ.get("MLFLOW_TRACKING_URI", "").partition(":")[0].partition("+")[0]
    if not lines and "mlflow" in loggers and scheme in _DATABASES and find_spec("sqlalchemy") is None:
        lines = [f"MLFLOW_TRACKING_URI={scheme}:... is a database, which needs the full package: pip install mlflow"]
    if lines:
        raise UnavailableError("\n".join(lines))

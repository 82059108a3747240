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


def missing(loggers: Collection[str]) -> dict[str, str]:
    """Logger -> what to install, for each whose package is not installed. Imports none of them."""
    lines = {
        name: f"logger={name} needs {name}: pip install 'rlrun[{name}]'" for name in loggers if find_spec(name) is None
    }
    scheme = os.environ.get("MLFLOW_TRACKING_URI", "").partition(":")[0].partition("+")[0]
    if "mlflow" in loggers and "mlflow" not in lines and scheme in _DATABASES and find_spec("sqlalchemy") is None:
        why = f"MLFLOW_TRACKING_URI={scheme}:... is a database, which needs the full package"
        lines["mlflow"] = f"{why}: pip install mlflow"
    return lines


def check_installed(loggers: Collection[str]) -> None:
    """Raises UnavailableError, one line for each logger that is ``missing``."""
    lines = missing(loggers)
    if lines:
        raise UnavailableError("\n".join(lines.values()))

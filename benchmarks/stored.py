"""Stored results: one JSON file whose keys are cases, so that measuring one leaves the others as they are."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "numpy", "gymnasium", "mujoco", "torchrl", "stable-baselines3")


def load(name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """What is stored under ``name``; nothing if there is no such file."""
    path = folder / f"{name}.json"
    if not path.exists():
        return {}
    stored = json.loads(path.read_text())
    assert isinstance(stored, dict)
    return stored


def merge(name: str, key: str, result: dict[str, Any], folder: Path = RESULTS) -> dict[str, Any]:
    """Store a result in place of an older one of the same key, in one atomic step; returns all that is stored."""
    stored = load(name, folder) | {key: result}
    replace(folder / f"{name}.json", json.dumps(stored, indent=1) + "\n")
    return stored


def replace(path: Path, text: str) -> None:
    """Write a text file in one atomic step."""
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    os.replace(partial, path)


def circumstances() -> dict[str, Any]:
    """When, where and with what something was measured."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in PACKAGES},
        "cpu": _cpu(),
        "cores": os.cpu_count(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ModuleNotFoundError:
        return None


def _cpu() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()

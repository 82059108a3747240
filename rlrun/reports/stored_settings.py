"""The settings in a run's config.yaml, read as they are."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from rlrun.config.resuming import ADDED, leaves
from rlrun.errors import ResumeError
from rlrun.plain import parse_yaml, printable, read_small, read_yaml


def settings_of(directory: Path) -> dict[str, Any]:
    """The config of the run in ``directory`` as ``{"algo.gamma": 0.99, ...}``, unchecked, with what older ones lack. Raises ResumeError."""
    return ADDED | leaves(read_settings(directory))


def read_settings(directory: Path) -> dict[str, Any]:
    """The mapping in the config.yaml of a run. Its groups are parsed one by one, since many runs have the same ones. Raises ResumeError."""
    path = directory / "config.yaml"
    try:
        lines = read_small(path).decode("utf-8").splitlines(keepends=True)
        starts = [number for number, line in enumerate(lines) if line[:1].isalpha()]
        ends = [*starts[1:], len(lines)]
        blocks = ["".join(lines[start:end]) for start, end in zip(starts, ends, strict=True)]
        parts = [_parsed(block) for block in blocks]
        keys = [key for part in parts for key in part]
        whole = starts[:1] == [0] and all(len(part) == 1 for part in parts) and len(set(keys)) == len(keys)
        values = {key: value for part in parts for key, value in part.items()} if whole else read_yaml(path)
    except (ValueError, AttributeError, TypeError):  # not as we write it: what is wrong with it is said of the whole
        values = read_yaml(path)
    if not isinstance(values, dict):
        raise ResumeError(f"{printable(path)}: expected a mapping of settings, got {printable(values):.60}")
    return values


@functools.lru_cache(maxsize=4096)
def _parsed(block: str) -> dict[str, Any]:
    value: dict[str, Any] = parse_yaml(block.encode())
    return value

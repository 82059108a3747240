"""What may change between a checkpoint and the run that continues from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlrun.plain import printable

MAY_CHANGE = (
    *("total_frames", "stop.", "evaluation.", "checkpoint.", "logging.", "plot.", "sweep."),
    *("env.step_timeout", "name", "outputs", "logger"),
)
"""Keys, and groups with a dot, that do not change what is computed at a frame."""
TOLD = ("total_frames", "stop.", "evaluation.", "logging.")
"""Those of them that change what is written from a frame on: rows, schedules, the end."""
WITHOUT_EFFECT = (
    *("checkpoint.", "plot.", "sweep.", "env.step_timeout", "name", "outputs", "logger"),
    *("logging.project", "evaluation.video"),
)
"""Those that change nothing of what is computed, nor of the rows of it."""
ADDED: dict[str, Any] = {"engine": "rlrun"}
"""Settings that the first versions did not have, and what these did."""
MAY_CHANGE_INEXACTLY = ("device", "hardware.device", "hardware.threads")
"""Keys that may change too, but then the bits may differ."""


def leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as ``{"algo.gamma": 0.99, ...}``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def forbidden_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One ``key: old -> new`` for each setting that differs and may not."""
    changed = _changes(before, after).items()
    return [line for key, line in changed if not key.startswith(MAY_CHANGE) and key not in MAY_CHANGE_INEXACTLY]


def inexact_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One ``key: old -> new`` for each setting that differs, and may, but changes the bits."""
    return [line for key, line in _changes(before, after).items() if key in MAY_CHANGE_INEXACTLY]


def told_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Key -> old and new value of each setting that differs and is to be repeated by whoever repeats the run."""
    old, new = leaves(before), leaves(after)
    return {key: [old.get(key), value] for key, value in new.items() if key.startswith(TOLD) and old.get(key) != value}


def has_effect(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a setting differs that a run would compute, or record, something else by."""
    return any(not key.startswith(WITHOUT_EFFECT) for key in _changes(before, after))


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    old, new = ADDED | leaves(before), ADDED | leaves(after)
    keys = dict.fromkeys([*old, *new])
    different = [key for key in keys if old.get(key) != new.get(key)]
    return {key: f"{printable(key):.80}: {_shown(old.get(key))} -> {_shown(new.get(key))}" for key in different}


def _shown(value: Any) -> str:
    """As it is typed, shortened, in one line: one of the two sides may be anyone's."""
    text = printable(value)
    return text if len(text) <= 80 else f"{text[:80]}..."

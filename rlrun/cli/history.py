"""The settings by which a run went, from frame to frame: what a run that repeats it has to go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlrun.cli.secrets import changed_leaves, scalar
from rlrun.config import RunConfig, from_mapping, to_mapping
from rlrun.config.resuming import TOLD, leaves
from rlrun.errors import ResumeError, UsageError
from rlrun.manifest import texts
from rlrun.plain import printable
from rlrun.run import Run

_MOST = 1000


@dataclass(frozen=True)
class Phase:
    """``config`` holds until the frame ``until`` is reached; the next phase goes on from there."""

    config: RunConfig
    until: int


def phases_of(run: Run, config: RunConfig, last: int) -> tuple[list[Phase], list[str]]:
    """How to repeat a run up to the frame ``last``; and what was assumed. ``config``: its own, by which it went in the end.

    Raises:
        ResumeError: run.json tells what can't be.
    """
    entries, notes = _entries(run, config)
    phases: list[Phase] = []
    values, end = to_mapping(config), last
    for frames, settings in reversed(entries):
        if frames < end:  # else it never came that far
            phases.insert(0, Phase(_checked(run, values), end))
            end = frames
        values = changed_leaves(values, settings)
    phases.insert(0, Phase(_checked(run, values), end))
    return phases, notes


def _checked(run: Run, values: Mapping[str, Any]) -> RunConfig:
    """The config of one phase. A clock stops no repetition: it ends at a frame. Nor is it sent to where a file says, or filmed."""
    stop = {**values["stop"], "seconds": None}
    evaluation = {**values["evaluation"], "video": False}
    try:
        return from_mapping({**values, "stop": stop, "evaluation": evaluation, "logger": []})
    except UsageError as error:
        raise ResumeError(f"{printable(run.directory / 'run.json')}: 'changed': {error}") from error


def _entries(run: Run, config: RunConfig) -> tuple[list[tuple[int, dict[str, Any]]], list[str]]:
    """Frame and settings before it, for each change, in order; and what is only assumed."""
    known = leaves(to_mapping(config))
    stored = run.manifest.get("changed")
    if stored is None:
        return _assumed(run, config)
    try:
        entries = [
            (entry["frames"], {key: before for key, (before, _) in entry["settings"].items()})
            for entry in stored[:_MOST]
        ]
        frames = [number for number, _ in entries]
        keys = {key for _, settings in entries for key in settings}
        if sorted(set(frames)) != frames or not all(type(number) is int and number > 0 for number in frames):
            raise ValueError
        if not all(key in known and key.startswith(TOLD) for key in keys):
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ResumeError(f"{printable(run.directory / 'run.json')}: 'changed' is not what rlrun writes") from error
    return entries, []


def _assumed(run: Run, config: RunConfig) -> tuple[list[tuple[int, dict[str, Any]]], list[str]]:
    """For a run of an rlrun that did not write down what was changed on resuming: it was extended once, when it had finished."""
    typed = texts(run.manifest.get("overrides"))
    totals = [text.partition("=")[2] for text in typed if text.startswith("total_frames=")]
    if not run.manifest.get("resumed") or not totals:
        return [], []
    try:
        first = from_mapping({**to_mapping(config), "total_frames": scalar("total_frames", totals[-1])}).total_frames
    except UsageError:
        return [], []
    if first >= config.total_frames:
        return [], []
    note = f"it was extended from {first:,} frames to {config.total_frames:,}; taken as done when it had reached the former"
    return [(first, {"total_frames": first})], [note]

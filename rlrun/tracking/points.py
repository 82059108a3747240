"""What the tools are told of a run: its description, and its rows of metrics under the names that their users expect."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rlrun.metrics import METRICS, TIMING, read_rows_from


@dataclass(frozen=True)
class Subject:
    """A run, as the tools are told of it; all texts are clean of secrets."""

    directory: Path
    id: str
    """Of the run in every tool, so that a resumed run is found again."""
    algo: str
    env: str
    name: str
    """What the user called it, or nothing."""
    sweep: str | None
    project: str | None
    outputs: Path
    """The folder of runs that it lies in."""
    config: dict[str, Any]
    """Nested, as config.yaml has it."""
    facts: dict[str, Any]
    """Where it comes from: versions, git, machine."""
    created: float
    """Seconds since 1970."""
    trainer: int
    """The process that trains it."""

    @property
    def title(self) -> str:
        return self.directory.name


@dataclass(frozen=True)
class Point:
    """Values at a frame. ``moment``: when they were measured, in seconds since 1970."""

    frames: int
    moment: float
    values: dict[str, float]


class Tool(Protocol):
    """A run in one of the tools. Every method may raise whatever the tool raises."""

    def log(self, points: Sequence[Point]) -> None:
        """Hand over points in the order of their frames, every point of the run once since the tool was opened.

        Those that the tool has had before, from a process that was killed or a run that was stopped, it must not get twice.
        """

    def close(self, status: str) -> None:
        """The run has ended: ``finished``, ``failed``, ``stopped``, or ``killed`` with its process."""


Open = Callable[[Subject, Callable[[str], None]], Tool]
"""Opens a run in a tool, anew or again; the second argument takes a line for the user."""

_NAMES = {
    "return_mean": "charts/episodic_return",
    "length_mean": "charts/episodic_length",
    "length_max": "charts/episodic_length_max",
    **{key: f"charts/{key}" for key in ("episodes", "learning_rate", "epsilon", "updates", "reward_mean")},
    "q_value": "losses/q_values",
    "critic_loss": "losses/value_loss",
    "approximate_kl": "losses/approx_kl",
    "clip_fraction": "losses/clipfrac",
}
"""Keys of training rows -> CleanRL's names, which dashboards expect; any other key is ``losses/<key>``."""
_OWN_NAMES = {("dqn", "loss"): "losses/td_loss"}


def name_of(algo: str, kind: str, key: str) -> str:
    """The tools' name of a value in a row of ``kind``: ``eval/return_mean``, ``charts/episodic_return``, ``losses/entropy``."""
    if kind == "evaluation":
        return f"eval/{key}"
    return _OWN_NAMES.get((algo, key)) or _NAMES.get(key, f"losses/{key}")


class Feed:
    """The points of one run, as its files grow."""

    def __init__(self, directory: Path, algo: str) -> None:
        self._directory, self._algo = directory, algo
        self._metrics_read, self._timing_read = 0, 0  # bytes
        self._frames: list[int] = []  # of each row of timing.jsonl
        self._clock: list[tuple[float, float]] = []  # seconds of training and since 1970, of each of them

    def new(self) -> list[Point]:
        """What has been written since. Raises ResumeError: the files are not what a run writes."""
        rows, self._metrics_read = read_rows_from(self._directory / METRICS, self._metrics_read)
        times, self._timing_read = read_rows_from(self._directory / TIMING, self._timing_read)
        for row in times:
            self._frames.append(row["frames"])
            self._clock.append((row["seconds"], row["unix_time"]))
        return [self._point(row) for row in rows]

    def _point(self, row: Mapping[str, Any]) -> Point:
        frames, kind = row["frames"], row["type"]
        values = {
            name_of(self._algo, kind, key): float(value)
            for key, value in row.items()
            if key not in ("type", "frames") and isinstance(value, int | float)
        }
        # An evaluation has no time of its own: it is written with the next row that has one.
        at = bisect.bisect_left(self._frames, frames)
        if at == len(self._frames):
            return Point(frames, self._clock[-1][1] if self._clock else time.time(), values)
        seconds, moment = self._clock[at]
        if kind == "train" and seconds > 0:
            values["charts/SPS"] = frames / seconds
        return Point(frames, moment, values)

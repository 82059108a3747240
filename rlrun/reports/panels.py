"""What one panel of a figure shows: a curve for each group of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlrun.reports.curves import combine, series_of
from rlrun.reports.records import Group, Record, Series

Array = NDArray[np.float64]
Line: TypeAlias = Series

WINDOW = 100  # episodes in the running mean
_MOST_POINTS = 2000  # of a line: more than a picture has columns
_FEWEST_POINTS, _MOST_POINTS_OF_ALL = 50, 20_000  # of one of many lines, and of all of them together
_ROOM_ABOVE = 1.3  # of the 95th percentile of what is steady
_LARGEST = 1e100  # beyond this matplotlib's own arithmetic overflows


@dataclass(frozen=True)
class Panel:
    """``key`` of the rows of ``kind`` (``train``, ``evaluation``, ``timing`` or ``episodes``) against frames, seconds of training if
    ``clock``, or the number of the episode.

    ``floor``: what is lower is of no interest. ``steady``: nor is what is far above the rest, as before learning starts.
    """

    kind: str
    key: str
    title: str
    clock: bool = False
    floor: float | None = None
    steady: bool = False


FIGURES: dict[str, tuple[Panel, ...]] = {
    "returns": tuple(
        Panel(kind, "return_mean", title, clock)
        for clock in (False, True)
        for kind, title in (("evaluation", "Evaluation return"), ("train", "Training return"))
    ),
    "losses": (
        Panel("train", "loss", "Loss"),
        Panel("train", "policy_loss", "Policy loss"),
        Panel("train", "critic_loss", "Critic loss"),
        Panel("train", "entropy", "Entropy of the policy"),
        Panel("train", "q_value", "Q value of the actions taken"),
        Panel("train", "gradient_norm", "Norm of the gradient"),
    ),
    "diagnostics": (
        Panel("train", "epsilon", "Epsilon"),
        Panel("train", "approximate_kl", "Approximate KL divergence of an update"),
        Panel("train", "clip_fraction", "Fraction of clipped ratios"),
        Panel("train", "explained_variance", "Explained variance of the returns", floor=-1.0),
        Panel("train", "learning_rate", "Learning rate"),
        Panel("timing", "frames_per_second", "Speed (frames per second)", steady=True),
    ),
    "episodes": (
        Panel("episodes", "length", "Episode durations (steps)"),
        Panel("episodes", "return", "Episode returns"),
    ),
    "four_panels": (
        Panel("train", "reward_mean", "Training reward (average per step)"),
        Panel("train", "length_max", "Training step count (longest episode)"),
        Panel("evaluation", "return_mean", "Test return"),
        Panel("evaluation", "length_max", "Test step count (longest episode)"),
    ),
}
"""Name -> panels, from top to bottom. Panels without data are left out."""


@dataclass(frozen=True)
class Curve:
    """A group in a panel."""

    style: int
    main: Line | None = None
    """Of the only run, or the IQM over runs."""
    band: tuple[Array, Array, Array] | None = None
    """Where [T], low [T] and high [T] of the interval of the IQM."""
    thin: list[Line] = field(default_factory=list)
    """Of each run."""
    single: Line | None = None
    """Of each episode of the only run."""
    left_out: int = 0
    """Points that are not finite."""

    @property
    def lines(self) -> list[Line]:
        return [*filter(None, (self.main, self.single)), *self.thin]

    @property
    def is_point(self) -> bool:
        """Whether it is of several runs that have one place in common."""
        return self.main is not None and len(self.main[0]) == 1 and bool(self.thin)

    @property
    def apart(self) -> bool:
        """Whether it is of several runs that have no place in common."""
        return self.main is None and len(self.thin) > 1


def curves_of(panel: Panel, groups: Sequence[tuple[int, Group]]) -> list[Curve]:
    """A curve for each group, which comes with the number of its style, though it may be empty. Raises ResumeError."""
    with np.errstate(all="ignore"):  # what is not finite is left out
        return [_curve(panel, style, each.records, alone=len(groups) == 1) for style, each in groups]


def _curve(panel: Panel, style: int, records: Sequence[Record], alone: bool) -> Curve:
    """The curve of runs of the same settings. Those that did not finish don't cut it off, if others did."""
    lines = [_series(panel, record) for record in records]
    left_out = 0 if panel.clock else sum(_left_out(panel, record) for record in records)
    if len(records) == 1:
        raw = alone and panel.kind == "episodes" and len(lines[0][0]) > 0
        single = _thinned(_episodes(panel, records[0])) if raw else None
        return Curve(style, _thinned(lines[0]) if len(lines[0][0]) else None, single=single, left_out=left_out)
    most = max(_FEWEST_POINTS, _MOST_POINTS_OF_ALL // len(records))
    thin = [_thinned(line, most) for line in lines if len(line[0])]
    finished = [line for line, record in zip(lines, records, strict=True) if record.status == "finished"]
    whole = combine(finished if any(len(where) for where, _ in finished) else lines)
    if not len(whole.where):
        return Curve(style, thin=thin, left_out=left_out)
    band = (whole.where, whole.low, whole.high) if whole.count > 1 else None
    return Curve(style, (whole.where, whole.middle), band, thin, left_out=left_out)


def highest_of(panel: Panel, curves: Sequence[Curve]) -> tuple[float, int] | None:
    """Where a ``steady`` panel is to end, and how many points of single runs are above; None if none is."""
    lines = [values for curve in curves for _, values in (curve.thin or curve.lines)]
    later = np.concatenate([np.empty(0), *(values[1:] for values in lines)])
    if not panel.steady or not len(later):
        return None
    top = _ROOM_ABOVE * float(np.percentile(later, 95))
    above = sum(int((values > top).sum()) for values in lines)
    return (top, above) if above and top > 0 else None


def _series(panel: Panel, record: Record) -> Series:
    """One run's line, of finite numbers that can be drawn."""
    if panel.kind == "episodes":
        where, values = _episodes(panel, record)
        return where, running_mean(values)
    where, values = _speed(record) if panel.kind == "timing" else series_of(record, panel.kind, panel.key, panel.clock)
    drawable = (np.abs(values) < _LARGEST) & (np.abs(where) < _LARGEST)
    return where[drawable], values[drawable]


def _left_out(panel: Panel, record: Record) -> int:
    """How many points of a run can't be drawn."""
    if panel.kind in ("train", "evaluation"):
        return len(record.curve(panel.kind, panel.key)[0]) - len(_series(panel, record)[0])
    return 0


def _speed(record: Record) -> Series:
    """Frames per second between a row of timing.jsonl and the one before."""
    frames, seconds = record.clock
    frames_between, seconds_between = np.diff(frames, prepend=0.0), np.diff(seconds, prepend=0.0)
    known = (seconds_between > 0) & (frames_between > 0) & np.isfinite(frames)
    return frames[known], frames_between[known] / seconds_between[known]


def _episodes(panel: Panel, record: Record) -> Series:
    """``key`` of every episode against its number, from 1."""
    values = record.episodes[panel.key].astype(float)
    where = np.arange(1.0, len(values) + 1)
    known = np.isfinite(values) & (np.abs(values) < _LARGEST)
    return where[known], values[known]


def running_mean(values: Array, window: int = WINDOW) -> Array:
    """Mean of each value and the ``window - 1`` before it, or of those that there are."""
    totals = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    means: Array = (totals[ends] - totals[starts]) / np.maximum(ends - starts, 1)
    return means


def _thinned(line: Line, most: int = _MOST_POINTS) -> Line:
    """A line of at most ``most`` points: its ends, and the lowest and the highest of each stretch."""
    where, values = line
    if len(where) <= most:
        return line
    kept: set[int] = {0, len(where) - 1}
    for part in np.array_split(np.arange(len(where)), most // 2 - 1):
        kept |= {int(part[np.argmin(values[part])]), int(part[np.argmax(values[part])])}
    places = np.array(sorted(kept))
    return where[places], values[places]

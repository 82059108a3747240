"""What runs are compared by: one number a run, where it was measured, and on how many episodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlrun.errors import ResumeError
from rlrun.metrics import last_returns
from rlrun.plain import printable
from rlrun.reports.records import Record

TAIL = 100  # training episodes
_LARGEST = 1e150  # of a score: whatever is beyond would overflow in statistics

METRICS = {
    "final": "mean return of the last evaluation",
    "best": "mean return of the best evaluation",
    "auc": "mean return over all evaluations, weighted by the frames between them",
    "training": f"mean return of the last {TAIL} training episodes",
}


@dataclass(frozen=True)
class Score:
    """``frames`` at which ``value`` was measured; ``episodes`` behind it: each evaluation's for ``auc``."""

    value: float
    frames: int
    episodes: int | None


def score_of(record: Record, metric: str) -> Score | str:
    """The number that a finished run is compared by, or why it has none.

    Only finished runs have one: a failed or unfinished one would be compared by another moment of training than the others.
    """
    if record.status != "finished":
        return f"{record.status} at frame {record.manifest['frames']:,} of {record.manifest['total_frames']:,}"
    try:
        _ = record.rows  # a run whose curve is damaged counts nowhere
        return {"auc": _area, "training": _training}.get(metric, _evaluation)(record, metric)
    except ResumeError as error:
        return printable(error)


def _evaluation(record: Record, metric: str) -> Score | str:
    """Of run.json: what a sweep's own table shows."""
    result = record.manifest.get({"final": "evaluation"}.get(metric, metric))
    if not isinstance(result, dict):
        return "it was not evaluated"
    value, frames = result.get("return_mean"), result.get("frames")
    if not isinstance(value, int | float) or not _is_finite(value) or type(frames) is not int:
        return "its evaluation has no finite return"
    return Score(float(value), frames, _whole(result.get("episodes")))


def _area(record: Record, metric: str) -> Score | str:
    frames, values = record.curve("evaluation", "return_mean")
    known = np.abs(values) <= _LARGEST
    frames, values = frames[known], values[known]
    if len(frames) < 2 or frames[0] == frames[-1]:
        return "an area needs two evaluations"
    heights = (values[1:] + values[:-1]) / 2
    evaluation = record.manifest.get("evaluation")
    episodes = _whole(evaluation.get("episodes")) if isinstance(evaluation, dict) else None
    return Score(float(np.average(heights, weights=np.diff(frames))), int(frames[-1]), episodes)


def _training(record: Record, metric: str) -> Score | str:
    returns = last_returns(record.directory, TAIL)
    if not returns or not _is_finite(mean := float(np.mean(returns))):
        return "it has no finished training episode" if not returns else "its episodes have no finite return"
    return Score(mean, record.manifest["frames"], len(returns))


def _is_finite(value: float) -> bool:
    return not isinstance(value, bool) and abs(value) <= _LARGEST


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None

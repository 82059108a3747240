"""What runs are compared by: one number a run, where it was measured, and on how many episodes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from rlrun.errors import ResumeError
from rlrun.metrics import last_returns
from rlrun.plain import printable
from rlrun.reports.records import Record

TAIL = 100  # training episodes
EVALUATION, TRAINING = MEASURES = ("last evaluation", f"last {TAIL} training episodes")
"""What a final return is of. No evaluation is ranked among training episodes: these were played with exploration."""
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


def score_of(record: Record, metric: str, at: int | None = None) -> Score | str:
    """The number that a run is compared by, or why it has none.

    ``at``: frames after which nothing counts; a run has to have reached them. Without it the run has to be finished: a failed or
    stopped one would be compared by another moment of training than the others.
    """
    frames = record.manifest["frames"]
    if frames < at if at is not None else record.status != "finished":
        return f"{record.status} at frame {frames:,} of {record.manifest['total_frames']:,}"
    until = math.inf if at is None else at
    try:
        rows = _evaluations(record, until)  # a run whose curve is damaged counts nowhere
        if metric == "training":
            return _training(_tail(record, at), frames if at is None else at)
        if metric == "auc":
            return _area(rows)
        if at is None:
            return _evaluation(record.manifest.get("evaluation" if metric == "final" else metric))
        chosen = rows[-1:] if metric == "final" else sorted(rows, key=lambda row: row["return_mean"])[-1:]
        return _evaluation(chosen[0]) if chosen else f"it was not evaluated until frame {at:,}"
    except ResumeError as error:
        return printable(error)


def final_return(directory: Path, manifest: Mapping[str, Any], episodes: Any) -> tuple[float | None, str]:
    """A run's final return, None if there is no finite one, and its measure: the last evaluation, or training if it does not evaluate.

    It is of a run that has not finished, too. ``episodes``: the setting evaluation.episodes, of somebody's config.
    """
    if episodes != 0:
        return number_in(manifest.get("evaluation"), "return_mean"), EVALUATION
    try:
        score = _training(last_returns(directory, TAIL), manifest["frames"])
    except ResumeError:
        return None, TRAINING
    return (None if isinstance(score, str) else score.value), TRAINING


def ranked_measure(measures: Collection[str]) -> str:
    """The one to rank by where runs have several: of those of the other one nothing can be said beside it."""
    return TRAINING if TRAINING in measures and EVALUATION not in measures else EVALUATION


def number_in(values: Any, key: str) -> float | None:
    """A number in a part of run.json, which may hold anything, if statistics can be computed of it."""
    value: Any = values.get(key) if isinstance(values, dict) else None
    return float(value) if _is_finite(value) else None


def _evaluations(record: Record, until: float) -> list[dict[str, Any]]:
    """The evaluation rows with a finite return, in the order of frames. Raises ResumeError."""
    rows = [row for row in record.rows if row.get("type") == "evaluation" and _is_finite(row.get("return_mean"))]
    rows = [row for row in rows if _is_finite(row.get("frames")) and row["frames"] <= until]
    return sorted(rows, key=lambda row: float(row["frames"]))


def _evaluation(result: Any) -> Score | str:
    """Of run.json, so that a sweep's own table shows the same, or of a row."""
    if not isinstance(result, dict):
        return "it was not evaluated"
    value, frames = result.get("return_mean"), result.get("frames")
    if not _is_finite(value) or type(frames) is not int:
        return "its evaluation has no finite return"
    return Score(float(value), frames, _whole(result.get("episodes")))


def _area(rows: Sequence[dict[str, Any]]) -> Score | str:
    if len(rows) < 2 or rows[0]["frames"] == rows[-1]["frames"]:
        return "an area needs two evaluations"
    frames, values = (np.array([row[key] for row in rows], float) for key in ("frames", "return_mean"))
    heights = (values[1:] + values[:-1]) / 2
    value = float(np.average(heights, weights=np.diff(frames)))
    return Score(value, int(frames[-1]), _whole(rows[-1].get("episodes")))


def _tail(record: Record, at: int | None) -> list[float]:
    """The returns of the last training episodes, until frame ``at``. Raises ResumeError."""
    if at is None:
        return last_returns(record.directory, TAIL)
    episodes = record.episodes
    returns: list[float] = episodes["return"][episodes["frames"] <= at][-TAIL:].tolist()
    return returns


def _training(returns: Sequence[float], frames: int) -> Score | str:
    if not returns:
        return "it has no finished training episode"
    if not all(map(_is_finite, returns)):
        return "its episodes have no finite return"
    return Score(float(np.mean(returns)), frames, len(returns))


def _is_finite(value: Any) -> TypeGuard[int | float]:
    """Whether it is a number that statistics can be computed of."""
    return type(value) in (int, float) and abs(value) <= _LARGEST


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None

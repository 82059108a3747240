"""Curves over seeds: the IQM of several runs and its interval, at places that all of them have reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlrun.reports.records import Record, Series
from rlrun.reports.statistics import middle

Array = NDArray[np.float64]

MOST_POINTS = 200
RESAMPLES = 2000
_CHUNK = 1 << 22  # numbers of a chunk of resamples: 32 MB


@dataclass(frozen=True)
class Aggregate:
    """Curves of ``count`` runs as one. ``low`` and ``high`` are nan for a single run, of which an interval would say nothing."""

    where: Array
    """Frames or seconds [T]."""
    middle: Array
    """IQM over runs [T]."""
    low: Array
    """Lower end of its 95 % interval [T]."""
    high: Array
    """Upper end [T]."""
    count: int


def aggregate(records: Sequence[Record], kind: str, key: str, clock: bool = False) -> Aggregate:
    """``key`` of the rows of ``kind`` (``train`` or ``evaluation``) of several runs, against frames, or seconds of training if ``clock``.

    Between its points a run's curve is a line. The places are those of the runs' points, or at most MOST_POINTS evenly
    spaced ones, from where the last run begins to where the first one ends: further on the rest would be another sample.
    Runs without points are not counted. In which order they come changes nothing.

    Raises:
        ResumeError: a file of a run is damaged.
    """
    by_seed = sorted(records, key=lambda record: record.seed)
    return combine([series_of(record, kind, key, clock) for record in by_seed])


def combine(curves: Sequence[Series]) -> Aggregate:
    """Several runs' curves as one, as ``aggregate`` has them, by seed. Each is finite."""
    series = [points for points in curves if len(points[0])]
    if not series:
        nothing = np.empty(0)
        return Aggregate(nothing, nothing, nothing, nothing, 0)
    first, last = max(where[0] for where, _ in series), min(where[-1] for where, _ in series)
    where = np.unique(np.concatenate([where for where, _ in series]))
    where = where[(first <= where) & (where <= last)]
    if len(where) > MOST_POINTS:
        where = np.linspace(first, last, MOST_POINTS)
    values = np.array([np.interp(where, *points) for points in series]).reshape(len(series), len(where))
    low, high = intervals(values)
    return Aggregate(where, middle(np.sort(values.T)).mean(axis=-1), low, high, len(series))


def series_of(record: Record, kind: str, key: str, clock: bool = False) -> Series:
    """One run's curve, against frames, or seconds of training if ``clock``. Not finite numbers are left out. Raises ResumeError."""
    where, values = record.curve(kind, key)
    if clock:
        where = record.seconds_at(where)
    known = np.isfinite(where) & np.isfinite(values)
    return where[known], values[known]


def intervals(values: Array) -> tuple[Array, Array]:
    """95 % bootstrap interval of the IQM over S runs at each of T places, from RESAMPLES (2,000) draws.

    They are enough for a picture. ``statistics.interval`` has 10,000 for tables, where the last digits so differ. Whole curves are
    drawn, so that neighbouring places belong together, by their numbers: in another order they give another interval.
    ``values``: [S, T]. Returns low [T] and high [T].
    """
    runs, places = values.shape
    low, high = np.full(places, np.nan), np.full(places, np.nan)
    if runs < 2:
        return low, high
    drawn = np.random.default_rng(0).integers(runs, size=(RESAMPLES, runs))
    width = max(1, _CHUNK // drawn.size)
    for start in range(0, places, width):
        part = slice(start, start + width)
        means = middle(np.sort(values.T[part][:, drawn])).mean(axis=-1)  # [T, RESAMPLES, S] -> [T, RESAMPLES]
        low[part], high[part] = np.percentile(means, [2.5, 97.5], axis=-1)
    return low, high

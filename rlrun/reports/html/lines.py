"""The curves of a report as numbers for its charts: IQM and interval over the runs of each group, and thinned ones of each run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlrun.reports.curves import aggregate, series_of
from rlrun.reports.html.material import Material, Member, readable
from rlrun.reports.records import Record, finished_or_all

MOST_POINTS = 400  # of a run's curve
MOST_SINGLE = 200  # runs with a curve of their own
MOST_METRICS = 40
_POINTS = 400_000  # of all runs' curves together: the size of the file
_LEAST_POINTS = 50
_FIRST = (
    ("evaluation", "return_mean"),
    ("train", "return_mean"),
    ("evaluation", "length_mean"),
    ("train", "length_mean"),
)
_CLOCKED = _FIRST[:2]  # the curves that are given against time, too
_NO_CURVES = ("frames", "type", "episodes", "updates")  # where a row is, not what it says


def lines_of(material: Material) -> dict[str, Any]:
    """For the charts: ``metrics``, each with curves of ``groups`` and ``runs``, ``places`` along their axes; ``notes`` for the reader."""
    known = set(map(id, readable(material.members)))
    members = {number: member.record for number, member in enumerate(material.members) if id(member.record) in known}
    groups = {number: _to_join(material.of_group(number), known) for number in range(len(material.groups))}
    metrics = _metrics(members.values())
    kept, single = metrics[:MOST_METRICS], dict(list(members.items())[:MOST_SINGLE])
    points = max(_LEAST_POINTS, min(MOST_POINTS, _POINTS // max(1, len(single) * len(kept))))
    curves = _Curves(points)
    entries = [_metric(curves, kind, key, groups, single) for kind, key in kept]
    notes = []
    if curves.thinned:
        notes.append(f"Curves of single runs are thinned to {points} points each, evenly spaced.")
    if len(members) > len(single):
        notes.append(
            f"The first {len(single)} of {len(members)} runs have curves of their own; those of settings are over all."
        )
    if len(metrics) > len(kept):
        notes.append(f"{len(metrics) - len(kept)} more metrics are in metrics.jsonl.")
    return {"metrics": [entry for entry in entries if entry["groups"]], "places": curves.places, "notes": notes}


def _to_join(members: Sequence[Member], known: set[int]) -> list[Record]:
    """The runs whose curves become one: those that have finished, since it ends where the shortest does; all if none has."""
    return finished_or_all(
        [member.record for member in members if id(member.record) in known and member.duplicate is None]
    )


def _metric(
    curves: _Curves, kind: str, key: str, groups: Mapping[int, list[Record]], single: Mapping[int, Record]
) -> dict[str, Any]:
    """One entry of ``metrics``."""
    timed = (kind, key) in _CLOCKED
    lines = [
        {"run": run, **line} for run, record in single.items() if (line := curves.of_run(record, kind, key, timed))
    ]
    clocks = (False, True) if timed else (False,)
    by_clock = [
        [
            {"group": number, **line}
            for number, some in groups.items()
            if (line := curves.of_group(some, kind, key, clock))
        ]
        for clock in clocks
    ]
    return {
        "label": _label(kind, key),
        "groups": by_clock[0],
        "runs": lines,
        **({"clock": by_clock[1]} if timed else {}),
    }


class _Curves:
    """Curves as plain numbers. Most runs of a sweep have points at the same frames: each list of ``places`` is kept once.

    ``thinned``: whether a run had more than ``points`` points.
    """

    def __init__(self, points: int) -> None:
        self.places: list[list[float | int | None]] = []
        self.thinned = False
        self._points = points
        self._numbers: dict[bytes, int] = {}

    def of_group(self, records: Sequence[Record], kind: str, key: str, clock: bool) -> dict[str, Any] | None:
        """IQM and interval over runs; None if they have no points in common."""
        curve = aggregate(records, kind, key, clock)
        if not len(curve.where):
            return None
        ends = {"low": _rounded(curve.low), "high": _rounded(curve.high)} if curve.count > 1 else {}
        return {"x": self._place(curve.where), "y": _rounded(curve.middle), **ends, "count": curve.count}

    def of_run(self, record: Record, kind: str, key: str, timed: bool) -> dict[str, Any] | None:
        """One run's curve, with its seconds, too, if ``timed`` and they are known; None without points."""
        where, values = series_of(record, kind, key)
        if not len(where):
            return None
        if len(where) > self._points:
            self.thinned = True
            chosen = np.linspace(0, len(where) - 1, self._points).round().astype(int)
            where, values = where[chosen], values[chosen]
        line = {"x": self._place(where), "y": _rounded(values)}
        seconds = record.seconds_at(where) if timed else np.full(1, np.nan)
        return line | ({"clock": self._place(seconds)} if np.isfinite(seconds).all() else {})

    def _place(self, where: NDArray[np.float64]) -> int:
        number = self._numbers.setdefault(where.tobytes(), len(self.places))
        if number == len(self.places):
            self.places.append(_rounded(where))
        return number


def _metrics(records: Iterable[Record]) -> list[tuple[str, str]]:
    """Kind and key of all numbers in the rows, returns first."""
    found = dict.fromkeys(
        (kind, key)
        for record in records
        for row in record.rows
        if (kind := row.get("type")) in ("train", "evaluation")
        for key, value in row.items()
        if key not in _NO_CURVES and type(value) in (int, float)
    )
    return [each for each in _FIRST if each in found] + sorted(
        (each for each in found if each not in _FIRST), reverse=True
    )


def _label(kind: str, key: str) -> str:
    word = (
        key.removesuffix("_mean").replace("_", " ")
        if key.endswith(("return_mean", "length_mean"))
        else key.replace("_", " ")
    )
    return f"{'evaluation' if kind == 'evaluation' else 'training'}: {word}"


def _rounded(values: NDArray[np.float64]) -> list[float | int | None]:
    """Six digits are more than a chart shows; whole numbers stay whole."""
    return [_short(value) if np.isfinite(value) else None for value in values.tolist()]


def _short(value: float) -> float | int:
    return int(value) if value.is_integer() and abs(value) < 1e15 else float(f"{value:.6g}")

"""A comparison as plain data: every number of it, with the scores of every seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from rlrun.plain import printable
from rlrun.reports.comparison import Comparison, Entry, Environment, Member
from rlrun.reports.curves import Aggregate
from rlrun.reports.notes import conclusions, conclusions_over_all
from rlrun.reports.overall import Overall
from rlrun.reports.scores import METRICS
from rlrun.reports.statistics import RESAMPLES, Averages
from rlrun.reports.threshold import median_of


def plain(comparison: Comparison, over_all: Overall | str, notes: Sequence[str]) -> dict[str, Any]:
    """What ``--json`` prints. nan and infinity in it are to become null."""
    return {
        "metric": {"name": comparison.metric, "meaning": METRICS[comparison.metric], "at": comparison.at},
        "intervals": {"confidence": 0.95, "method": "percentile bootstrap over seeds", "resamples": RESAMPLES},
        "environments": [_environment(environment) for environment in comparison.environments],
        "overall": None if isinstance(over_all, str) else _overall(over_all),
        "notes": list(notes),
    }


def _environment(environment: Environment) -> dict[str, Any]:
    return {
        "env_id": environment.env_id,
        "threshold": environment.threshold,
        "settings": [_entry(entry) for entry in environment.entries],
        "against_first": [dataclasses.asdict(one) for one in environment.versus],
        "conclusions": conclusions(environment),
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "number": entry.number,
        "label": entry.label,
        "settings": entry.settings,
        **_averages(entry.averages),
        "runs": [_member(member) for member in entry.members],
        "left_out": [{"run": printable(record.directory), "why": why} for record, why in entry.left_out],
        "to_threshold": _medians(entry),
        "curve": _curve(entry.curve),
    }


def _member(member: Member) -> dict[str, Any]:
    return {
        "run": printable(member.record.directory),
        "seed": member.seed,
        "score": member.score.value,
        "frames": member.score.frames,
        "episodes": member.score.episodes,
        "to_threshold": dataclasses.asdict(member.reached) if member.reached else None,
    }


def _averages(averages: Averages | None) -> dict[str, Any]:
    return dataclasses.asdict(averages) if averages else dict.fromkeys(("iqm", "mean", "median"))


def _medians(entry: Entry) -> dict[str, Any] | None:
    places = [member.reached for member in entry.members if member.reached is not None]
    if not places:
        return None
    return {
        "reached": sum(place.frames != float("inf") for place in places),
        "median_frames": median_of([place.frames for place in places]),
        "median_seconds": median_of([place.seconds for place in places]),
    }


def _curve(curve: Aggregate) -> dict[str, Any]:
    """IQM of the evaluation return over the runs that have evaluations."""
    columns = {"frames": curve.where, "iqm": curve.middle, "low": curve.low, "high": curve.high}
    return {"runs": curve.count, **{name: values.tolist() for name, values in columns.items()}}


def _overall(over_all: Overall) -> dict[str, Any]:
    return {
        "methods": [
            {
                "label": method.label,
                "seeds": [len(entry.members) for entry in method.entries],
                "settings": [entry.number for entry in method.entries],
                "normalised": dataclasses.asdict(method.averages) if method.averages else None,
            }
            for method in over_all.methods
        ],
        "against_first": [dataclasses.asdict(duel) for duel in over_all.duels],
        "conclusions": conclusions_over_all(over_all),
    }

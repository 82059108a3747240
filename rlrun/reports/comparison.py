"""Settings held against each other over their seeds, environment by environment. What the numbers do not show is not said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlrun.plain import printable
from rlrun.reports.curves import Aggregate, aggregate
from rlrun.reports.records import Group, Record, group, once, why_duplicate
from rlrun.reports.scores import Score, score_of
from rlrun.reports.statistics import Averages, Estimate, averages, improvement
from rlrun.reports.threshold import Reached, reached, registered

TOO_FEW, FEW = 3, 5
"""Up to TOO_FEW seeds nothing is concluded; below FEW it is said with a caution.

Of 1000 simulated comparisons of two equal settings, with normal or exponential scores, the intervals lay apart in 33 % with 2 seeds
each, in 9 % with 3, in 2 % with 4 and in 1 to 2 % with more. tests/test_comparison.py repeats some of them.
"""

BETTER, NOT_SHOWN, NOT_SAID = "better", "no difference shown", "too few seeds"


@dataclass(frozen=True)
class Member:
    """A run that counts."""

    record: Record
    score: Score
    reached: Reached | None
    """Where it reached the threshold, if there is one."""

    @property
    def seed(self) -> int:
        return self.record.seed


@dataclass
class Entry:
    """One setting in one environment."""

    label: str
    settings: dict[str, Any]
    """Those in which the entries of its environment differ."""
    members: list[Member]
    left_out: list[tuple[Record, str]]
    """Runs that do not count, and why."""
    averages: Averages | None
    """Of the scores; None if there are none."""
    curve: Aggregate
    """Evaluation returns against frames."""
    number: int = 0
    """What the tables call it."""

    @property
    def scores(self) -> list[float]:
        return [member.score.value for member in self.members]


@dataclass(frozen=True)
class Versus:
    """The first of several settings against another one."""

    first: int
    other: int
    probability: Estimate
    """That a run of ``first`` scores more than one of ``other``. Of too few seeds an interval would look like knowledge: it has none."""
    verdict: str
    why: str


@dataclass(frozen=True)
class Environment:
    """The settings that ran in one environment, best IQM first, those without a score last."""

    env_id: str
    threshold: float | None
    threshold_source: str
    """Whose it is, if not the user's."""
    entries: list[Entry]
    versus: list[Versus]

    @property
    def scored(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.members]


@dataclass(frozen=True)
class Comparison:
    """All of it."""

    metric: str
    environments: list[Environment]
    at: int | None = None

    @property
    def entries(self) -> list[Entry]:
        return [entry for environment in self.environments for entry in environment.entries]


def compare(
    records: Sequence[Record], metric: str, threshold: float | None = None, at: int | None = None
) -> Comparison:
    """Runs of the same settings are seeds of one entry; environments stay apart.

    ``threshold``: an evaluation return to be reached; None: that of Gymnasium's registry, where it fits. ``at``: frames at which all
    are compared, of whatever length; None: at their ends.
    """
    places: dict[str, list[Record]] = {}
    for record in records:
        places.setdefault(env_id_of(record), []).append(record)
    environments = [_environment(env_id, here, metric, threshold, at) for env_id, here in places.items()]
    comparison = Comparison(metric, environments, at)
    for number, entry in enumerate(comparison.entries, 1):
        entry.number = number
    for environment in comparison.environments:
        environment.versus.extend(_against_first(environment.scored))
    return comparison


def env_id_of(record: Record) -> str:
    """The Gymnasium id in a run's settings."""
    return printable(record.settings.get("env.id", record.manifest["env_id"]))


def judge(seeds: int, first: Estimate | None, other: Estimate | None, probability: Estimate) -> tuple[str, str]:
    """What may be concluded of two settings, and why: that the first one is better, or nothing.

    ``seeds``: of the one that has fewer. The estimates: their IQMs, if they can be compared.
    """
    if seeds <= TOO_FEW or probability.low is None:
        return NOT_SAID, f"{seeds} seed{'' if seeds == 1 else 's'}"
    if first and other and first.low is not None and other.high is not None and first.low <= other.high:
        return NOT_SHOWN, "intervals overlap"
    if probability.low <= 0.5:
        return NOT_SHOWN, "the probability may be 0.5"
    return BETTER, f"but of {seeds} seeds only" if seeds < FEW else "intervals apart"


def _environment(
    env_id: str, records: Sequence[Record], metric: str, threshold: float | None, at: int | None
) -> Environment:
    source = ""
    if threshold is None:
        threshold, source = registered(env_id, records), ", Gymnasium's threshold"
    entries = [_entry(same, metric, threshold, at) for same in group(records)]
    entries.sort(key=lambda entry: -entry.averages.iqm.value if entry.averages else float("inf"))
    return Environment(env_id, threshold, source, entries, [])


def _entry(same: Group, metric: str, threshold: float | None, at: int | None) -> Entry:
    members, left_out = [], []
    for record in same.records:
        score = score_of(record, metric, at)
        if isinstance(score, str):
            left_out.append((record, score))
        else:
            members.append(Member(record, score, None if threshold is None else reached(record, threshold, at)))
    known = {id(member.record): member for member in members}
    counted, older = once([member.record for member in members])
    for record, newer in older:
        other = "" if known[id(record)].score == known[id(newer)].score else ", but another score"
        left_out.append((record, f"{why_duplicate(newer)}{other}"))
    members = [known[id(record)] for record in counted]
    with np.errstate(over="ignore", invalid="ignore"):  # returns in somebody's file may be beyond all sums
        curve = _until(at, aggregate([member.record for member in members], "evaluation", "return_mean"))
    of_scores = averages([member.score.value for member in members]) if members else None
    return Entry(same.label, same.settings, members, left_out, of_scores, curve)


def _until(at: int | None, curve: Aggregate) -> Aggregate:
    """The part of a curve that counts."""
    counts = curve.where <= (np.inf if at is None else at)
    return Aggregate(curve.where[counts], curve.middle[counts], curve.low[counts], curve.high[counts], curve.count)


def _against_first(entries: Sequence[Entry]) -> list[Versus]:
    results = []
    for other in entries[1:]:
        first = entries[0]
        assert first.averages and other.averages, "only entries with scores"
        probability = improvement([(first.scores, other.scores)], TOO_FEW + 1)
        seeds = min(len(first.members), len(other.members))
        verdict, why = judge(seeds, first.averages.iqm, other.averages.iqm, probability)
        results.append(Versus(first.number, other.number, probability, verdict, why))
    return results

"""What a reader of a comparison must know about it, in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rlrun.plain import printable
from rlrun.reports.comparison import BETTER, FEW, NOT_SAID, NOT_SHOWN, TOO_FEW, Comparison, Entry, Environment
from rlrun.reports.overall import Overall
from rlrun.reports.records import Record
from rlrun.reports.scores import METRICS
from rlrun.reports.threshold import REWARDS

_MOST_NAMED = 6
_NARROW = 10
"""Below this many seeds, 95 % intervals of the IQM are too narrow: of 1000 simulated samples of normal and of exponential scores they held
the truth in 88 and 84 % with 4 seeds, in 91 and 89 % with 5, in 92 and 93 % with 8, and in 93 to 94 % with 10 to 20."""

_WORDS = {
    BETTER: "is better than",
    NOT_SHOWN: "is not shown to differ from",
    NOT_SAID: f"may or may not differ: too few seeds ({TOO_FEW} or fewer) of it or of",
}


def conclusions(environment: Environment) -> list[str]:
    """What its numbers show, and what they do not."""
    scored = environment.scored
    lines = []
    if not scored:
        lines.append("no run here has a score: nothing can be compared")
    elif len(scored) == 1:
        lines.append("one setting with scores: nothing to compare it with")
    for verdict, words in _WORDS.items():
        others = [one.other for one in environment.versus if one.verdict == verdict]
        if others:
            lines.append(f"#{scored[0].number} ({scored[0].label}) {words} {numbers(others)}")
    few = [entry.number for entry in scored if len(entry.members) <= TOO_FEW]
    if few:
        lines.append(f"too few seeds: {numbers(few)}; train at least {FEW} of each, better 10")
    if len(scored) > 2 and any(one.verdict == BETTER for one in environment.versus):
        lines.append(
            f"#{scored[0].number} was picked as the best of {len(scored)} by the scores it is judged by, which flatters it: "
            "confirm it with seeds that were not used yet"
        )
    return lines


def conclusions_over_all(overall: Overall) -> list[str]:
    """What all environments together show of the first method."""
    lines = []
    for verdict, words in _WORDS.items():
        others = [duel.other for duel in overall.duels if duel.verdict == verdict]
        if others:
            lines.append(f"over all environments, {overall.methods[0].label} {words} {'; '.join(_first(others))}")
    return lines


def notes_of(comparison: Comparison, unreadable: Mapping[str, str]) -> list[str]:
    """What was left out, and what makes the numbers say less than they seem to."""
    notes = [f"unreadable, left out: {reason}" for reason in _first(list(unreadable.values()))]
    for entry in comparison.entries:
        reasons: dict[str, list[str]] = {}
        for record, why in entry.left_out:
            reasons.setdefault(why, []).append(printable(record.name))
        if reasons:
            left_out = _first([f"{', '.join(_first(names))} ({why})" for why, names in reasons.items()])
            notes.append(f"left out of #{entry.number}: {'; '.join(left_out)}")
    failed = [each.number for each in comparison.entries if any(r.status == "failed" for r, _ in each.left_out)]
    if failed:
        notes.append(f"runs of {numbers(failed)} failed: what is left of them may flatter these settings")
    for environment in comparison.environments:
        notes += _about(environment, comparison.metric, comparison.at)
    least = min((len(entry.members) for entry in comparison.entries if len(entry.members) > TOO_FEW), default=_NARROW)
    if least < _NARROW:
        notes.append(
            f"intervals of fewer than {_NARROW} seeds are a little too narrow: of 5 seeds, 9 in 10 hold the truth instead of 19 in 20"
        )
    if comparison.metric == "best":
        notes.append("the best of several noisy evaluations is higher than what it would return again")
    return notes


def numbers(values: Iterable[int]) -> str:
    """``#1, #2 and #4 to #9``."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    words = []
    for run in runs:
        words += [f"#{run[0]} to #{run[-1]}"] if len(run) > 2 else [f"#{value}" for value in run]
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def spread(values: Sequence[int | None]) -> str:
    """``20,000``, or ``10,000 to 20,000``; ``?`` if one is not known."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return "?"
    low, high = min(known), max(known)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def measured(comparison: Comparison) -> str:
    """What the scores are, over how many episodes, at which frames."""
    scores = [member.score for entry in comparison.entries for member in entry.members]
    episodes = "" if comparison.metric == "training" else f", {spread([one.episodes for one in scores])} episodes each"
    at = "" if comparison.at is None else f" up to frame {comparison.at:,}"
    return f"{METRICS[comparison.metric]}{at}{episodes}; frames {spread([one.frames for one in scores])}"


def _about(environment: Environment, metric: str, at: int | None) -> list[str]:
    """What makes the scores of one environment hard to compare."""
    notes, scored = [], environment.scored
    frames, episodes = _by_value(scored, "frames"), _by_value(scored, "episodes")
    if frames and metric != "best":
        remedy = "" if at is not None else "; --at FRAMES compares all at the same"
        notes.append(
            f"scores were measured at different frames ({frames}): longer training alone may be the difference{remedy}"
        )
    if episodes and metric != "training":
        notes.append(f"numbers of evaluation episodes differ ({episodes}): fewer are noisier")
    early = [each.number for each in scored if _setting(each, "stop.return") is not None]
    if early and metric == "final" and at is None:
        notes.append(f"{numbers(early)} stopped at the first evaluation that reached stop.return: a lucky one counts")
    kinds = sorted({printable(key) for each in scored for key in each.settings if key.startswith(REWARDS)})
    if kinds:
        notes.append(f"settings of the environment differ ({', '.join(kinds)}): returns may not mean the same")
    if environment.threshold is not None and any(_shares(member.record) for each in scored for member in each.members):
        notes.append("runs that were trained together as one population share their seconds: each has those of all")
    return notes + _of_same_settings(scored)


def _by_value(entries: Sequence[Entry], name: str) -> str:
    """``20,000: #1; 10,000 to 20,000: #2 and #3``, or nothing if there is one value."""
    values: dict[str, list[int]] = {}
    for entry in entries:
        values.setdefault(spread([getattr(member.score, name) for member in entry.members]), []).append(entry.number)
    if len(values) < 2 and not any(" to " in value for value in values):
        return ""
    return "; ".join(_first([f"{value}: {numbers(who)}" for value, who in values.items()]))


def _of_same_settings(entries: Sequence[Entry]) -> list[str]:
    notes = []
    for first, second in _same(entries):
        seeds = sorted({member.seed for member in first.members} & {member.seed for member in second.members})
        shared = f" and share seeds {', '.join(_first([str(seed) for seed in seeds]))}" if seeds else ""
        notes.append(
            f"#{first.number} and #{second.number} are of different sweeps, but have the same settings{shared}: "
            "what differs is luck, or the version; --pool counts their seeds together"
        )
    return notes


def _shares(record: Record) -> bool:
    population = record.manifest.get("population")
    return isinstance(population, dict) and population.get("size") != 1


def _same(entries: Sequence[Entry]) -> list[tuple[Entry, Entry]]:
    """Entries that only the sweep tells apart, each with the first one of its settings."""
    firsts: dict[str, Entry] = {}
    pairs = []
    for entry in sorted(entries, key=lambda entry: entry.number):
        first = firsts.setdefault(repr(sorted(entry.settings.items())), entry)
        if first is not entry:
            pairs.append((first, entry))
    return pairs


def _setting(entry: Entry, key: str) -> object:
    return entry.members[0].record.settings.get(key)


def _first(texts: Sequence[str]) -> list[str]:
    left = len(texts) - _MOST_NAMED
    return [*texts[:_MOST_NAMED], *([f"and {left} more"] if left > 0 else [])]

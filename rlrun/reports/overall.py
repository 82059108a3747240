"""The same settings over several environments. Only what can be compared there is: who wins, and scores put on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlrun.errors import UsageError
from rlrun.manifest import texts
from rlrun.plain import printable
from rlrun.reports.comparison import TOO_FEW, Comparison, Entry, Environment, judge
from rlrun.reports.records import SAME
from rlrun.reports.statistics import Averages, Estimate, averages_over_tasks, improvement

_NAMING = ("name", "device", "hardware")  # what is typed to tell runs apart, or to run them here

Scale = Mapping[str, tuple[float, float]]
"""Environment -> the scores that count as 0 and as 1."""


@dataclass(frozen=True)
class Method:
    """One setting in every environment."""

    label: str
    entries: list[Entry]
    """One for each environment."""
    averages: Averages | None
    """Of normalised scores; None without a scale."""

    @property
    def seeds(self) -> int:
        """Of the environment that has fewest."""
        return min(len(entry.members) for entry in self.entries)


@dataclass(frozen=True)
class Duel:
    """The first method against another one. ``probability``: the mean over environments."""

    first: str
    other: str
    probability: Estimate
    verdict: str
    why: str


@dataclass(frozen=True)
class Overall:
    """Methods over environments, best first: by IQM if there is a scale, else by the chance to win against the others."""

    methods: list[Method]
    duels: list[Duel]


def overall(comparison: Comparison, scale: Scale) -> Overall | str:
    """What the settings are worth over all environments, or why nothing is said of it.

    A method is what was typed, but for environment and what changes no result: settings tuned for an environment belong to one method.
    Names and devices tell methods apart only if nothing else does. It takes part if it has scores in every environment.

    Raises:
        UsageError: ``scale`` lacks an environment, or names another one.
    """
    _check(scale, comparison.environments)
    if len(comparison.environments) < 2:
        return "one environment"
    for apart in ((), _NAMING):
        tables = [_methods(environment, apart) for environment in comparison.environments]
        twice = next((label for table in tables for label, entries in table.items() if len(entries) > 1), None)
        if twice is None:
            break
    if twice is not None:
        return f"what was typed for {twice} gave several settings in one environment"
    complete = [label for label in tables[0] if all(label in table for table in tables)]
    if not complete:
        return "no setting has scores in every environment"
    methods = []
    for label in complete:
        entries = [table[label][0] for table in tables]
        methods.append(Method(label, entries, _normalised(entries, comparison.environments, scale)))
    methods.sort(key=lambda method: _merit(method, methods), reverse=True)
    return Overall(methods, [_duel(methods[0], other) for other in methods[1:]])


def method_of(entry: Entry, apart: Sequence[str] = ()) -> str:
    """What was typed for its first run, but for environment and what changes no result, and names that are not in ``apart``."""
    manifest = entry.members[0].record.manifest
    parts = (text.partition("=") for text in texts(manifest.get("overrides")))
    typed = {key.lstrip("+"): value for key, _, value in parts}
    ours = {
        key: value
        for key, value in typed.items()
        if not key.startswith(("env.", *SAME)) and (key in apart or key not in ("env", *_NAMING))
    }
    words = [f"algo={manifest['algo']}", *(f"{key}={value}" for key, value in sorted(ours.items()) if key != "algo")]
    return printable(", ".join(words))


def _methods(environment: Environment, apart: Sequence[str]) -> dict[str, list[Entry]]:
    methods: dict[str, list[Entry]] = {}
    for entry in environment.scored:
        methods.setdefault(method_of(entry, apart), []).append(entry)
    return methods


def _check(scale: Scale, environments: Sequence[Environment]) -> None:
    known = [environment.env_id for environment in environments]
    foreign = [env_id for env_id in scale if env_id not in known]
    missing = [env_id for env_id in known if env_id not in scale]
    if foreign:
        raise UsageError(f"--normalize {foreign[0]}=...: no run here is of it; environments: {', '.join(known)}")
    if scale and missing:
        raise UsageError(f"--normalize says nothing of {missing[0]}; add --normalize {missing[0]}=LOW:HIGH")


def _normalised(entries: Sequence[Entry], environments: Sequence[Environment], scale: Scale) -> Averages | None:
    if not scale:
        return None
    tasks = []
    for entry, environment in zip(entries, environments, strict=True):
        low, high = scale[environment.env_id]
        tasks.append((np.array(entry.scores) - low) / (high - low))
    return averages_over_tasks(tasks)


def _merit(method: Method, methods: Sequence[Method]) -> float:
    if method.averages is not None:
        return method.averages.iqm.value
    return float(np.mean([_wins(method, other) for other in methods if other is not method] or [0.0]))


def _wins(method: Method, other: Method) -> float:
    pairs = zip(method.entries, other.entries, strict=True)
    return float(np.mean([(np.sign(np.subtract.outer(a.scores, b.scores)).mean() + 1) / 2 for a, b in pairs]))


def _duel(first: Method, other: Method) -> Duel:
    pairs = zip(first.entries, other.entries, strict=True)
    probability = improvement([(mine.scores, theirs.scores) for mine, theirs in pairs], TOO_FEW + 1)
    one, two = (method.averages.iqm if method.averages else None for method in (first, other))
    verdict, why = judge(min(first.seeds, other.seeds), one, two, probability)
    return Duel(first.label, other.label, probability, verdict, why)

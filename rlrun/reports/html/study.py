"""What settings did to the final return: how much of its variance each explains, and the IQM at each pair of their values."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlrun.config.resuming import MAY_CHANGE
from rlrun.manifest import texts
from rlrun.reports.html.markup import shown_value
from rlrun.reports.html.material import Material, Member, measure_of, middle_of

_TOLD = ("total_frames",)  # of what may change while a run goes on, it alone has to do with the return
MOST_SETTINGS = 12
_BINS = 4
_FEW = 8  # values that are told apart each by itself


@dataclass(frozen=True)
class Swept:
    """A setting in which runs differ. ``level``: of each run the number of its value, or range of values, in ``levels``."""

    key: str
    values: list[Any]
    levels: list[str]
    level: list[int]
    together: list[str]
    """Settings that change whenever this one does, and so can't be told from it."""

    @property
    def numeric(self) -> bool:
        return all(_is_number(value) for value in self.values)


@dataclass(frozen=True)
class Share:
    """How much of the variance of returns goes with a setting; ``chance``: how much would on average if it did nothing."""

    share: float
    chance: float


@dataclass(frozen=True)
class Study:
    """The runs of one environment that differ in settings, whose returns are of one measure."""

    environment: str
    measure: str
    members: list[Member]
    settings: list[Swept]
    left_out: int
    """Settings beyond MOST_SETTINGS."""
    others: int
    """Runs whose returns are of the other measure, or that count nowhere."""


def studies_of(material: Material) -> list[Study]:
    """A study for each environment whose runs have more than one group."""
    studies = []
    for environment in material.environments:
        here = [member for member in material.members if member.manifest["env_id"] == environment]
        measure = measure_of(here)
        members = [member for member in here if member.measure == measure and member.duplicate is None]
        if len({member.group for member in members}) > 1:
            settings = swept(material, members)
            kept, left_out = settings[:MOST_SETTINGS], len(settings[MOST_SETTINGS:])
            studies.append(Study(environment, measure, members, kept, left_out, len(here) - len(members)))
    return [study for study in studies if study.settings]


def swept(material: Material, members: Sequence[Member]) -> list[Swept]:
    """The settings in which the groups of ``members`` differ, those that were typed first, each with those that change with it."""
    typed = [
        text.partition("=")[0].lstrip("+~") for member in members for text in texts(member.manifest.get("overrides"))
    ]
    keys = list(material.groups[members[0].group].settings)
    typed = [{"algo": "algo.name", "env": "env.name", "network": "network.name"}.get(key, key) for key in typed]
    found: dict[tuple[int, ...], list[str]] = {}
    for key in dict.fromkeys([*(key for key in typed if key in keys), *keys]):
        shown = [repr(member.record.telling.get(key)) for member in members]
        numbers = {text: number for number, text in enumerate(dict.fromkeys(shown))}
        if len(numbers) > 1 and (key in _TOLD or not key.startswith(MAY_CHANGE)):
            found.setdefault(tuple(numbers[text] for text in shown), []).append(key)
    return [
        _swept(same[0], [member.record.telling.get(same[0]) for member in members], same[1:]) for same in found.values()
    ]


def _swept(key: str, values: list[Any], together: list[str]) -> Swept:
    distinct = list({repr(value): value for value in values}.values())
    if all(_is_number(value) for value in values):
        distinct.sort()
        if len(distinct) > _FEW and len(values) < 3 * len(distinct):  # drawn at random: too few runs of each value
            return Swept(key, values, *_ranges(np.array(values, float)), together)
    names = [repr(value) for value in distinct]
    return Swept(
        key,
        values,
        [shown_value(value) for value in distinct],
        [names.index(repr(value)) for value in values],
        together,
    )


def _ranges(values: NDArray[np.float64]) -> tuple[list[str], list[int]]:
    """Ranges with equally many of ``values`` [N] each, and of each value the number of its range."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)[1:-1], method="lower"))
    level = np.searchsorted(edges, values, side="left")
    present = np.unique(level)
    names = [f"{values[level == each].min():.3g} to {values[level == each].max():.3g}" for each in present]
    return names, np.searchsorted(present, level).tolist()


def explained(levels: Sequence[int], returns: ArrayLike) -> Share | None:
    """Share of the variance of ``returns`` [N] between ``levels`` [N]: eta squared of a one-way analysis of variance.

    Of returns that have nothing to do with K levels it is (K - 1) / (N - 1) on average. None if it means nothing: returns
    are all the same, levels are, or every run has its own.
    """
    values, groups = np.asarray(returns, float), np.asarray(levels)
    count, different = len(values), len(set(groups.tolist()))
    if not 1 < different < count:
        return None
    total = float(((values - values.mean()) ** 2).sum())
    if total <= 1e-12 * max(1.0, float((values**2).sum())):
        return None
    means = {level: values[groups == level].mean() for level in set(groups.tolist())}
    between = sum(float((groups == level).sum() * (mean - values.mean()) ** 2) for level, mean in means.items())
    return Share(between / total, (different - 1) / (count - 1))


def importance(study: Study) -> tuple[list[tuple[Swept, Share | None]], Share | None, int]:
    """Each setting with its share, the largest first; that of all together; and the number of finished runs it is of."""
    chosen = [number for number, member in enumerate(study.members) if member.counted is not None]
    returns = [study.members[number].counted for number in chosen]
    shares = [(each, explained([each.level[number] for number in chosen], returns)) for each in study.settings]  # type: ignore[arg-type]
    shares.sort(key=lambda pair: -pair[1].share if pair[1] else 1.0)
    groups = [study.members[number].group for number in chosen]
    return shares, explained(groups, returns), len(chosen)  # type: ignore[arg-type]


def chart_numbers(study: Study, material: Material) -> dict[str, Any]:
    """The study for the page's charts: axes of parallel coordinates and a heat map for each pair of settings."""
    places = {id(member): number for number, member in enumerate(material.members)}
    finals = [member.counted for member in study.members]
    pairs = itertools.combinations(range(len(study.settings)), 2)
    return {
        "environment": study.environment,
        "runs": [places[id(member)] for member in study.members],
        "final": [member.final for member in study.members],
        "axes": [_axis(each) for each in study.settings],
        "pairs": [_pair(study.settings, finals, first, second) for first, second in pairs],
    }


def _axis(setting: Swept) -> dict[str, Any]:
    axis = {"key": setting.key, "levels": setting.levels, "level": setting.level}
    many = setting.numeric and len(set(setting.values)) > _FEW
    return axis | ({"numbers": [float(value) for value in setting.values]} if many else {})


def _pair(settings: Sequence[Swept], finals: Sequence[float | None], first: int, second: int) -> dict[str, Any]:
    """IQM of the finished runs and how many they are [levels of second, levels of first]."""
    cells: dict[tuple[int, int], list[float | None]] = {}
    for row, column, final in zip(settings[second].level, settings[first].level, finals, strict=True):
        cells.setdefault((row, column), []).append(final)
    rows, columns = range(len(settings[second].levels)), range(len(settings[first].levels))
    return {
        "x": first,
        "y": second,
        "z": [[middle_of(cells.get((row, column), ())) for column in columns] for row in rows],
        "count": [[sum(v is not None for v in cells.get((row, column), ())) for column in columns] for row in rows],
    }


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300

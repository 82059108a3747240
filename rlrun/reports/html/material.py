"""What a report is about: runs, their groups and final returns, and what could not be read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlrun.errors import ResumeError
from rlrun.metrics import last_returns
from rlrun.provenance import clean
from rlrun.reports.records import Group, Record, Selection, group
from rlrun.reports.scores import TAIL
from rlrun.reports.statistics import iqm

EVALUATION, TRAINING = "last evaluation", f"last {TAIL} training episodes"
_LARGEST = 1e150  # the square of a larger one is no number any more


@dataclass(frozen=True)
class Member:
    """One run of a report. ``final``: its mean return, of what ``measure`` says; ``group``: the number of its group."""

    record: Record
    group: int
    status: str
    final: float | None
    measure: str

    @property
    def manifest(self) -> dict[str, Any]:
        return self.record.manifest

    @property
    def counted(self) -> float | None:
        """Its final return, if it has finished: others have trained less, and are no sample of the same thing."""
        return self.final if self.status == "finished" else None


@dataclass(frozen=True)
class Material:
    """Runs in the order of their groups."""

    groups: list[Group]
    members: list[Member]
    problems: dict[str, str]
    """Name of a run of which something can't be read -> what and why."""

    @property
    def environments(self) -> list[str]:
        """Ids of the environments: returns of different ones can't be compared."""
        return list(dict.fromkeys(member.manifest["env_id"] for member in self.members))

    def of_group(self, number: int) -> list[Member]:
        return [member for member in self.members if member.group == number]

    def final_of(self, number: int) -> float | None:
        """IQM of the final returns of a group's finished runs."""
        return middle_of(member.counted for member in self.of_group(number))


def middle_of(values: Any) -> float | None:
    """IQM of what is not None; None of nothing."""
    known = [value for value in values if value is not None]
    return iqm(known) if known else None


def material_of(selection: Selection) -> Material:
    """What is to be told of a selection, without the secrets of this process."""
    problems = {name: str(clean(reason)) for name, reason in selection.unreadable.items()}
    groups = group([_cleaned(record) for record in selection.records])
    members = []
    for number, each in enumerate(groups):
        for record in each.records:
            reason = _damage(record)
            if reason is not None:
                name = record.name if record.name not in problems else f"{record.directory.parent.name}/{record.name}"
                problems[name] = str(clean(reason))
            members.append(Member(record, number, record.status, *_final(record)))
    return Material(groups, members, problems)


def readable(members: Sequence[Member]) -> list[Record]:
    """The runs whose rows can be read; ``problems`` names the others."""
    return [member.record for member in members if _damage(member.record) is None]


def number_in(values: Any, key: str) -> float | None:
    """A number in a part of run.json, which may hold anything, if statistics can be computed of it."""
    value: Any = values.get(key) if isinstance(values, dict) else None
    return float(value) if type(value) in (int, float) and abs(value) <= _LARGEST else None  # nan is not


def _cleaned(record: Record) -> Record:
    return dataclasses.replace(record, manifest=clean(record.manifest), settings=clean(record.settings))


def _damage(record: Record) -> str | None:
    try:
        _ = record.rows, record.clock
    except ResumeError as error:
        return str(error)
    return None


def _final(record: Record) -> tuple[float | None, str]:
    """The return to compare runs by: of the last evaluation, or of training if the run never evaluates."""
    if record.settings.get("evaluation.episodes") != 0:
        return number_in(record.manifest["evaluation"], "return_mean"), EVALUATION
    try:
        tail = last_returns(record.directory, TAIL)
    except ResumeError:
        return None, TRAINING
    return number_in({"mean": float(np.mean(tail))}, "mean") if tail else None, TRAINING

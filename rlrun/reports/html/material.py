"""What a report is about: runs, their groups and final returns, and what could not be read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlrun.errors import ResumeError
from rlrun.provenance import clean
from rlrun.reports.records import Group, Record, Selection, duplicates, group, why_duplicate
from rlrun.reports.scores import final_return, ranked_measure
from rlrun.reports.statistics import iqm


@dataclass(frozen=True)
class Member:
    """One run of a report. ``final``: its mean return, of what ``measure`` says; ``group``: the number of its group.

    ``duplicate``: why it counts nowhere, if a newer run of its settings has its seed.
    """

    record: Record
    group: int
    status: str
    final: float | None
    measure: str
    duplicate: str | None = None

    @property
    def manifest(self) -> dict[str, Any]:
        return self.record.manifest

    @property
    def counted(self) -> float | None:
        """Its final return, if it has finished: others have trained less, and are no sample of the same thing. None of a duplicate."""
        return self.final if self.status == "finished" and self.duplicate is None else None


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

    def finals_of(self, number: int) -> list[float]:
        """The final returns of a group's finished runs, of the measure by which it is judged."""
        measure = self.measure_of(number)
        return [
            member.counted
            for member in self.of_group(number)
            if member.counted is not None and member.measure == measure
        ]

    def measure_of(self, number: int) -> str:
        """What the final returns of a group are of."""
        return measure_of(self.of_group(number))

    def ranked_of(self, number: int) -> float | None:
        """IQM of the final returns of a group; None if they are of another measure than those of its environment's best runs."""
        environment = self.of_group(number)[0].manifest["env_id"]
        there = [member for member in self.members if member.manifest["env_id"] == environment]
        return middle_of(self.finals_of(number)) if self.measure_of(number) == measure_of(there) else None


def measure_of(members: Sequence[Member]) -> str:
    """The measure by which runs are held against each other."""
    return ranked_measure({member.measure for member in members if member.counted is not None})


def middle_of(values: Any) -> float | None:
    """IQM of what is not None; None of nothing."""
    known = [value for value in values if value is not None]
    return iqm(known) if known else None


def material_of(selection: Selection) -> Material:
    """What is to be told of a selection, without the secrets of this process."""
    problems = {name: str(clean(reason)) for name, reason in selection.unreadable.items()}
    groups = group([_cleaned(record) for record in selection.records])
    older = {id(record): why_duplicate(newer) for record, newer in duplicates(groups)}
    members = []
    for number, each in enumerate(groups):
        for record in each.records:
            reason = _damage(record)
            if reason is not None:
                name = record.name if record.name not in problems else f"{record.directory.parent.name}/{record.name}"
                problems[name] = str(clean(reason))
            final = final_return(record.directory, record.manifest, record.settings.get("evaluation.episodes"))
            members.append(Member(record, number, record.status, *final, older.get(id(record))))
    return Material(groups, members, problems)


def readable(members: Sequence[Member]) -> list[Record]:
    """The runs whose rows can be read; ``problems`` names the others."""
    return [member.record for member in members if _damage(member.record) is None]


def _cleaned(record: Record) -> Record:
    return dataclasses.replace(record, manifest=clean(record.manifest), settings=clean(record.settings))


def _damage(record: Record) -> str | None:
    try:
        _ = record.rows, record.clock
    except ResumeError as error:
        return str(error)
    return None

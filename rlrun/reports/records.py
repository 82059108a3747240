"""Runs as their files tell them, for whoever shows or compares them: chosen by what a user types, and grouped over seeds.

Everything here is read with suspicion, because run directories travel between people; nothing is written.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlrun.errors import ResumeError
from rlrun.finding import find, find_sweep, globbed, is_glob, is_run, runs_in
from rlrun.locks import is_locked
from rlrun.manifest import read_manifest, texts
from rlrun.metrics import METRICS, TIMING, read_episodes, read_rows
from rlrun.plain import printable
from rlrun.reports.stored_settings import settings_of

SAME = (
    *("seed", "outputs", "logger", "checkpoint.", "logging.", "plot.", "sweep."),
    *("env.step_timeout", "hardware.threads", "hardware.device", "evaluation.video"),
)
"""Keys, and groups with a dot, in which runs may differ and still be runs of the same settings."""

_UNKNOWN = "auto"  # the device of a run that has not begun, if nobody chose one

_TELLING = ("engine", "algo.name", "env.name", "name")
"""Keys that tell groups apart in as few words as possible."""

Series = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Points of a curve: where [T] and value [T], in the order of where."""


@dataclass(frozen=True)
class Record:
    """One run. ``settings``: its config as ``{"algo.gamma": 0.99, ...}``; ``sweep``: the directory of the sweep it is in."""

    directory: Path
    manifest: dict[str, Any]
    settings: dict[str, Any]
    sweep: Path | None = None

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def status(self) -> str:
        """As run.json has it, but ``interrupted`` if it says running and no process holds it."""
        status: str = self.manifest["status"]
        return "interrupted" if status == "running" and not is_locked(self.directory) else status

    @property
    def seed(self) -> int:
        seed: int = self.manifest["seed"]
        return seed

    @functools.cached_property
    def telling(self) -> dict[str, Any]:
        """The settings that tell runs apart. ``device`` is the kind that it was trained on, whatever was typed: what ``auto``
        has become is no other setting than the same one typed."""
        told = {key: value for key, value in self.settings.items() if not key.startswith(SAME)}
        return told | {"device": self.manifest["device"].partition(":")[0]}

    @functools.cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl. Raises ResumeError."""
        return read_rows(self.directory / METRICS)

    @functools.cached_property
    def episodes(self) -> dict[str, NDArray[Any]]:
        """The training episodes, as ``read_episodes`` gives them. Raises ResumeError."""
        return read_episodes(self.directory)

    @functools.cached_property
    def clock(self) -> Series:
        """Frames [T] and the seconds of training until then [T], from timing.jsonl. Raises ResumeError."""
        rows = read_rows(self.directory / TIMING)
        return _points((row.get("frames"), row.get("seconds")) for row in rows)

    def curve(self, kind: str, key: str) -> Series:
        """``key`` of the rows of ``kind`` (``train`` or ``evaluation``) against frames, without rows that lack it. Raises ResumeError."""
        return _points((row.get("frames"), row.get(key)) for row in self.rows if row.get("type") == kind)

    def seconds_at(self, frames: NDArray[np.float64]) -> NDArray[np.float64]:
        """Seconds of training [T] until ``frames`` [T], between two rows of timing.jsonl by a line; nan without any. Raises ResumeError."""
        known, seconds = self.clock
        if not len(known):
            return np.full(len(frames), np.nan)
        between: NDArray[np.float64] = np.interp(frames, [0.0, *known], [0.0, *seconds])
        return between


@dataclass(frozen=True)
class Group:
    """Runs of the same settings: they differ in the seed, or in what changes no result. ``label`` tells it from the others."""

    label: str
    settings: dict[str, Any]
    """Only those in which the groups differ."""
    records: list[Record]
    """By seed: what is drawn at random from them must not depend on the order in which they were named."""


@dataclass
class Selection:
    """What a user has named, in that order, each run once."""

    records: list[Record] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    """Name of a run that can't be read -> why. Only of those that were not named by themselves."""


def select(selectors: Sequence[str], outputs: Path) -> Selection:
    """The runs meant by what was typed: runs, sweeps, ``latest``, or globs of their paths or of their names in ``outputs``.

    Raises:
        UsageError: one of them fits several runs.
        ResumeError: one of them fits none, or a run named by itself can't be read.
    """
    selection, seen = Selection(), set()
    for selector in selectors:
        for directory, sweep, by_itself in _directories(selector, outputs):
            place = os.path.realpath(directory)
            if place in seen:
                continue
            seen.add(place)
            try:
                selection.records.append(read_record(directory, sweep))
            except ResumeError as error:
                if by_itself:
                    raise
                selection.unreadable[printable(directory.name)] = str(error)
    if not selection.records and selection.unreadable:
        raise ResumeError("\n".join(selection.unreadable.values()))
    return selection


def read_record(directory: Path, sweep: Path | None = None) -> Record:
    """The run in ``directory``. Raises ResumeError."""
    return Record(directory, read_manifest(directory), settings_of(directory), sweep)


def group(records: Sequence[Record]) -> list[Group]:
    """Runs of the same settings together, in the order of their first ones. Runs of different sweeps stay apart."""
    keys: list[tuple[tuple[Path | None, str], str]] = []
    begun: dict[tuple[Path | None, str], str] = {}
    for record in records:
        telling = dict(record.telling)
        device = telling.pop("device")
        rest = (record.sweep, repr(sorted(telling.items())))
        keys.append((rest, device))
        if device != _UNKNOWN:
            begun.setdefault(rest, device)
    members: dict[tuple[tuple[Path | None, str], str], list[Record]] = {}
    for record, (rest, device) in zip(records, keys, strict=True):
        members.setdefault((rest, begun.get(rest, device) if device == _UNKNOWN else device), []).append(record)
    firsts = [same[0] for same in members.values()]
    telling_ones = [first.telling | {"device": device} for first, (_, device) in zip(firsts, members, strict=True)]
    settings = [{key: each.get(key) for key in differing(telling_ones)} for each in telling_ones]
    by_seed = [sorted(same, key=lambda record: record.seed) for same in members.values()]
    return [Group(*each) for each in zip(_labels(firsts, settings), settings, by_seed, strict=True)]


def once(records: Sequence[Record]) -> tuple[list[Record], list[tuple[Record, Record]]]:
    """Of runs of the same settings the newest of each seed, by seed; and each older one with the one that counts in its place.

    A second run of a seed, such as a reproduction, would pass for news.
    """
    newest: dict[int, Record] = {}
    older = []
    for record in sorted(records, key=lambda record: record.manifest["created"]):
        if record.seed in newest:
            older.append(newest[record.seed])
        newest[record.seed] = record
    return [newest[seed] for seed in sorted(newest)], [(each, newest[each.seed]) for each in older]


def duplicates(groups: Sequence[Group]) -> list[tuple[Record, Record]]:
    """The runs that do not count, by ``once``, each with the one that does: among those that have finished, or all where none has."""
    return [pair for each in groups for pair in once(finished_or_all(each.records))[1]]


def finished_or_all(records: Sequence[Record]) -> list[Record]:
    """The runs that have finished; all if none has."""
    return [record for record in records if record.status == "finished"] or list(records)


def why_duplicate(newer: Record) -> str:
    """Why a run does not count beside ``newer``."""
    return f"a duplicate of {printable(newer.name)}: the same settings and seed"


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that not all of several flat settings have, or not with the same value, in the order in which they come."""
    keys = dict.fromkeys(itertools.chain.from_iterable(settings))
    return [key for key in keys if len({(key in each, repr(each.get(key))) for each in settings}) > 1]


def _labels(firsts: Sequence[Record], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """``learning_rate=0.001, gamma=0.9`` for each group: as few settings as tell them apart, those first that say most."""
    typed = [text.partition("=")[0] for first in firsts for text in texts(first.manifest.get("overrides"))]
    order = [*_TELLING, *dict.fromkeys(typed), *settings[0]]
    chosen: list[str] = []
    for key in dict.fromkeys(key for key in order if key in settings[0]):
        if _distinct(settings, [*chosen, key]) > _distinct(settings, chosen):
            chosen.append(key)
    ends = [key.partition(".")[2] or key for key in chosen]  # env.kwargs.at is kwargs.at
    names = [
        {"algo.name": "algo", "env.name": "env"}.get(key, key if ends.count(end) > 1 else end)
        for key, end in zip(chosen, ends, strict=True)
    ]
    sweeps = len({first.sweep for first in firsts}) > 1
    labels = []
    for first, values in zip(firsts, settings, strict=True):
        label = ", ".join(
            f"{name}={values[key]}" for name, key in zip(names, chosen, strict=True) if values[key] not in (None, "")
        )
        beside = first.sweep.name if sweeps and first.sweep else ""
        own = first.manifest["name"] or f"{first.manifest['algo']} {first.manifest['env']}"
        labels.append(printable(": ".join(filter(None, (beside, label))) or own))
    return labels


def _distinct(settings: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> int:
    return len({repr([each[key] for key in keys]) for each in settings})


def _directories(selector: str, outputs: Path) -> Iterator[tuple[Path, Path | None, bool]]:
    """The runs that one selector means, each with its sweep, and whether it alone was meant."""
    if is_glob(selector):
        for path in globbed(selector, outputs):
            if is_run(path):
                yield path, None, False
            else:
                yield from ((run, path, False) for run in sorted(runs_in(path)))
        return
    sweep = find_sweep(selector, outputs)
    if sweep is None:
        yield find(selector, outputs), None, True
        return
    runs = sorted(runs_in(sweep))
    if not runs:
        raise ResumeError(f"{printable(sweep)} has no run any more")
    for directory in runs:
        yield directory, sweep, False


def _points(pairs: Iterator[tuple[Any, Any]]) -> Series:
    """The pairs of numbers among ``pairs``, in the order of the first."""
    numbers = [pair for pair in pairs if all(map(_is_number, pair))]
    points = np.array(numbers, float).reshape(-1, 2)
    points = points[np.argsort(points[:, 0], kind="stable")]
    return points[:, 0], points[:, 1]


def _is_number(value: Any) -> bool:
    """Whether it fits into a float: what is read may be any integer."""
    return type(value) is float or (type(value) is int and abs(value) < 1e300)

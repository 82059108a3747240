"""What became of a sweep: a row for each job, statistics over the seeds of each setting, and their files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlrun.config import from_mapping
from rlrun.errors import ResumeError, UsageError
from rlrun.finding import SWEEP_LIST, runs_in
from rlrun.locks import is_locked
from rlrun.manifest import texts
from rlrun.plain import printable, write_atomically
from rlrun.provenance import clean, versions
from rlrun.reports import statistics
from rlrun.reports.scores import final_return, ranked_measure
from rlrun.reports.stored_settings import read_settings
from rlrun.reports.tables import csv_of
from rlrun.run import Run

NO_CHECKPOINT = "no usable checkpoint is left to go on from"
"""Why a job that has begun can't be gone on with; to start it over would lose what it has."""


@dataclass(frozen=True)
class Row:
    """One job. ``settings``: what was typed for the keys that differ between jobs, and the seed."""

    job: int
    settings: dict[str, str]
    directory: str
    status: str
    return_mean: float | None
    """Of what ``measure`` says."""
    measure: str
    frames: int
    seconds: float | None
    error: str | None

    @property
    def label(self) -> str:
        """``#3 algo.gamma=0.9 seed=1``."""
        return f"#{self.job} " + " ".join(f"{key}={value}" for key, value in self.settings.items())


@dataclass(frozen=True)
class Group:
    """The jobs that differ in nothing but the seed, and the statistics of the returns of those that have finished."""

    settings: dict[str, str]
    failed: int
    statistics: dict[str, Any]
    measure: str
    """What these returns are of, as in a row; returns of the other measure are left out."""


def opened(directory: Path) -> tuple[list[Run], dict[str, str]]:
    """The runs of a sweep as they are, in the order of their jobs, and why others can't be read. Nothing is locked.

    Raises:
        ResumeError: none of them can be read.
    """
    runs, unreadable = [], {}
    for place in sorted(runs_in(directory)):
        try:
            runs.append(Run.open(place, from_mapping(read_settings(place))))
        except (ResumeError, UsageError) as error:
            unreadable[place.name] = "; ".join(str(error).splitlines())
    if not runs:
        raise ResumeError("\n".join(unreadable.values()) or f"{printable(directory)} has no run any more")
    jobs = {run.directory: run.manifest.get("job") for run in runs}
    runs.sort(key=lambda run: job if isinstance(job := jobs[run.directory], int) else 0)
    return runs, unreadable


def rows_of(runs: Sequence[Run], errors: Mapping[Path, str]) -> list[Row]:
    """A row for each run, from its run.json; ``errors``: of runs that failed just now, whatever their run.json says."""
    swept, rows = swept_keys(runs), []
    for number, run in enumerate(runs, 1):
        typed, manifest = _typed(run), run.manifest
        error = errors.get(run.directory)
        failure = manifest.get("failure")
        status = "failed" if error else manifest["status"]
        if status == "running" and not is_locked(run.directory):
            status = "interrupted"
        value, measure = final_return(run.directory, manifest, run.config.evaluation.episodes)
        seconds = manifest.get("wall_seconds")
        rows.append(
            Row(
                manifest["job"] if isinstance(manifest.get("job"), int) else number,
                {key: typed.get(key, "") for key in swept if key != "seed"} | {"seed": str(run.config.seed)},
                run.directory.name,
                status,
                value,
                measure if value is not None else "",
                manifest["frames"],
                seconds if isinstance(seconds, float) else None,
                error or (failure if status == "failed" and isinstance(failure, str) else None),
            )
        )
    return rows


def groups_of(rows: Sequence[Row]) -> list[Group]:
    """The groups, in the order of their first jobs."""
    members: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    for row in rows:
        settings = tuple((key, value) for key, value in row.settings.items() if key != "seed")
        members.setdefault(settings, []).append(row)
    groups = []
    for key, same in members.items():
        finished = [row for row in same if row.status == "finished"]
        measure = ranked_measure({row.measure for row in finished})
        returns = [row.return_mean for row in finished if row.return_mean is not None and row.measure == measure]
        failed = sum(row.status == "failed" for row in same)
        groups.append(Group(dict(key), failed, statistics.summary(returns), measure if returns else ""))
    return groups


def swept_keys(runs: Sequence[Run]) -> list[str]:
    """The keys whose typed values differ between runs."""
    values: dict[str, set[str]] = {}
    for run in runs:
        for key, value in _typed(run).items():
            values.setdefault(key, set()).add(value)
    return [key for key, different in values.items() if len(different) > 1]


def summary_of(runs: Sequence[Run], rows: Sequence[Row]) -> dict[str, Any]:
    """What sweep.json says of the jobs, and of the seeds of each setting."""
    return {
        "settings": swept_keys(runs),
        "jobs": [asdict(row) for row in rows],
        "groups": [asdict(group) for group in groups_of(rows)],
    }


def save_summary(
    directory: Path, runs: Sequence[Run], errors: Mapping[Path, str], work: tuple[float, int] | None
) -> None:
    """Write ``sweep.json`` and ``sweep.csv``. ``work``: wall-clock seconds and the agent-frames trained in them. Raises StorageError."""
    rows = rows_of(runs, errors)
    seconds, frames = work or (None, 0)
    values = summary_of(runs, rows) | {
        "versions": versions(),
        "seconds": seconds,
        "agent_frames": frames,
        "agent_frames_per_second": frames / seconds if seconds else None,
    }
    write_atomically(directory / "sweep.csv", _csv(rows).encode())
    write_atomically(directory / SWEEP_LIST, json.dumps(clean(values), indent=1, allow_nan=False).encode() + b"\n")


def _typed(run: Run) -> dict[str, str]:
    """What was typed for a run, key by key; it may be anyone's."""
    parts = (text.partition("=") for text in texts(run.manifest.get("overrides")))
    return {printable(key): printable(value) for key, _, value in parts}


def _csv(rows: Sequence[Row]) -> str:
    keys = list(rows[0].settings) if rows else []
    columns = ("directory", "status", "return_mean", "measure", "frames", "seconds", "error")
    cells = [[row.job, *row.settings.values(), *(getattr(row, column) for column in columns)] for row in rows]
    return csv_of(["job", *keys, *columns], cells)

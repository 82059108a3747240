"""A sweep: a directory of runs. All of them exist before the first is trained, so that it can be finished whatever happens."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.config import RunConfig, signature
from rlrun.errors import ResumeError, StorageError
from rlrun.finding import SWEEP_LIST, SWEEPS, runs_in
from rlrun.interrupts import Interrupts
from rlrun.locks import lock
from rlrun.plain import printable
from rlrun.provenance import clean
from rlrun.run import Run, make_directory, place_within
from rlrun.sweeps.batches import Batch, Place, common_frames, plan
from rlrun.sweeps.jobs import Job
from rlrun.sweeps.launcher import Launcher, SweepView
from rlrun.sweeps.resources import largest_batch, spaces_of, workers_for
from rlrun.sweeps.runner import create_run
from rlrun.sweeps.summary import NO_CHECKPOINT, save_summary

MOST_LISTED = 10_000  # jobs; a run.json may say anything


@dataclass
class Sweep:
    """The runs in a sweep's directory, in the order of their jobs."""

    directory: Path
    runs: list[Run]
    unreadable: dict[str, str] = field(default_factory=dict)
    """Name of a run that can't be opened -> why."""
    errors: dict[Path, str] = field(default_factory=dict)
    """Directory of a run that failed just now -> why."""
    unsaved: str | None = None
    """Why its lists can't be written."""


@contextmanager
def new_sweep(jobs: Sequence[Job], directory: Path | None = None) -> Iterator[tuple[Sweep, tuple[int, ...]]]:
    """Make a directory of checked jobs with all their runs, waiting, and hold its lock, whose descriptors are given, too.

    ``directory``: one of the user's choice, which has no sweep yet.

    Raises:
        StorageError: it can't be written; then nothing is left of a directory that was made for it.
        ResumeError: another process has put a sweep there meanwhile.
    """
    given = directory is not None
    if directory is None:
        directory = make_directory(
            place_within(Path(jobs[0].config.outputs), SWEEPS), _name([job.config for job in jobs])
        )
    with lock(directory, "sweep") as held:
        try:
            if (directory / SWEEP_LIST).exists():
                raise ResumeError(f"another process has made a sweep in {printable(directory)} meanwhile; try again")
            save_summary(directory, [], {}, None)  # first: now it is a sweep, though its runs are still to come
            sweep = Sweep(directory, _create_runs(directory, jobs, {}))
            save_summary(directory, sweep.runs, sweep.errors, None)
        except BaseException:
            if not given:
                shutil.rmtree(directory, ignore_errors=True)
            raise
        yield sweep, held


def _create_runs(directory: Path, jobs: Sequence[Job], existing: Mapping[int, Run]) -> list[Run]:
    """The runs of all jobs, by their number; those that do not exist are made."""
    runs = [existing.get(number) or create_run(job, directory, number, len(jobs)) for number, job in enumerate(jobs, 1)]
    os.sync()  # once, where each run would take a fiftieth of a second
    return runs


def complete_sweep(directory: Path, jobs: Sequence[Job]) -> None:
    """Make the runs that the sweep in ``directory`` lacks: who began to make it may have been killed.

    Raises:
        LockedError: it is being trained.
        ResumeError: it is of more jobs.
        StorageError: it can't be written.
    """
    with lock(directory, "sweep"):
        places = list(runs_in(directory))
        try:
            runs = [Run.open(place) for place in places]
        except ResumeError:
            return  # what can't be opened will be told; which job it is can't be known
        existing = {job_number(run): run for run in runs}
        counts = {run.manifest.get("jobs") for run in runs} | {len(jobs)}
        if len(counts) > 1 or len(existing) < len(runs) or not existing.keys() <= set(range(1, len(jobs) + 1)):
            raise ResumeError(f"the sweep in {printable(directory)} has other jobs than the {len(jobs)} typed")
        if len(runs) < len(jobs):
            _create_runs(directory, jobs, existing)


@contextmanager
def opened_sweep(directory: Path) -> Iterator[tuple[Sweep, tuple[int, ...]]]:
    """The sweep in ``directory``, which may come from anywhere, and the descriptors of its lock, which is held.

    Its runs are the real folders in it, whatever its lists say.

    Raises:
        LockedError: it is being trained.
        ResumeError: none of its runs can be opened.
    """
    with lock(directory, "sweep") as held:
        sweep = Sweep(directory, [])
        for place in sorted(runs_in(directory)):
            try:
                sweep.runs.append(Run.open(place))
            except ResumeError as error:
                sweep.unreadable[place.name] = str(error)
        if not sweep.runs:
            raise ResumeError("\n".join(sweep.unreadable.values()) or f"{printable(directory)} has no run any more")
        sweep.runs.sort(key=lambda run: (job_number(run), run.directory.name))
        sweep.unreadable |= _missing(sweep)
        yield sweep, held


def _missing(sweep: Sweep) -> dict[str, str]:
    """The jobs of which there is no directory, unless it is one that can't be opened."""
    counts = [count for run in sweep.runs if isinstance(count := run.manifest.get("jobs"), int)]
    numbers = {job_number(run) for run in sweep.runs}
    gone = [number for number in range(1, min(max(counts, default=0), MOST_LISTED) + 1) if number not in numbers]
    reason = "it has no directory: deleted, or never made; start it again by itself"
    return {f"job {number}": reason for number in gone[len(sweep.unreadable) :]}


def job_number(run: Run) -> int:
    """Its place in the sweep, as its run.json has it."""
    number = run.manifest.get("job")
    return number if isinstance(number, int) else 0


def without_checkpoint(runs: Sequence[Run], notice: Callable[[str], None]) -> dict[Path, str]:
    """Why runs can't go on that have come to a checkpoint: to train them from the start would lose what they have."""
    errors = {}
    for run in runs:
        folder = CheckpointFolder(run.checkpoints, run.config.checkpoint.keep)
        notices: list[str] = []
        try:
            usable = any(folder.undamaged(notices.append))
        except ResumeError as error:
            errors[run.directory] = str(error)
            continue
        for line in notices:
            notice(f"{run.directory.name}: {line}")
        if not usable and run.has_begun():
            errors[run.directory] = NO_CHECKPOINT
    return errors


def places_of(runs: Sequence[Run], notice: Callable[[str], None]) -> list[Place]:
    """Where each run goes on from: those that were trained together from a frame that they have in common.

    Damaged checkpoints are renamed and reported to ``notice``.
    """
    together: dict[tuple[str, str, bool], list[Run]] = {}
    for run in runs:
        population = run.manifest.get("population")
        first = str(population.get("first")) if isinstance(population, dict) else ""
        # What failed alone has fallen behind the others, who are not to wait for it.
        together.setdefault((signature(run.config), first, run.manifest["status"] == "failed"), []).append(run)
    frames: dict[Path, int | None] = {}
    for former in together.values():
        folders = [CheckpointFolder(run.checkpoints, run.config.checkpoint.keep) for run in former]
        held = [[number for number, _ in folder.undamaged(notice)] for folder in folders]
        frames |= {run.directory: frame for run, frame in zip(former, common_frames(held), strict=True)}
    return [Place(run, frames[run.directory]) for run in runs]


def plan_sweep(places: Sequence[Place]) -> tuple[list[Batch], int]:
    """Batches for this machine, and the number of workers. Raises StorageError: the memory asked for is not there."""
    configs = [place.run.config for place in places]
    workers, spaces = workers_for(configs), spaces_of(configs)
    return plan(places, workers, lambda config: largest_batch(config, spaces[repr(config.env)], workers)), workers


def train_sweep(
    sweep: Sweep,
    places: Sequence[Place],
    view: SweepView,
    interrupts: Interrupts,
    held: tuple[int, ...],
    most: int | None = None,
) -> None:
    """Train ``places``, some or all of the sweep's runs, and write the sweep's lists. ``interrupts``: already entered.

    ``most``: workers at a time, though batches are those of as many as were asked for: they may decide bits.

    Raises:
        StorageError: as ``plan_sweep``.
    """
    began, left = time.monotonic(), places
    try:
        while left:
            batches, workers = plan_sweep(left)
            workers = workers if most is None else min(workers, most)
            launcher = Launcher(sweep.directory, batches, workers, view, interrupts, held)
            view.start(sweep.directory, sweep.runs, batches, workers)
            launcher.run()
            sweep.errors |= launcher.errors
            left = [] if interrupts() else _again(sweep, launcher.survivors, view)
    finally:
        view.finish()
    trained = 0
    for place in places:
        try:
            place.run.reread()
        except ResumeError as error:  # deleted or damaged meanwhile: no reason to lose the others
            sweep.errors[place.run.directory] = str(error)
        else:
            trained += max(0, place.run.manifest["frames"] - (place.frames or 0))
    try:
        save_summary(sweep.directory, sweep.runs, sweep.errors, (time.monotonic() - began, trained))
    except StorageError as error:  # what became of the runs is to be told all the same
        sweep.unsaved = str(error)


def _again(sweep: Sweep, runs: Sequence[Run], view: SweepView) -> list[Place]:
    """Where runs go on from whose process ended because another one's environment hung."""
    if runs:
        view.note(f"{len(runs)} runs of a process that a hanging environment ended go on without it")
    there = []
    for run in runs:
        with contextlib.suppress(ResumeError):  # it will be told of with the others that are lost
            run.reread()
            there.append(run)
    lost = without_checkpoint(there, view.note)
    sweep.errors |= lost
    return places_of([run for run in there if run.directory not in lost], view.note)


def _name(configs: Sequence[RunConfig]) -> str:
    """``<date>_<time>_<name or algo_env>``."""
    names = {config.name for config in configs}
    algos = "-".join(dict.fromkeys(config.algo.name for config in configs))
    envs = "-".join(dict.fromkeys(config.env.name for config in configs))
    label = names.pop() if len(names) == 1 and "" not in names else f"{algos}_{envs}"
    label = re.sub(r"[^A-Za-z0-9._-]+", "-", clean(label))
    return f"{datetime.now(UTC):%Y-%m-%d_%H%M%S}_{label[:100]}"

"""``run.dir=DIR``: a run or sweep in a directory of the user's choice; with ``resume=auto`` the same command goes on with it.

So a job that a scheduler stops and queues again needs no more than its own command.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path

from rlrun.cli.loggers import loggers_to_use
from rlrun.cli.output import shown_path
from rlrun.cli.resume import replaced, resume_run
from rlrun.config import RunConfig, to_mapping
from rlrun.errors import ResumeError
from rlrun.finding import SWEEP_LIST, runs_in
from rlrun.locks import lock
from rlrun.manifest import MANIFEST
from rlrun.metrics import FILES
from rlrun.plain import open_regular, printable, to_yaml
from rlrun.provenance import clean
from rlrun.run import FOLDERS, PAGE, Run, claim_directory, require_own
from rlrun.sweeps.jobs import Job
from rlrun.sweeps.runner import create_run
from rlrun.sweeps.sweep import complete_sweep, job_number

_OTHERWISE = "another run.dir=DIR"


def begun_run(directory: Path, resume: bool, job: Job) -> Run | None:
    """The run of this job in ``directory`` that is to be gone on with; None if it is to be started there.

    Raises:
        ResumeError: not ``resume``, but there is one; it is a sweep, or a run of another config.
    """
    if os.path.lexists(directory / SWEEP_LIST):
        raise ResumeError(f"run.dir={shown_path(directory)} holds a sweep; type -m and what it sweeps over")
    if not os.path.lexists(directory / MANIFEST):
        return None
    _require_resume(directory, resume, "run")
    run = Run.open(directory)
    require_own(directory, _OTHERWISE)
    replaced(run, job.config)
    return run if run.has_begun() else None


def start_run(directory: Path, job: Job) -> Run:
    """A new run in ``directory``, in place of one that never came to a checkpoint.

    Raises:
        LockedError: another process trains there.
        ResumeError: another process has begun there meanwhile; files are there that the run would overwrite; others can write there.
        StorageError: it can't be written.
    """
    config = to_yaml(clean(to_mapping(job.config)))
    if not os.path.lexists(directory / MANIFEST):
        _refuse_to_overwrite(directory, config)  # first: a lock would be left in a folder of others
    claim_directory(directory)
    require_own(directory, _OTHERWISE)
    with lock(directory):
        if not os.path.lexists(directory / MANIFEST):
            _refuse_to_overwrite(directory, config)
        elif Run.open(directory).has_begun():
            raise ResumeError(f"another process has begun a run in {shown_path(directory)} meanwhile; try again")
        return create_run(job, directory=directory)


def _refuse_to_overwrite(directory: Path, config: bytes) -> None:
    """Raises ResumeError if there are files that a run would write, but for what one leaves that is killed while it is made."""
    there = [name for name in (*FILES, "crash.log", PAGE) if os.path.lexists(directory / name)]
    there += _filled_folders(directory)
    if os.path.lexists(directory / "config.yaml") and not _holds(directory / "config.yaml", config):
        there.append("config.yaml")
    if there:
        raise ResumeError(
            f"run.dir={shown_path(directory)} holds {printable(there[0])}, which is of no run; choose another place"
        )


def _filled_folders(directory: Path) -> list[str]:
    """The folders in which a run, or a sweep, would write beside what is there: to delete it would delete that, too."""
    return [name for name in FOLDERS if any((directory / name).glob("*"))]


def _holds(path: Path, content: bytes) -> bool:
    """Whether it is a regular file of this content."""
    try:
        with open_regular(path) as file:
            return file.read(len(content) + 1) == content
    except OSError:
        return False


def go_on(run: Run, job: Job, quiet: bool) -> int:
    """Finish a run by the config of ``job``. Returns the exit code."""
    choose = functools.partial(loggers_to_use, typed=True, is_own=True)
    return resume_run(run, replaced(run, job.config), (), exact=False, quiet=quiet, choose_loggers=choose)


def begun_sweep(directory: Path, resume: bool, jobs: Sequence[Job]) -> bool:
    """Whether there is a sweep in ``directory`` that is to be gone on with; then it has the runs of all jobs.

    Raises:
        ResumeError: not ``resume``, but there is one; it is a run, or of other jobs.
    """
    if os.path.lexists(directory / MANIFEST):
        raise ResumeError(f"run.dir={shown_path(directory)} holds a single run; leave -m out")
    if not os.path.lexists(directory / SWEEP_LIST):
        return False
    _require_resume(directory, resume, "sweep")
    for place in (directory, *runs_in(directory)):
        require_own(place, _OTHERWISE)
    complete_sweep(directory, jobs)
    return True


def claim_for_sweep(directory: Path) -> None:
    """Make ``directory``, if it is not there, for a new sweep.

    Raises:
        ResumeError: files are there that the sweep would overwrite; others can write there.
        StorageError: it can't be made.
    """
    claim_directory(directory)
    require_own(directory, _OTHERWISE)
    if any(runs_in(directory)) or os.path.lexists(directory / "sweep.csv"):
        raise ResumeError(f"run.dir={shown_path(directory)} holds runs, but no {SWEEP_LIST}; choose another place")
    there = [name for name in (PAGE,) if os.path.lexists(directory / name)] + _filled_folders(directory)
    if there:
        raise ResumeError(
            f"run.dir={shown_path(directory)} holds {printable(there[0])}, which is of no sweep; choose another place"
        )


def go_on_with_sweep(directory: Path, jobs: Sequence[Job], quiet: bool) -> int:
    """Finish a sweep by the configs of ``jobs``. Returns the exit code."""
    from rlrun.cli.resume_sweep import resume_sweep

    def config_of(run: Run) -> RunConfig:
        if not 1 <= job_number(run) <= len(jobs):  # run.json may say anything
            raise ResumeError(f"{shown_path(run.directory)} is none of the {len(jobs)} jobs typed")
        return replaced(run, jobs[job_number(run) - 1].config)

    return resume_sweep(directory, config_of, exact=False, quiet=quiet, trust=True)  # begun_sweep has asked


def _require_resume(directory: Path, resume: bool, what: str) -> None:
    if not resume:
        raise ResumeError(
            f"run.dir={shown_path(directory)} holds a {what} already; type resume=auto to go on with it, or choose another place"
        )

"""Making the run of a job, and training runs in this process so that whatever happens is one line and on record."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlrun.errors import RlrunError, StorageError, as_storage_error, internal_error
from rlrun.interrupts import Interrupts
from rlrun.manifest import UNENDED
from rlrun.plain import printable, write_atomically
from rlrun.provenance import HIDDEN, clean, is_secret_name
from rlrun.run import Run

if TYPE_CHECKING:
    from rlrun.sweeps.jobs import Job
    from rlrun.view import Outcome, View


def create_run(
    job: Job, sweep: Path | None = None, number: int = 1, jobs: int = 1, directory: Path | None = None
) -> Run:
    """The run of a job on disk, with where its settings came from; in ``directory`` if that is given. Raises StorageError.

    In a sweep, of which it is one of ``jobs``, it waits, and it is on the disk only after an ``os.sync``.
    """
    manifest: dict[str, Any] = {
        "overrides": [_without_secret(text) for text in job.overrides],
        "experiment": job.experiment,
        "tuned": job.tuned,
    }
    if sweep is not None:
        manifest |= {"status": "waiting", "sweep": sweep.name, "job": number, "jobs": jobs}
    return Run.create(job.config, manifest, sweep, directory)


def _without_secret(override: str) -> str:
    """``key=***`` for a key that names a secret, however short what was typed is."""
    key = override.partition("=")[0]
    return f"{key}={HIDDEN}" if is_secret_name(key) else override


def train_runs(
    runs: Sequence[Run],
    view: View,
    interrupts: Interrupts,
    resume: bool = False,
    frames: int | None = None,
    until: int | None = None,
) -> list[Outcome]:
    """Train a population and leave the view finished, however it ends. ``interrupts``: already entered.

    Raises:
        RlrunError: what ``rlrun.training.train`` raises; no memory; a bug, whose traceback is in the first run's crash.log.
    """
    try:
        from rlrun.training import train

        return train(runs, view, resume=resume, frames=frames, interrupts=interrupts, until=until)
    except RlrunError as error:
        if not resume:  # new runs that could not start; those to resume are as they were
            _fail(runs, error)
        raise
    except Exception as error:
        problem = as_storage_error(error) or internal_error(error, _keep_traceback(runs[0], error))
        _fail(runs, problem)
        raise problem from error
    finally:
        view.finish()


def _fail(runs: Sequence[Run], error: RlrunError) -> None:
    """Record it for those that have not ended, and that no other process holds or has changed."""
    for run in runs:
        with suppress(RlrunError), run.lock():
            if run.manifest["status"] in UNENDED:
                run.update(status="failed", failure=str(error))


def _keep_traceback(run: Run, error: Exception) -> str:
    """Write the traceback into the run; returns where it is, in words."""
    path = run.directory / "crash.log"
    text: str = clean("".join(traceback.format_exception(error)))
    try:
        write_atomically(path, text.encode("utf-8", "replace"))
    except StorageError:
        return "RLRUN_DEBUG=1 shows the traceback"
    return f"traceback: {printable(path)}"

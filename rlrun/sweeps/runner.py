"""Running checked jobs one after another, and ``sweep.json``, the plain list of what they became."""

from __future__ import annotations

import itertools
import json
import os
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlrun.config import RunConfig
from rlrun.errors import RlrunError, StorageError, UsageError, as_storage_error, in_users_terms, internal_error
from rlrun.interrupts import Interrupts
from rlrun.plain import printable, reason_of, write_atomically
from rlrun.provenance import clean
from rlrun.run import Run
from rlrun.sweeps.jobs import Job

if TYPE_CHECKING:
    from rlrun.training import Outcome, View

ViewOf = Callable[[int], "View"]


@dataclass
class Result:
    """What became of a job; ``run`` is None as long as it has not started."""

    job: Job
    run: Run | None = None
    status: str = "not started"
    error: RlrunError | None = None


def create_run(job: Job, parent: Path | None = None) -> Run:
    """The run of a job on disk, with where its settings came from. Raises StorageError."""
    manifest: dict[str, Any] = {"overrides": list(job.overrides), "experiment": job.experiment, "tuned": job.tuned}
    if parent is not None:
        manifest["sweep"] = parent.name
    return Run.create(job.config, manifest, parent)


def train_run(run: Run, view: View, interrupts: Interrupts, resume: bool = False) -> Outcome:
    """Train one run and leave the view finished, however it ends. ``interrupts``: already entered.

    Raises:
        RlrunError: what ``rlrun.training.train`` raises; no memory; a bug, whose traceback is in the run's crash.log.
    """
    try:
        from rlrun.training import train

        return train([run], view, resume=resume, interrupts=interrupts)[0]
    except RlrunError as error:
        if not resume:  # a new run that could not start; one to resume is as it was
            run.update(status="failed", failure=str(error))
        raise
    except Exception as error:
        problem = as_storage_error(error) or internal_error(error, _keep_traceback(run, error))
        with suppress(StorageError):
            run.update(status="failed", failure=str(problem))
        raise problem from error
    finally:
        view.finish()


def _keep_traceback(run: Run, error: Exception) -> str:
    """Write the traceback into the run; returns where it is, in words."""
    path = run.directory / "crash.log"
    text: str = clean("".join(traceback.format_exception(error)))
    try:
        write_atomically(path, text.encode("utf-8", "replace"))
    except StorageError:
        return "RLRUN_DEBUG=1 shows the traceback"
    return f"traceback: {printable(path)}"


def run_sweep(jobs: Sequence[Job], view_of: ViewOf, interrupts: Interrupts) -> tuple[Path, list[Result]]:
    """Train all jobs in a new sweep directory. A job that fails does not stop the others; a signal does.

    ``view_of`` gives the view of job 0, 1, ...; ``interrupts`` is already entered.

    Raises:
        StorageError: the directory or its list can't be written.
    """
    directory = _make_directory([job.config for job in jobs])
    results = [Result(job) for job in jobs]
    for number, result in enumerate(results):
        if interrupts():
            break
        with _recording(result):
            result.run, result.status = create_run(result.job, directory), "running"
            _save(directory, results)
            outcome = train_run(result.run, view_of(number), interrupts)
            result.status, result.error = outcome.status, outcome.error
    _save(directory, results)
    return directory, results


@contextmanager
def _recording(result: Result) -> Iterator[None]:
    """An error becomes the job's result: the other jobs go on, whatever it is."""
    try:
        yield
    except Exception as error:
        if os.environ.get("RLRUN_DEBUG") == "1":
            raise
        result.status, result.error = "failed", in_users_terms(error)


def _make_directory(configs: Sequence[RunConfig]) -> Path:
    """``<outputs>/sweeps/<date>_<time>_<name or algo_env>``; a clash gets a counter."""
    places = {config.outputs for config in configs}
    if len(places) > 1:
        raise UsageError("outputs can't be swept; a sweep has one folder")
    names = {config.name for config in configs}
    algos = "-".join(dict.fromkeys(config.algo.name for config in configs))
    envs = "-".join(dict.fromkeys(config.env.name for config in configs))
    label = names.pop() if len(names) == 1 and "" not in names else f"{algos}_{envs}"
    label = re.sub(r"[^A-Za-z0-9._-]+", "-", clean(label))
    parent = Path(places.pop(), "sweeps")
    stamp = f"{datetime.now(UTC):%Y-%m-%d_%H%M%S}_{label[:100]}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in itertools.count():
            directory = parent / (f"{stamp}-{number}" if number else stamp)
            with suppress(FileExistsError):
                directory.mkdir(mode=0o700)
                return directory
    except OSError as error:
        raise StorageError(f"can't create {parent}: {reason_of(error)}. Choose another place: outputs=DIR") from error
    raise AssertionError("count() does not end")


def _save(directory: Path, results: Sequence[Result]) -> None:
    jobs = [
        {
            "overrides": list(result.job.overrides),
            "directory": result.run.directory.name if result.run else None,
            "status": result.status,
        }
        for result in results
    ]
    write_atomically(directory / "sweep.json", json.dumps(clean({"jobs": jobs}), indent=2).encode() + b"\n")

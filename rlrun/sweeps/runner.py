"""Running checked jobs one after another, and ``sweep.json``, the plain list of what they became."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlrun.config import RunConfig
from rlrun.errors import RlrunError, StorageError, UsageError
from rlrun.plain import reason_of, write_atomically
from rlrun.provenance import clean
from rlrun.run import Run
from rlrun.sweeps.jobs import Job

if TYPE_CHECKING:
    from rlrun.training import Outcome, View

ViewOf = Callable[[int], "View"]


@dataclass
class Result:
    """What became of a job. ``signal`` is the one that stopped it; ``run`` is None as long as it has not started."""

    job: Job
    run: Run | None = None
    status: str = "not started"
    error: Exception | None = None
    signal: int | None = None


def create_run(job: Job, parent: Path | None = None) -> Run:
    """The run of a job on disk, with where its settings came from. Raises StorageError."""
    manifest: dict[str, Any] = {"overrides": list(job.overrides), "tuned": job.tuned}
    if parent is not None:
        manifest["sweep"] = parent.name
    return Run.create(job.config, manifest, parent)


def train_run(run: Run, view: View, resume: bool = False) -> Outcome:
    """Train one run and leave the view finished, however it ends. Raises what ``rlrun.training.train`` raises."""
    from rlrun.training import train

    try:
        return train([run], view, resume=resume)[0]
    except RlrunError as error:
        if not resume:  # a new run that could not start; one to resume is as it was
            run.update(status="failed", failure=str(error))
        raise
    except Exception as error:
        run.update(status="failed", failure=f"internal error: {type(error).__name__}: {error}")
        raise
    finally:
        view.finish()


def run_sweep(jobs: Sequence[Job], view_of: ViewOf) -> tuple[Path, list[Result]]:
    """Train all jobs in a new sweep directory. A job that fails does not stop the others; SIGINT and SIGTERM do.

    ``view_of`` gives the view of job 0, 1, ...

    Raises:
        StorageError: the directory or its list can't be written.
    """
    directory = _make_directory([job.config for job in jobs])
    results = [Result(job) for job in jobs]
    for number, result in enumerate(results):
        try:
            with _recording(result):
                result.run, result.status = create_run(result.job, directory), "running"
                _save(directory, results)
                outcome = train_run(result.run, view_of(number))
                result.status, result.error, result.signal = outcome.status, outcome.error, outcome.signal
        except KeyboardInterrupt:
            result.status, result.signal = "stopped", signal.SIGINT
        if result.signal is not None:
            break
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
        result.status, result.error = "failed", error


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

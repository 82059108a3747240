"""The Hydra application behind ``rlrun train``. Hydra composes; every check and every file is rlrun's own."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime
from hydra.version import VersionBase

from rlrun.cli.groups import configs_directory, find_groups
from rlrun.cli.guarded_loader import loading_guarded
from rlrun.cli.output import deliver
from rlrun.cli.overrides import check_overrides, is_multirun
from rlrun.cli.place import begun_run, begun_sweep, claim_for_sweep, go_on, go_on_with_sweep, start_run
from rlrun.config import to_mapping
from rlrun.config.settings import nearest
from rlrun.errors import RlrunError, UsageError
from rlrun.finding import runs_in
from rlrun.interrupts import Interrupts
from rlrun.plain import to_yaml
from rlrun.provenance import clean
from rlrun.run import Run
from rlrun.sweeps.jobs import Job, check_jobs, check_one_sweep, make_job
from rlrun.sweeps.plugins import register
from rlrun.sweeps.runner import create_run, train_runs


class Application:
    """What Hydra calls with what it composed."""

    def __init__(self, quiet: bool, show_config: bool, part: str | None, directory: Path | None, resume: bool) -> None:
        """``show_config``: print it, or a ``part`` of it, and do not train. ``directory``: where to train, if not in a new
        one, and whether to ``resume`` what is there."""
        self.exit_code = 0
        self.is_sweep = False
        self.runs: list[Run] = []
        self._directory, self._resume = directory, resume
        self._quiet, self._show_config, self._part = quiet, show_config, part

    def compose(self, overrides: Sequence[str], multirun: bool, own: Path | None, flags: Sequence[str]) -> None:
        """Check what was typed, and let Hydra call with what that makes. ``own``: a folder of the user's configs.

        Raises:
            UsageError: it can't be composed; and what training raises.
        """
        self.is_sweep = multirun or is_multirun(overrides)
        groups = find_groups([*([own] if own else []), configs_directory()])
        _call_hydra([*flags, *check_overrides(overrides, groups, self.is_sweep)], self)

    def run(self, composed: Any) -> None:
        """Train one run, or print its config."""
        job = make_job(composed, HydraConfig.get())
        of_sweeps = sorted(key for key in job.typed if key.startswith("sweep."))
        if of_sweeps:
            raise UsageError(f"{', '.join(of_sweeps)}: for sweeps only; add -m, or leave it out")
        if self._show_config:
            deliver(to_yaml(_part_of(clean(to_mapping(job.config)), self._part)).decode())
            return
        begun = begun_run(self._directory, self._resume, job) if self._directory else None
        if begun is not None:
            self.runs = [begun]
            self.exit_code = go_on(begun, job, self._quiet)
            return
        check_jobs([job], self._directory)
        from rlrun.cli.live import choose_view
        from rlrun.cli.results import finish_run

        view = choose_view(self._quiet)
        with Interrupts() as interrupts:  # before the run exists: importing torch alone takes seconds
            run = start_run(self._directory, job) if self._directory else create_run(job)
            self.runs = [run]
            (outcome,) = train_runs(self.runs, view, interrupts)
        self.exit_code = finish_run(outcome.run, outcome.status, outcome.error, outcome.signal, self._quiet)

    def run_sweep(self, jobs: list[Job]) -> None:
        """Train all jobs of a sweep."""
        from rlrun.cli.results import finish_sweep
        from rlrun.cli.sweep_view import choose_sweep_view
        from rlrun.sweeps.batches import Place
        from rlrun.sweeps.sweep import job_number, new_sweep, train_sweep

        check_one_sweep(jobs)
        if self._directory and begun_sweep(self._directory, self._resume, jobs):
            self.exit_code = go_on_with_sweep(self._directory, jobs, self._quiet)
            self.runs = sorted(map(Run.open, runs_in(self._directory)), key=job_number)
            return
        check_jobs(jobs, self._directory)
        if self._directory:
            claim_for_sweep(self._directory)
        with Interrupts() as interrupts, new_sweep(jobs, self._directory) as (sweep, held):
            self.runs = sweep.runs
            train_sweep(sweep, [Place(run) for run in sweep.runs], choose_sweep_view(self._quiet), interrupts, held)
        self.exit_code = finish_sweep(sweep, interrupts.signal, self._quiet)


def _part_of(values: Any, key: str | None) -> Any:
    """What ``algo`` or ``algo.gamma`` names in nested settings, a single value with its name; all of it for None."""
    for part in key.split(".") if key else ():
        if not isinstance(values, dict) or part not in values:
            known = values if isinstance(values, dict) else ()
            raise UsageError(f"--package={key}: the config has no such part{nearest(part, known)}")
        values = values[part] if isinstance(values[part], dict) else {part: values[part]}
    return values


def _call_hydra(arguments: Sequence[str], application: Application) -> None:
    """Run the Hydra application with these arguments; its errors become ours.

    Raises:
        UsageError: Hydra could not compose; and what the application raises.
    """

    def keeping_failures(work: Callable[[Any], None]) -> Callable[[Any], None]:
        def call(given: Any) -> None:
            try:
                work(given)
            except Exception as error:  # Hydra would print a line of its own before passing it on
                failures.append(error)

        return call

    failures: list[Exception] = []
    register(keeping_failures(application.run_sweep))
    application_of = hydra.main(version_base="1.3", config_path=str(configs_directory()), config_name="config")
    with _as_hydra_expects(arguments), loading_guarded():
        try:
            application_of(keeping_failures(application.run))()
        except (RlrunError, MemoryError):
            raise
        except Exception as error:  # what Hydra makes of a config that it can't take may be any of them
            raise UsageError(f"Hydra can't compose this: {_first_line(error)}") from error
    if failures:
        raise failures[0]


@contextmanager
def apart_from_other_hydra() -> Iterator[None]:
    """Whoever calls us from Python may use Hydra as well: its state in this process is put back as it was."""
    hydra_of, config_of = GlobalHydra.instance(), HydraConfig.instance()
    runtime_of, version_of = JobRuntime.instance(), VersionBase.instance()
    before = hydra_of.hydra, config_of.cfg, copy.deepcopy(runtime_of.conf), version_of.version_base
    hydra_of.clear()
    try:
        yield
    finally:
        hydra_of.hydra, config_of.cfg, runtime_of.conf, version_of.version_base = before


@contextmanager
def _as_hydra_expects(arguments: Sequence[str]) -> Iterator[None]:
    """Hydra reads ``sys.argv``, and lets exceptions through only if asked in the environment."""
    argv, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = ["rlrun", *arguments], "1"
    try:
        yield
    finally:
        sys.argv = argv
        if full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full_error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).replace(":\n", ": ").splitlines() if line.strip()]
    cause = [line.strip() for line in str(error.__cause__ or "").splitlines() if line.strip()]
    return "; ".join(dict.fromkeys([*lines[:1], *cause[:1]])) or type(error).__name__

"""``rlrun [train]``: a Hydra application. Hydra composes; every check and every file is rlrun's own."""

from __future__ import annotations

import copy
import os
import re
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.version import VersionBase

from rlrun.cli.arguments import Parser, take_imports, take_place
from rlrun.cli.groups import check_is_folder, configs_directory, find_groups
from rlrun.cli.output import deliver, muted
from rlrun.cli.overrides import check_overrides, is_multirun
from rlrun.cli.place import begun_run, begun_sweep, go_on, go_on_with_sweep, start_run
from rlrun.cli.secrets import remember_typed
from rlrun.config import composition_errors, to_mapping
from rlrun.config.settings import nearest
from rlrun.errors import ResumeError, UsageError
from rlrun.finding import runs_in
from rlrun.interrupts import Interrupts
from rlrun.plain import printable, read_yaml, to_yaml
from rlrun.provenance import clean
from rlrun.run import Run
from rlrun.sweeps.jobs import Job, check_jobs, make_job
from rlrun.sweeps.plugins import register
from rlrun.sweeps.runner import create_run, train_runs

_EXAMPLES = """examples:
  rlrun algo=ppo env=pendulum seed=3 algo.learning_rate=1e-3
  rlrun experiment=tutorial_dqn
  rlrun run.dir=runs/a resume=auto       start in runs/a, or go on there: for schedulers that queue a job again
  rlrun env.id=CartPole-v1               any installed Gymnasium environment
  rlrun -m seed=1,2,3 network=small,large
  rlrun algo=ppo --cfg job               print the settings and stop

rlrun configs lists what can be composed; rlrun configs algo explains each setting."""

_FROM_PYTHON = ("-m", "--multirun", "--config-dir", "-cd")
_INFORMATION = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


def main(arguments: list[str]) -> int:
    """Train, sweep, or show the config. Returns the exit code."""
    arguments, directory, resume = take_place(take_imports(arguments))
    options = _parser().parse_intermixed_args(arguments)
    if options.shell_completion:
        _call_hydra(["--shell-completion", *options.overrides], _Application(options))
        return 0
    _check_options(options)
    secret = remember_typed(options.overrides)
    if secret and options.cfg in ("hydra", "all"):
        raise UsageError(f"--cfg {options.cfg} shows what was typed as it is, also {secret}; use --cfg job")
    application = _Application(options, directory, resume)
    _compose(options, application)
    return application.exit_code


def train_from_python(arguments: list[str], quiet: bool) -> tuple[list[Run], bool, int]:
    """Train as ``main`` does. Returns the runs in the order of the jobs, whether they are a sweep, and the exit code.

    Raises:
        UsageError: an argument is of the command line only; and what ``main`` raises.
    """
    arguments, directory, resume = take_place(take_imports(arguments))
    foreign = [text for text in arguments if text.startswith("-") and not text.startswith(_FROM_PYTHON)]
    if foreign:
        raise UsageError(f"{foreign[0]} is for the command line; rlrun.train takes KEY=VALUE, -m and --config-dir=DIR")
    options = _parser().parse_intermixed_args(arguments)
    options.quiet = quiet
    _check_options(options)
    remember_typed(options.overrides)
    application = _Application(options, directory, resume)
    with muted() if quiet else nullcontext(), _apart_from_other_hydra():
        _compose(options, application)
    return application.runs, application.is_sweep, application.exit_code


def _compose(options: Namespace, application: _Application) -> None:
    """Check what was typed, and let Hydra call the application with it."""
    directories = [*([options.config_dir] if options.config_dir else []), configs_directory()]
    application.is_sweep = options.multirun or is_multirun(options.overrides)
    overrides = check_overrides(options.overrides, find_groups(directories), application.is_sweep)
    _call_hydra([*_hydra_flags(options), *overrides], application)


class _Application:
    """What Hydra calls with what it composed."""

    def __init__(self, options: Namespace, directory: Path | None = None, resume: bool = False) -> None:
        """``directory``: where to train, if not in a new one, and whether to ``resume`` what is there."""
        self.exit_code = 0
        self.is_sweep = False
        self.runs: list[Run] = []
        self._directory, self._resume = directory, resume
        self._quiet, self._show_config, self._part = options.quiet, options.cfg == "job", options.package
        register(self.run_sweep)

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

        check_jobs(jobs, self._directory)
        if self._directory and begun_sweep(self._directory, self._resume, jobs):
            self.exit_code = go_on_with_sweep(self._directory, jobs, self._quiet)
            self.runs = sorted(map(Run.open, runs_in(self._directory)), key=job_number)
            return
        with Interrupts() as interrupts, new_sweep(jobs, self._directory) as (sweep, held):
            self.runs = sweep.runs
            train_sweep(sweep, [Place(run) for run in sweep.runs], choose_sweep_view(self._quiet), interrupts, held)
        self.exit_code = finish_sweep(sweep, interrupts.signal, self._quiet)


def _parser() -> Parser:
    parser = Parser("train", "Train an agent on what the config groups and KEY=VALUE settings say.", _EXAMPLES)
    add = parser.add_argument
    add("overrides", nargs="*", metavar="KEY=VALUE", help="choose of a group (algo=ppo), or set (seed=3)")
    add("-q", "--quiet", action="store_true", help="print the run's directory and errors only")
    add("-m", "--multirun", action="store_true", help="sweep: one run for each combination of values")
    add("-c", "--cfg", choices=("job", "hydra", "all"), help="check and print the config instead of training")
    add("-p", "--package", metavar="KEY", help="with --cfg job: the part to print, as in --package algo")
    add("--resolve", action="store_true", help="with --cfg hydra or all: resolve interpolations")
    add("-cd", "--config-dir", type=Path, metavar="DIR", help="a folder of your own configs, laid out like rlrun's")
    add("-cn", "--config-name", metavar="NAME", help="refused: an experiment in your own --config-dir does that")
    add("-i", "--info", nargs="?", const="all", choices=_INFORMATION, help="Hydra's information on the composition")
    add("-sc", "--shell-completion", action="store_true", help="install=bash, install=zsh or install=fish")
    add("--experimental-rerun", metavar="FILE", help="refused: it would execute a pickle")
    return parser


def _check_options(options: Namespace) -> None:
    if options.experimental_rerun is not None:
        raise UsageError("--experimental-rerun loads a pickle, which can run any code; use rlrun resume RUN")
    if options.multirun and (options.cfg or options.info):
        raise UsageError("-m runs a sweep; leave it out to show a config")
    if options.config_name is not None:
        raise UsageError("--config-name: every run starts from rlrun's config; use --config-dir DIR experiment=NAME")
    if options.package is not None and options.cfg != "job":
        raise UsageError("--package names what --cfg job is to print; type --cfg job as well")
    check_is_folder("--config-dir", options.config_dir)
    if options.config_dir is not None:
        _check_own_configs(options.config_dir)


def _check_own_configs(directory: Path) -> None:
    """Raises UsageError for configs of a run, and with one line for each file that is not plain YAML."""
    resolved = directory.resolve()
    if any((folder / "run.json").exists() for folder in (resolved, *resolved.parents)):
        raise UsageError(f"--config-dir={directory} is inside a run, whose configs are data; use rlrun resume")
    problems = []
    for file in sorted(directory.rglob("*.yaml")):
        try:
            values = read_yaml(file)
        except ResumeError as error:
            problems.append(str(error))
            continue
        if not isinstance(values, dict | None):
            problems.append(f"{printable(file)}: expected a mapping of settings, got {printable(values):.60}")
        elif wrong := _wrong_header(file):
            problems.append(
                f"{printable(file)}: {printable(wrong):.60} is no header of Hydra; write # @package _global_"
            )
    if problems:
        raise UsageError("\n".join(problems))


def _wrong_header(file: Path) -> str | None:
    """A line among the first that Hydra takes for a header but can't read."""
    for line in filter(None, map(str.strip, file.read_text(encoding="utf-8").splitlines())):
        if not re.match(r"#\s*@", line):
            return None
        if not re.fullmatch(r"#\s*@\s*\w+ +\S+", line):
            return line
    return None


def _part_of(values: Any, key: str | None) -> Any:
    """What ``algo`` or ``algo.gamma`` names in nested settings, a single value with its name; all of it for None."""
    for part in key.split(".") if key else ():
        if not isinstance(values, dict) or part not in values:
            known = values if isinstance(values, dict) else ()
            raise UsageError(f"--package={key}: the config has no such part{nearest(part, known)}")
        values = values[part] if isinstance(values[part], dict) else {part: values[part]}
    return values


def _hydra_flags(options: Namespace) -> list[str]:
    """The options that Hydra is to see. It trains nothing for ``--cfg job``: we print what we would train."""
    flags = ["--multirun"] if options.multirun else []
    if options.cfg and options.cfg != "job":
        flags += ["--cfg", options.cfg, *(["--resolve"] if options.resolve else [])]
    flags += [f"--info={options.info}"] if options.info is not None else []
    return flags + ([] if options.config_dir is None else [f"--config-dir={options.config_dir}"])


def _call_hydra(arguments: Sequence[str], application: _Application) -> None:
    """Run the Hydra application with these arguments; its errors become ours.

    Raises:
        UsageError: Hydra could not compose; and what the application raises.
    """

    def run(composed: Any) -> None:
        try:
            application.run(composed)
        except Exception as error:  # Hydra would print a line of its own before passing it on
            failures.append(error)

    failures: list[Exception] = []
    composing: tuple[type[Exception], ...] = (HydraException, yaml.YAMLError, *composition_errors())
    with _as_hydra_expects(arguments):
        try:
            hydra.main(version_base="1.3", config_path=str(configs_directory()), config_name="config")(run)()
        except composing as error:
            raise UsageError(_first_line(error)) from error
    if failures:
        raise failures[0]


@contextmanager
def _apart_from_other_hydra() -> Iterator[None]:
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
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = [line.strip() for line in str(error.__cause__ or "").splitlines() if line.strip()]
    return "; ".join(dict.fromkeys([*lines[:1], *cause[:1]])) or type(error).__name__

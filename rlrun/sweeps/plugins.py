"""Hydra's sweeper and launcher for rlrun, registered in code.

The sweeper multiplies out the values typed; the launcher composes all jobs and hands the list on. Neither writes a file: the
sweep's directory is ours.
"""

from __future__ import annotations

import copy
import importlib
import itertools
import math
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction

from rlrun.config import SweepConfig
from rlrun.errors import UsageError
from rlrun.sweeps.jobs import Job, make_job

_NAMESPACE = "hydra_plugins.rlrun"  # Hydra accepts plug-ins of this namespace only

RunJobs = Callable[[list[Job]], None]


def register(run_jobs: RunJobs) -> None:
    """Make ``hydra/sweeper=rlrun`` and ``hydra/launcher=rlrun`` known; the launcher gives its jobs to ``run_jobs``."""
    RlrunLauncher.run_jobs = staticmethod(run_jobs)
    _namespace().rlrun = sys.modules[__name__]
    for group, plugin in (("hydra/sweeper", RlrunSweeper), ("hydra/launcher", RlrunLauncher)):
        Plugins.instance().register(plugin)
        node = {"_target_": f"{_NAMESPACE}.{plugin.__name__}"}
        ConfigStore.instance().store(group=group, name="rlrun", node=node, provider="rlrun")


def _namespace() -> Any:
    """The namespace package Hydra looks its plug-ins up in; it exists only where some plug-in is installed."""
    try:
        return importlib.import_module("hydra_plugins")
    except ImportError:
        package = types.ModuleType("hydra_plugins")
        package.__path__ = []
        sys.modules[package.__name__] = package
        return package


class RlrunSweeper(Sweeper):
    """The product of all values typed."""

    __module__ = _NAMESPACE

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: Any) -> None:
        """Called by Hydra before ``sweep``."""
        self._config_loader, self._config = hydra_context.config_loader, config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """Launch one job for each combination. Raises UsageError for no job, or too many."""
        overrides = OverridesParser.create(self._config_loader).parse_overrides(arguments)
        most = self._config.sweep.max_jobs
        # What is no number of jobs becomes an error where they are composed.
        counts = isinstance(most, int | float) and 0 < most < 2**63
        jobs = multiply_out(overrides, most if counts else SweepConfig().max_jobs)
        return self._launcher.launch(jobs, initial_job_idx=0)


class RlrunLauncher(Launcher):
    """Composes every job, then hands all of them on."""

    __module__ = _NAMESPACE
    run_jobs: RunJobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: Any) -> None:
        """Called by Hydra before ``launch``."""
        self._config_loader, self._config = hydra_context.config_loader, config
        self._parser = OverridesParser.create(hydra_context.config_loader)
        self._composed: dict[tuple[str, ...], Any] = {}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs. Raises UsageError with the problems of all their configs, and what running them raises."""
        jobs: list[Job] = []
        problems: dict[str, str] = {}  # each once, with the first job that has it
        for overrides in job_overrides:
            composed = self._compose(overrides)
            try:
                jobs.append(make_job(composed, composed.hydra, [text.lstrip("+") for text in overrides]))
            except UsageError as error:
                for line in str(error).splitlines():
                    problems.setdefault(line, " ".join(text.lstrip("+") for text in overrides))
        if problems:
            raise UsageError("\n".join(f"{line} (job: {job})" for line, job in problems.items()))
        self.run_jobs(jobs)
        return []

    def _compose(self, overrides: Sequence[str]) -> Any:
        """The config of one job. To compose takes Hydra a twentieth of a second, so it does that once for each choice of groups; single
        settings, which all come as ``++key=value``, are then put in as it does itself."""
        groups = tuple(text for text in overrides if not text.startswith("++"))
        if groups not in self._composed:
            self._composed[groups] = self._config_loader.load_sweep_config(self._config, list(groups))
        composed = copy.deepcopy(self._composed[groups])
        settings = self._parser.parse_overrides([text for text in overrides if text.startswith("++")])
        ConfigLoaderImpl._apply_overrides_to_config(settings, composed)
        return composed


def multiply_out(overrides: Sequence[Override], most: float) -> list[list[str]]:
    """The overrides of each job, the last key varying fastest. Raises UsageError for no job, or more than ``most``."""
    values = [_values(override, most) for override in overrides]
    if math.prod(map(len, values)) > most:
        raise UsageError(f"the sweep has more than {most:,} jobs; give fewer values, or allow more: sweep.max_jobs=N")
    return [list(job) for job in itertools.product(*values)]


def _values(override: Override, most: float) -> list[str]:
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    try:
        values = list(itertools.islice(override.sweep_string_iterator(), int(most) + 1))
    except ValueError as error:  # range(0,5,0)
        raise UsageError(f"{_typed(override)}: {error}") from error
    if not values:
        raise UsageError(f"the sweep is empty: {_typed(override)}")
    return [f"{key}={value}" for value in values]


def _typed(override: Override) -> str:
    return (override.input_line or "").lstrip("+")

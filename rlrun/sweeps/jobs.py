"""A job: one checked config to train. All that can be known to be wrong is found here, before anything starts.

A single run is a list of one job. Nothing here imports torch, unless a job asks for a CUDA device.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlrun import envs
from rlrun.config import DQNConfig, PPOConfig, RunConfig, from_dictconfig, to_mapping, typed_overrides
from rlrun.config.resuming import leaves
from rlrun.errors import StorageError, UnavailableError, UsageError
from rlrun.plain import printable, read_yaml, reason_of
from rlrun.provenance import is_secret_name, remember, texts_of
from rlrun.sweeps.resources import check_batches, check_memory, has_graphics_driver, spaces_of
from rlrun.sweeps.room import check_room
from rlrun.tracking import check_installed
from rlrun.watchdog import watching

NOT_TUNED = "none"
"""The choice that takes no tuned settings though there may be some."""
_MOST_MADE = 200  # folders, one in the other


@dataclass(frozen=True)
class Job:
    """What one run is to be, and where that came from."""

    config: RunConfig
    overrides: tuple[str, ...]
    """As typed: ``algo=ppo``, ``seed=1``."""
    tuned: str | None = None
    """The config that tuned settings were taken from: ``tuned/ppo_cartpole``; ``NOT_TUNED``; None where there is none."""
    experiment: str | None = None
    """``experiment/tutorial_dqn``."""

    @property
    def typed(self) -> set[str]:
        """The keys that were typed."""
        return {override.partition("=")[0] for override in self.overrides}


def make_job(composed: Any, hydra: Any, typed: Sequence[str] | None = None) -> Job:
    """The job of a config that Hydra composed; ``hydra`` is Hydra's own part of it, which knows what was ``typed`` for a single run.

    Raises:
        UsageError: one line for each problem of the config.
    """
    overrides, tuned = typed_overrides(hydra) if typed is None else tuple(typed), _tuned(hydra.runtime)
    choice = hydra.runtime.choices.get("experiment")
    experiment = f"experiment/{choice}" if choice not in (None, "null") else None
    try:
        job = Job(from_dictconfig(composed), overrides, tuned, experiment)
    except UsageError as error:
        chosen = hydra.runtime.choices.get("algo")
        raise UsageError(_shortened(str(error), overrides, experiment or tuned, chosen)) from error
    for key, value in leaves(to_mapping(job.config)).items():
        if is_secret_name(key):
            remember(texts_of(value))
    _check_env_id(job, hydra.runtime)
    algo = job.config.algo
    adam = isinstance(algo, DQNConfig) and algo.optimizer == "adam" and algo.weight_decay > 0
    if adam and "algo.weight_decay" in job.typed:
        raise UsageError("algo.weight_decay is for adamw only; type algo.optimizer=adamw as well, or leave it out")
    return job


def _tuned(runtime: Any) -> str | None:
    """Hydra names the choice even where the optional file does not exist."""
    choice = runtime.choices.get("tuned")
    if choice == NOT_TUNED:
        return NOT_TUNED
    return f"tuned/{choice}" if _file(runtime, "tuned", choice) else None


def _file(runtime: Any, group: str, choice: str) -> Path | None:
    """The config file of a choice; None if there is none."""
    folders = [Path(source.path) for source in runtime.config_sources if source.schema == "file"]
    files = (folder / group / f"{choice}.yaml" for folder in folders)
    return next((file for file in files if file.is_file()), None)


def _shortened(problems: str, overrides: Sequence[str], source: str | None, algo: str) -> str:
    """One line instead of one for each setting that nobody typed: ``source`` has them, and is of another algorithm."""
    typed, lines = {override.partition("=")[0] for override in overrides}, problems.splitlines()
    foreign = [line for line in lines if line.startswith("unknown key 'algo.") and line.split("'")[1] not in typed]
    if source is None or not foreign:
        return problems
    key = foreign[0].split("'")[1]
    summary = f"{source} sets {key}, which {algo} does not have; it can't be used with algo={algo}"
    return "\n".join([summary, *(line for line in lines if line not in foreign)])


def _check_env_id(job: Job, runtime: Any) -> None:
    """Raises UsageError for an id typed on top of another environment's settings."""
    choice = runtime.choices.get("env")
    file = _file(runtime, "env", choice) if {"env", "env.id"} <= job.typed else None
    values = read_yaml(file) if file else None
    own = values.get("id") if isinstance(values, dict) else None
    if own not in (None, "???", job.config.env.id):
        raise UsageError(f"env={choice} is {own}, not env.id={job.config.env.id}; leave env={choice} out")


def check_jobs(jobs: Sequence[Job], place: Path | None = None) -> None:
    """Hold all jobs against this machine: environments and their spaces, devices, memory, the folder that runs go to.

    ``place``: where they go instead of ``outputs``.

    Raises:
        UsageError, UnavailableError, StorageError, EnvironmentFailure: the first kind of problem met, in this order.
    """
    configs = [job.config for job in jobs]
    spaces = spaces_of(configs)
    for job in jobs:
        _check_actions(job, spaces[repr(job.config.env)].action)
    for config in {(config.device, max(config.network.hidden)): config for config in configs}.values():
        check_device(config)
    check_installed(configs[0].logger)  # the same for all
    for config in configs:
        check_memory(config, spaces[repr(config.env)])
    if len(configs) > 1:
        check_batches(configs, spaces)
    where, key = (place, "run.dir") if place else (Path(configs[0].outputs), "outputs")  # the same for all
    _check_writable(where, key)
    check_room(configs, spaces, where, key)
    for config in {repr(config.env): config for config in configs}.values():
        with watching(config.env.id, config.env.step_timeout):
            envs.probe(config.env, config.seed)


def check_one_sweep(jobs: Sequence[Job]) -> None:
    """Raises UsageError for jobs that can't be of one sweep: they differ in what it has once, or two are the same."""
    configs = [job.config for job in jobs]
    for key, values in (
        ("outputs", {config.outputs for config in configs}),
        ("sweep.*", {config.sweep for config in configs}),
        ("logger", {config.logger for config in configs}),
    ):
        if len(values) > 1:
            one = {"outputs": "folder", "logger": "list of them: logger=[tensorboard,wandb]"}.get(key, "plan")
            raise UsageError(f"{key} can't be swept; a sweep has one {one}")
    first: dict[str, int] = {}
    for number, job in enumerate(jobs, 1):
        earlier = first.setdefault(json.dumps(to_mapping(job.config), sort_keys=True), number)
        if earlier != number:
            settings = " ".join(job.overrides)
            raise UsageError(f"jobs {earlier} and {number} of the sweep are the same run: {settings}")


def _check_actions(job: Job, actions: envs.Actions) -> None:
    config = job.config
    if config.engine == "torchrl" and isinstance(actions, envs.MultiDiscreteActions):
        raise UsageError(f"{config.env.id} has several actions at once (MultiDiscrete), which needs engine=rlrun")
    if isinstance(config.algo, DQNConfig) and not isinstance(actions, envs.DiscreteActions):
        kind = {
            envs.BoxActions: "continuous actions (Box)",
            envs.MultiDiscreteActions: "several actions at once (MultiDiscrete)",
        }[type(actions)]
        raise UsageError(f"dqn needs a Discrete action space; {config.env.id} has {kind}. Use algo=ppo")
    if isinstance(config.algo, PPOConfig) and not isinstance(actions, envs.BoxActions):
        # Only what was typed: an experiment made for continuous actions may set them for a discrete environment.
        keys = ("distribution", "state_dependent_std", "initial_log_std")
        moved = [key for key in keys if getattr(config.algo, key) != getattr(PPOConfig(), key)]
        ignored = [f"algo.{key}" for key in moved if f"algo.{key}" in job.typed]
        if ignored:
            verb = "is" if len(ignored) == 1 else "are"
            raise UsageError(
                f"{', '.join(ignored)} {verb} for continuous actions only; {config.env.id} has discrete ones"
            )


def check_device(config: RunConfig) -> None:
    """Raises UnavailableError if the config's device is not here. Imports torch only where there may be one."""
    if not config.device.startswith("cuda"):
        return
    if not has_graphics_driver():
        raise UnavailableError(f"device={config.device} but there is no CUDA device; use device=cpu or device=auto")
    from rlrun.hardware import choose_device

    choose_device(config.device, max(config.network.hidden))


def _check_writable(place: Path, key: str) -> None:
    """Make and remove a folder where the first missing one would go: permissions alone do not tell."""
    above = [place, *place.parents]
    missing, existing = next((level, folder) for level, folder in enumerate(above) if os.path.lexists(folder))
    try:
        with contextlib.suppress(FileNotFoundError):
            os.lstat(place)
        if missing > _MOST_MADE:  # each a call within the one before
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        os.rmdir(tempfile.mkdtemp(prefix=".rlrun-", dir=existing))
    except OSError as error:
        raise StorageError(
            f"can't create {printable(place)}: {reason_of(error)}. Choose another place: {key}=DIR"
        ) from error

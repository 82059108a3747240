"""A job: one checked config to train. All that can be known to be wrong is found here, before anything starts.

A single run is a list of one job. Nothing here imports torch, unless a job asks for a CUDA device.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlrun import envs
from rlrun.config import DQNConfig, RunConfig, from_dictconfig, to_mapping, typed_overrides
from rlrun.errors import StorageError, UsageError
from rlrun.plain import reason_of


@dataclass(frozen=True)
class Job:
    """What one run is to be, and where that came from."""

    config: RunConfig
    overrides: tuple[str, ...]
    """As typed: ``algo=ppo``, ``seed=1``."""
    tuned: str | None
    """The config that tuned settings were taken from: ``tuned/ppo_cartpole``."""


def make_job(composed: Any, hydra: Any) -> Job:
    """The job of a config that Hydra composed; ``hydra`` is Hydra's own part of it.

    Raises:
        UsageError: one line for each problem of the config.
    """
    return Job(from_dictconfig(composed), typed_overrides(hydra), _tuned(hydra.runtime))


def _tuned(runtime: Any) -> str | None:
    """Hydra names the choice even where the optional file does not exist."""
    choice = f"tuned/{runtime.choices.get('tuned')}"
    folders = [Path(source.path) for source in runtime.config_sources if source.schema == "file"]
    found = any((folder / f"{choice}.yaml").is_file() for folder in folders)
    return choice if found and choice != "tuned/none" else None


def check_jobs(jobs: Sequence[Job]) -> None:
    """Hold all jobs against this machine: environments and their spaces, devices, the output folder.

    Raises:
        UsageError, UnavailableError, StorageError, EnvironmentFailure: the first kind of problem met, in this order.
    """
    _check_duplicates(jobs)
    configs = [job.config for job in jobs]
    checked = {repr((type(config.algo), config.env)): config for config in configs}
    for config in checked.values():
        _check_spaces(config)
    for config in {(config.device, max(config.network.hidden)): config for config in configs}.values():
        _check_device(config)
    for outputs in {config.outputs for config in configs}:
        _check_outputs(Path(outputs))
    for config in {repr(config.env): config for config in configs}.values():
        envs.probe(config.env, config.seed)


def _check_duplicates(jobs: Sequence[Job]) -> None:
    first: dict[str, int] = {}
    for number, job in enumerate(jobs, 1):
        earlier = first.setdefault(json.dumps(to_mapping(job.config), sort_keys=True), number)
        if earlier != number:
            settings = " ".join(job.overrides)
            raise UsageError(f"jobs {earlier} and {number} of the sweep are the same run: {settings}")


def _check_spaces(config: RunConfig) -> None:
    spaces = envs.spaces(config.env)
    if isinstance(config.algo, DQNConfig) and not isinstance(spaces.action, envs.DiscreteActions):
        kind = {
            envs.BoxActions: "continuous actions (Box)",
            envs.MultiDiscreteActions: "several actions at once (MultiDiscrete)",
        }[type(spaces.action)]
        raise UsageError(f"dqn needs a Discrete action space; {config.env.id} has {kind}. Use algo=ppo")


def _check_device(config: RunConfig) -> None:
    if config.device.startswith("cuda"):
        from rlrun.hardware import choose_device  # imports torch

        choose_device(config.device, max(config.network.hidden))


def _check_outputs(outputs: Path) -> None:
    """Make and remove a folder where the first missing one would go: permissions alone do not tell."""
    existing = next(place for place in (outputs, *outputs.parents) if os.path.lexists(place))
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".rlrun-", dir=existing))
    except OSError as error:
        raise StorageError(f"can't create {outputs}: {reason_of(error)}. Choose another place: outputs=DIR") from error

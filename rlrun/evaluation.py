"""Greedy episodes in fresh environments with seeds of their own. Nothing of training is touched: not a weight, not a random number."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from rlrun import hardware
from rlrun.arrays import fill, finite, fitting
from rlrun.checkpoint import config_of, read, read_header, require_undamaged
from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.config import EnvConfig, RunConfig, to_mapping
from rlrun.config.resuming import forbidden_changes
from rlrun.envs import spaces
from rlrun.errors import EnvironmentFailure, ResumeError
from rlrun.provenance import clean
from rlrun.reports.statistics import iqm
from rlrun.rollout import Environments
from rlrun.run import Run
from rlrun.seeding import Stream, derive
from rlrun.trainers import layout_of, make_policy
from rlrun.trainers.base import Policy
from rlrun.watchdog import watching

MOST_ENVS = 5  # environments stepped side by side: more would share the cost of the network, but take longer to make


def evaluate(
    policy: Policy,
    config: EnvConfig,
    seeds: Sequence[int],
    episodes: int,
    *,
    skip: Collection[int] = (),
    whose: Sequence[str] = (),
    interrupted: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any] | EnvironmentFailure] | None:
    """Evaluate each agent of the policy over ``episodes`` episodes.

    Every environment plays a fixed share of the episodes, so that short ones are not preferred. An agent is left alone once it
    has all of its own: what its environments would do until the slowest agent has, too, is no part of its result.
    ``whose``: as ``Environments`` takes it.

    Returns:
        For each agent ``summary`` of its undiscounted returns and ``lengths``, or what its environment did wrong; agents in ``skip``
        have no episodes. None if ``interrupted`` became true.
    """
    quota = shares(episodes)
    envs = len(quota)
    returns: list[list[list[float]]] = [[[] for _ in range(envs)] for _ in seeds]
    lengths: list[list[list[int]]] = [[[] for _ in range(envs)] for _ in seeds]
    environments = Environments(config, envs, seeds, exact=False, whose=whose)
    missing = {agent: episodes for agent in range(len(seeds)) if agent not in skip}
    for agent in skip:
        environments.retire(agent)
    while missing.keys() - environments.failures.keys():
        if interrupted():
            environments.close()
            return None
        environments.step(policy.act(environments.observation))
        for episode in environments.finished:
            if len(returns[episode.agent][episode.env]) < quota[episode.env]:
                returns[episode.agent][episode.env].append(episode.return_)
                lengths[episode.agent][episode.env].append(episode.length)
                missing[episode.agent] -= 1
                if missing[episode.agent] == 0:
                    del missing[episode.agent]
                    environments.retire(episode.agent)
    environments.close()
    return [
        environments.failures.get(agent) or summary([*chain(*returns[agent])]) | {"lengths": [*chain(*lengths[agent])]}
        for agent in range(len(seeds))
    ]


def shares(episodes: int) -> list[int]:
    """How many of the episodes each environment plays."""
    envs = min(episodes, MOST_ENVS)
    return [episodes // envs + (env < episodes % envs) for env in range(envs)]


def summary(returns: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation, interquartile mean and extremes of returns, and the returns themselves."""
    if not returns:
        return {"episodes": 0, "returns": []}
    ordered = np.sort(np.array(returns, float))
    return {
        "return_mean": float(ordered.mean()),
        "return_std": float(ordered.std()),
        "return_iqm": iqm(ordered),
        "return_min": float(ordered[0]),
        "return_max": float(ordered[-1]),
        "episodes": len(ordered),
        "returns": [float(value) for value in returns],
    }


def load_policy(run: Run, checkpoint: str) -> tuple[Policy, str]:
    """The greedy policy of a checkpoint (``best``, ``last`` or a number of frames), and the checkpoint's file name.

    Raises:
        ResumeError: no such checkpoint, damaged, or not of this config.
    """
    path = CheckpointFolder(run.checkpoints, run.config.checkpoint.keep).resolve(checkpoint)
    return read_policy(path, run.config), path.name


def read_policy(path: Path, config: RunConfig) -> Policy:
    """The greedy policy in a file. Raises ResumeError: it is damaged, or not of this config."""
    require_undamaged(path)
    changed = forbidden_changes(config_of(path, read_header(path)), clean(to_mapping(config)))
    if changed:
        raise ResumeError(f"{path.name} is not of this config: {'; '.join(changed)}")
    found = spaces(config.env)
    floats, moments = layout_of(config, found).size, 8 * found.observation_size
    wanted = {"parameters_AP": 4 * floats, "normalizer.mean": moments, "normalizer.squares": moments}
    tree = read(path, {f"training.{name}": most for name, most in wanted.items()})[1]
    try:  # first: a config may ask for a network of any size
        weights = finite(fitting(tree["training"]["parameters_AP"], np.broadcast_to(np.float32(0), floats)))
        policy = make_policy(config, found, 1, hardware.configure(config))
        fill(policy.rows_AP[0], weights)
        policy.normalizer.restore(0, tree["training"]["normalizer"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ResumeError(f"{path.name} does not fit the config of its run ({error})") from error
    return policy


def evaluate_run(run: Run, episodes: int, seed: int, checkpoint: str) -> dict[str, Any]:
    """Evaluate a checkpoint of a run: ``summary``, ``lengths`` and the checkpoint's name.

    Raises:
        ResumeError: as ``load_policy``.
        EnvironmentFailure: the environment failed.
    """
    with watching(run.config.env.id, run.config.env.step_timeout):
        policy, name = load_policy(run, checkpoint)
    return evaluate_policy(policy, run.config.env, episodes, seed) | {"checkpoint": name}


def evaluate_policy(policy: Policy, config: EnvConfig, episodes: int, seed: int) -> dict[str, Any]:
    """``summary`` and ``lengths`` of the episodes of a policy of one agent. Raises EnvironmentFailure."""
    with watching(config.id, config.step_timeout):
        whose = [f"the evaluation with seed {seed}"]
        results = evaluate(policy, config, [derive(seed, Stream.EVALUATION)], episodes, whose=whose)
    assert results is not None
    result = results[0]
    if isinstance(result, EnvironmentFailure):
        raise result
    return result

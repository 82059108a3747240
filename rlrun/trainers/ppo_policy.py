"""The networks of PPO: actor, critic and, where it is free, the actor's standard deviation; and the greedy policy.

Shapes: A agents, N environments, O observation, K numbers of a kept action (see distributions.py), P parameters.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlrun.config import PPOConfig, RunConfig
from rlrun.distributions import Distribution, make_distribution
from rlrun.envs import Spaces
from rlrun.hardware import Hardware
from rlrun.networks import Layout, Network, Parameter, build, leaves
from rlrun.normalization import ObservationNormalizer
from rlrun.trainers.base import Array, Stack


class PPOPolicy:
    """The policy's mode: its most probable choice, or its mean."""

    def __init__(
        self, config: RunConfig, spaces: Spaces, rows_AP: Any, hardware: Hardware, gradients_AP: Any = None
    ) -> None:
        self.rows_AP, self.layout = rows_AP, layout(config, spaces)
        self.distribution = distribution_of(config, spaces)
        self.actor = Stack(self.layout, "actor", rows_AP, gradients_AP, hardware)
        self.normalizer = ObservationNormalizer(config.env, len(rows_AP), spaces.observation_size)

    def act(self, observation_ANO: Array) -> Array:
        return self.distribution.to_env(self.distribution.mode(self.actor(self.normalizer(observation_ANO))))


class LogStd:
    """The free log standard deviation of a Gaussian policy, as NumPy sees it and as autograd does."""

    def __init__(self, places: Layout, rows_AP: Any, gradients_AP: Any) -> None:
        self._view = places.views("log_std", rows_AP)["value"][:, None, :]
        gradient = places.views("log_std", gradients_AP)["value"][:, None, :]
        if isinstance(rows_AP, np.ndarray):
            self.gradient: Array = gradient
        else:
            self.leaf = leaves({"value": self._view}, {"value": gradient})["value"]

    @property
    def value(self) -> Array:
        """[A, 1, K]; on the CPU a view that follows the parameters."""
        return self._view if isinstance(self._view, np.ndarray) else self._view.numpy(force=True)


def layout(config: RunConfig, spaces: Spaces) -> Layout:
    """Actor, critic and, where it is free, the log standard deviation in a row of parameters."""
    algo, distribution = algo_of(config), distribution_of(config, spaces)
    networks: dict[str, Network] = {
        "actor": build(config.network, spaces.observation_size, distribution.outputs, gain=0.01),
        "critic": build(config.network, spaces.observation_size, 1, gain=1.0),
    }
    if distribution.free_std:
        networks["log_std"] = Parameter(distribution.stored, algo.initial_log_std)
    return Layout(networks)


def distribution_of(config: RunConfig, spaces: Spaces) -> Distribution:
    """The action distribution that the config asks for."""
    algo = algo_of(config)
    return make_distribution(spaces, algo.distribution, algo.state_dependent_std)


def algo_of(config: RunConfig) -> PPOConfig:
    """The algorithm's part of the config."""
    assert isinstance(config.algo, PPOConfig)
    return config.algo

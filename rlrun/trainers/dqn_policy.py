"""The Q-network of DQN, and the greedy policy.

Shapes: A agents, N environments, O observation, U actions, P parameters.
"""

from __future__ import annotations

from typing import Any

from rlrun.config import DQNConfig, RunConfig
from rlrun.envs import DiscreteActions, Spaces
from rlrun.hardware import Hardware
from rlrun.networks import Layout, build, build_dueling
from rlrun.normalization import ObservationNormalizer
from rlrun.trainers.base import Array, Stack


class QPolicy:
    """The greedy policy of a Q-network."""

    def __init__(
        self, config: RunConfig, spaces: Spaces, rows_AP: Any, hardware: Hardware, gradients_AP: Any = None
    ) -> None:
        self.rows_AP, self.layout = rows_AP, layout(config, spaces)
        self.dueling = algo_of(config).dueling
        self.q = Stack(self.layout, "q", rows_AP, gradients_AP, hardware)
        self.normalizer = ObservationNormalizer(config.env, len(rows_AP), spaces.observation_size)

    def act(self, observation_ANO: Array) -> Array:
        outputs_ANU = self.q(self.normalizer(observation_ANO))
        if self.dueling:
            outputs_ANU = outputs_ANU[..., 1:]  # the value does not change which action is best
        action: Array = outputs_ANU.argmax(-1)
        return action


def layout(config: RunConfig, spaces: Spaces) -> Layout:
    """The Q-network's place in a row of parameters."""
    assert isinstance(spaces.action, DiscreteActions)
    if algo_of(config).dueling:
        return Layout({"q": build_dueling(config.network, spaces.observation_size, spaces.action.n)})
    return Layout({"q": build(config.network, spaces.observation_size, spaces.action.n, gain=1.0)})


def algo_of(config: RunConfig) -> DQNConfig:
    """The algorithm's part of the config."""
    assert isinstance(config.algo, DQNConfig)
    return config.algo

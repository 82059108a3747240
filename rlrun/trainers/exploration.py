"""Epsilon-greedy exploration (Mnih et al. 2015), drawn in blocks.

Shapes: A agents, N environments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlrun.arrays import whole
from rlrun.config import DQNConfig, RunConfig
from rlrun.seeding import Generators, Stream, set_state

Array = np.ndarray[Any, Any]
BLOCK = 1024  # steps whose exploration is drawn at once


def epsilon(config: DQNConfig, frames: Array) -> Array:
    """Chance of a random action after ``frames``: linear to the end, or falling to it exponentially."""
    spread = config.epsilon_start - config.epsilon_end
    if config.epsilon_schedule == "linear":
        return config.epsilon_end + spread * np.maximum(0.0, 1.0 - frames / config.epsilon_frames)
    return config.epsilon_end + spread * np.exp(-frames / config.epsilon_frames)


class Exploration:
    """Epsilon-greedy choices of the next BLOCK steps, drawn at once: whether each action is random, and which it then is."""

    def __init__(self, configs: Sequence[RunConfig], actions: int) -> None:
        self.configs, self.actions = configs, actions
        self.algos = [algo for config in configs if isinstance(algo := config.algo, DQNConfig)]
        self.random = Generators([config.seed for config in configs], Stream.ACTIONS)
        self.before = [
            dict(random.bit_generator.state) for random in self.random
        ]  # the generators' states at the block's start
        shape = (BLOCK, len(configs), self.algos[0].num_envs)
        self.is_random, self.random_actions = np.zeros(shape, bool), np.zeros(shape, np.int64)
        self.block = -1

    def at(self, step: int) -> tuple[str, Array, Array]:
        """("none" | "some" | "all" are random, which of [A, N] are, the random actions [A, N])."""
        block, offset = divmod(step, BLOCK)
        if block != self.block:
            self.block = block
            for agent in range(len(self.configs)):
                self._draw(agent)
        return self.kinds[offset], self.is_random[offset], self.random_actions[offset]

    def _draw(self, agent: int) -> None:
        """Draw the block of one agent."""
        config, algo, random = self.configs[agent], self.algos[agent], self.random[agent]
        self.before[agent] = dict(random.bit_generator.state)
        steps = np.arange(self.block * BLOCK, (self.block + 1) * BLOCK)
        chance = epsilon(algo, steps * algo.num_envs * config.env.frame_skip)
        self.is_random[:, agent] = random.random((BLOCK, algo.num_envs)) < chance[:, None]
        self.random_actions[:, agent] = random.integers(self.actions, size=(BLOCK, algo.num_envs))
        share = self.is_random.mean((1, 2))
        self.kinds = np.select([share == 1, share > 0], ["all", "some"], "none").tolist()

    def capture(self, agent: int) -> dict[str, Any]:
        return {"block": self.block, "before": self.before[agent]}

    def restore(self, agent: int, tree: dict[str, Any]) -> None:
        """Draw the block again, also if it has been used up: the next one follows it."""
        set_state(self.random[agent], tree["before"])
        self.block = whole(tree["block"], low=-1)
        if self.block >= 0:
            self._draw(agent)

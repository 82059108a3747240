"""Replay memory over the agent axis: a ring of transitions, sampled uniformly, with n-step returns put together when sampled.

Shapes: A agents, N environments an agent, C capacity, B batch, O observation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Batch:
    """Sampled transitions. ``discount`` is what the value of ``next_observation`` counts: gamma^n, and 0 after a termination."""

    observation: Array  # [A, B, O]
    next_observation: Array  # [A, B, O]
    action: Array  # int64 [A, B]
    reward: Array  # [A, B], summed over n steps with discounts
    discount: Array  # [A, B]


class Replay:
    """The newest C transitions of each agent. One row of floats holds one transition, so that sampling is one gather."""

    def __init__(self, agents: int, capacity: int, num_envs: int, observation_size: int) -> None:
        assert capacity % num_envs == 0  # so that the transitions of one environment lie num_envs rows apart
        self.capacity, self.num_envs, self.observation_size = capacity, num_envs, observation_size
        self.rows = np.zeros((agents, capacity, 2 * observation_size + 4), np.float32)
        self.written = 0
        self._first_row = (np.arange(agents) * capacity)[:, None]
        self._sampled = np.empty(0, np.float32)

    def __len__(self) -> int:
        return min(self.written, self.capacity)

    def add(
        self, observation: Array, next_observation: Array, action: Array, reward: Array, terminated: Array, truncated: Array
    ) -> None:
        """Store one step of every environment: observations [A, N, O], the others [A, N]."""
        size, start = self.observation_size, self.written % self.capacity
        rows = self.rows[:, start : start + self.num_envs]
        rows[..., :size] = observation
        rows[..., size : 2 * size] = next_observation
        rows[..., -4] = action
        rows[..., -3] = reward
        rows[..., -2] = terminated
        rows[..., -1] = truncated
        self.written += self.num_envs

    def sample(self, batch_size: int, n_step: int, gamma: Array, random: Sequence[np.random.Generator]) -> Batch:
        """``batch_size`` transitions of each agent, uniformly with replacement. ``gamma``: float32 [A, 1]."""
        slots = (np.stack([generator.random(batch_size) for generator in random]) * len(self)).astype(np.int64)
        if n_step == 1:
            last, reward, bootstrap = slots, None, gamma
        else:
            last, reward, bootstrap = self._sum_rewards(slots, n_step, gamma)
        size, width = self.observation_size, self.rows.shape[-1]
        flat = self.rows.reshape(-1, width)
        if self._sampled.shape != (*slots.shape, width):
            self._sampled = np.empty((*slots.shape, width), np.float32)
        taken = np.take(flat, slots + self._first_row, axis=0, out=self._sampled, mode="clip")
        after = taken if reward is None else flat[last + self._first_row]
        return Batch(
            observation=taken[..., :size],
            next_observation=after[..., size : 2 * size],
            action=taken[..., -4].astype(np.int64),
            reward=taken[..., -3] if reward is None else reward,
            discount=bootstrap * (1 - after[..., -2]),
        )

    def _sum_rewards(self, slots: Array, n_step: int, gamma: Array) -> tuple[Array, Array, Array]:
        """Sum up to n rewards from each slot on, ending with the episode or with what has been collected.

        Returns the slot of the last transition summed, the sums, and gamma to the power of their number, each [A, B].
        """
        newest = (self.written - 1) % self.capacity
        following = ((newest - slots) % self.capacity) // self.num_envs  # transitions of the same environment collected since
        flat = self.rows.reshape(-1, self.rows.shape[-1])
        reward, discount = np.zeros(slots.shape, np.float32), np.ones(slots.shape, np.float32)
        last, alive = slots, np.ones(slots.shape, bool)
        for step in range(n_step):
            alive = alive & (step <= following)
            slot = np.where(alive, (slots + step * self.num_envs) % self.capacity, last)
            found = flat[slot + self._first_row, -3:]
            reward += np.where(alive, discount * found[..., 0], 0)
            discount = np.where(alive, discount * gamma, discount)
            last = slot
            alive = alive & (found[..., 1] == 0) & (found[..., 2] == 0)
        return last, reward, discount

    def cut(self, agent: int) -> None:
        """End the newest transitions' episodes, because what follows begins new ones."""
        self.rows[agent, (self.written - 1 - np.arange(min(self.num_envs, len(self)))) % self.capacity, -1] = 1

    def capture(self, agent: int) -> dict[str, Any]:
        return {"rows": self.rows[agent, : len(self)].copy(), "written": self.written}

    def restore(self, agent: int, tree: dict[str, Any]) -> None:
        self.written = tree["written"]
        self.rows[agent, : len(self)] = tree["rows"]


"""Replay memory over the agent axis: a ring of transitions, sampled uniformly, with n-step returns put together when sampled.

Shapes: A agents, N environments an agent, C capacity, B batch, O observation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlrun.arrays import fitting

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
    """The newest C transitions of each agent. A row of floats holds one transition's vectors, so that sampling is one gather."""

    def __init__(self, agents: int, capacity: int, num_envs: int, observation_size: int) -> None:
        assert capacity % num_envs == 0  # so that the transitions of one environment lie num_envs rows apart
        self.capacity, self.num_envs, self.observation_size = capacity, num_envs, observation_size
        self.rows = np.zeros(
            (agents, capacity, 2 * observation_size + 1), np.float32
        )  # observation, next observation, action
        self.outcomes = np.zeros((agents, capacity, 3), np.float32)  # reward, terminated, done
        self.written = 0
        self._first_row = (np.arange(agents) * capacity)[:, None]

    def __len__(self) -> int:
        return min(self.written, self.capacity)

    def add(
        self,
        observation: Array,
        next_observation: Array,
        action: Array,
        reward: Array,
        terminated: Array,
        truncated: Array,
    ) -> None:
        """Store one step of every environment: observations [A, N, O], the others [A, N]."""
        size, start = self.observation_size, self.written % self.capacity
        rows = self.rows[:, start : start + self.num_envs]
        rows[..., :size] = observation
        rows[..., size:-1] = next_observation
        rows[..., -1] = action
        outcomes = self.outcomes[:, start : start + self.num_envs]
        outcomes[..., 0] = reward
        outcomes[..., 1] = terminated
        outcomes[..., 2] = terminated | truncated
        self.written += self.num_envs

    def sample(self, batch_size: int, n_step: int, gamma: Array, random: Sequence[np.random.Generator]) -> Batch:
        """``batch_size`` transitions of each agent, uniformly with replacement. ``gamma``: float32 [A, 1]."""
        slots = (np.array([generator.random(batch_size) for generator in random]) * len(self)).astype(np.int64)
        taken = self._take(self.rows, slots)
        if n_step == 1:
            outcome = self._take(self.outcomes, slots)
            following, reward, discount = taken, outcome[..., 0], gamma * (1 - outcome[..., 1])
        else:
            last, reward, discount = self._sum_rewards(slots, n_step, gamma)
            following = self._take(self.rows, last)
        return Batch(
            observation=taken[..., : self.observation_size],
            next_observation=following[..., self.observation_size : -1],
            action=taken[..., -1].astype(np.int64),
            reward=reward,
            discount=discount,
        )

    def _take(self, rows: Array, slots: Array) -> Array:
        """The rows [A, B, width] at each agent's slots [A, B]."""
        return rows.reshape(-1, rows.shape[-1]).take(slots + self._first_row, axis=0)

    def _sum_rewards(self, slots: Array, n_step: int, gamma: Array) -> tuple[Array, Array, Array]:
        """Sum up to n rewards from each slot on, ending with the episode or with what has been collected.

        Returns the slot of the last transition summed, the sums, and what the value after it counts, each [A, B].
        """
        newest = (self.written - 1) % self.capacity
        following = (
            (newest - slots) % self.capacity // self.num_envs
        )  # transitions of the same environment collected since
        slots_n = slots[..., None] + np.arange(n_step) * self.num_envs
        slots_n[slots_n >= self.capacity] -= self.capacity
        outcome = self._take(self.outcomes, slots_n.reshape(len(slots), -1)).reshape(*slots_n.shape, 3)
        counts = np.arange(n_step) <= following[..., None]
        counts[..., 1:] &= np.logical_and.accumulate(outcome[..., :-1, 2] == 0, axis=-1)
        last = counts.sum(-1) - 1
        powers = gamma ** np.arange(n_step + 1, dtype=np.float32)  # [A, n + 1]
        reward = (outcome[..., 0] * counts * powers[:, None, :-1]).sum(-1)
        agent, sample = np.arange(len(slots))[:, None], np.arange(slots.shape[1])
        discount = powers[agent, last + 1] * (1 - outcome[agent, sample, last, 1])
        return slots_n[agent, sample, last], reward, discount

    def cut(self, agent: int) -> None:
        """End the newest transitions' episodes, because what follows begins new ones."""
        self.outcomes[agent, (self.written - 1 - np.arange(min(self.num_envs, len(self)))) % self.capacity, 2] = 1

    def capture(self, agent: int) -> dict[str, Any]:
        size = len(self)
        return {
            "rows": self.rows[agent, :size].copy(),
            "outcomes": self.outcomes[agent, :size].copy(),
            "written": self.written,
        }

    def restore(self, agent: int, tree: dict[str, Any]) -> None:
        self.written = tree["written"]
        for name, stored in (("rows", self.rows), ("outcomes", self.outcomes)):
            stored[agent, : len(self)] = fitting(tree[name], stored[agent, : len(self)])

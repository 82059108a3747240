"""Replay memory over the agent axis: a ring of transitions, sampled uniformly, with n-step returns put together when sampled.

The memory lies in NumPy arrays, or on a GPU in tensors: what samples it is written once for both.

Shapes: A agents, N environments an agent, C capacity, B batch, O observation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rlrun.arrays import as_array, fill
from rlrun.lazy import torch

Array = np.ndarray[Any, Any]


class Batch(NamedTuple):
    """Sampled transitions, as arrays or tensors. ``discount`` is what the value of ``next_observation`` counts: gamma^n, and
    0 after a termination."""

    observation: Any  # [A, B, O]
    next_observation: Any  # [A, B, O]
    action: Any  # int64 [A, B]
    reward: Any  # [A, B], summed over n steps with discounts
    discount: Any  # [A, B]

    def to_torch(self) -> Batch:
        """The same memory as tensors."""
        return Batch(*(torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in self))


class Replay:
    """The newest C transitions of each agent. A row of floats holds one transition's vectors, so that sampling is one gather."""

    def __init__(
        self,
        agents: int,
        capacity: int,
        num_envs: int,
        observation_size: int,
        device: str | None = None,
        actions: int | None = None,
    ) -> None:
        """``device``: where tensors are to hold the memory; None for NumPy arrays. ``actions``: how many there are, if known."""
        assert capacity % num_envs == 0  # so that the transitions of one environment lie num_envs rows apart
        self.capacity, self.num_envs, self.observation_size = capacity, num_envs, observation_size
        self.device, self._actions = device, actions
        self.rows = self._zeros(agents, capacity, 2 * observation_size + 1)  # observation, next observation, action
        self.outcomes = self._zeros(agents, capacity, 3)  # reward, terminated, done
        self.written = 0
        size, self._step = observation_size, np.zeros((agents, num_envs, 2 * observation_size + 4), np.float32)
        self._observation, self._next_observation = self._step[..., :size], self._step[..., size : 2 * size]
        self._action, self._reward, self._terminated, self._done = np.moveaxis(self._step[..., 2 * size :], -1, 0)
        self._first_row = self._place((np.arange(agents) * capacity)[:, None])

    def _zeros(self, *shape: int) -> Any:
        return np.zeros(shape, np.float32) if self.device is None else torch.zeros(shape, device=self.device)

    def _place(self, array: Array) -> Any:
        """An array where the memory is."""
        return array if self.device is None else torch.from_numpy(array).to(self.device, non_blocking=True)

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
        # Columns of one step, packed: on a GPU one transfer.
        self._observation[...], self._next_observation[...], self._action[...] = observation, next_observation, action
        self._reward[...], self._terminated[...], self._done[...] = reward, terminated, terminated | truncated
        step, start = self._place(self._step), self.written % self.capacity
        self.rows[:, start : start + self.num_envs] = step[..., :-3]
        self.outcomes[:, start : start + self.num_envs] = step[..., -3:]
        self.written += self.num_envs

    def sample(self, batch_size: int, n_step: int, gamma: Any, random: Sequence[np.random.Generator]) -> Batch:
        """``batch_size`` transitions of each agent, uniformly with replacement. ``gamma``: float32 [A, 1]."""
        uniform = np.array([generator.random(batch_size) for generator in random])
        slots = self._place((uniform * len(self)).astype(np.int64))
        taken = self._take(self.rows, slots)
        if n_step == 1:
            outcome = self._take(self.outcomes, slots)
            following, reward, discount = taken, outcome[..., 0], gamma * (1 - outcome[..., 1])
        else:
            last, reward, discount = self._sum_rewards(slots, n_step, gamma)
            following = self._take(self.rows, last)
        action = taken[..., -1]
        return Batch(
            observation=taken[..., : self.observation_size],
            next_observation=following[..., self.observation_size : -1],
            action=action.astype(np.int64) if isinstance(action, np.ndarray) else action.long(),
            reward=reward,
            discount=discount,
        )

    def _take(self, rows: Any, slots: Any) -> Any:
        """The rows [A, B, width] at each agent's slots [A, B]."""
        flat, places = rows.reshape(-1, rows.shape[-1]), slots + self._first_row
        return flat.take(places, axis=0) if isinstance(flat, np.ndarray) else flat[places]  # take is NumPy's faster way

    def _sum_rewards(self, slots: Any, n_step: int, gamma: Any) -> tuple[Any, Any, Any]:
        """Sum up to n rewards from each slot on, ending with the episode or with what has been collected.

        Returns the slot of the last transition summed, the sums, and what the value after it counts, each [A, B].
        """
        newest = (self.written - 1) % self.capacity
        following = (newest - slots) % self.capacity // self.num_envs  # transitions of the environment collected since
        steps = self._place(np.arange(n_step))
        slots_n = (slots[..., None] + steps * self.num_envs) % self.capacity
        outcome = self._take(self.outcomes, slots_n.reshape(len(slots), -1)).reshape(*slots_n.shape, 3)
        ended = outcome[..., 2] != 0  # not floats: their cumulative sum is not deterministic on a GPU
        counts = (steps <= following[..., None]) & (ended.cumsum(-1) == ended)  # no episode has ended before
        last = counts.sum(-1) - 1
        powers = gamma ** self._place(np.arange(n_step + 1, dtype=np.float32))  # [A, n + 1]
        reward = (outcome[..., 0] * counts * powers[:, None, :-1]).sum(-1)
        agent, sample = self._place(np.arange(len(slots))[:, None]), self._place(np.arange(slots.shape[1]))
        discount = powers[agent, last + 1] * (1 - outcome[agent, sample, last, 1])
        return slots_n[agent, sample, last], reward, discount

    def cut(self, agent: int) -> None:
        """End the newest transitions' episodes, because what follows begins new ones."""
        self.outcomes[agent, (self.written - 1 - np.arange(min(self.num_envs, len(self)))) % self.capacity, 2] = 1

    def capture(self, agent: int) -> dict[str, Any]:
        size = len(self)
        return {
            "rows": as_array(self.rows[agent, :size]),
            "outcomes": as_array(self.outcomes[agent, :size]),
            "written": self.written,
        }

    def restore(self, agent: int, tree: dict[str, Any]) -> None:
        chosen = tree["rows"][:, -1]
        # Whoever learns from them takes an action for an index, which must not lead to another agent's numbers.
        if self._actions is not None and not np.isin(chosen, np.arange(self._actions)).all():
            raise ValueError("an action that the environment does not have")
        self.written = tree["written"]
        for name, stored in (("rows", self.rows), ("outcomes", self.outcomes)):
            fill(stored[agent, : len(self)], tree[name])

"""What an on-policy algorithm collects and how it is cut into minibatches.

Shapes: A agents, T steps, N environments, M = T N transitions (time-major), B minibatch, O observation, K numbers of a kept action.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rlrun.lazy import torch
from rlrun.normalization import ObservationNormalizer
from rlrun.trainers.ppo_losses import normalized

Array = np.ndarray[Any, Any]
SUCCESSORS = 64


class Columns:
    """Transitions as rows of floats [A, M, W], with a view for each column; a minibatch is a slice of shuffled rows."""

    def __init__(self, rows: Any, observation_size: int) -> None:
        self.rows, self.observation_size = rows, observation_size
        self.observation = rows[..., :observation_size]
        self.action = rows[..., observation_size:-4]
        self.log_prob = rows[..., -4]
        self.advantage = rows[..., -3]
        self.target = rows[..., -2]
        self.old_value = rows[..., -1]

    def shuffled(
        self, size: int, normalize: bool, shuffling: Sequence[np.random.Generator], active: Sequence[int]
    ) -> Columns:
        """All that fills minibatches of ``size``, in an order drawn by each active agent.

        ``normalize``: give the advantages of each minibatch a mean of 0 and a standard deviation of 1.
        """
        agents, transitions, width = self.rows.shape
        order = np.tile(np.arange(transitions), (agents, 1))
        for agent in active:
            order[agent] = shuffling[agent].permutation(transitions)
        order += (np.arange(agents) * transitions)[:, None]
        whole = transitions // size * size
        result = Columns(self.rows.reshape(-1, width)[order[:, :whole]], self.observation_size)
        if normalize:
            advantage_AMB = result.advantage.reshape(agents, -1, size)
            result.advantage[:] = normalized(advantage_AMB).reshape(agents, whole)
        return result

    def to_torch(self) -> Columns:
        """The same memory as tensors."""
        return Columns(torch.from_numpy(self.rows), self.observation_size)

    def part(self, where: slice) -> Columns:
        """Some of the transitions, sharing memory."""
        return Columns(self.rows[:, where], self.observation_size)


class Rollout:
    """T steps of N environments of each agent, as the environments gave them."""

    def __init__(self, agents: int, steps: int, num_envs: int, observation_size: int, action_size: int) -> None:
        shape = (agents, steps, num_envs)
        self.observation = np.zeros((*shape, observation_size), np.float32)
        self.next_observation = np.zeros((*shape, observation_size), np.float32)
        self.action = np.zeros((*shape, action_size), np.float32)
        self.reward = np.zeros(shape, np.float32)
        self.terminated = np.zeros(shape, bool)
        self.truncated = np.zeros(shape, bool)
        self.observation_AMO = self.observation.reshape(agents, steps * num_envs, observation_size)
        self.next_observation_AMO = self.next_observation.reshape(agents, steps * num_envs, observation_size)

    def unseen_successors(self, normalize: ObservationNormalizer) -> Iterator[tuple[Array, list[Array]]]:
        """What steps led to that is no observation of the next step, and counts: after a time limit or the last step.

        In batches of one size [A, SUCCESSORS, O], the rest filled with zeros: an agent's values must not depend on how many another
        has. With each come the places, among the agent's M transitions, of its first rows.
        """
        apart = self.truncated.copy()
        apart[:, -1] = True
        apart &= ~self.terminated
        places = [np.flatnonzero(apart_TN) for apart_TN in apart]
        for start in range(0, max(map(len, places)), SUCCESSORS):
            chosen = [where[start : start + SUCCESSORS] for where in places]
            batch = np.zeros((len(places), SUCCESSORS, self.observation.shape[-1]), np.float32)
            for agent, where in enumerate(chosen):
                batch[agent, : len(where)] = self.next_observation_AMO[agent, where]
            yield normalize(batch), chosen

    def columns(self, normalize: ObservationNormalizer) -> Columns:
        """The transitions with normalised observations; log-probabilities, advantages and values are still to be filled in."""
        agents, transitions, observation_size = self.observation_AMO.shape
        action = self.action.reshape(agents, transitions, -1)
        columns = Columns(
            np.zeros((agents, transitions, observation_size + action.shape[-1] + 4), np.float32), observation_size
        )
        columns.observation[:] = normalize(self.observation_AMO)
        columns.action[:] = action
        return columns


class Measures:
    """Means of named numbers over the epochs each agent took part in."""

    def __init__(self, agents: int) -> None:
        self.agents = agents
        self.sums: dict[str, Array] = {}
        self.counts = np.zeros(agents)

    def add(self, active: Sequence[int], values: dict[str, Array]) -> None:
        for name, values_A in values.items():
            self.sums.setdefault(name, np.zeros(self.agents))[list(active)] += values_A[list(active)]
        self.counts[list(active)] += 1

    def means(self) -> dict[str, Array]:
        """The mean of each number [A]."""
        return {name: total / np.maximum(self.counts, 1) for name, total in self.sums.items()}

"""What an on-policy algorithm collects and how it is cut into minibatches.

Shapes: A agents, T steps, N environments, M = T N transitions (time-major), B minibatch, O observation, K numbers of a kept action.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from rlrun.normalization import ObservationNormalizer

Array = np.ndarray[Any, Any]


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

    def minibatches(
        self, size: int, shuffling: Sequence[np.random.Generator], active: Sequence[int]
    ) -> Iterator[Columns]:
        """Disjoint minibatches in an order drawn by each active agent; what does not fill one is left out."""
        agents, transitions, width = self.rows.shape
        order = np.tile(np.arange(transitions), (agents, 1))
        for agent in active:
            order[agent] = shuffling[agent].permutation(transitions)
        order += (np.arange(agents) * transitions)[:, None]
        shuffled = self.rows.reshape(-1, width)[order]
        for start in range(0, transitions - size + 1, size):
            yield Columns(shuffled[:, start : start + size], self.observation_size)

    def to_torch(self, device: torch.device) -> Columns:
        """The same columns as tensors."""
        return Columns(torch.from_numpy(self.rows).to(device), self.observation_size)


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
    """Numbers of each minibatch, for the agents that learned from it."""

    def __init__(self, agents: int) -> None:
        self.agents = agents
        self.sums: dict[str, Array] = {}
        self.counts = np.zeros(agents)
        self._epoch_start: tuple[dict[str, Array], Array] = ({}, np.zeros(agents))
        self._epoch: dict[str, Array] = {}

    def add(self, active: Sequence[int], values: dict[str, Array]) -> None:
        everyone = len(active) == self.agents
        chosen = slice(None) if everyone else list(active)
        for name, values_A in values.items():
            if name not in self.sums:
                self.sums[name] = np.zeros(self.agents)
            self.sums[name][chosen] += values_A if everyone else values_A[chosen]
        self.counts[chosen] += 1

    def end_epoch(self) -> None:
        """Close an epoch: ``epoch_mean`` speaks of it until the next is closed."""
        sums_before, counts_before = self._epoch_start
        counts = np.maximum(self.counts - counts_before, 1)
        self._epoch = {name: (total - sums_before.get(name, 0.0)) / counts for name, total in self.sums.items()}
        self._epoch_start = ({name: total.copy() for name, total in self.sums.items()}, self.counts.copy())

    def epoch_mean(self, name: str, agent: int) -> float:
        return float(self._epoch[name][agent])

    def means(self) -> dict[str, Array]:
        """The mean of each number over an agent's minibatches [A]."""
        return {name: total / np.maximum(self.counts, 1) for name, total in self.sums.items()}

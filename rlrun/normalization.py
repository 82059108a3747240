"""Running statistics of observations and returns. They belong to the agent: they are saved and evaluated with its weights.

Shapes: A agents, B batch, O observation, T steps, N environments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlrun.arrays import finite, fitting, real
from rlrun.config import EnvConfig
from rlrun.lazy import torch

Array = np.ndarray[Any, Any]
SMALLEST_VARIANCE = 1e-8


class Moments:
    """Mean and variance of each agent's samples, merged batch by batch (Chan, Golub & LeVeque 1983). ``size`` numbers a sample."""

    def __init__(self, agents: int, size: int) -> None:
        self.count = np.zeros(agents)
        self.mean = np.zeros((agents, size))
        self.squares = np.zeros((agents, size))  # sum of squared distances from the mean

    def update(self, batch: Array) -> None:
        """Merge samples [A, B, size]."""
        for agent, samples in enumerate(batch.astype(np.float64)):
            count, mean = len(samples), samples.mean(axis=0)
            delta, total = mean - self.mean[agent], self.count[agent] + count
            self.squares[agent] += ((samples - mean) ** 2).sum(axis=0) + delta**2 * self.count[agent] * count / total
            self.mean[agent] += delta * count / total
            self.count[agent] = total

    def scale(self) -> Array:
        """1 / standard deviation [A, size]; 1 where nothing was seen or nothing varies."""
        variance = self.squares / np.maximum(self.count, 1)[:, None]
        return np.where(variance > SMALLEST_VARIANCE, 1 / np.sqrt(np.maximum(variance, SMALLEST_VARIANCE)), 1.0)

    def capture(self, agent: int) -> dict[str, Any]:
        return {
            "count": float(self.count[agent]),
            "mean": self.mean[agent].copy(),
            "squares": self.squares[agent].copy(),
        }

    def restore(self, agent: int, tree: dict[str, Any]) -> None:
        self.count[agent] = real(tree["count"], low=0)
        self.mean[agent] = finite(fitting(tree["mean"], self.mean[agent]))
        self.squares[agent] = finite(fitting(tree["squares"], self.squares[agent]))
        if (self.squares[agent] < 0).any():
            raise ValueError("a sum of squares below 0")


class ObservationNormalizer:
    """(observation - mean) / standard deviation, clipped, as ``env.observation_norm`` says; otherwise the identity."""

    def __init__(self, config: EnvConfig, agents: int, size: int) -> None:
        self.enabled, self.running = config.observation_norm != "none", config.observation_norm == "running"
        self.clip = config.observation_clip
        self.moments = Moments(agents, size)
        self._refresh()

    def __call__(self, observation: Any) -> Any:
        """Normalise observations [A, B, O], an array or a tensor."""
        if not self.enabled:
            return observation
        if not isinstance(observation, np.ndarray):
            mean, scale = (torch.from_numpy(x).to(observation.device) for x in (self._mean, self._scale))
            scaled = (observation - mean) * scale
            return scaled if self.clip is None else scaled.clamp(-self.clip, self.clip)
        normalized: Array = (observation - self._mean) * self._scale
        if self.clip is not None:
            np.maximum(normalized, -self.clip, out=normalized)
            np.minimum(normalized, self.clip, out=normalized)
        return normalized

    def update(self, observation: Array) -> None:
        """Take in observations [A, B, O]."""
        self.moments.update(observation)
        self._refresh()

    def _refresh(self) -> None:
        self._mean = self.moments.mean.astype(np.float32)[:, None, :]
        self._scale = self.moments.scale().astype(np.float32)[:, None, :]

    def capture(self, agent: int) -> dict[str, Any]:
        return self.moments.capture(agent)

    def restore(self, agent: int, tree: dict[str, Any]) -> None:
        self.moments.restore(agent, tree)
        self._refresh()


class RewardNormalizer:
    """Divides rewards by the running standard deviation of the discounted return (as Gymnasium's NormalizeReward)."""

    def __init__(self, agents: int, num_envs: int) -> None:
        self.returns = np.zeros((agents, num_envs))
        self.moments = Moments(agents, 1)

    def __call__(self, reward: Array, done: Array, gamma: Sequence[float]) -> Array:
        """Normalise a rollout of rewards [A, T, N]. ``done`` [A, T, N] ends an episode after its step."""
        discounted = np.empty(reward.shape)
        for agent, discount in enumerate(gamma):
            for env in range(reward.shape[2]):
                total, totals = float(self.returns[agent, env]), []
                for r, end in zip(reward[agent, :, env].tolist(), done[agent, :, env].tolist(), strict=True):
                    total = total * discount + r
                    totals.append(total)
                    if end:
                        total = 0.0
                self.returns[agent, env] = total
                discounted[agent, :, env] = totals
        self.moments.update(discounted.reshape(len(reward), -1, 1))
        normalized: Array = reward * self.moments.scale().astype(np.float32)[:, :, None]
        return normalized

    def cut(self, agent: int) -> None:
        """Begin new returns, because what follows begins new episodes."""
        self.returns[agent] = 0

    def capture(self, agent: int) -> dict[str, Any]:
        return {"returns": self.returns[agent].copy(), "moments": self.moments.capture(agent)}

    def restore(self, agent: int, tree: dict[str, Any]) -> None:
        self.returns[agent] = finite(fitting(tree["returns"], self.returns[agent]))
        self.moments.restore(agent, tree["moments"])

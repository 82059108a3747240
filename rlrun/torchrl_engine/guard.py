"""A Gymnasium environment that says in one line what it did wrong, for whoever steps it. Imports no TorchRL."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

from rlrun.config import EnvConfig
from rlrun.envs import make, wrong_kind
from rlrun.errors import PASSING, EnvironmentFailure, one_line
from rlrun.manners import close


class Guarded(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The environment of a config; choices of a Discrete space are numbered from 0.

    What it raises, and what is not finite, becomes an EnvironmentFailure.
    """

    def __init__(self, config: EnvConfig, seed: int, index: int) -> None:
        """``index``: of the agent's environments. Raises what ``envs.make`` raises."""
        super().__init__(make(config))
        self._id, self._seed, self.index, self._steps, self._first = config.id, seed, index, 0, 0
        if isinstance(self.env.action_space, Discrete):
            self._first = int(self.env.action_space.start)
            self.action_space = Discrete(int(self.env.action_space.n))

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        index = self.index  # the watchdog looks for it
        self._steps += 1
        taken = action + self._first if self._first else action
        try:
            observation, reward, terminated, truncated, info = self.env.step(taken)
            number = float(reward)
        except PASSING:
            raise
        except BaseException as error:
            raise self._failure(index, f"{one_line(error)} (action {taken})") from error
        wrong = wrong_kind(observation, reward, terminated, truncated)
        if wrong is not None:
            raise self._failure(index, wrong)
        if not np.isfinite(number):
            raise self._failure(index, f"reward {number}")
        self._check(index, observation)
        return observation, number, bool(terminated), bool(truncated), info

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        index = self.index
        try:
            observation, info = self.env.reset(seed=seed, options=options)
        except PASSING:
            raise
        except BaseException as error:
            raise self._failure(index, f"{one_line(error)} (in reset)") from error
        self._check(index, observation)
        return observation, info

    def close(self) -> None:
        close(self.env, self._id)

    def _check(self, index: int, observation: Any) -> None:
        space = self.env.observation_space
        if np.shape(observation) != space.shape:
            raise self._failure(index, f"observation of shape {np.shape(observation)}, its space says {space.shape}")
        if not np.isfinite(observation).all():
            raise self._failure(index, "observation is not finite")

    def whereabouts(self, index: int) -> tuple[int, int, str]:
        """The agent of the environment, its step, and both in words."""
        return 0, self._steps, f"step {self._steps} of the agent with seed {self._seed}"

    def _failure(self, index: int, what: str) -> EnvironmentFailure:
        return EnvironmentFailure(f"env {self._id} failed at {self.whereabouts(index)[2]}: {what}")

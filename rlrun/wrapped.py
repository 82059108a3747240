"""A run's environment as a Gymnasium environment of its own: what the agent sees and does, for a loop that somebody else writes.

The same meaning as ``rollout.Environments`` gives to ``env.frame_skip``, ``env.time_limit`` and ``env.frame_stack``; rewards are as
the environment gives them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium
from gymnasium.utils import RecordConstructorArgs
from gymnasium.wrappers import FrameStackObservation, TimeLimit

from rlrun.config import EnvConfig
from rlrun.envs import Environment, make, repeated, step_limit


class FrameSkip(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Takes each action ``times`` times."""

    def __init__(self, env: Environment, times: int) -> None:
        RecordConstructorArgs.__init__(self, times=times)  # so that its spec can be told
        gymnasium.Wrapper.__init__(self, env)
        self._repeated = repeated(env.step, times)

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, Any]:
        return self._repeated(action)


def make_wrapped(config: EnvConfig, render_mode: str | None = None) -> Environment:
    """The environment with all that the config puts around it. Stacked observations are [frames, ...], the oldest first.

    Raises what ``envs.make`` raises.
    """
    if render_mode is not None:
        config = dataclasses.replace(config, kwargs={**config.kwargs, "render_mode": render_mode})
    env = make(config)
    if config.frame_skip > 1:
        env = FrameSkip(env, config.frame_skip)
    limit = step_limit(config)
    if limit is not None:
        env = TimeLimit(env, limit)
    return FrameStackObservation(env, config.frame_stack) if config.frame_stack > 1 else env

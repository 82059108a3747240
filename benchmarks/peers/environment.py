"""The limit: the bare Gymnasium environment, stepped with random actions drawn before, in a tight loop."""

from __future__ import annotations

import sys

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

from benchmarks.peers.common import Clock, Settings, run

BLOCK = 4096


def step_bare(settings: Settings, frames: int, seed: int, clock: Clock) -> int:
    """No wrappers; the time limit is counted here, as rlrun counts it."""
    outer = gymnasium.make(settings["env"]["id"], disable_env_checker=True)
    limit = settings["env"]["time_limit"] or (outer.spec and outer.spec.max_episode_steps) or sys.maxsize
    environment, random = outer.unwrapped, np.random.default_rng(seed)
    space = environment.action_space
    if isinstance(space, Discrete):
        actions = random.integers(space.n, size=BLOCK).tolist()
    else:
        actions = list(random.uniform(space.low, space.high, (BLOCK, *space.shape)).astype(space.dtype))
    environment.reset(seed=seed)
    step, reset, length = environment.step, environment.reset, 0
    clock.first_step()
    for index in range(frames):
        _, _, terminated, _, _ = step(actions[index % BLOCK])
        length += 1
        if terminated or length >= limit:
            reset()
            length = 0
    return frames


if __name__ == "__main__":
    names = ("dqn_tutorial", "dqn_cleanrl", "ppo_cartpole", "ppo_halfcheetah", "ppo_pendulum", "startup", "memory")
    run(dict.fromkeys(names, step_bare))

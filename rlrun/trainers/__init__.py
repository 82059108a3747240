"""The algorithms. ``make_trainer`` and ``make_policy`` are the one place that maps a config to its trainer."""

from __future__ import annotations

from collections.abc import Sequence

from rlrun.config import DQNConfig, PPOConfig, RunConfig
from rlrun.envs import Spaces
from rlrun.hardware import Hardware
from rlrun.trainers import dqn, ppo, ppo_policy
from rlrun.trainers.base import Policy, Trainer


def make_trainer(configs: Sequence[RunConfig], spaces: Spaces, hardware: Hardware, exact: bool) -> Trainer:
    """A trainer of one agent for each config. The configs share a signature."""
    match configs[0].algo:
        case DQNConfig():
            return dqn.DQNTrainer(configs, spaces, hardware, exact)
        case PPOConfig():
            return ppo.PPOTrainer(configs, spaces, hardware, exact)


def make_policy(config: RunConfig, spaces: Spaces, agents: int, hardware: Hardware) -> Policy:
    """An untrained greedy policy of ``agents`` agents, to load weights into."""
    match config.algo:
        case DQNConfig():
            rows = hardware.place(dqn.layout(config, spaces).initial_rows([0] * agents))
            return dqn.QPolicy(config, spaces, rows, hardware)
        case PPOConfig():
            rows = hardware.place(ppo_policy.layout(config, spaces).initial_rows([0] * agents))
            return ppo_policy.PPOPolicy(config, spaces, rows, hardware)

"""``engine=torchrl``: the same configs trained with TorchRL's own parts, wired as its PPO tutorial and its DQN example do.

A reference to hold the fast engine against, so it is written to be read and not to be fast: one agent, and TorchRL's environments,
collector, replay buffer, modules, advantages, losses and target updates in their usual places. ``dqn.py`` and ``ppo.py`` each read
from top to bottom. Evaluation, metrics, checkpoints and signals are those of every run. TorchRL is imported here and only here.
"""

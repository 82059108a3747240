"""Plain PyTorch loops, written the way the official tutorials and CleanRL teach, without their logging."""

from __future__ import annotations

import torch

from benchmarks.peers.common import run
from benchmarks.peers.plain_dqn import cleanrl_dqn, tutorial_dqn
from benchmarks.peers.plain_ppo import cleanrl_ppo
from benchmarks.peers.plain_tutorial_ppo import tutorial_ppo

if __name__ == "__main__":
    torch.set_num_threads(1)
    run(
        {
            "dqn_tutorial": tutorial_dqn,
            "dqn_cleanrl": cleanrl_dqn,
            "ppo_cartpole": cleanrl_ppo,
            "ppo_halfcheetah": cleanrl_ppo,
            "ppo_pendulum": tutorial_ppo,
        }
    )

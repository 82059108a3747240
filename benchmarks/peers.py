"""Stable-Baselines3 at the settings of ``speed.CASES``. ``python -m benchmarks.peers CASE FRAMES SEED`` prints one JSON line."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch


def dqn_tutorial(seed: int) -> Any:
    """The DQN tutorial's settings. SB3 has linear exploration and clips the norm of gradients instead of their values."""
    from stable_baselines3 import DQN

    return DQN(
        "MlpPolicy",
        "CartPole-v1",
        learning_rate=1e-4,
        buffer_size=10_000,
        learning_starts=128,
        batch_size=128,
        tau=0.005,
        gamma=0.99,
        train_freq=1,
        gradient_steps=1,
        target_update_interval=1,
        exploration_fraction=0.1,
        exploration_final_eps=0.05,
        policy_kwargs={
            "net_arch": [128, 128],
            "activation_fn": torch.nn.ReLU,
            "optimizer_class": torch.optim.AdamW,
            "optimizer_kwargs": {"amsgrad": True},
        },
        seed=seed,
        device="cpu",
    )


def ppo_halfcheetah(seed: int) -> Any:
    """PPO with CleanRL's continuous settings: one environment, 2048 steps, 32 minibatches, 10 epochs, running normalisation."""
    import gymnasium
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    environment = VecNormalize(DummyVecEnv([lambda: gymnasium.make("HalfCheetah-v5")]))
    return PPO(
        "MlpPolicy",
        environment,
        learning_rate=lambda left: 3e-4 * left,
        n_steps=2048,
        batch_size=64,
        n_epochs=10,
        gamma=0.99,
        gae_lambda=0.95,
        clip_range=0.2,
        ent_coef=0.0,
        vf_coef=0.5,
        max_grad_norm=0.5,
        seed=seed,
        device="cpu",
    )


def main() -> None:
    name, frames, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    model = {"dqn_tutorial": dqn_tutorial, "ppo_halfcheetah": ppo_halfcheetah}[name](seed)
    started = time.perf_counter()
    model.learn(total_timesteps=frames)
    print(json.dumps({"frames_per_second": frames / (time.perf_counter() - started)}))


if __name__ == "__main__":
    main()

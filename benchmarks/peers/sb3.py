"""Stable-Baselines3 at rlrun's settings.

Where it cannot follow: its DQN always takes the Huber loss and always clips the norm of the gradient, never its values; it stores the
normalised observations of a rollout and updates the statistics every step; its clipped value loss lacks CleanRL's maximum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from benchmarks.peers.common import Clock, Settings, epsilon, learning_rate, run

ACTIVATIONS = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}


def dqn(settings: Settings, frames: int, seed: int, clock: Clock) -> int:
    """DQN, with rlrun's course of epsilon in place of its own."""
    algo = settings["algo"]
    environment = make_vec_env(settings["env"]["id"], n_envs=algo["num_envs"], seed=seed)
    model = DQN(
        "MlpPolicy",
        environment,
        learning_rate=_schedule(algo),
        buffer_size=algo["buffer_size"],
        learning_starts=algo["learning_starts"],
        batch_size=algo["batch_size"],
        tau=algo["tau"],
        gamma=algo["gamma"],
        train_freq=algo["train_every"],
        gradient_steps=algo["updates_per_train"],
        target_update_interval=algo["target_every"] * algo["train_every"] // algo["updates_per_train"],
        max_grad_norm=algo["max_gradient_norm"] or algo["clip_gradient_value"] or math.inf,
        policy_kwargs=_network(settings) | _optimizer(algo),
        seed=seed,
        device="cpu",
    )
    model.exploration_schedule = lambda left: epsilon(algo, (1 - left) * frames)
    return _learn(model, environment, frames, clock)


def ppo(settings: Settings, frames: int, seed: int, clock: Clock) -> int:
    """PPO; running statistics through VecNormalize."""
    algo, env = settings["algo"], settings["env"]
    environment: Any = make_vec_env(env["id"], n_envs=algo["num_envs"], seed=seed)
    if env["observation_norm"] == "running" or env["reward_norm"]:
        environment = VecNormalize(
            environment,
            norm_obs=env["observation_norm"] == "running",
            norm_reward=env["reward_norm"],
            clip_obs=env["observation_clip"],
            clip_reward=env["reward_clip"],
            gamma=algo["gamma"],
        )
    model = PPO(
        "MlpPolicy",
        environment,
        learning_rate=_schedule(algo),
        n_steps=algo["rollout_steps"],
        batch_size=algo["minibatch_size"],
        n_epochs=algo["epochs"],
        gamma=algo["gamma"],
        gae_lambda=algo["gae_lambda"],
        clip_range=algo["clip_range"],
        clip_range_vf=algo["value_clip_range"],
        normalize_advantage=algo["normalize_advantage"] == "minibatch",
        ent_coef=algo["entropy_coef"],
        vf_coef=algo["critic_coef"],  # both mean the mean of squares, without a half
        max_grad_norm=algo["max_gradient_norm"],
        target_kl=algo["target_kl"],
        policy_kwargs=_network(settings) | {"optimizer_kwargs": {"eps": algo["adam_epsilon"]}},
        seed=seed,
        device="cpu",
    )
    return _learn(model, environment, frames, clock)


def _schedule(algo: Settings) -> Callable[[float], float]:
    return lambda left: learning_rate(algo, 1 - left)


def _network(settings: Settings) -> dict[str, Any]:
    network = settings["network"]
    return {"net_arch": list(network["hidden"]), "activation_fn": ACTIVATIONS[network["activation"]]}


def _optimizer(algo: Settings) -> dict[str, Any]:
    adamw = algo["optimizer"] == "adamw"
    return {
        "optimizer_class": torch.optim.AdamW if adamw else torch.optim.Adam,
        "optimizer_kwargs": {
            "amsgrad": algo["amsgrad"],
            "eps": algo["adam_epsilon"],
            "weight_decay": algo["weight_decay"] if adamw else 0.0,
        },
    }


def _learn(model: Any, environment: Any, frames: int, clock: Clock) -> int:
    clock.watch(type(environment.unwrapped.envs[0].unwrapped))
    model.learn(total_timesteps=frames)
    return int(model.num_timesteps)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(
        {
            "dqn_tutorial": dqn,
            "dqn_cleanrl": dqn,
            "ppo_cartpole": ppo,
            "ppo_halfcheetah": ppo,
            "startup": dqn,
            "memory": dqn,
        }
    )

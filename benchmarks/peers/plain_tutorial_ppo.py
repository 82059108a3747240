"""The TorchRL PPO tutorial's algorithm without TorchRL: one environment, a squashed Gaussian, advantages computed anew each epoch."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional

from benchmarks.peers.common import Clock, Settings, learning_rate
from benchmarks.peers.plain_networks import mlp

SMALLEST_STD = 0.01
STD_BIAS = float(np.log(np.expm1(1.0 - SMALLEST_STD)))  # an output of 0 means a standard deviation of 1


class Policy:
    """A Gaussian squashed by tanh; ``raw`` is the action before the squashing."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def distribution(self, observation: Tensor) -> Normal:
        """The Gaussian before the squashing."""
        mean, spread = self.network(observation).chunk(2, dim=-1)
        return Normal(mean, functional.softplus(spread + STD_BIAS) + SMALLEST_STD)

    @staticmethod
    def log_prob(gauss: Normal, raw: Tensor) -> Tensor:
        """Log-density of tanh(raw)."""
        jacobian = 2 * (np.log(2) - raw - functional.softplus(-2 * raw))
        return (gauss.log_prob(raw) - jacobian).sum(-1)


class Rollout:
    """What one iteration has collected, as tensors of T steps."""

    def __init__(self, columns: list[list[Any]]) -> None:
        seen, following, raw, log_prob, reward, terminated, done = columns
        self.observation = torch.from_numpy(np.stack(seen))
        self.following = torch.from_numpy(np.stack(following))
        self.raw, self.log_prob = torch.stack(raw), torch.stack(log_prob)
        self.reward: list[float] = reward
        self.terminated: list[bool] = terminated
        self.done: list[bool] = done


def tutorial_ppo(settings: Settings, frames: int, seed: int, clock: Clock) -> int:
    """Rollouts and epochs; observations are normalised by statistics of random steps at the start."""
    torch.manual_seed(seed)
    algo, env, network = settings["algo"], settings["env"], settings["network"]
    environment = gymnasium.make(env["id"], max_episode_steps=env["time_limit"])
    inputs, actions = environment.observation_space.shape[0], environment.action_space.shape[0]
    policy, critic = Policy(mlp(inputs, network, 2 * actions)), mlp(inputs, network, 1)
    parameters = [*policy.network.parameters(), *critic.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=algo["learning_rate"], eps=algo["adam_epsilon"])
    mean, std = _statistics(environment, env["observation_norm_steps"], seed)
    observation, _ = environment.reset(seed=seed)
    iterations = -(-frames // algo["rollout_steps"])
    clock.first_step()
    for iteration in range(iterations):
        optimizer.param_groups[0]["lr"] = learning_rate(algo, iteration / iterations)
        rollout, observation = _collect(environment, policy, algo["rollout_steps"], observation, mean, std)
        for _ in range(algo["epochs"]):
            advantage, target = _advantages(algo, critic, rollout)
            order = torch.randperm(len(advantage))
            for start in range(0, len(order) - algo["minibatch_size"] + 1, algo["minibatch_size"]):
                chosen = order[start : start + algo["minibatch_size"]]
                loss = _loss(algo, policy, critic, rollout, chosen, advantage, target)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, algo["max_gradient_norm"])
                optimizer.step()
    return iterations * algo["rollout_steps"]


def _statistics(environment: Any, steps: int, seed: int) -> tuple[Any, Any]:
    environment.reset(seed=seed)
    seen = []
    for _ in range(steps):
        observation, _, terminated, truncated, _ = environment.step(environment.action_space.sample())
        seen.append(observation)
        if terminated or truncated:
            environment.reset()
    return np.mean(seen, axis=0), np.std(seen, axis=0) + 1e-6


def _collect(
    environment: Any, policy: Policy, steps: int, observation: Any, mean: Any, std: Any
) -> tuple[Rollout, Any]:
    columns: list[list[Any]] = [[] for _ in range(7)]
    low, high = environment.action_space.low, environment.action_space.high
    for _ in range(steps):
        normalized = ((observation - mean) / std).astype(np.float32)
        with torch.no_grad():
            gauss = policy.distribution(torch.from_numpy(normalized))
            raw = gauss.sample()
            log_prob = policy.log_prob(gauss, raw)
        action = low + (np.tanh(raw.numpy()) + 1) * 0.5 * (high - low)
        observation, reward, terminated, truncated, _ = environment.step(action)
        following = ((observation - mean) / std).astype(np.float32)
        row = (normalized, following, raw, log_prob, float(reward), terminated, terminated or truncated)
        for column, value in zip(columns, row, strict=True):
            column.append(value)
        if terminated or truncated:
            observation, _ = environment.reset()
    return Rollout(columns), observation


def _advantages(algo: Settings, critic: nn.Module, rollout: Rollout) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        value, following = critic(rollout.observation)[:, 0], critic(rollout.following)[:, 0]
    values, followings, advantages, last = value.tolist(), following.tolist(), [0.0] * len(value), 0.0
    for t in reversed(range(len(values))):
        bootstrap = 0.0 if rollout.terminated[t] else algo["gamma"] * followings[t]
        delta = rollout.reward[t] + bootstrap - values[t]
        last = delta + (0.0 if rollout.done[t] else algo["gamma"] * algo["gae_lambda"] * last)
        advantages[t] = last
    advantage = torch.tensor(advantages)
    return (advantage - advantage.mean()) / (advantage.std() + 1e-8), advantage + value


def _loss(
    algo: Settings,
    policy: Policy,
    critic: nn.Module,
    rollout: Rollout,
    chosen: Tensor,
    advantage: Tensor,
    target: Tensor,
) -> Tensor:
    gauss = policy.distribution(rollout.observation[chosen])
    ratio = (policy.log_prob(gauss, rollout.raw[chosen]) - rollout.log_prob[chosen]).exp()
    clipped = ratio.clamp(1 - algo["clip_range"], 1 + algo["clip_range"])
    objective = torch.min(ratio * advantage[chosen], clipped * advantage[chosen]).mean()
    entropy = -policy.log_prob(gauss, gauss.rsample()).mean()  # it has no closed form
    critic_loss = functional.smooth_l1_loss(critic(rollout.observation[chosen])[:, 0], target[chosen])
    return algo["critic_coef"] * critic_loss - objective - algo["entropy_coef"] * entropy

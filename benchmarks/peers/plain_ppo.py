"""PPO as CleanRL writes it, for discrete and for continuous actions; a time limit bootstraps from the final observation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import wrappers
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor, nn
from torch.distributions import Categorical, Normal

from benchmarks.peers.common import Clock, Settings, learning_rate
from benchmarks.peers.plain_networks import mlp


class Agent(nn.Module):
    """Actor and critic; continuous actions have a free log standard deviation."""

    def __init__(self, environments: SyncVectorEnv, settings: Settings) -> None:
        super().__init__()
        inputs, space = environments.single_observation_space.shape[0], environments.single_action_space
        self.discrete = isinstance(space, Discrete)
        outputs = int(space.n) if isinstance(space, Discrete) else space.shape[0]
        self.critic = mlp(inputs, settings["network"], 1)
        self.actor = mlp(inputs, settings["network"], outputs, gain=0.01)
        if not self.discrete:
            self.log_std = nn.Parameter(torch.full((1, outputs), settings["algo"]["initial_log_std"]))

    def forward(self, observation: Tensor, action: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Action (drawn, unless given), its log-probability, the entropy, and the value."""
        outputs, value = self.actor(observation), self.critic(observation)
        if self.discrete:
            choice = Categorical(logits=outputs)
            action = choice.sample() if action is None else action
            return action, choice.log_prob(action), choice.entropy(), value
        gauss = Normal(outputs, torch.exp(self.log_std.expand_as(outputs)))
        action = gauss.sample() if action is None else action
        return action, gauss.log_prob(action).sum(1), gauss.entropy().sum(1), value


def _maker(settings: Settings) -> Callable[[], Any]:
    """One environment with CleanRL's wrappers."""
    env, gamma = settings["env"], settings["algo"]["gamma"]

    def make() -> Any:
        made: Any = gymnasium.make(env["id"])
        if isinstance(made.action_space, Discrete):
            return wrappers.RecordEpisodeStatistics(made)
        made = wrappers.RecordEpisodeStatistics(wrappers.FlattenObservation(made))
        made = wrappers.NormalizeObservation(wrappers.ClipAction(made))
        clip = env["observation_clip"]
        made = wrappers.TransformObservation(made, lambda seen: np.clip(seen, -clip, clip), made.observation_space)
        made = wrappers.NormalizeReward(made, gamma=gamma)
        return wrappers.TransformReward(made, lambda reward: np.clip(reward, -env["reward_clip"], env["reward_clip"]))

    return make


class Rollout:
    """T steps of N environments, in tensors made once."""

    def __init__(self, environments: SyncVectorEnv, steps: int) -> None:
        shape = (steps, environments.num_envs)
        self.observations = torch.zeros(shape + environments.single_observation_space.shape)
        self.actions = torch.zeros(shape + environments.single_action_space.shape)
        self.log_probs, self.rewards, self.dones, self.values = (torch.zeros(shape) for _ in range(4))


def cleanrl_ppo(settings: Settings, frames: int, seed: int, clock: Clock) -> int:
    """Rollouts and epochs of minibatches."""
    np.random.seed(seed)
    torch.manual_seed(seed)
    algo = settings["algo"]
    environments = SyncVectorEnv([_maker(settings)] * algo["num_envs"], autoreset_mode=AutoresetMode.SAME_STEP)
    agent = Agent(environments, settings)
    optimizer = torch.optim.Adam(agent.parameters(), lr=algo["learning_rate"], eps=algo["adam_epsilon"])
    rollout = Rollout(environments, algo["rollout_steps"])
    seen, _ = environments.reset(seed=seed)
    observation, done = torch.Tensor(seen), torch.zeros(algo["num_envs"])
    size = algo["rollout_steps"] * algo["num_envs"]
    iterations = -(-frames // size)
    clock.first_step()
    for iteration in range(iterations):
        optimizer.param_groups[0]["lr"] = learning_rate(algo, iteration / iterations)
        observation, done = _collect(algo, environments, agent, rollout, observation, done)
        advantages = _advantages(algo, agent, rollout, observation, done)
        _update(algo, agent, optimizer, rollout, advantages)
    environments.close()
    return iterations * size


def _collect(
    algo: Settings, environments: SyncVectorEnv, agent: Agent, rollout: Rollout, observation: Tensor, done: Tensor
) -> tuple[Tensor, Tensor]:
    for step in range(algo["rollout_steps"]):
        rollout.observations[step], rollout.dones[step] = observation, done
        with torch.no_grad():
            action, log_prob, _, value = agent(observation)
            rollout.values[step] = value.flatten()
        rollout.actions[step], rollout.log_probs[step] = action, log_prob
        seen, reward, terminated, truncated, infos = environments.step(action.cpu().numpy())
        for index in np.flatnonzero(truncated & ~terminated):
            with torch.no_grad():
                final = agent.critic(torch.Tensor(infos["final_obs"][index]))
            reward[index] += algo["gamma"] * final.item()
        rollout.rewards[step] = torch.tensor(reward).view(-1)
        observation, done = torch.Tensor(seen), torch.Tensor(np.logical_or(terminated, truncated))
    return observation, done


def _advantages(algo: Settings, agent: Agent, rollout: Rollout, observation: Tensor, done: Tensor) -> Tensor:
    with torch.no_grad():
        next_value = agent.critic(observation).reshape(1, -1)
        advantages = torch.zeros_like(rollout.rewards)
        last = torch.zeros(algo["num_envs"])
        for t in reversed(range(algo["rollout_steps"])):
            final = t == algo["rollout_steps"] - 1
            goes_on = 1.0 - (done if final else rollout.dones[t + 1])
            following = next_value if final else rollout.values[t + 1]
            delta = rollout.rewards[t] + algo["gamma"] * following * goes_on - rollout.values[t]
            advantages[t] = last = delta + algo["gamma"] * algo["gae_lambda"] * goes_on * last
    return advantages


def _update(
    algo: Settings, agent: Agent, optimizer: torch.optim.Optimizer, rollout: Rollout, advantages: Tensor
) -> None:
    observations = rollout.observations.flatten(0, 1)
    actions, log_probs = rollout.actions.flatten(0, 1), rollout.log_probs.flatten()
    returns, advantages, values = (
        (advantages + rollout.values).flatten(),
        advantages.flatten(),
        rollout.values.flatten(),
    )
    indices = np.arange(len(returns))
    for _ in range(algo["epochs"]):
        np.random.shuffle(indices)
        for start in range(0, len(indices), algo["minibatch_size"]):
            chosen = indices[start : start + algo["minibatch_size"]]
            action = actions.long()[chosen] if agent.discrete else actions[chosen]
            _, log_prob, entropy, value = agent(observations[chosen], action)
            log_ratio = log_prob - log_probs[chosen]
            ratio = log_ratio.exp()
            with torch.no_grad():  # what the script records of every minibatch
                _ = ((ratio - 1) - log_ratio).mean()
                _ = ((ratio - 1.0).abs() > algo["clip_range"]).float().mean().item()
            advantage = advantages[chosen]
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            clipped = torch.clamp(ratio, 1 - algo["clip_range"], 1 + algo["clip_range"])
            policy_loss = torch.max(-advantage * ratio, -advantage * clipped).mean()
            critic_loss = _critic_loss(algo, value.view(-1), values[chosen], returns[chosen])
            loss = policy_loss - algo["entropy_coef"] * entropy.mean() + algo["critic_coef"] * critic_loss
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), algo["max_gradient_norm"])
            optimizer.step()


def _critic_loss(algo: Settings, value: Tensor, old_value: Tensor, target: Tensor) -> Tensor:
    limit = algo["value_clip_range"]
    kept = old_value + torch.clamp(value - old_value, -limit, limit)
    return torch.max((value - target) ** 2, (kept - target) ** 2).mean()

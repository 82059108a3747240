"""Proximal policy optimisation (Schulman et al. 2017, "Proximal Policy Optimization Algorithms").

    repeat: collect a rollout -> advantages and value targets -> epochs of minibatch updates of actor and critic

Shapes: A agents, T rollout steps, N environments, M = T N transitions of a rollout, B minibatch, O observation, X actor outputs,
K numbers of a kept action (see distributions.py), P parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlrun import optim
from rlrun.advantages import gae
from rlrun.config import PPOConfig, RunConfig
from rlrun.distributions import Distribution, Normal, make_distribution
from rlrun.envs import Spaces
from rlrun.errors import RlrunError
from rlrun.hardware import Hardware
from rlrun.kernels.mlp import MLPKernel
from rlrun.networks import Layout, Network, Parameter, build, leaves
from rlrun.normalization import ObservationNormalizer, RewardNormalizer
from rlrun.rollout import Environments, Episode
from rlrun.seeding import Generators, Stream
from rlrun.trainers.base import Array, Means, Stack, column, note_divergence, observe_random_steps, per_agent
from rlrun.trainers.ppo_losses import (
    clipped_objective,
    clipped_objective_slope,
    critic_loss,
    critic_loss_slope,
    explained_variance,
    normalized,
)
from rlrun.trainers.rollouts import Columns, Measures, Rollout


@dataclass
class State:
    """Everything that changes while training. Rollouts live and die within a step."""

    iterations: int
    parameters_AP: Tensor
    optimizer: optim.Adam
    environments: Environments
    normalizer: ObservationNormalizer
    reward_normalizer: RewardNormalizer
    acting: Generators
    shuffling: Generators
    means: Means


class PPOPolicy:
    """The policy's mode: its most probable choice, or its mean."""

    def __init__(
        self, config: RunConfig, spaces: Spaces, rows_AP: Tensor, hardware: Hardware, gradients_AP: Tensor | None = None
    ) -> None:
        self.rows_AP = rows_AP
        self.distribution = _distribution(config, spaces)
        self.actor = Stack(layout(config, spaces), "actor", rows_AP, gradients_AP, hardware)
        self.normalizer = ObservationNormalizer(config.env, len(rows_AP), spaces.observation_size)

    def act(self, observation_ANO: Array) -> Array:
        return self.distribution.to_env(self.distribution.mode(self.actor(self.normalizer(observation_ANO))))


class PPOTrainer:
    """Trains one agent for each config; all configs share a signature."""

    def __init__(self, configs: Sequence[RunConfig], spaces: Spaces, hardware: Hardware, exact: bool = True) -> None:
        config = self.config = configs[0]
        self.configs, self.hardware = configs, hardware
        algo = self.algo = _algo(config)
        agents, seeds = len(configs), [config.seed for config in configs]
        places = layout(config, spaces)
        parameters_AP = places.initial_rows(seeds).to(hardware.device)
        self.gradients_AP = torch.zeros_like(parameters_AP)
        self.policy = PPOPolicy(config, spaces, parameters_AP, hardware, self.gradients_AP)
        self.actor, self.distribution = self.policy.actor, self.policy.distribution
        self.critic = Stack(places, "critic", parameters_AP, self.gradients_AP, hardware)
        self.log_std = LogStd(places, parameters_AP, self.gradients_AP) if self.distribution.free_std else None
        self.state = State(
            iterations=0,
            parameters_AP=parameters_AP,
            optimizer=optim.Adam(parameters_AP, self.gradients_AP, algo.adam_epsilon, amsgrad=False),
            environments=Environments(config.env, algo.num_envs, seeds, exact=exact),
            normalizer=self.policy.normalizer,
            reward_normalizer=RewardNormalizer(agents, algo.num_envs),
            acting=Generators(seeds, Stream.ACTIONS),
            shuffling=Generators(seeds, Stream.MINIBATCHES),
            means=Means(agents),
        )
        self.rollout = Rollout(
            agents, algo.rollout_steps, algo.num_envs, spaces.observation_size, self.distribution.stored
        )
        self.agents, self.gradient_rows = list(range(agents)), list(self.gradients_AP)
        self.gamma: list[float] = per_agent(configs, "gamma")
        self.gae_lambda: list[float] = per_agent(configs, "gae_lambda")
        self.learning_rate: list[float] = per_agent(configs, "learning_rate")
        self.no_decay = [0.0] * agents
        self.norm_limits: list[float | None] = per_agent(configs, "max_gradient_norm")
        self.target_kl: list[float | None] = per_agent(configs, "target_kl")
        self.clip_A1 = column(per_agent(configs, "clip_range"))
        self.value_clip_A1 = None if algo.value_clip_range is None else column(per_agent(configs, "value_clip_range"))
        self.entropy_A1 = column(per_agent(configs, "entropy_coef"))
        self.critic_A1 = column(per_agent(configs, "critic_coef"))
        self.episodes: list[tuple[int, Episode]] = []
        self.failures: dict[int, RlrunError] = {}
        observe_random_steps(self.policy.normalizer, config, spaces, seeds, self.failures)

    @property
    def frames(self) -> int:
        return self.state.iterations * self.algo.rollout_steps * self.algo.num_envs * self.config.env.frame_skip

    def step(self) -> None:
        """One rollout of every environment and the updates it is worth."""
        self._collect()
        self._finish_rollout()
        self._update()
        if self.state.normalizer.running:
            self.state.normalizer.update(self.rollout.observation_AMO)
        self.state.iterations += 1

    def _collect(self) -> None:
        """Fill the rollout with actions of the current policy."""
        rollout, environments, distribution = self.rollout, self.state.environments, self.distribution
        steps, envs = self.algo.rollout_steps, self.algo.num_envs
        noise_ATNX = np.stack([distribution.noise((steps, envs), random) for random in self.state.acting])
        log_std = self._log_std()
        normalize, actor = self.policy.normalizer, self.actor
        before, frames_a_step = self.frames, envs * self.config.env.frame_skip
        for t in range(steps):
            rollout.observation[:, t] = environments.observation
            action_ANK = distribution.sample(actor(normalize(environments.observation)), log_std, noise_ATNX[:, t])
            environments.step(distribution.to_env(action_ANK))
            rollout.action[:, t] = action_ANK
            rollout.next_observation[:, t] = environments.next_observation
            rollout.reward[:, t] = environments.reward
            rollout.terminated[:, t] = environments.terminated
            rollout.truncated[:, t] = environments.truncated
            if environments.finished:
                self.episodes += [(before + (t + 1) * frames_a_step, episode) for episode in environments.finished]
        self.failures = environments.failures | self.failures  # an agent's first failure is the one to tell

    def _finish_rollout(self) -> None:
        """Normalise rewards and observations; old log-probabilities, values and advantages in one batch each."""
        rollout, env = self.rollout, self.config.env
        self.state.means.add(
            "reward_mean", np.array([reward_TN.mean(dtype=np.float64) for reward_TN in rollout.reward])
        )
        if env.reward_norm:
            rollout.reward[:] = self.state.reward_normalizer(
                rollout.reward, rollout.terminated | rollout.truncated, self.gamma
            )
            if env.reward_clip is not None:
                np.clip(rollout.reward, -env.reward_clip, env.reward_clip, out=rollout.reward)
        self.columns = rollout.columns(self.policy.normalizer)
        log_prob_AM, _ = self.distribution.log_prob_and_entropy(
            np, self.actor(self.columns.observation), self._log_std(), self.columns.action, np.float32(0)
        )
        self.columns.log_prob[:] = log_prob_AM
        self.next_observation_AMO = self.policy.normalizer(rollout.next_observation_AMO)
        self._estimate_advantages()
        explained_A = explained_variance(self.columns.old_value, self.columns.target)
        self.state.means.add("explained_variance", explained_A)

    def _estimate_advantages(self) -> None:
        """Values, advantages and value targets of the rollout by the current critic."""
        rollout, columns = self.rollout, self.columns
        value_AM = self.critic(columns.observation)[..., 0].copy()  # the next call reuses the array
        next_value_AM = self.critic(self.next_observation_AMO)[..., 0]
        shape = rollout.reward.shape
        advantage_AM = gae(
            rollout.reward,
            value_AM.reshape(shape),
            next_value_AM.reshape(shape),
            rollout.terminated,
            rollout.terminated | rollout.truncated,
            self.gamma,
            self.gae_lambda,
        ).reshape(value_AM.shape)
        columns.old_value[:] = value_AM
        columns.target[:] = advantage_AM + value_AM
        columns.advantage[:] = normalized(advantage_AM) if self.algo.normalize_advantage == "rollout" else advantage_AM

    def _update(self) -> None:
        """Epochs of minibatches in random order. An agent whose policy has moved by its target KL sits out the rest."""
        algo, active, measures = self.algo, list(self.agents), Measures(len(self.configs))
        factor = optim.schedule(algo.learning_rate_schedule, self.frames, self.config.total_frames)
        rates = [rate * factor for rate in self.learning_rate]
        clip_factor = optim.schedule(algo.clip_range_schedule, self.frames, self.config.total_frames)
        clip_A1 = self.clip_A1 * np.float32(clip_factor)
        for epoch in range(algo.epochs):
            if algo.recompute_advantage and epoch > 0:
                self._estimate_advantages()
            for minibatch in self.columns.minibatches(algo.minibatch_size, self.state.shuffling, active):
                measures.add(active, self._learn(minibatch, clip_A1, active))
                if self.algo.max_gradient_norm is not None:
                    optim.clip_norms(self.gradient_rows, self.norm_limits)
                self.state.optimizer.step(rates, self.no_decay, active)
            measures.end_epoch()
            active = [
                a
                for a in active
                if (limit := self.target_kl[a]) is None or measures.epoch_mean("approximate_kl", a) <= limit
            ]
            if not active:
                break
        for name, mean_A in measures.means().items():
            self.state.means.add(name, mean_A)
        note_divergence(measures.means()["loss"], self.frames, self.failures, "loss")
        # Before wild actions make the environment fail and take the blame:
        note_divergence(self.state.parameters_AP.sum(1).numpy(force=True), self.frames, self.failures, "sum of weights")

    def _learn(self, batch: Columns, clip_A1: Array, active: Sequence[int]) -> dict[str, Array]:
        """One minibatch: leaves the gradients in their rows and returns what to record of each agent [A]."""
        if self.algo.normalize_advantage == "minibatch":
            batch.advantage[:] = normalized(batch.advantage)
        noise_ABK = None
        if isinstance(self.distribution, Normal) and self.distribution.squash:
            noise_ABK = np.zeros(batch.action.shape, np.float32)
            for agent in active:  # who sits out must not draw: alone it would not either
                noise_ABK[agent] = self.distribution.noise(batch.action.shape[1:2], self.state.acting[agent])
        if self.actor.kernel is not None and self.critic.kernel is not None:
            return self._learn_by_hand(self.actor.kernel, self.critic.kernel, batch, clip_A1, noise_ABK)
        return self._learn_plainly(batch, clip_A1, noise_ABK)

    def _learn_plainly(self, batch: Columns, clip_A1: Array, noise_ABK: Array | None) -> dict[str, Array]:
        """The loss as PyTorch, with autograd: -objective + critic_coef * critic loss - entropy_coef * entropy."""
        t = batch.to_torch(self.hardware.device)
        clip, noise, value_clip, entropy_coef, critic_coef = (
            None if x is None else torch.from_numpy(x).to(self.hardware.device)
            for x in (clip_A1, noise_ABK, self.value_clip_A1, self.entropy_A1[:, 0], self.critic_A1[:, 0])
        )
        self.gradients_AP.zero_()
        log_std = self.log_std.leaf if self.log_std is not None else None
        log_prob_AB, entropy_AB = self.distribution.log_prob_and_entropy(
            torch, self.actor.forward(t.observation), log_std, t.action, noise
        )
        value_AB = self.critic.forward(t.observation)[..., 0]
        log_ratio_AB = log_prob_AB - t.log_prob
        objective_A = clipped_objective(torch, log_ratio_AB, t.advantage, clip).mean(1)
        critic_A = critic_loss(torch, value_AB, t.target, t.old_value, value_clip, self.algo.critic_loss).mean(1)
        entropy_A = entropy_AB.mean(1)
        loss_A = critic_coef * critic_A - objective_A - entropy_coef * entropy_A
        loss_A.sum().backward()
        log_ratio, objective, critic, entropy = (
            x.numpy(force=True) for x in (log_ratio_AB, objective_A, critic_A, entropy_A)
        )
        return self._measured(log_ratio, objective, critic, entropy, clip_A1)

    def _learn_by_hand(
        self, actor: MLPKernel, critic: MLPKernel, batch: Columns, clip_A1: Array, noise_ABK: Array | None
    ) -> dict[str, Array]:
        """As ``_learn_plainly``, with NumPy and the slopes of the heads written beside the losses."""
        size = np.float32(batch.advantage.shape[1])
        distribution, log_std, kind = self.distribution, self._log_std(), self.algo.critic_loss
        outputs_ABX = actor.forward(batch.observation)
        log_prob_AB, entropy_AB = distribution.log_prob_and_entropy(np, outputs_ABX, log_std, batch.action, noise_ABK)
        log_ratio_AB = log_prob_AB - batch.log_prob
        d_log_prob_AB = clipped_objective_slope(log_ratio_AB, batch.advantage, clip_A1) / -size
        d_outputs_ABX, d_log_std_ABK = distribution.gradient(
            outputs_ABX, log_std, batch.action, noise_ABK, d_log_prob_AB, self.entropy_A1 / -size
        )
        actor.backward(d_outputs_ABX)
        if self.log_std is not None and d_log_std_ABK is not None:
            np.matmul(np.ones((1, d_log_std_ABK.shape[1]), np.float32), d_log_std_ABK, out=self.log_std.gradient)
        value_AB = critic.forward(batch.observation)[..., 0]
        slope_AB = critic_loss_slope(value_AB, batch.target, batch.old_value, self.value_clip_A1, kind)
        critic_A = critic_loss(np, value_AB, batch.target, batch.old_value, self.value_clip_A1, kind).sum(1) / size
        critic.backward((slope_AB * (self.critic_A1 / size))[..., None])
        objective_A = clipped_objective(np, log_ratio_AB, batch.advantage, clip_A1).sum(1) / size
        return self._measured(log_ratio_AB, objective_A, critic_A, entropy_AB.sum(1) / size, clip_A1)

    def _measured(
        self, log_ratio_AB: Array, objective_A: Array, critic_A: Array, entropy_A: Array, clip_A1: Array
    ) -> dict[str, Array]:
        """What is recorded of a minibatch. KL: the mean of r - 1 - log r (Schulman 2020, "Approximating KL Divergence")."""
        ratio_AB = np.exp(log_ratio_AB)
        size = ratio_AB.shape[1]
        return {
            "loss": self.critic_A1[:, 0] * critic_A - objective_A - self.entropy_A1[:, 0] * entropy_A,
            "policy_loss": -objective_A,
            "critic_loss": critic_A,
            "entropy": entropy_A,
            "approximate_kl": (ratio_AB - 1 - log_ratio_AB).sum(1) / size,
            "clip_fraction": (np.abs(ratio_AB - 1) > clip_A1).sum(1) / size,
        }

    def _log_std(self) -> Array | None:
        return self.log_std.value if self.log_std is not None else None

    def metrics(self, agent: int) -> dict[str, float | None]:
        factor = optim.schedule(self.algo.learning_rate_schedule, self.frames, self.config.total_frames)
        return self.state.means.take(agent) | {
            "learning_rate": self.learning_rate[agent] * factor,
            "updates": int(self.state.optimizer.steps_A[agent]),
        }

    def retire(self, agent: int) -> None:
        self.agents.remove(agent)
        self.state.environments.retire(agent)

    def close(self) -> None:
        self.state.environments.close()


class LogStd:
    """The free log standard deviation of a Gaussian policy, as NumPy sees it and as autograd does."""

    def __init__(self, places: Layout, rows_AP: Tensor, gradients_AP: Tensor) -> None:
        views, gradients = places.views("log_std", rows_AP), places.views("log_std", gradients_AP)
        self._view = views["value"][:, None, :]
        self.leaf = leaves({"value": self._view}, {"value": gradients["value"][:, None, :]})["value"]
        self.gradient: Array = gradients["value"].numpy(force=True)[:, None, :]

    @property
    def value(self) -> Array:
        """[A, 1, K]; on the CPU a view that follows the parameters."""
        array: Array = self._view.numpy(force=True)
        return array


def layout(config: RunConfig, spaces: Spaces) -> Layout:
    """Actor, critic and, where it is free, the log standard deviation in a row of parameters."""
    algo, distribution = _algo(config), _distribution(config, spaces)
    networks: dict[str, Network] = {
        "actor": build(config.network, spaces.observation_size, distribution.outputs, gain=0.01),
        "critic": build(config.network, spaces.observation_size, 1, gain=1.0),
    }
    if distribution.free_std:
        networks["log_std"] = Parameter(distribution.stored, algo.initial_log_std)
    return Layout(networks)


def _distribution(config: RunConfig, spaces: Spaces) -> Distribution:
    algo = _algo(config)
    return make_distribution(spaces, algo.distribution, algo.state_dependent_std)


def _algo(config: RunConfig) -> PPOConfig:
    assert isinstance(config.algo, PPOConfig)
    return config.algo

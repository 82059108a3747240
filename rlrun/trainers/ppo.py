"""Proximal policy optimisation (Schulman et al. 2017, "Proximal Policy Optimization Algorithms").

    repeat: collect a rollout -> advantages and value targets -> epochs of minibatch updates of actor and critic

Shapes: A agents, T rollout steps, N environments, M = T N transitions of a rollout, B minibatch, O observation, X actor outputs,
K numbers of a kept action (see distributions.py), P parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun import optim
from rlrun.advantages import gae
from rlrun.arrays import as_array, zeros_like
from rlrun.config import RunConfig
from rlrun.envs import Spaces
from rlrun.errors import RlrunError
from rlrun.hardware import Graphed, Hardware
from rlrun.kernels.mlp import MLPKernel
from rlrun.lazy import torch
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
from rlrun.trainers.ppo_policy import LogStd, PPOPolicy, algo_of, layout
from rlrun.trainers.rollouts import Columns, Measures, Rollout

if TYPE_CHECKING:
    from torch import Tensor


MEASURED = (
    "reward_mean",
    "explained_variance",
    "loss",
    "policy_loss",
    "critic_loss",
    "entropy",
    "approximate_kl",
    "clip_fraction",
)


@dataclass
class State:
    """Everything that changes while training. Rollouts live and die within a step."""

    iterations: int
    parameters_AP: Any  # an array, or a tensor on the plain path
    optimizer: optim.Adam
    environments: Environments
    normalizer: ObservationNormalizer
    reward_normalizer: RewardNormalizer
    acting: Generators
    shuffling: Generators
    means: Means


class PPOTrainer:
    """Trains one agent for each config; all configs share a signature."""

    def __init__(self, configs: Sequence[RunConfig], spaces: Spaces, hardware: Hardware, exact: bool = True) -> None:
        config = self.config = configs[0]
        self.configs, self.hardware = configs, hardware
        algo = self.algo = algo_of(config)
        agents, seeds = len(configs), [config.seed for config in configs]
        places = layout(config, spaces)
        parameters_AP = hardware.place(places.initial_rows(seeds))
        self.gradients_AP = zeros_like(parameters_AP)
        self.policy = PPOPolicy(config, spaces, parameters_AP, hardware, self.gradients_AP)
        self.actor, self.distribution = self.policy.actor, self.policy.distribution
        self.critic = Stack(places, "critic", parameters_AP, self.gradients_AP, hardware)
        self.log_std = LogStd(places, parameters_AP, self.gradients_AP) if self.distribution.free_std else None
        self.state = State(
            iterations=0,
            parameters_AP=parameters_AP,
            optimizer=optim.Adam(
                parameters_AP, self.gradients_AP, algo.adam_epsilon, amsgrad=False, native=hardware.native
            ),
            environments=Environments(config.env, algo.num_envs, seeds, exact=exact),
            normalizer=self.policy.normalizer,
            reward_normalizer=RewardNormalizer(agents, algo.num_envs),
            acting=Generators(seeds, Stream.ACTIONS),
            shuffling=Generators(seeds, Stream.MINIBATCHES),
            means=Means(agents, MEASURED),
        )
        self.rollout = Rollout(
            agents, algo.rollout_steps, algo.num_envs, spaces.observation_size, self.distribution.stored
        )
        self.agents = list(range(agents))
        self.gamma: list[float] = per_agent(configs, "gamma")
        self.gae_lambda: list[float] = per_agent(configs, "gae_lambda")
        self.learning_rate: list[float] = per_agent(configs, "learning_rate")
        self.descent = optim.Descent(
            self.state.optimizer,
            value_limits=[None] * agents,
            norm_limits=per_agent(configs, "max_gradient_norm"),
            weight_decay=[0.0] * agents,
        )
        if hardware.memory is not None:
            changes = [self.gradients_AP, *self.state.optimizer.tensors]
            self._improve_on_gpu = Graphed(self._learn_and_descend, hardware.device, changes)
        self.target_kl: list[float | None] = per_agent(configs, "target_kl")
        self.clip_A1 = column(per_agent(configs, "clip_range"))
        self.value_clip_A1 = None if algo.value_clip_range is None else column(per_agent(configs, "value_clip_range"))
        self.entropy_A1 = column(per_agent(configs, "entropy_coef"))
        self.critic_A1 = column(per_agent(configs, "critic_coef"))
        self.coefficients = [
            None if x is None else hardware.place(x) for x in (self.entropy_A1, self.critic_A1, self.value_clip_A1)
        ]
        self.episodes: list[tuple[int, Episode]] = []
        self.failures: dict[int, RlrunError] = {}
        observe_random_steps(self.policy.normalizer, config, spaces, seeds, self.failures)

    @property
    def frames(self) -> int:
        return self.state.iterations * self.algo.rollout_steps * self.algo.num_envs * self.config.env.frame_skip

    def counts(self, frames: int) -> dict[str, int]:
        return {"iterations": frames // (self.algo.rollout_steps * self.algo.num_envs * self.config.env.frame_skip)}

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
        self.successors = list(rollout.unseen_successors(self.policy.normalizer))
        self._estimate_advantages()
        explained_A = explained_variance(self.columns.old_value, self.columns.target)
        self.state.means.add("explained_variance", explained_A)

    def _estimate_advantages(self) -> None:
        """Values, advantages and value targets of the rollout by the current critic."""
        rollout, columns = self.rollout, self.columns
        value_AM = self.critic(columns.observation)[..., 0].copy()  # the next call reuses the array
        value_ATN = value_AM.reshape(rollout.reward.shape)
        advantage_AM = gae(
            rollout.reward,
            value_ATN,
            self._next_values(value_ATN),
            rollout.terminated,
            rollout.terminated | rollout.truncated,
            self.gamma,
            self.gae_lambda,
        ).reshape(value_AM.shape)
        columns.old_value[:] = value_AM
        columns.target[:] = advantage_AM + value_AM
        columns.advantage[:] = normalized(advantage_AM) if self.algo.normalize_advantage == "rollout" else advantage_AM

    def _next_values(self, value_ATN: Array) -> Array:
        """Values of what each step led to: of the next step's observation, or of one that no step began with.

        After a termination it counts for nothing, and may be anything finite.
        """
        next_value_ATN = np.zeros_like(value_ATN)
        next_value_ATN[:, :-1] = value_ATN[:, 1:]
        next_value_AM = next_value_ATN.reshape(len(value_ATN), -1)
        for observation_ABO, places in self.successors:
            values_AB = self.critic(observation_ABO)[..., 0]
            for agent, where in enumerate(places):
                next_value_AM[agent, where] = values_AB[agent, : len(where)]
        return next_value_ATN

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
            measured = self._epoch(rates, clip_A1, active)
            measures.add(active, measured)
            kl_A, limits = measured["approximate_kl"], self.target_kl
            active = [agent for agent in active if (limit := limits[agent]) is None or kl_A[agent] <= limit]
            if not active:
                break
        means = measures.means()
        for name, mean_A in means.items():
            self.state.means.add(name, mean_A)
        note_divergence(means["loss"], self.frames, self.failures, "loss")
        # Before wild actions make the environment fail and take the blame:
        sums_A = as_array(self.state.parameters_AP.sum(1))
        note_divergence(sums_A, self.frames, self.failures, "sum of weights")

    def _epoch(self, rates: list[float], clip_A1: Array, active: Sequence[int]) -> dict[str, Array]:
        """One step of the active agents on every minibatch. Returns means of what is measured [A]."""
        size, normalize = self.algo.minibatch_size, self.algo.normalize_advantage == "minibatch"
        shuffled = self.columns.shuffled(size, normalize, self.state.shuffling, active)
        noise_AMK = self._noise(shuffled, active)
        parts = [slice(start, start + size) for start in range(0, shuffled.rows.shape[1], size)]
        if self.hardware.memory is None:
            seen = [self._improve(shuffled.part(part), noise_AMK[:, part], rates, clip_A1, active) for part in parts]
            log_ratio_AM, value_AM, entropy_AM = (np.concatenate(pieces, 1) for pieces in zip(*seen, strict=True))
        else:
            is_active_A1 = np.isin(np.arange(len(self.configs)), active)[:, None]
            pace = [self.hardware.place(x) for x in (column(rates), clip_A1, is_active_A1)]
            rows, noise = (self.hardware.place(x) for x in (shuffled.rows, noise_AMK))
            seen = [self._improve_on_gpu(rows[:, part], noise[:, part], *pace) for part in parts]
            pieces = zip(*seen, strict=True)
            log_ratio_AM, value_AM, entropy_AM = (torch.cat(tensors, 1).numpy(force=True) for tensors in pieces)
        return self._measured(shuffled, log_ratio_AM, value_AM, entropy_AM, clip_A1)

    def _noise(self, shuffled: Columns, active: Sequence[int]) -> Array:
        """The random numbers that the entropy of each transition needs [A, M, K]; K = 0 where it needs none."""
        if not self.distribution.entropy_needs_noise:
            return np.zeros((*shuffled.rows.shape[:2], 0), np.float32)
        noise_AMK = np.zeros(shuffled.action.shape, np.float32)
        for agent in active:  # who sits out must not draw: alone it would not either
            noise_AMK[agent] = self.distribution.noise(shuffled.action.shape[1:2], self.state.acting[agent])
        return noise_AMK

    def _improve(
        self, batch: Columns, noise_ABK: Array, rates: list[float], clip_A1: Array, active: Sequence[int]
    ) -> tuple[Array, ...]:
        """One step on a minibatch. Returns log-ratios, values and entropies [A, B]."""
        if self.actor.kernel is not None and self.critic.kernel is not None:
            learned = self._learn_by_hand(self.actor.kernel, self.critic.kernel, batch, noise_ABK, clip_A1)
        else:
            tensors = self._learn_plainly(batch.to_torch(), torch.from_numpy(noise_ABK), torch.from_numpy(clip_A1))
            learned = tuple(x_AB.numpy(force=True) for x_AB in tensors)
        self.descent(rates, active)
        return learned

    def _learn_and_descend(
        self, rows_ABW: Tensor, noise_ABK: Tensor, rates_A1: Tensor, clip_A1: Tensor, active_A1: Tensor
    ) -> tuple[Tensor, ...]:
        """``_improve`` as what a CUDA graph can hold."""
        learned = self._learn_plainly(Columns(rows_ABW, self.columns.observation_size), noise_ABK, clip_A1)
        self.descent.on_device(rates_A1, active_A1)
        return learned

    def _learn_plainly(self, batch: Columns, noise_ABK: Tensor, clip_A1: Tensor) -> tuple[Tensor, ...]:
        """The loss as PyTorch, with autograd: -objective + critic_coef * critic loss - entropy_coef * entropy.

        Leaves the gradients in their rows; returns what ``_improve`` does.
        """
        entropy_coef_A1, critic_coef_A1, value_clip_A1 = self.coefficients
        self.gradients_AP.zero_()
        log_std = self.log_std.leaf if self.log_std is not None else None
        log_prob_AB, entropy_AB = self.distribution.log_prob_and_entropy(
            torch, self.actor.forward(batch.observation), log_std, batch.action, noise_ABK
        )
        value_AB = self.critic.forward(batch.observation)[..., 0]
        log_ratio_AB = log_prob_AB - batch.log_prob
        objective_AB = clipped_objective(torch, log_ratio_AB, batch.advantage, clip_A1)
        critic_AB = critic_loss(torch, value_AB, batch.target, batch.old_value, value_clip_A1, self.algo.critic_loss)
        loss_A = (critic_coef_A1 * critic_AB - objective_AB - entropy_coef_A1 * entropy_AB).mean(1)
        loss_A.sum().backward()
        return log_ratio_AB.detach(), value_AB.detach(), entropy_AB.detach()

    def _learn_by_hand(
        self, actor: MLPKernel, critic: MLPKernel, batch: Columns, noise_ABK: Array, clip_A1: Array
    ) -> tuple[Array, ...]:
        """As ``_learn_plainly``, with NumPy and the slopes of the heads written beside the losses."""
        size = np.float32(batch.advantage.shape[1])
        distribution, log_std = self.distribution, self._log_std()
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
        value_AB = critic.forward(batch.observation)[..., 0].copy()  # the next call reuses the array
        slope_AB = critic_loss_slope(value_AB, batch.target, batch.old_value, self.value_clip_A1, self.algo.critic_loss)
        critic.backward((slope_AB * (self.critic_A1 / size))[..., None])
        return log_ratio_AB, value_AB, entropy_AB

    def _measured(
        self, epoch: Columns, log_ratio_AM: Array, value_AM: Array, entropy_AM: Array, clip_A1: Array
    ) -> dict[str, Array]:
        """Means over an epoch. KL: the mean of r - 1 - log r (Schulman 2020, "Approximating KL Divergence")."""
        ratio_AM = np.exp(log_ratio_AM)
        kind, clip = self.algo.critic_loss, self.value_clip_A1
        terms = {
            "policy_loss": -clipped_objective(np, log_ratio_AM, epoch.advantage, clip_A1),
            "critic_loss": critic_loss(np, value_AM, epoch.target, epoch.old_value, clip, kind),
            "entropy": entropy_AM,
            "approximate_kl": ratio_AM - 1 - log_ratio_AM,
            "clip_fraction": np.abs(ratio_AM - 1) > clip_A1,
        }
        means = {name: term_AM.sum(1) / term_AM.shape[1] for name, term_AM in terms.items()}
        critic_A, entropy_A = self.critic_A1[:, 0] * means["critic_loss"], self.entropy_A1[:, 0] * means["entropy"]
        return {"loss": means["policy_loss"] + critic_A - entropy_A} | means

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

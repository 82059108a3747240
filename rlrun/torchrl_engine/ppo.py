"""PPO with TorchRL's parts, as its tutorial wires them: ProbabilisticActor and ValueOperator, Collector, GAE, ReplayBuffer with
SamplerWithoutReplacement, ClipPPOLoss.

    repeat: collect a rollout -> GAE -> epochs of minibatches: ClipPPOLoss -> gradient step

TorchRL has no normaliser of rewards by the discounted return and no limit on the KL divergence: these two are rlrun's.
Shapes: N environments, T steps of a rollout, B minibatch, P parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tensordict.nn import AddStateIndependentNormalScale, NormalParamExtractor, TensorDictModule
from torch import nn
from torchrl.data import LazyTensorStorage, ReplayBuffer, SamplerWithoutReplacement
from torchrl.modules import IndependentNormal, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from rlrun import optim
from rlrun.arrays import as_array
from rlrun.config import RunConfig
from rlrun.envs import BoxActions, Spaces
from rlrun.errors import EnvironmentFailure, RlrunError
from rlrun.hardware import Hardware
from rlrun.normalization import ObservationNormalizer, RewardNormalizer
from rlrun.rollout import Episode
from rlrun.torchrl_engine.experience import Experience
from rlrun.torchrl_engine.weights import Descent, make_mlp
from rlrun.trainers.base import Means, note_divergence
from rlrun.trainers.ppo import MEASURED
from rlrun.trainers.ppo_losses import explained_variance
from rlrun.trainers.ppo_policy import PPOPolicy, algo_of, distribution_of, layout

CRITIC_LOSSES = {"mse": "l2", "smooth_l1": "smooth_l1"}


@dataclass
class State:
    """What a checkpoint holds. TorchRL's environments are not in it: a resumed run begins new episodes."""

    iterations: int
    parameters_AP: torch.Tensor
    optimizer: Descent
    normalizer: ObservationNormalizer
    reward_normalizer: RewardNormalizer
    means: Means


class PPOTrainer:
    """Trains one agent."""

    def __init__(self, configs: Sequence[RunConfig], spaces: Spaces, hardware: Hardware) -> None:
        (config,) = configs
        self.config, self.device = config, hardware.device
        algo = self.algo = algo_of(config)
        self.transitions = algo.rollout_steps * algo.num_envs
        # The same first weights as with engine=rlrun.
        rows_AP = hardware.place(layout(config, spaces).initial_rows([config.seed]))
        self.policy = PPOPolicy(config, spaces, rows_AP, hardware)  # reads what TorchRL trains
        continuous = isinstance(spaces.action, BoxActions)
        self.experience = Experience(
            config, self.policy.normalizer, self.device, clip_actions=continuous and algo.distribution == "gaussian"
        )

        self.actor = self._make_actor(spaces, rows_AP)
        critic = make_mlp(config.network, layout(config, spaces), "critic", rows_AP)
        self.critic = ValueOperator(critic, in_keys=["observation"])
        self.advantage = self._make_advantage()
        self.loss = self._make_loss()
        self.memory = ReplayBuffer(
            storage=LazyTensorStorage(self.transitions, device=self.device),
            sampler=SamplerWithoutReplacement(drop_last=True),
            batch_size=algo.minibatch_size,
        )
        parameters = [*self.actor.parameters(), *critic.parameters()]
        adam = torch.optim.Adam(parameters, lr=algo.learning_rate, eps=algo.adam_epsilon)
        self.state = State(
            iterations=0,
            parameters_AP=rows_AP,
            optimizer=Descent(adam, None, algo.max_gradient_norm),
            normalizer=self.policy.normalizer,
            reward_normalizer=RewardNormalizer(1, algo.num_envs),
            means=Means(1, MEASURED),
        )
        self.episodes: list[tuple[int, Episode]] = []
        self.failures: dict[int, RlrunError] = {}

    def _make_advantage(self) -> GAE:
        algo = self.algo
        return GAE(
            gamma=algo.gamma,
            lmbda=algo.gae_lambda,
            value_network=self.critic,
            average_gae=algo.normalize_advantage == "rollout",
            device=self.device,
        )

    def _make_loss(self) -> ClipPPOLoss:
        algo = self.algo
        return ClipPPOLoss(
            actor_network=self.actor,
            critic_network=self.critic,
            clip_epsilon=algo.clip_range,
            entropy_bonus=True,
            entropy_coeff=algo.entropy_coef,
            critic_coeff=algo.critic_coef,
            loss_critic_type=CRITIC_LOSSES[algo.critic_loss],
            normalize_advantage=algo.normalize_advantage == "minibatch",
            clip_value=algo.value_clip_range,
        )

    def _make_actor(self, spaces: Spaces, rows_AP: torch.Tensor) -> ProbabilisticActor:
        algo, places, spec = self.algo, layout(self.config, spaces), self.experience.action_spec.to(self.device)
        network = make_mlp(self.config.network, places, "actor", rows_AP)
        if not isinstance(spaces.action, BoxActions):
            return ProbabilisticActor(
                TensorDictModule(network, in_keys=["observation"], out_keys=["logits"]),
                spec=spec,
                in_keys=["logits"],
                distribution_class=torch.distributions.Categorical,
                return_log_prob=True,
            )
        scale: nn.Module = NormalParamExtractor()
        if distribution_of(self.config, spaces).free_std:
            scale = AddStateIndependentNormalScale(len(spaces.action.low))
            scale.state_independent_scale = nn.Parameter(places.views("log_std", rows_AP)["value"][0])
        squash = algo.distribution == "tanh_normal"
        bounds = {"low": spec.space.low, "high": spec.space.high} if squash else {}
        return ProbabilisticActor(
            TensorDictModule(nn.Sequential(network, scale), in_keys=["observation"], out_keys=["loc", "scale"]),
            spec=spec,
            in_keys=["loc", "scale"],
            distribution_class=TanhNormal if squash else IndependentNormal,
            distribution_kwargs=bounds,
            return_log_prob=True,
        )

    @property
    def frames(self) -> int:
        return self.state.iterations * self.transitions * self.config.env.frame_skip

    def counts(self, frames: int) -> dict[str, int]:
        return {"iterations": frames // (self.transitions * self.config.env.frame_skip)}

    def step(self) -> None:
        """One rollout of every environment and the updates it is worth."""
        if self.experience.collector is None:
            self.state.reward_normalizer.cut(0)  # a resumed run begins new episodes
        try:
            steps = self.algo.rollout_steps
            data = self.experience.collect(self.actor, steps, done=self.state.iterations * steps)
        except EnvironmentFailure as error:
            self.failures[0] = error
            return
        self.episodes += self.experience.ended(data, self.frames)
        self.state.means.add("reward_mean", np.array([data["next", "reward"].mean().item()]))
        if self.config.env.reward_norm:
            self._normalize_rewards(data)
        self._update(data)
        self.state.iterations += 1

    def _normalize_rewards(self, data: Any) -> None:
        """Divide the rewards of ``data`` [N, T] by the standard deviation of the discounted return, then clip them."""
        reward, done = (data["next", key][..., 0].T[None].numpy(force=True) for key in ("reward", "done"))
        normalized = self.state.reward_normalizer(reward, done, [self.algo.gamma])
        clip = self.config.env.reward_clip
        if clip is not None:
            np.clip(normalized, -clip, clip, out=normalized)
        data["next", "reward"] = torch.from_numpy(normalized[0].T.copy()).to(self.device)[..., None]

    def _update(self, data: Any) -> None:
        """Epochs of minibatches in random order; they end early once the policy has moved by the target KL."""
        algo, state, seen = self.algo, self.state, []
        rate = algo.learning_rate * optim.schedule(algo.learning_rate_schedule, self.frames, self.config.total_frames)
        clip = algo.clip_range * optim.schedule(algo.clip_range_schedule, self.frames, self.config.total_frames)
        self.loss.clip_epsilon.fill_(clip)
        for epoch in range(algo.epochs):
            if epoch == 0 or algo.recompute_advantage:
                self.advantage(data)
            if epoch == 0:
                value, target = (data[key].reshape(1, -1).numpy(force=True) for key in ("state_value", "value_target"))
                state.means.add("explained_variance", explained_variance(value, target))
            self.memory.extend(data.reshape(-1))
            measured = [self._improve(rate) for _ in range(self.transitions // algo.minibatch_size)]
            seen.append({name: float(np.mean([numbers[name] for numbers in measured])) for name in measured[0]})
            if algo.target_kl is not None and seen[-1]["approximate_kl"] > algo.target_kl:
                break
        for name in seen[0]:
            state.means.add(name, np.array([np.mean([numbers[name] for numbers in seen])]))
        note_divergence(np.array([seen[-1]["loss"]]), self.frames, self.failures, "loss")
        note_divergence(as_array(state.parameters_AP.sum(1)), self.frames, self.failures, "sum of weights")

    def _improve(self, rate: float) -> dict[str, float]:
        """One step on a minibatch. Returns what is measured of it."""
        losses = self.loss(self.memory.sample())
        loss = losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]
        self.state.optimizer.step(loss, rate)
        coefficient = self.algo.critic_coef
        return {
            "loss": loss.item(),
            "policy_loss": losses["loss_objective"].item(),
            "critic_loss": losses["loss_critic"].item() / coefficient if coefficient else 0.0,
            "entropy": losses["entropy"].item(),
            # Of r - 1 - log r, as engine=rlrun measures it; TorchRL's kl_approx is the mean of -log r.
            "approximate_kl": losses["mean_ratio"].item() - 1 + losses["kl_approx"].item(),
            "clip_fraction": losses["clip_fraction"].item(),
        }

    def metrics(self, agent: int) -> dict[str, float | None]:
        factor = optim.schedule(self.algo.learning_rate_schedule, self.frames, self.config.total_frames)
        return self.state.means.take(agent) | {
            "learning_rate": self.algo.learning_rate * factor,
            "updates": self.state.optimizer.steps,
        }

    def retire(self, agent: int) -> None:
        """There is no other agent that would go on."""

    def close(self) -> None:
        self.experience.close()

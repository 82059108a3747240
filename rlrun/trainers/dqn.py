"""Deep Q-network (Mnih et al. 2015, "Human-level control through deep reinforcement learning").

    repeat: act epsilon-greedily -> store the transition -> sample a batch -> targets -> gradient step -> move the target network

with Double DQN (van Hasselt et al. 2016), dueling streams (Wang et al. 2016) and n-step returns (Sutton 1988) as switches.

Shapes: A agents, N environments, O observation, B batch, U actions, P parameters.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun import optim
from rlrun.arrays import shared, zeros_like
from rlrun.config import RunConfig
from rlrun.envs import DiscreteActions, Spaces
from rlrun.errors import RlrunError
from rlrun.hardware import Graphed, Hardware
from rlrun.lazy import torch
from rlrun.normalization import ObservationNormalizer
from rlrun.replay import Batch, Replay
from rlrun.rollout import Environments, Episode
from rlrun.seeding import Generators, Stream
from rlrun.trainers.base import Array, Means, Stack, column, note_divergence, observe_random_steps, per_agent
from rlrun.trainers.dqn_policy import QPolicy, algo_of, layout
from rlrun.trainers.exploration import BLOCK, Exploration, epsilon

if TYPE_CHECKING:
    from torch import Tensor

DIVERGENCE_CHECK = 100  # updates between two looks at the losses on a GPU: a look waits for it
MEASURED = ("loss", "q_value", "gradient_norm")


@dataclass
class State:
    """Everything that changes while training."""

    steps: int
    updates: int
    parameters_AP: Any  # arrays, or tensors on the plain path
    target_AP: Any
    optimizer: optim.Adam
    replay: Replay
    sampling: Generators
    exploration: Exploration
    environments: Environments
    normalizer: ObservationNormalizer
    means: Means


def td_target(reward_AB: Any, discount_AB: Any, next_value_AB: Any) -> Any:
    """r + gamma^n * Q_target(s', a') with gamma 0 after a termination; a time limit does not end the future."""
    return reward_AB + discount_AB * next_value_AB


def td_loss(error_AB: Tensor, loss: str) -> Tensor:
    """Loss of each agent [A] from its temporal-difference errors: mean of the Huber loss (delta 1) or of the squares."""
    if loss == "mse":
        return (error_AB**2).mean(1)
    size_AB = error_AB.abs()
    return torch.where(size_AB <= 1, 0.5 * error_AB**2, size_AB - 0.5).mean(1)


def td_loss_and_gradient(error_AB: Array, loss: str) -> tuple[Array, Array]:
    """``td_loss`` and its derivative in each error [A, B], by hand."""
    batch = error_AB.shape[1]
    if loss == "mse":
        return np.einsum("ab,ab->a", error_AB, error_AB) / batch, error_AB * np.float32(2 / batch)
    slope_AB = np.minimum(np.maximum(error_AB, -1), 1)  # np.clip is slower on small arrays
    # |e| <= 1: e^2 / 2 = s (e - s / 2) with s = e;  |e| > 1: |e| - 1/2 = s (e - s / 2) with s = sign(e)
    losses_AB = slope_AB * (error_AB - 0.5 * slope_AB)
    return losses_AB.sum(1) / batch, slope_AB * np.float32(1 / batch)


def dueling_values(outputs: Any, axis_mean: Any) -> Any:
    """Q(s, a) = V(s) + A(s, a) - mean of A(s, .) (Wang et al. 2016, equation 9). ``outputs`` [A, B, 1 + U]."""
    return outputs[..., :1] + outputs[..., 1:] - axis_mean


def greatest(values_ABU: Any) -> Any:
    """The largest value [A, B]. NumPy compares columns many times faster than it reduces a short last axis."""
    if not isinstance(values_ABU, np.ndarray):
        return torch.amax(values_ABU, -1)
    return functools.reduce(np.maximum, (values_ABU[..., action] for action in range(values_ABU.shape[-1])))


class DQNTrainer:
    """Trains one agent for each config; all configs share a signature."""

    def __init__(self, configs: Sequence[RunConfig], spaces: Spaces, hardware: Hardware, exact: bool = True) -> None:
        config = self.config = configs[0]
        algo = self.algo = algo_of(config)
        assert isinstance(spaces.action, DiscreteActions)
        agents, seeds = len(configs), [config.seed for config in configs]
        self.actions, self.hardware = spaces.action.n, hardware
        places = layout(config, spaces)
        parameters_AP = hardware.place(places.initial_rows(seeds))
        self.gradients_AP = zeros_like(parameters_AP)
        self.policy = QPolicy(config, spaces, parameters_AP, hardware, self.gradients_AP)
        self.state = State(
            steps=0,
            updates=0,
            parameters_AP=parameters_AP,
            target_AP=hardware.place(places.initial_rows(seeds)),
            optimizer=optim.Adam(parameters_AP, self.gradients_AP, algo.adam_epsilon, algo.amsgrad, hardware.native),
            replay=Replay(
                agents, algo.buffer_size, algo.num_envs, spaces.observation_size, hardware.memory, self.actions
            ),
            sampling=Generators(seeds, Stream.MINIBATCHES),
            exploration=Exploration(configs, self.actions),
            environments=Environments(config.env, algo.num_envs, seeds, exact=exact),
            normalizer=self.policy.normalizer,
            means=Means(agents, MEASURED),
        )
        self.target = Stack(places, "q", self.state.target_AP, None, hardware)
        self.observation = self.state.environments.observation.copy()
        self.agents = list(range(agents))
        self.gamma_A1: Any = column(per_agent(configs, "gamma"))
        if hardware.memory is not None:
            self.gamma_A1 = hardware.place(self.gamma_A1)
        self.tau: list[float] = per_agent(configs, "tau")
        self.learning_rate: list[float] = per_agent(configs, "learning_rate")
        self.descent = optim.Descent(
            self.state.optimizer,
            value_limits=per_agent(configs, "clip_gradient_value"),
            norm_limits=per_agent(configs, "max_gradient_norm"),
            weight_decay=per_agent(configs, "weight_decay") if algo.optimizer == "adamw" else [0.0] * agents,
        )
        first_value_A1 = np.arange(agents)[:, None] * algo.batch_size
        # Where each sample's values begin in the flat array of all.
        self.first_value_AB = hardware.place((first_value_A1 + np.arange(algo.batch_size)) * self.actions)
        if hardware.memory is not None:
            changes = [self.gradients_AP, *self.state.optimizer.tensors]
            self._improve_on_gpu = Graphed(self._learn_and_descend, hardware.device, changes)
            self.tau_A1 = hardware.place(column(self.tau))
            self.active_A1 = hardware.place(np.ones((agents, 1), bool))
        self.configs = configs
        self.episodes: list[tuple[int, Episode]] = []
        self.failures: dict[int, RlrunError] = {}
        observe_random_steps(self.policy.normalizer, config, spaces, seeds, self.failures)

    @property
    def frames(self) -> int:
        return self.state.steps * self.algo.num_envs * self.config.env.frame_skip

    def counts(self, frames: int) -> dict[str, int]:
        algo = self.algo
        steps = frames // (algo.num_envs * self.config.env.frame_skip)
        before_learning = max(math.ceil(max(algo.learning_starts, algo.batch_size) / algo.num_envs) - 1, 0)  # steps
        before, after = (count * algo.num_envs // algo.train_every for count in (before_learning, steps))
        return {
            "steps": steps,
            "updates": max(after - before, 0) * algo.updates_per_train,
            "replay.written": steps * algo.num_envs,
            "exploration.block": (steps - 1) // BLOCK,
        }

    def step(self) -> None:
        """One step of every environment, and the updates it makes due."""
        state, algo = self.state, self.algo
        before = state.steps * algo.num_envs
        self._collect()
        after = before + algo.num_envs
        if after >= algo.learning_starts and after >= algo.batch_size:
            for _ in range((after // algo.train_every - before // algo.train_every) * algo.updates_per_train):
                self._update()

    def _collect(self) -> None:
        state, environments = self.state, self.state.environments
        kind, is_random, action = state.exploration.at(state.steps)
        np.copyto(self.observation, environments.observation)  # stepping overwrites it
        if kind != "all":
            greedy = self.policy.act(self.observation)
            action = greedy if kind == "none" else np.where(is_random, action, greedy)
        environments.step(action)
        state.steps += 1
        state.replay.add(
            self.observation,
            environments.next_observation,
            action,
            environments.reward,
            environments.terminated,
            environments.truncated,
        )
        if state.normalizer.running:
            state.normalizer.update(self.observation)
        if environments.finished:
            self.episodes += [(self.frames, episode) for episode in environments.finished]
        if environments.failures:
            self.failures = environments.failures | self.failures  # an agent's first failure is the one to tell

    def _update(self) -> None:
        """One gradient step on a batch of each agent, then the target network moves."""
        state, algo = self.state, self.algo
        batch = state.replay.sample(algo.batch_size, algo.n_step, self.gamma_A1, state.sampling)
        if state.normalizer.enabled:
            seen = {name: state.normalizer(getattr(batch, name)) for name in ("observation", "next_observation")}
            batch = batch._replace(**seen)
        losses_A, values_A, norms_A = self._improve(batch)
        state.updates += 1
        if state.updates % algo.target_every == 0:
            self._move_target()
        state.means.add("loss", losses_A)
        state.means.add("q_value", values_A)
        if algo.max_gradient_norm is not None:
            state.means.add("gradient_norm", norms_A)
        if isinstance(losses_A, np.ndarray) or state.updates % DIVERGENCE_CHECK == 0:
            note_divergence(losses_A, self.frames, self.failures, "loss")

    def _move_target(self) -> None:
        """target <- target + tau (online - target)."""
        state, hardware = self.state, self.hardware
        if hardware.memory is not None:
            state.target_AP.lerp_(state.parameters_AP, self.tau_A1)
        else:
            rows = shared(state.target_AP), shared(state.parameters_AP)
            optim.move_towards(*rows, self.tau, hardware.native)

    def _improve(self, batch: Batch) -> tuple[Any, Any, Any]:
        """Gradients and a step against them, by what computes here. Losses, mean values and gradient norms, each [A]."""
        factor = optim.schedule(self.algo.learning_rate_schedule, self.frames, self.config.total_frames)
        rates = [rate * factor for rate in self.learning_rate]
        if self.hardware.memory is not None:
            rates_A1 = self.hardware.place(column(rates))
            return self._improve_on_gpu(*batch, rates_A1, self.active_A1)  # type: ignore[no-any-return]
        if self.policy.q.kernel is not None:
            losses_A, values_A = self._learn(batch)
        else:
            losses_A, values_A = (x_A.numpy(force=True) for x_A in self._learn_plainly(batch.to_torch()))
        return losses_A, values_A, self.descent(rates, self.agents)

    def _learn_and_descend(self, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``_improve`` as what a CUDA graph can hold."""
        *batch, rates_A1, active_A1 = tensors
        return *self._learn_plainly(Batch(*batch)), self.descent.on_device(rates_A1, active_A1)

    def _target(self, batch: Batch) -> Any:
        """Regression targets [A, B]. The best next action is valued by the target network; with Double DQN the online network
        says which is best."""
        following_ABO = batch.next_observation
        best_AB = self.policy.q(following_ABO)[..., -self.actions :].argmax(-1) if self.algo.double else None
        values_ABU = self.target(following_ABO)
        if self.algo.dueling:
            values_ABU = dueling_values(values_ABU, values_ABU[..., 1:].mean(-1, keepdims=True))
        if best_AB is None:
            return td_target(batch.reward, batch.discount, greatest(values_ABU))
        return td_target(batch.reward, batch.discount, values_ABU.reshape(-1)[self.first_value_AB + best_AB])

    def _learn(self, batch: Batch) -> tuple[Array, Array]:
        """Losses and mean Q of each agent; leaves the gradients in their rows. NumPy, by hand."""
        kernel = self.policy.q.kernel
        assert kernel is not None
        target_AB = self._target(batch)
        outputs_ABX = values_ABU = kernel.forward(batch.observation)
        if self.algo.dueling:
            values_ABU = dueling_values(outputs_ABX, outputs_ABX[..., 1:].mean(-1, keepdims=True))
        chosen = self.first_value_AB + batch.action
        chosen_AB = values_ABU.reshape(-1)[chosen]
        losses_A, slope_AB = td_loss_and_gradient(chosen_AB - target_AB, self.algo.loss)
        gradient_ABU = np.zeros(values_ABU.shape, np.float32)
        gradient_ABU.reshape(-1)[chosen] = slope_AB
        if self.algo.dueling:  # d Q(a) / d V = 1, d Q(a) / d A(u) = [u = a] - 1 / U
            advantage_ABU = gradient_ABU - slope_AB[..., None] / self.actions
            gradient_ABU = np.concatenate([slope_AB[..., None], advantage_ABU], -1)
        kernel.backward(gradient_ABU)
        return losses_A, chosen_AB.sum(1) / self.algo.batch_size

    def _learn_plainly(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As ``_learn``, with PyTorch and autograd."""
        target_AB = self._target(batch)
        self.gradients_AP.zero_()
        values_ABU = self.policy.q.forward(batch.observation)
        if self.algo.dueling:
            values_ABU = dueling_values(values_ABU, values_ABU[..., 1:].mean(-1, keepdim=True))
        is_chosen_ABU = batch.action[..., None] == torch.arange(self.actions, device=values_ABU.device)
        chosen_AB = (values_ABU * is_chosen_ABU).sum(-1)  # gather's gradient is not deterministic on a GPU
        losses_A = td_loss(chosen_AB - target_AB, self.algo.loss)
        losses_A.sum().backward()  # type: ignore[no-untyped-call]
        return losses_A.detach(), chosen_AB.detach().mean(1)

    def metrics(self, agent: int) -> dict[str, float | None]:
        factor = optim.schedule(self.algo.learning_rate_schedule, self.frames, self.config.total_frames)
        return self.state.means.take(agent) | {
            "epsilon": float(epsilon(algo_of(self.configs[agent]), np.array(self.frames))),
            "learning_rate": self.learning_rate[agent] * factor,
            "updates": self.state.updates,
        }

    def retire(self, agent: int) -> None:
        self.agents.remove(agent)
        if self.hardware.memory is not None:
            self.active_A1[agent] = False
        self.state.environments.retire(agent)

    def close(self) -> None:
        self.state.environments.close()

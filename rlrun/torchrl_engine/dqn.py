"""DQN with TorchRL's parts: EGreedyModule and Collector, a replay buffer, DQNLoss, SoftUpdate or HardUpdate.

    repeat: act epsilon-greedily -> store the transition -> sample a batch -> DQNLoss -> gradient step -> move the target network

Shapes: N environments, P parameters.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tensordict.nn import TensorDictSequential
from torchrl.data import Composite
from torchrl.modules import EGreedyModule, QValueActor
from torchrl.objectives import DQNLoss, HardUpdate, SoftUpdate

from rlrun import optim
from rlrun.config import DQNConfig, RunConfig
from rlrun.envs import DiscreteActions, Spaces
from rlrun.errors import EnvironmentFailure, RlrunError
from rlrun.hardware import Hardware
from rlrun.normalization import ObservationNormalizer
from rlrun.rollout import Episode
from rlrun.torchrl_engine.experience import Experience
from rlrun.torchrl_engine.memory import Memory
from rlrun.torchrl_engine.weights import Descent, Target, make_mlp
from rlrun.trainers.base import Means, note_divergence
from rlrun.trainers.dqn import MEASURED
from rlrun.trainers.dqn_policy import QPolicy, layout
from rlrun.trainers.exploration import epsilon

LOSSES = {"huber": "smooth_l1", "mse": "l2"}


@dataclass
class State:
    """What a checkpoint holds. TorchRL's environments are not in it: a resumed run begins new episodes."""

    steps: int
    updates: int
    parameters_AP: torch.Tensor
    target: Target
    optimizer: Descent
    memory: Memory
    normalizer: ObservationNormalizer
    means: Means


class DQNTrainer:
    """Trains one agent."""

    def __init__(self, configs: Sequence[RunConfig], spaces: Spaces, hardware: Hardware) -> None:
        (config,) = configs
        self.config, algo = config, config.algo
        assert isinstance(algo, DQNConfig) and isinstance(spaces.action, DiscreteActions)
        self.algo, self.device = algo, hardware.device
        places = layout(config, spaces)
        rows_AP = hardware.place(places.initial_rows([config.seed]))  # the same first weights as engine=rlrun
        self.policy = QPolicy(config, spaces, rows_AP, hardware)  # reads what TorchRL trains
        self.experience = Experience(config, self.policy.normalizer, self.device, clip_actions=False)

        self.network = make_mlp(config.network, places, "q", rows_AP)
        spec = Composite(action=self.experience.action_spec).to(self.device)
        value_network = QValueActor(self.network, in_keys=["observation"], spec=spec, action_space="categorical")
        self.greedy = EGreedyModule(
            spec, eps_init=algo.epsilon_start, eps_end=algo.epsilon_end, annealing_num_steps=algo.epsilon_frames
        ).to(self.device)
        self.acting = TensorDictSequential(value_network, self.greedy)
        self.loss = self._make_loss(value_network)
        self.target = self._make_target_update()
        self.state = State(
            steps=0,
            updates=0,
            parameters_AP=rows_AP,
            target=Target(self.loss.target_value_network_params),
            optimizer=Descent(self._make_optimizer(), algo.clip_gradient_value, algo.max_gradient_norm),
            memory=Memory(algo, spaces.observation_size, spaces.action.n, self.device),
            normalizer=self.policy.normalizer,
            means=Means(1, MEASURED),
        )
        self.episodes: list[tuple[int, Episode]] = []
        self.failures: dict[int, RlrunError] = {}

    def _make_loss(self, value_network: QValueActor) -> DQNLoss:
        algo = self.algo
        loss = DQNLoss(
            value_network,
            loss_function=LOSSES[algo.loss],
            delay_value=True,
            double_dqn=algo.double,
            action_space="categorical",
        )
        loss.make_value_estimator(gamma=algo.gamma)
        return loss

    def _make_target_update(self) -> SoftUpdate | HardUpdate:
        """It is called when the target network is to move; ``HardUpdate`` would wait for one step more than its interval."""
        if self.algo.tau == 1:
            return HardUpdate(self.loss, value_network_update_interval=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a tau above 0.5 is unusual
            return SoftUpdate(self.loss, tau=self.algo.tau)

    def _make_optimizer(self) -> torch.optim.Optimizer:
        algo, parameters = self.algo, list(self.network.parameters())
        common: dict[str, Any] = {"lr": algo.learning_rate, "eps": algo.adam_epsilon, "amsgrad": algo.amsgrad}
        if algo.optimizer == "adamw":
            return torch.optim.AdamW(parameters, weight_decay=algo.weight_decay, **common)
        return torch.optim.Adam(parameters, **common)

    @property
    def frames(self) -> int:
        return self.state.steps * self.algo.num_envs * self.config.env.frame_skip

    def counts(self, frames: int) -> dict[str, int]:
        return {"steps": frames // (self.algo.num_envs * self.config.env.frame_skip)}

    def step(self) -> None:
        """One step of every environment, and the updates it makes due."""
        state, algo, frames = self.state, self.algo, self.frames
        self.greedy.eps.fill_(float(epsilon(algo, np.array(frames))))
        try:
            data = self.experience.collect(self.acting, steps=1, done=state.steps)
        except EnvironmentFailure as error:
            self.failures[0] = error
            return
        self.episodes += self.experience.ended(data, frames)
        state.memory.extend(data)
        before, after = state.steps * algo.num_envs, (state.steps + 1) * algo.num_envs
        state.steps += 1
        if after >= algo.learning_starts and after >= algo.batch_size and len(state.memory):
            for _ in range((after // algo.train_every - before // algo.train_every) * algo.updates_per_train):
                self._update()

    def _update(self) -> None:
        """One gradient step on a batch, then the target network moves."""
        state, algo = self.state, self.algo
        factor = optim.schedule(algo.learning_rate_schedule, self.frames, self.config.total_frames)
        batch = state.memory.sample()
        with torch.no_grad():
            value = self.network(batch["observation"]).gather(-1, batch["action"][:, None]).mean()
        loss = self.loss(batch)["loss"]
        norm = state.optimizer.step(loss, algo.learning_rate * factor)
        state.updates += 1
        if state.updates % algo.target_every == 0:
            self.target.step()
        measured = {"loss": loss, "q_value": value} | ({} if norm is None else {"gradient_norm": norm})
        for name, tensor in measured.items():
            state.means.add(name, np.array([tensor.item()]))
        note_divergence(np.array([loss.item()]), self.frames, self.failures, "loss")

    def metrics(self, agent: int) -> dict[str, float | None]:
        factor = optim.schedule(self.algo.learning_rate_schedule, self.frames, self.config.total_frames)
        return self.state.means.take(agent) | {
            "epsilon": float(epsilon(self.algo, np.array(self.frames))),
            "learning_rate": self.algo.learning_rate * factor,
            "updates": self.state.updates,
        }

    def retire(self, agent: int) -> None:
        """There is no other agent that would go on."""

    def close(self) -> None:
        self.experience.close()

"""DQN: its math against torch and TorchRL, its protocol as literal sequences, and that it learns the probes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import probes
import pytest
import support
import torch
from support import DQN, as_tensor, config_of, trainer_of
from tensordict import TensorDict
from torch import nn
from torchrl.modules import QValueActor
from torchrl.objectives import DQNLoss

from rlrun.config import DQNConfig, RunConfig
from rlrun.envs import spaces
from rlrun.trainers import dqn
from rlrun.trainers.base import restore
from rlrun.trainers.dqn import td_loss, td_loss_and_gradient
from rlrun.trainers.dqn_policy import layout
from rlrun.trainers.exploration import BLOCK, Exploration, epsilon

probes.register()


# --- math ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["huber", "mse"])
def test_losses_equal_torch_and_gradients_equal_autograd(loss: str) -> None:
    error = torch.tensor([[-3.0, -1.0, -0.2, 0.0], [0.3, 1.0, 1.5, 40.0]], requires_grad=True)
    ours = td_loss(error, loss)
    oracle = nn.functional.mse_loss if loss == "mse" else nn.functional.smooth_l1_loss
    torch.testing.assert_close(ours, oracle(error, torch.zeros_like(error), reduction="none").mean(1))
    ours.sum().backward()
    by_hand, slope = td_loss_and_gradient(error.detach().numpy(), loss)
    assert slope.dtype == np.float32
    np.testing.assert_allclose(by_hand, ours.detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(slope, error.grad, rtol=1e-6)


def test_targets() -> None:
    target = dqn.td_target(np.array([1.0, 1.0]), np.array([0.9, 0.0]), np.array([10.0, 10.0]))
    assert target.tolist() == [10.0, 1.0]


def test_dueling_values() -> None:
    outputs = np.array([[[5.0, 1.0, 2.0, 6.0]]])  # value 5, advantages around their mean 3
    assert dqn.dueling_values(outputs, outputs[..., 1:].mean(-1, keepdims=True)).tolist() == [[[3, 4, 8]]]


def test_exponential_epsilon_is_the_tutorials() -> None:
    config = DQNConfig(epsilon_start=0.9, epsilon_end=0.05, epsilon_frames=1000, epsilon_schedule="exponential")
    frames = np.array([0, 1, 1000, 2500, 100_000])
    expected = [0.05 + 0.85 * math.exp(-t / 1000) for t in frames.tolist()]
    np.testing.assert_allclose(epsilon(config, frames), expected, rtol=1e-12)
    assert epsilon(config, frames)[0] == pytest.approx(0.9)


def test_linear_epsilon() -> None:
    config = DQNConfig(epsilon_start=1.0, epsilon_end=0.2, epsilon_frames=100, epsilon_schedule="linear")
    np.testing.assert_allclose(epsilon(config, np.array([0, 25, 100, 1000])), [1.0, 0.8, 0.2, 0.2])


class Reference(nn.Module):
    """The usual or the dueling network written with torch, with the weights of the first agent."""

    def __init__(self, views: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.blocks = nn.ParameterDict({name.replace(".", "_"): view[0].clone() for name, view in views.items()})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p = self.blocks
        h = torch.relu(torch.relu(x @ p["0_weight"] + p["0_bias"]) @ p["1_weight"] + p["1_bias"])
        if "head_weight" in p:
            return h @ p["head_weight"] + p["head_bias"]
        half = h.shape[-1] // 2
        value = h[..., :half] @ p["value_weight"] + p["value_bias"]
        advantage = h[..., half:] @ p["advantage_weight"] + p["advantage_bias"]
        return value + advantage - advantage.mean(-1, keepdim=True)


@pytest.mark.filterwarnings("ignore:No target network updater")
@pytest.mark.parametrize("kernels", ["auto", "plain"])
@pytest.mark.parametrize("loss", ["huber", "mse"])
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("double", [False, True])
def test_loss_and_gradient_equal_torchrl(double: bool, dueling: bool, loss: str, kernels: str) -> None:
    algo = {"double": double, "dueling": dueling, "loss": loss, "gamma": 0.9, "tau": 0.3}
    trainer = trainer_of(config_of(DQN, {"algo": algo, "hardware": {"kernels": kernels}}))
    for _ in range(60):
        trainer.step()
    noise = torch.randn(trainer.state.parameters_AP.shape, generator=torch.Generator().manual_seed(0))
    as_tensor(trainer.state.parameters_AP).add_(0.2 * noise)  # online and target network disagree on the best action
    batch = trainer.state.replay.sample(32, 1, trainer.gamma_A1, trainer.state.sampling)
    assert (trainer.policy.q.kernel is not None) == (kernels == "auto")
    losses, _ = trainer._learn(batch) if kernels == "auto" else trainer._learn_plainly(batch.to_torch())

    online = {name: as_tensor(view) for name, view in trainer.policy.q.views.items()}
    actor = QValueActor(Reference(online), in_keys=["observation"], action_space="categorical")
    oracle = DQNLoss(
        actor, loss_function="l2" if loss == "mse" else "smooth_l1", delay_value=True, double_dqn=double,
        action_space="categorical",
    )  # fmt: skip
    oracle.make_value_estimator(gamma=0.9)
    frozen = {name.replace(".", "_"): as_tensor(view[0]) for name, view in trainer.target.views.items()}
    for name, value in oracle.target_value_network_params.flatten_keys(".").items():
        value.data.copy_(frozen[name.rpartition(".")[2]])
    terminated = torch.from_numpy(batch.discount[0] == 0)[:, None]
    data = TensorDict(
        {
            "observation": torch.from_numpy(batch.observation[0].copy()),
            "action": torch.from_numpy(batch.action[0]),
            "next": {
                "observation": torch.from_numpy(batch.next_observation[0].copy()),
                "reward": torch.from_numpy(batch.reward[0].copy())[:, None],
                "terminated": terminated,
                "done": terminated,
            },
        },
        [32],
    )
    expected = oracle(data)["loss"]
    assert terminated.any() and not terminated.all()
    assert float(losses[0]) == pytest.approx(expected.item(), rel=1e-5)
    expected.backward()
    gradients = {
        name.rpartition(".")[2]: value.grad for name, value in oracle.value_network_params.flatten_keys(".").items()
    }
    places = layout(trainer.config, spaces(trainer.config.env))
    for name, gradient in places.views("q", as_tensor(trainer.gradients_AP)).items():
        torch.testing.assert_close(gradient[0], gradients[name.replace(".", "_")], rtol=1e-4, atol=1e-6)


# --- exploration -----------------------------------------------------------------------------------------------------


def exploring(seed: int = 0, **algo: Any) -> RunConfig:
    return config_of(DQN, {"seed": seed, "algo": {"epsilon_start": 0.5, "epsilon_end": 0.5, **algo}})


def choices(exploration: Exploration, steps: range) -> list[tuple[list[Any], list[Any]]]:
    drawn = [exploration.at(step) for step in steps]
    return [(is_random.tolist(), actions.tolist()) for _, is_random, actions in drawn]


@pytest.mark.parametrize("at", [0, 1, 700, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
def test_restored_exploration_goes_on_with_the_same_actions(at: int) -> None:
    """Also at the end of a block, when the next is not drawn yet."""
    exploration = Exploration([exploring(1), exploring(2)], actions=3)
    choices(exploration, range(at))
    tree = exploration.capture(1)
    expected = [(flags[1], actions[1]) for flags, actions in choices(exploration, range(at, at + 2 * BLOCK))]
    restored = Exploration([exploring(2)], actions=3)
    restored.restore(0, tree)
    assert [(flags[0], actions[0]) for flags, actions in choices(restored, range(at, at + 2 * BLOCK))] == expected


def test_exploration_is_as_frequent_as_epsilon_and_uniform() -> None:
    exploration = Exploration([exploring(epsilon_start=0.3, epsilon_end=0.3, num_envs=2)], actions=4)
    drawn = [exploration.at(step) for step in range(4 * BLOCK)]
    flags, actions = np.array([d[1] for d in drawn]), np.array([d[2] for d in drawn])
    assert flags.shape == (4 * BLOCK, 1, 2)
    assert flags.mean() == pytest.approx(0.3, abs=0.03)
    np.testing.assert_allclose(np.bincount(actions.ravel()) / actions.size, [0.25] * 4, atol=0.03)
    assert np.corrcoef(flags[:, 0, 0], flags[:, 0, 1])[0, 1] == pytest.approx(0, abs=0.08)


def test_epsilon_falls_with_frames_not_steps() -> None:
    algo = {
        "epsilon_start": 1.0,
        "epsilon_end": 0.0,
        "epsilon_schedule": "linear",
        "epsilon_frames": 200,
        "num_envs": 4,
    }
    exploration = Exploration([config_of(DQN, {"algo": algo, "env": {"frame_skip": 5}})], actions=2)
    kinds = [exploration.at(step)[0] for step in range(12)]  # 20 frames a step: over after 10 steps
    assert kinds[0] == "all" and kinds[10:] == ["none", "none"] and "some" in kinds


def test_only_random_and_only_greedy_actions() -> None:
    trainer = trainer_of(exploring(epsilon_start=0.0, epsilon_end=0.0))
    for _ in range(20):
        greedy = trainer.policy.act(trainer.state.environments.observation)
        trainer._collect()
        assert trainer.state.replay.rows[0, trainer.state.replay.written - 1, -1] == greedy[0, 0]
    assert {Exploration([exploring(epsilon_start=1.0, epsilon_end=1.0)], 2).at(s)[0] for s in range(50)} == {"all"}


# --- protocol --------------------------------------------------------------------------------------------------------


def updates_after_each_step(steps: int, **algo: Any) -> list[int]:
    trainer = trainer_of(config_of(DQN, {"algo": algo}))
    counts = []
    for _ in range(steps):
        trainer.step()
        counts.append(trainer.state.updates)
    return counts


def test_when_updates_happen() -> None:
    small = {"batch_size": 4, "buffer_size": 60}
    assert updates_after_each_step(8, **small, learning_starts=0) == [0, 0, 0, 1, 2, 3, 4, 5]  # once a batch is there
    assert updates_after_each_step(8, **small, learning_starts=6) == [0, 0, 0, 0, 0, 1, 2, 3]
    assert updates_after_each_step(9, **small, learning_starts=4, train_every=3, updates_per_train=2) == [
        0, 0, 0, 0, 0, 2, 2, 2, 4,
    ]  # fmt: skip
    # three environments: 3 6 9 12 15 transitions
    assert updates_after_each_step(5, **small, learning_starts=6, num_envs=3) == [0, 3, 6, 9, 12]
    assert updates_after_each_step(5, **small, learning_starts=6, num_envs=3, train_every=4) == [0, 1, 2, 3, 3]


def test_frames_count_environments_and_frame_skip() -> None:
    trainer = trainer_of(config_of(DQN, {"algo": {"num_envs": 2}, "env": {"frame_skip": 3}}))
    for _ in range(4):
        trainer.step()
    assert trainer.frames == 24 and trainer.state.replay.written == 8


def stepped_targets(tau: float, target_every: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(target before, online network after, target after) of five updates."""
    algo = {"learning_starts": 0, "batch_size": 4, "tau": tau, "target_every": target_every}
    trainer = trainer_of(config_of(DQN, {"algo": algo}))
    state, seen = trainer.state, []
    for _ in range(3):
        trainer.step()
    for _ in range(5):
        before = as_tensor(state.target_AP).clone()
        trainer.step()
        seen.append((before, as_tensor(state.parameters_AP).clone(), as_tensor(state.target_AP).clone()))
    return seen


def test_soft_target_updates_at_every_update() -> None:
    for before, online, after in stepped_targets(tau=0.1, target_every=1):
        torch.testing.assert_close(after, 0.9 * before + 0.1 * online)
        assert not torch.equal(after, before)


def test_hard_target_updates_at_every_second_update() -> None:
    seen = stepped_targets(tau=1.0, target_every=2)
    assert [torch.equal(after, online) for _, online, after in seen] == [False, True, False, True, False]
    assert [torch.equal(after, before) for before, _, after in seen] == [True, False, True, False, True]


def test_stored_transitions_do_not_cross_episodes() -> None:
    trainer = trainer_of(config_of(DQN, {"algo": {"num_envs": 2}, "env": {"time_limit": 12}}))
    for _ in range(60):
        trainer.step()
    rows, outcomes = trainer.state.replay.rows[0, :120], trainer.state.replay.outcomes[0, :120]
    terminated, done = outcomes[:-2, 1] == 1, outcomes[:-2, 2] == 1
    joined = (rows[:-2, 4:8] == rows[2:, :4]).all(1)
    assert (joined == ~done).all()
    assert terminated.sum() > 2 and (done & ~terminated).sum() > 2 and (terminated <= done).all()
    assert (np.abs(rows[:-2][terminated][:, 6]) > 0.2095).any()  # the final observation: the pole beyond its limit
    assert (np.abs(rows[2:][done][:, :4]) <= 0.05).all()  # and then a new start


def test_gradients_are_clipped_for_each_agent() -> None:
    """Far below Adam's epsilon, a gradient moves nothing."""

    def config(value: float, norm: float) -> RunConfig:
        algo = {"clip_gradient_value": value, "max_gradient_norm": norm, "optimizer": "adam", "adam_epsilon": 1e-3}
        return config_of(DQN, {"algo": algo})

    trainer = trainer_of(config(1e-9, 1e3), config(1e3, 1e-9), config(1e3, 1e3))
    begun = trainer.state.parameters_AP.copy()
    for _ in range(45):
        trainer.step()
    moved = np.abs(trainer.state.parameters_AP - begun).max(1)
    assert moved[0] < 1e-7 and moved[1] < 1e-7 < 1e-4 < moved[2]
    assert trainer.metrics(1)["gradient_norm"] > 1e-3


def test_weight_decay_is_adamws_alone() -> None:
    def after_an_update(optimizer: str) -> torch.Tensor:
        trainer = trainer_of(config_of(DQN, {"algo": {"optimizer": optimizer, "weight_decay": 5.0}}))
        for _ in range(40):
            trainer.step()
        assert trainer.state.updates == 1
        return as_tensor(trainer.state.parameters_AP)

    begun = as_tensor(trainer_of(config_of(DQN)).state.parameters_AP)
    torch.testing.assert_close(after_an_update("adamw") - after_an_update("adam"), -5e-3 * begun, rtol=1e-2, atol=1e-6)


def test_metrics_are_means_since_last_asked() -> None:
    trainer = trainer_of(config_of(DQN, {"algo": {"learning_rate_schedule": "linear"}, "total_frames": 100}))
    for _ in range(50):
        trainer.step()
    row = trainer.metrics(0)
    assert row["updates"] == 11 and row["learning_rate"] == pytest.approx(0.5e-3)
    assert row["epsilon"] == pytest.approx(0.05 + 0.85 * math.exp(-50 / 200))
    assert row["loss"] > 0 and "q_value" in row
    assert trainer.metrics(0).keys() == {"epsilon", "learning_rate", "updates"}


def test_a_restored_trainer_goes_on_with_the_same_bits_at_a_block_boundary() -> None:
    config = config_of(DQN, {"algo": {"epsilon_start": 0.5, "epsilon_end": 0.5, "train_every": 64}})
    trainer, fresh = trainer_of(config), trainer_of(config)
    for _ in range(BLOCK):
        trainer.step()
    tree = support.captured(trainer.state, 0)
    for _ in range(100):
        trainer.step()
    restore(fresh.state, 0, tree)  # what was captured has not moved on
    for _ in range(100):
        fresh.step()
    support.assert_same_bits(support.captured(fresh.state, 0), support.captured(trainer.state, 0))


# --- learning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", probes.LEARNING)
def test_probes(what: str) -> None:
    settings = {
        "env": {"id": f"Probe{what}-v0"},
        "algo": {
            "batch_size": 32, "learning_starts": 32, "buffer_size": 500, "learning_rate": 1e-2, "gamma": 0.5, "tau": 0.1,
            "epsilon_start": 1.0, "epsilon_end": 0.5, "double": True, "weight_decay": 0.0,
        },
        "network": {"hidden": [16]},
    }  # fmt: skip
    trainer = trainer_of(config_of(DQN, settings))
    for _ in range(500):
        trainer.step()
    values = trainer.policy.q(support.probe_observations(what))[0]
    np.testing.assert_allclose(values.max(-1), list(support.VALUES[what].values()), atol=0.1)
    if what in support.CHOICES:
        assert values.argmax(-1).tolist() == list(support.CHOICES[what].values())

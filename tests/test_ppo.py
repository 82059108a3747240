"""PPO: its gradients against autograd and TorchRL, its protocol, and that it learns the probes."""

from __future__ import annotations

from typing import Any
from unittest import mock

import gymnasium
import numpy as np
import probes
import pytest
import support
import torch
from gymnasium.spaces import Box, MultiDiscrete
from support import PPO, as_tensor, config_of, merged, trainer_of
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from tensordict.nn.distributions import NormalParamExtractor
from torch import nn
from torchrl.modules import OneHotCategorical, ProbabilisticActor, ValueOperator
from torchrl.modules.distributions import IndependentNormal
from torchrl.objectives import ClipPPOLoss

from rlrun.envs import spaces
from rlrun.trainers.ppo_policy import layout
from rlrun.trainers.rollouts import Columns

probes.register()


class Levers(gymnasium.Env[np.ndarray, Any]):
    """Two levers: reward for the second of two and the third of three."""

    observation_space = Box(-1, 1, (2,), np.float32)
    action_space = MultiDiscrete([2, 3])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.ones(2, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        return np.ones(2, np.float32), float(action[0] == 1) + float(action[1] == 2), True, False, {}


if "Levers-v0" not in gymnasium.registry:
    gymnasium.register("Levers-v0", Levers)

DISCRETE: dict[str, Any] = {}
MULTIPLE = {"env": {"id": "Levers-v0"}}
GAUSSIAN = {"env": {"id": "Pendulum-v1"}}
GAUSSIAN_STATE = merged(GAUSSIAN, {"algo": {"state_dependent_std": True}})
TANH = merged(GAUSSIAN, {"algo": {"distribution": "tanh_normal", "state_dependent_std": True}})
KINDS = {
    "discrete": DISCRETE, "multiple": MULTIPLE, "gaussian": GAUSSIAN, "gaussian_state": GAUSSIAN_STATE, "tanh": TANH,
}  # fmt: skip


# --- gradients -------------------------------------------------------------------------------------------------------


def moved(*settings: dict[str, Any], kernels: str = "auto", agents: int = 2) -> tuple[Any, Columns]:
    """A trainer with a rollout, whose policy has moved since, and one minibatch of it."""
    network = {"network": {"hidden": [50, 33], "init": "torch"}, "hardware": {"kernels": kernels}}
    trainer = trainer_of(*[config_of(PPO, network, *settings, {"seed": seed}) for seed in range(agents)])
    trainer._collect()
    trainer._finish_rollout()
    places = trainer.state.parameters_AP.shape
    noise = torch.randn(places, generator=torch.Generator().manual_seed(0))
    as_tensor(trainer.state.parameters_AP).add_(0.05 * noise)
    size, normalize = trainer.algo.minibatch_size, trainer.algo.normalize_advantage == "minibatch"
    shuffled = trainer.columns.shuffled(size, normalize, trainer.state.shuffling, range(agents))
    return trainer, shuffled.part(slice(0, size))


def learned(trainer: Any, batch: Columns) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What is measured of a minibatch, and the gradients."""
    noise, clip = trainer._noise(batch, range(len(trainer.clip_A1))), trainer.clip_A1
    if trainer.actor.kernel is not None:
        seen = trainer._learn_by_hand(trainer.actor.kernel, trainer.critic.kernel, batch, noise, clip)
    else:
        plainly = trainer._learn_plainly(batch.to_torch(), torch.from_numpy(noise), torch.from_numpy(clip))
        seen = [tensor.numpy() for tensor in plainly]
    return trainer._measured(batch, *seen, clip), as_tensor(trainer.gradients_AP).numpy().copy()


@pytest.mark.parametrize(
    "algo",
    [
        {"entropy_coef": 0.1, "critic_coef": 0.7},
        {"entropy_coef": 0.01, "critic_loss": "smooth_l1", "value_clip_range": 0.05, "normalize_advantage": "none"},
    ],
    ids=["mse", "clipped_smooth_l1"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_by_hand_equal_autograd(kind: str, algo: dict[str, Any]) -> None:
    by_hand = learned(*moved(KINDS[kind], {"algo": algo | {"clip_range": 0.05}}))
    plainly = learned(*moved(KINDS[kind], {"algo": algo | {"clip_range": 0.05}}, kernels="plain"))
    for name, value in by_hand[0].items():
        np.testing.assert_allclose(value, plainly[0][name], rtol=1e-4, atol=1e-5, err_msg=name)
    assert 0 < by_hand[0]["clip_fraction"].mean() < 1  # both branches of the objective are in it
    np.testing.assert_allclose(by_hand[1], plainly[1], rtol=1e-3, atol=2e-5)
    assert np.abs(by_hand[1]).max() > 1e-2


def sequential(views: dict[str, torch.Tensor]) -> nn.Sequential:
    """The first agent's network as torch.nn."""
    layers: list[nn.Module] = []
    for block in ("0", "1", "head"):
        weight, bias = views[f"{block}.weight"][0].detach(), views[f"{block}.bias"][0].detach()
        layer = nn.Linear(*weight.shape)
        layer.weight.data, layer.bias.data = weight.T.clone(), bias.clone()
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("critic_kind", ["mse", "smooth_l1"])
@pytest.mark.parametrize("value_clip", [None, 0.05])
@pytest.mark.parametrize("kind", ["discrete", "gaussian_state"])
def test_losses_equal_torchrl(kind: str, value_clip: float | None, critic_kind: str) -> None:
    algo = {"entropy_coef": 0.1, "critic_loss": critic_kind, "value_clip_range": value_clip, "clip_range": 0.05}
    trainer, batch = moved(KINDS[kind], {"algo": algo}, agents=1)
    measured, gradients = learned(trainer, batch)
    actor_net = sequential({name: as_tensor(view) for name, view in trainer.actor.views.items()})
    if kind == "discrete":
        module = TensorDictModule(actor_net, ["observation"], ["logits"])
        actor = ProbabilisticActor(module, in_keys=["logits"], distribution_class=OneHotCategorical)
    else:  # TorchRL's extractor: softplus biased so that 0 means 1, at least 0.01
        extractor = NormalParamExtractor("biased_softplus_1.0", scale_lb=0.01)
        module = TensorDictModule(nn.Sequential(actor_net, extractor), ["observation"], ["loc", "scale"])
        actor = ProbabilisticActor(module, in_keys=["loc", "scale"], distribution_class=IndependentNormal)
    critic = ValueOperator(
        sequential({name: as_tensor(view) for name, view in trainer.critic.views.items()}), in_keys=["observation"]
    )
    oracle = ClipPPOLoss(
        actor, critic, clip_epsilon=0.05, entropy_coeff=0.1, critic_coeff=0.5, clip_value=value_clip,
        loss_critic_type="l2" if critic_kind == "mse" else "smooth_l1",
    )  # fmt: skip
    columns = {
        "observation": batch.observation, "action": batch.action, "action_log_prob": batch.log_prob,
        "advantage": batch.advantage[..., None], "value_target": batch.target[..., None],
        "state_value": batch.old_value[..., None],
    }  # fmt: skip
    losses = oracle(TensorDict({name: torch.from_numpy(value[0].copy()) for name, value in columns.items()}, [16]))
    assert measured["policy_loss"][0] == pytest.approx(losses["loss_objective"].item(), rel=1e-4, abs=1e-5)
    assert 0.5 * measured["critic_loss"][0] == pytest.approx(losses["loss_critic"].item(), rel=1e-4)
    assert measured["entropy"][0] == pytest.approx(losses["entropy"].item(), rel=1e-4)
    assert measured["clip_fraction"][0] == pytest.approx(losses["clip_fraction"].item())
    (losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]).backward()
    places = layout(trainer.config, spaces(trainer.config.env))
    for network, module in (("actor", oracle.actor_network_params), ("critic", oracle.critic_network_params)):
        ours = places.views(network, gradients)
        theirs = [value.grad for _, value in sorted(module.flatten_keys(".").items())]
        assert len(theirs) == len(ours) == 6
        for block, (bias, weight) in zip(("0", "1", "head"), zip(theirs[::2], theirs[1::2], strict=True), strict=True):
            np.testing.assert_allclose(ours[f"{block}.weight"][0], weight.T, rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(ours[f"{block}.bias"][0], bias, rtol=1e-3, atol=1e-5)


# --- protocol --------------------------------------------------------------------------------------------------------


def test_a_rollout_is_flattened_step_by_step_and_keeps_the_final_observations() -> None:
    trainer = trainer_of(config_of(PPO, {"env": {"time_limit": 7}}))
    trainer._collect()
    rollout = trainer.rollout
    done = rollout.terminated | rollout.truncated
    assert rollout.truncated.sum() >= 6
    joined = (rollout.next_observation[0, :-1] == rollout.observation[0, 1:]).all(-1)
    assert (joined == ~done[0, :-1]).all()
    trainer._finish_rollout()
    assert (trainer.columns.observation[0, 2 * 5 + 1] == rollout.observation[0, 5, 1]).all()
    assert trainer.columns.rows.shape == (1, 64, 4 + 2 + 4)


def test_old_log_probabilities_are_those_of_the_policy_that_acted() -> None:
    trainer, batch = moved(GAUSSIAN)
    trainer.state.parameters_AP[:] = trainer_of(*trainer.configs).state.parameters_AP  # the policy before it moved
    measured, _ = learned(trainer, batch)
    np.testing.assert_allclose(measured["approximate_kl"], 0, atol=1e-6)
    np.testing.assert_allclose(measured["clip_fraction"], 0)


def test_advantages_and_value_targets() -> None:
    """One step, reward 1, terminated: the advantage is 1 - V, the target 1."""
    trainer = trainer_of(config_of(PPO, {"env": {"id": "ProbeConstant-v0"}}))
    trainer._collect()
    trainer._finish_rollout()
    value = trainer.critic(trainer.columns.observation)[..., 0]
    assert np.abs(value).max() < 1e-6  # observation 0 and no biases yet
    np.testing.assert_allclose(trainer.columns.target, 1.0)
    np.testing.assert_allclose(trainer.columns.advantage, 1.0 - value)


def test_normalize_advantage_says_over_what() -> None:
    for over in ("none", "minibatch", "rollout"):
        trainer, batch = moved(GAUSSIAN, {"algo": {"normalize_advantage": over}})
        rollout = trainer.columns.advantage
        assert (abs(rollout.std(ddof=1, axis=1) - 1).max() < 1e-3) == (over == "rollout")
        assert (abs(batch.advantage.std(ddof=1, axis=1) - 1).max() < 1e-3) == (over == "minibatch")
        assert (abs(batch.advantage.mean(axis=1)).max() < 1e-6) == (over == "minibatch")


def test_recomputed_advantages_are_those_of_the_critic_after_the_epoch_before() -> None:
    def stepped(epochs: int, recompute: bool) -> Any:
        trainer = trainer_of(config_of(PPO, {"algo": {"epochs": epochs, "recompute_advantage": recompute}}))
        trainer.step()
        return trainer

    after_one = stepped(1, False)
    expected = after_one.critic(after_one.columns.observation)[..., 0]
    np.testing.assert_array_equal(stepped(2, True).columns.old_value, expected)
    assert np.abs(stepped(2, False).columns.old_value - expected).max() > 1e-4


@pytest.mark.parametrize("kind", ["discrete", "tanh"])
def test_target_kl_makes_an_agent_sit_out_without_the_others_noticing(kind: str) -> None:
    def config(seed: int, target_kl: float) -> Any:
        return config_of(PPO, KINDS[kind], {"seed": seed, "algo": {"target_kl": target_kl, "epochs": 3}})

    configs = [config(0, 1e-9), config(1, 1e9)]
    together = trainer_of(*configs)
    alone = [trainer_of(config) for config in configs]
    for _ in range(3):
        for trainer in (together, *alone):
            trainer.step()
    assert together.state.optimizer.steps_A.tolist() == [3 * 4, 3 * 3 * 4]  # 4 minibatches; one epoch, three epochs
    for agent, trainer in enumerate(alone):
        support.assert_same_bits(support.captured(together.state, agent), support.captured(trainer.state, 0))


def test_schedules_of_learning_rate_and_clip_range() -> None:
    algo = {
        "learning_rate": 0.1,
        "learning_rate_schedule": "linear",
        "clip_range_schedule": "linear",
        "clip_range": 0.4,
    }
    trainer = trainer_of(config_of(PPO, {"algo": algo, "total_frames": 256}))
    clips = []
    improve = trainer._improve

    def improving(batch: Columns, noise: np.ndarray, rates: list[float], clip: np.ndarray, active: Any) -> Any:
        clips.append(float(clip[0, 0]))
        return improve(batch, noise, rates, clip, active)

    trainer._improve = improving
    rates = []
    for _ in range(4):
        rates.append(trainer.metrics(0)["learning_rate"])
        trainer.step()
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])
    assert clips[::8] == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_gradient_norms_are_limited() -> None:
    trainer = trainer_of(config_of(PPO, {"algo": {"max_gradient_norm": 1e-10, "adam_epsilon": 1e-5}}))
    before = trainer.state.parameters_AP.copy()
    trainer.step()
    assert 0 < np.abs(trainer.state.parameters_AP - before).max() < 1e-6  # gradients far below Adam's epsilon


def test_running_statistics_are_of_the_rollouts_and_come_after_the_update() -> None:
    trainer = trainer_of(config_of(PPO, GAUSSIAN, {"env": {"observation_norm": "running", "observation_clip": None}}))
    trainer._collect()
    trainer._finish_rollout()
    assert (trainer.columns.observation == trainer.rollout.observation_AMO).all()  # nothing seen yet
    stepped, seen = trainer_of(trainer.config), []
    for _ in range(2):
        stepped.step()
        seen.append(stepped.rollout.observation_AMO[0].copy())
    moments = stepped.state.normalizer.moments
    np.testing.assert_allclose(moments.mean[0], np.concatenate(seen).mean(0), rtol=1e-4, atol=1e-6)
    assert moments.count[0] == 128


def test_rewards_are_normalised_then_clipped() -> None:
    env = {"reward_norm": True, "reward_clip": 0.5, "id": "Pendulum-v1"}
    trainer = trainer_of(config_of(PPO, {"env": env}))
    trainer._collect()
    raw = trainer.rollout.reward.copy()
    assert np.abs(raw).max() > 0.5
    trainer._finish_rollout()
    scale = trainer.state.reward_normalizer.moments.scale()[0, 0]
    np.testing.assert_allclose(trainer.rollout.reward, np.clip(raw * np.float32(scale), -0.5, 0.5), rtol=1e-5)


def test_initial_statistics_come_from_random_steps_and_stay() -> None:
    env = {"observation_norm": "initial", "observation_norm_steps": 50, "id": "Pendulum-v1"}
    trainer = trainer_of(config_of(PPO, {"env": env}), config_of(PPO, {"env": env, "seed": 5}))
    moments = trainer.state.normalizer.moments
    assert moments.count.tolist() == [50, 50] and not (moments.mean[0] == moments.mean[1]).any()
    before = moments.mean.copy()
    trainer.step()
    assert (moments.mean == before).all()


# --- learning --------------------------------------------------------------------------------------------------------

FAST: dict[str, Any] = {
    "algo": {
        "name": "ppo", "num_envs": 4, "rollout_steps": 32, "minibatch_size": 32, "epochs": 4, "learning_rate": 5e-3,
        "learning_rate_schedule": "constant", "gamma": 0.5, "entropy_coef": 0.001,
    },
    "network": {"hidden": [16]},
}  # fmt: skip


@pytest.mark.parametrize("what", probes.LEARNING)
def test_discrete_probes(what: str) -> None:
    trainer = trainer_of(config_of(FAST, {"env": {"id": f"Probe{what}-v0"}}))
    for _ in range(25):
        trainer.step()
    observations = support.probe_observations(what)
    values = trainer.critic(observations)[0, :, 0]
    np.testing.assert_allclose(values, list(support.VALUES[what].values()), atol=0.15)
    if what in support.CHOICES:
        assert trainer.policy.act(observations)[0].tolist() == list(support.CHOICES[what].values())


@pytest.mark.parametrize("distribution", ["gaussian", "tanh_normal"])
@pytest.mark.parametrize("what", ["Delayed", "Action", "ActionObservation"])
def test_box_probes(what: str, distribution: str) -> None:
    algo = {"distribution": distribution, "state_dependent_std": distribution == "tanh_normal", "entropy_coef": 0.0}
    trainer = trainer_of(config_of(FAST, {"env": {"id": f"Probe{what}Box-v0"}, "algo": algo}))
    for _ in range(60):
        trainer.step()
    observations = support.probe_observations(what)
    if what == "Delayed":
        np.testing.assert_allclose(trainer.critic(observations)[0, :, 0], [0.5, 1.0], atol=0.1)
    else:
        best = [0.5 * (observation or 1.0) for observation in support.VALUES[what]]
        np.testing.assert_allclose(trainer.policy.act(observations)[0, :, 0], best, atol=0.2)


def test_several_choices_at_once() -> None:
    trainer = trainer_of(config_of(FAST, MULTIPLE))
    for _ in range(25):
        trainer.step()
    assert trainer.policy.act(np.ones((1, 1, 2), np.float32)).tolist() == [[[1, 2]]]


def test_a_termination_at_the_end_of_a_rollout_needs_no_value() -> None:
    trainer = trainer_of(config_of(PPO, {"env": {"id": "ProbeConstant-v0"}}))
    trainer._collect()
    trainer._finish_rollout()
    assert trainer.rollout.terminated[:, -1].all() and not trainer.successors
    value_ATN = np.ones(trainer.rollout.reward.shape, np.float32)
    with mock.patch("numpy.empty_like", lambda like: np.full(like.shape, np.nan, like.dtype)):
        assert np.isfinite(trainer._next_values(value_ATN)).all()


def test_next_values_are_those_of_the_successors() -> None:
    """As if every step's successor had been valued for itself."""
    trainer = trainer_of(
        config_of(PPO, {"env": {"time_limit": 7}}), config_of(PPO, {"env": {"time_limit": 7}, "seed": 1})
    )
    trainer._collect()
    trainer._finish_rollout()
    rollout, shape = trainer.rollout, trainer.rollout.reward.shape
    value_ATN = trainer.critic(trainer.columns.observation)[..., 0].reshape(shape).copy()
    expected = trainer.critic(rollout.next_observation_AMO)[..., 0].reshape(shape).copy()
    counts = ~rollout.terminated
    assert rollout.truncated.any() and counts.sum() > 100
    np.testing.assert_allclose(trainer._next_values(value_ATN)[counts], expected[counts], rtol=1e-5, atol=1e-6)

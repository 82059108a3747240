"""Agents trained together end with the bits they end with alone, whatever happens to the others."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from support import DQN, PPO, RUNNING_NORMS, assert_same_bits, captured, config_of, trainer_of

from rlrun.config import RunConfig
from rlrun.errors import DivergedError
from rlrun.kernels.native import library
from rlrun.seeding import Stream

SIZES = (1, 2, 5, 8, 16)
DQN_SWITCHES: dict[str, Any] = {
    "algo": {"double": True, "dueling": True, "n_step": 3, "num_envs": 2, "max_gradient_norm": 10.0},
    "network": {"hidden": [50, 33]},
}
CASES: dict[str, tuple[list[dict[str, Any]], int]] = {
    "dqn": ([DQN], 120),
    "dqn_switches": ([DQN, DQN_SWITCHES], 80),
    "ppo": ([PPO, {"algo": {"recompute_advantage": True, "num_envs": 4}}], 4),
    "ppo_gaussian": (
        [PPO, {"algo": {"value_clip_range": 0.3}, "env": {"id": "Hopper-v5", **RUNNING_NORMS}}],
        3,
    ),
    "ppo_tanh": (
        [
            PPO,
            {
                "algo": {"distribution": "tanh_normal", "state_dependent_std": True, "target_kl": 0.01, "num_envs": 1},
                "env": {"id": "Pendulum-v1", "observation_norm": "initial", "observation_norm_steps": 40},
            },
        ],
        3,
    ),
}


def members(settings: list[dict[str, Any]], kernels: str) -> list[RunConfig]:
    """Configs that differ in everything that may differ."""
    configs = []
    for k in range(max(SIZES)):
        algo: dict[str, Any] = {"learning_rate": 1e-3 * (1 + k), "gamma": 0.99 - 0.01 * k}
        if settings[0] is DQN:
            algo |= {
                "tau": 0.01 * (1 + k),
                "epsilon_end": 0.01 * k,
                "epsilon_frames": 50 + 20 * k,
                "weight_decay": 0.05 * k,
            }
        else:
            algo |= {"entropy_coef": 0.001 * k, "clip_range": 0.1 + 0.01 * k, "critic_coef": 0.3 + 0.05 * k}
        configs.append(config_of(*settings, {"seed": 100 + 7 * k, "algo": algo, "hardware": {"kernels": kernels}}))
    return configs


def after(configs: list[RunConfig], steps: int) -> Any:
    trainer = trainer_of(*configs)
    with np.errstate(all="ignore"):
        for _ in range(steps):
            trainer.step()
    return trainer


@pytest.mark.parametrize("kernels", ["auto", "plain"])
@pytest.mark.parametrize("name", CASES)
def test_a_member_has_the_same_bits_alone_and_in_a_batch(name: str, kernels: str) -> None:
    settings, steps = CASES[name]
    configs = members(settings, kernels)
    alone = {k: after([configs[k]], steps) for k in {0, *(size - 1 for size in SIZES)}}
    for size in SIZES[1:]:
        together = after(configs[:size], steps)
        for k in (0, size - 1):
            assert_same_bits(captured(alone[k].state, 0), captured(together.state, k))
            ended = [(frames, episode.env, episode.return_, episode.length) for frames, episode in alone[k].episodes]
            theirs = [(f, e.env, e.return_, e.length) for f, e in together.episodes if e.agent == k]
            assert ended == theirs
        rows = together.state.parameters_AP
        assert not (rows[0] == rows[1]).all()
    assert_same_bits(alone[15].metrics(0), together.metrics(15))


@pytest.mark.parametrize("name", CASES)
def test_the_c_library_changes_no_bit_of_training(name: str) -> None:
    if library() is None:
        pytest.skip("no C compiler, or another BLAS in NumPy")
    settings, steps = CASES[name]
    helped, unaided = (after(members(settings, kernels)[:2], steps) for kernels in ("auto", "numpy"))
    assert (helped.hardware.native, unaided.hardware.native) == (True, False)
    for k in range(2):
        assert_same_bits(captured(helped.state, k), captured(unaided.state, k))
        assert_same_bits(helped.metrics(k), unaided.metrics(k))


class Cursed(gymnasium.Env[np.ndarray, Any]):
    """An endless walk that gives a NaN reward at step 40 to the environment reset with ``seed``."""

    observation_space, action_space = Box(-10, 10, (2,), np.float32), Discrete(2)

    def __init__(self, seed: int) -> None:
        self.cursed_seed, self.cursed, self.count = seed, False, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.cursed = self.cursed or seed == self.cursed_seed
        self.count = 0
        return self.np_random.random(2).astype(np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.count += 1
        reward = float("nan") if self.cursed and self.count == 40 else float(action)
        return self.np_random.random(2).astype(np.float32), reward, self.count == 60, False, {}


if "Cursed-v0" not in gymnasium.registry:
    gymnasium.register("Cursed-v0", Cursed)


def cursed_env(seed: int) -> dict[str, Any]:
    """The environment settings that break the first environment of the agent with this seed."""
    first = int(np.random.SeedSequence([seed, Stream.ENVIRONMENT]).generate_state(1)[0])
    return {"env": {"id": "Cursed-v0", "kwargs": {"seed": first}}}


@pytest.mark.parametrize(("settings", "steps"), [(DQN, 100), (PPO, 3)], ids=["dqn", "ppo"])
def test_the_failure_of_one_environment_leaves_the_others_their_bits(settings: dict[str, Any], steps: int) -> None:
    configs = [config_of(settings, cursed_env(2), {"seed": seed}) for seed in (1, 2, 3)]
    trainer = after(configs, steps)
    assert list(trainer.failures) == [1] and "nan" in str(trainer.failures[1])
    without = after([configs[0], configs[2]], steps)
    for k, place in ((0, 0), (2, 1)):
        assert_same_bits(captured(without.state, place), captured(trainer.state, k))


@pytest.mark.parametrize("kernels", ["auto", "plain"])
@pytest.mark.parametrize(("settings", "steps"), [(DQN, 80), (PPO, 3)], ids=["dqn", "ppo"])
def test_the_divergence_of_one_member_leaves_the_others_their_bits(
    settings: dict[str, Any], steps: int, kernels: str
) -> None:
    configs = [config_of(settings, {"seed": seed, "hardware": {"kernels": kernels}}) for seed in (1, 2, 3)]
    trainer = trainer_of(*configs)
    trainer.state.parameters_AP[1, :16] = float("nan")
    with np.errstate(all="ignore"):
        for _ in range(steps):
            trainer.step()
    assert list(trainer.failures) == [1] and "diverged" in str(trainer.failures[1])
    without = after([configs[0], configs[2]], steps)
    for k, place in ((0, 0), (2, 1)):
        assert_same_bits(captured(without.state, place), captured(trainer.state, k))


def test_a_learning_rate_of_ten_diverges_and_is_told() -> None:
    """It must be called divergence, not a failure of the environment that is given the wild actions."""
    env, rates = {"env": {"id": "Pendulum-v1"}}, (1e-3, 10.0)
    configs = [config_of(PPO, env, {"seed": 0, "algo": {"learning_rate": rate}}) for rate in rates]
    trainer = after(configs, 3)
    assert list(trainer.failures) == [1] and "lower algo.learning_rate" in str(trainer.failures[1])
    alone = after([configs[0]], 3)
    assert_same_bits(captured(alone.state, 0), captured(trainer.state, 0))


def test_weights_that_the_last_update_broke_are_divergence() -> None:
    trainer = trainer_of(config_of(PPO, {"algo": {"minibatch_size": 64, "epochs": 1}, "env": {"id": "Pendulum-v1"}}))
    trainer.state.optimizer.step = lambda *_: trainer.state.parameters_AP.fill(float("nan"))
    trainer.step()
    assert isinstance(trainer.failures[0], DivergedError)

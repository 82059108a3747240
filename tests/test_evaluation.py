"""Evaluation: fixed shares of episodes, its own seeds, nothing of training touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import gymnasium
import numpy as np
import probes
import pytest
from gymnasium.spaces import Box, Discrete
from support import DQN, PPO, RUNNING_NORMS, Folder, Silent, assert_same_bits, captured, config_of, trainer_of

from rlrun import bookkeeping
from rlrun.checkpoint import load, save
from rlrun.config import EnvConfig, to_mapping
from rlrun.errors import EnvironmentFailure, ResumeError
from rlrun.evaluation import evaluate, evaluate_run, load_policy, summary
from rlrun.normalization import ObservationNormalizer
from rlrun.provenance import clean
from rlrun.training import train

probes.register()


class Counting(gymnasium.Env[np.ndarray, Any]):
    """Episode k of an environment, from 1, has length k and return 10 k if ``made`` is even, else length 50 and return 50."""

    observation_space, action_space = Box(-1, 1, (1,), np.float32), Discrete(2)
    made = 0

    def __init__(self) -> None:
        self.number = Counting.made
        self.slow = self.number % 2 == 1
        Counting.made += 1
        self.episode = self.count = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.count = self.episode + 1, 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.count += 1
        over = self.count == (50 if self.slow else self.episode)
        return np.zeros(1, np.float32), 1.0 if self.slow else 10.0, over, False, {}


class FailingReset(Counting):
    """Can't begin, from the third one made on."""

    def reset(self, **arguments: Any) -> Any:
        if self.number >= 2:
            raise RuntimeError("no episode today")
        return super().reset(**arguments)


class FailingLater(Counting):
    """Its quick ones break after their first episode, at the fifth step in all."""

    steps = 0

    def step(self, action: Any) -> Any:
        self.steps += 1
        if not self.slow and self.steps == 5:
            raise RuntimeError("worn out")
        return super().step(action)


for identifier, entry_point in (
    ("Counting-v0", Counting),
    ("FailingReset-v0", FailingReset),
    ("FailingLater-v0", FailingLater),
):
    if identifier not in gymnasium.registry:
        gymnasium.register(identifier, entry_point)


class Still:
    """A policy that always takes action 0 and counts how often it was asked."""

    def __init__(self, agents: int) -> None:
        self.asked = 0
        self.rows_AP: Any = np.zeros((agents, 1))
        self.normalizer = ObservationNormalizer(EnvConfig(), agents, 1)

    def act(self, observation: np.ndarray) -> np.ndarray:
        self.asked += 1
        return np.zeros(observation.shape[:2], np.int64)


@pytest.fixture(autouse=True)
def reset_count() -> None:
    Counting.made = 0


def evaluated(*arguments: Any, **named: Any) -> list[Any]:
    results = evaluate(*arguments, **named)
    assert results is not None
    return results


def test_every_environment_plays_a_fixed_share() -> None:
    """7 episodes in 5 environments: 2 2 1 1 1, however fast each ends them."""
    (result,) = evaluated(Still(1), EnvConfig(id="Counting-v0"), [0], 7)
    assert result["returns"] == [10, 20, 50, 50, 10, 50, 10]
    assert result["lengths"] == [1, 2, 50, 50, 1, 50, 1]
    assert result["episodes"] == 7


def test_fewer_episodes_than_environments() -> None:
    (result,) = evaluated(Still(1), EnvConfig(id="Counting-v0"), [0], 2)
    assert result["returns"] == [10, 50]


def test_agents_in_skip_have_no_episodes() -> None:
    policy = Still(3)
    results = evaluated(policy, EnvConfig(id="Counting-v0"), [0, 1, 2], 1, skip={0, 2})
    assert [result["episodes"] for result in results] == [0, 1, 0]
    assert policy.asked == 50


def test_a_failing_environment_is_a_result() -> None:
    results = evaluated(Still(2), EnvConfig(id="ProbeNaN-v0"), [0, 1], 3)
    assert all(isinstance(result, EnvironmentFailure) for result in results)


def test_an_agent_whose_environment_can_not_begin_holds_up_nobody() -> None:
    first, second = evaluated(Still(2), EnvConfig(id="FailingReset-v0"), [0, 1], 2)
    assert first["returns"] == [10, 50] and "no episode today" in str(second)


def test_an_agent_that_has_its_episodes_does_not_fail_while_another_still_plays() -> None:
    first, second = evaluated(Still(2), EnvConfig(id="FailingLater-v0"), [0, 1], 1)
    assert (first["returns"], second["returns"]) == ([10], [50])


def test_a_failure_says_that_it_was_in_an_evaluation_and_of_which_run(tmp_path: Path) -> None:
    def failing(*arguments: Any, **named: Any) -> Any:
        with mock.patch.object(Counting, "step", side_effect=RuntimeError("worn out")):
            return evaluate(*arguments, **named)

    run = Folder(tmp_path).run(DQN, {"env": {"id": "Counting-v0"}, "seed": 7, "evaluation": {"every_frames": 50}})
    with mock.patch.object(bookkeeping, "evaluate", failing):
        (outcome,) = train([run], Silent())
    expected = "env Counting-v0 failed at step 1 of the evaluation at frame 50 of the agent with seed 7: "
    assert str(outcome.error).startswith(f"{expected}RuntimeError: worn out")


def test_an_interruption_ends_it_without_a_result() -> None:
    policy = Still(1)
    assert evaluate(policy, EnvConfig(id="Counting-v0"), [0], 5, interrupted=lambda: policy.asked == 3) is None
    assert policy.asked == 3


def test_summary() -> None:
    result = summary([4.0, 1.0, 2.0, 3.0, 100.0])
    assert result == {
        "return_mean": 22.0, "return_std": pytest.approx(np.std([4, 1, 2, 3, 100])), "return_iqm": 3.0,
        "return_min": 1.0, "return_max": 100.0, "episodes": 5, "returns": [4.0, 1.0, 2.0, 3.0, 100.0],
    }  # fmt: skip
    assert summary([7.0])["return_iqm"] == 7.0


@pytest.mark.parametrize("settings", [DQN, {**PPO, "env": {"id": "Pendulum-v1", **RUNNING_NORMS}}], ids=["dqn", "ppo"])
def test_nothing_of_training_is_touched(settings: dict[str, Any]) -> None:
    config = config_of(settings)
    trainer, undisturbed = trainer_of(config), trainer_of(config)
    for _ in range(3):
        trainer.step()
        evaluated(trainer.policy, config.env, [1], 2)
        undisturbed.step()
        assert_same_bits(captured(trainer.state, 0), captured(undisturbed.state, 0))


def test_an_agents_result_does_not_depend_on_the_others() -> None:
    configs = [config_of(DQN, {"seed": seed}) for seed in range(3)]
    together = evaluated(trainer_of(*configs).policy, configs[0].env, [7, 8, 9], 6)
    alone = evaluated(trainer_of(configs[1]).policy, configs[0].env, [8], 6)
    skipping = evaluated(trainer_of(*configs).policy, configs[0].env, [7, 8, 9], 6, skip=[0])
    assert together[1] == alone[0] == skipping[1] != together[0]


def test_evaluation_of_a_finished_run(tmp_path: Path) -> None:
    env = {"id": "Pendulum-v1", "time_limit": 20, **RUNNING_NORMS}
    every = {"evaluation": {"every_frames": 64, "episodes": 2}, "checkpoint": {"every_frames": 64, "keep": 9}}
    run = Folder(tmp_path).trained(PPO, {"env": env, "total_frames": 192}, every)
    result = evaluate_run(run, 4, 5, "last")
    assert result["checkpoint"] == "step_000000000192.ckpt" and len(result["returns"]) == 4
    assert result == evaluate_run(run, 4, 5, "192")
    assert result["returns"] != evaluate_run(run, 4, 6, "last")["returns"]
    assert evaluate_run(run, 4, 5, "64")["returns"] != result["returns"]
    assert evaluate_run(run, 4, 5, "best")["checkpoint"] == "best.ckpt"
    policy, _ = load_policy(run, "last")
    assert policy.normalizer.moments.count.tolist() == [192]
    with pytest.raises(ResumeError, match="there is: best, 64, 128, 192"):
        evaluate_run(run, 4, 5, "100")


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    run = folder.trained(PPO, {"total_frames": 64, "evaluation": {"episodes": 0}})
    other = folder.run(PPO, {"network": {"hidden": [8]}})
    (other.checkpoints / "step_000000000064.ckpt").write_bytes(
        (run.checkpoints / "step_000000000064.ckpt").read_bytes()
    )
    with pytest.raises(ResumeError, match=r"not of this config: network.hidden"):
        load_policy(other, "last")


def test_a_network_larger_than_its_checkpoint_is_not_made(tmp_path: Path) -> None:
    """Both the config and the checkpoint's header may ask for any: only its arrays cost whoever sends them."""
    folder = Folder(tmp_path)
    run = folder.trained(PPO, {"total_frames": 64, "evaluation": {"episodes": 0}})
    large = {"network": {"hidden": [65536, 65536], "init": "orthogonal"}}
    other = folder.run(PPO, {"total_frames": 64, "evaluation": {"episodes": 0}}, large)
    name = "step_000000000064.ckpt"
    header, tree = load(run.checkpoints / name)
    save(other.checkpoints / name, header | {"config": clean(to_mapping(other.config))}, tree)
    with mock.patch("rlrun.networks.MLP.initialize", side_effect=AssertionError):
        with pytest.raises(ResumeError, match=r"network.hidden asks for \d+ of weights alone"):
            train([other], Silent(), resume=True)
        with pytest.raises(ResumeError, match="does not fit the config of its run"):
            load_policy(other, "last")

"""engine=torchrl: the same configs trained with TorchRL's parts, in the same run directories."""

from __future__ import annotations

import ast
import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import probes
import pytest
import torch
from conftest import Answer
from support import (
    CARTPOLE,
    CHOICES,
    DQN,
    HOPPER,
    PPO,
    RUNNING_NORMS,
    VALUES,
    Folder,
    Silent,
    assert_same_bits,
    captured,
    config_of,
    last_tree,
    merged,
    probe_observations,
    recorded,
    resumed,
    trainer_of,
)
from tensordict import TensorDict

from rlrun import envs, hardware, optim
from rlrun.arrays import as_array
from rlrun.config import RunConfig
from rlrun.errors import EnvironmentFailure, ResumeError, UsageError
from rlrun.run import Run
from rlrun.sweeps.resources import largest_batch
from rlrun.trainers import inexactness, make_trainer, process_set_for
from rlrun.trainers.base import restore
from rlrun.training import train
from rlrun.watchdog import _STEPPING

ENGINE = {"engine": "torchrl"}
PENDULUM = {"env": {"id": "InvertedPendulum-v5"}}
PACKAGE = Path(__file__).parent.parent / "rlrun"


@pytest.fixture(autouse=True, scope="module")
def registered() -> Iterator[None]:
    probes.register()
    with process_set_for(config_of(ENGINE)):  # for trainers that are made without a training
        yield


def torchrl_trainer(*trees: Mapping[str, Any]) -> Any:
    config = config_of(*trees, ENGINE)
    return make_trainer([config], envs.spaces(config.env), hardware.configure(config), exact=False)


def stepped(steps: int, *trees: Mapping[str, Any]) -> Any:
    trainer = torchrl_trainer(*trees)
    for _ in range(steps):
        trainer.step()
    trainer.close()
    assert not trainer.failures
    return trainer


SETTINGS_OF_DQN: dict[str, dict[str, Any]] = {
    "double, hard target": {"algo": {"double": True, "tau": 1.0, "target_every": 3}},
    "n-step, several environments": {"algo": {"n_step": 3, "num_envs": 3, "buffer_size": 300, "train_every": 2}},
    "linear epsilon, mse, adam": {"algo": {"epsilon_schedule": "linear", "loss": "mse", "optimizer": "adam"}},
    "clipped norm, no amsgrad": {
        "algo": {"clip_gradient_value": None, "max_gradient_norm": 1.0, "amsgrad": False, "updates_per_train": 2}
    },
    "layer norm": {"network": {"layer_norm": True, "activation": "tanh", "init": "orthogonal"}},
    "initial statistics": {"env": {"observation_norm": "initial", "observation_norm_steps": 50}},
    "running statistics": {"env": {"observation_norm": "running"}, "algo": {"num_envs": 2}},
    "skipped frames": {"env": {"frame_skip": 2, "reward_scale": 0.5, "reward_clip": 0.8}},
}
SETTINGS_OF_PPO: dict[str, dict[str, Any]] = {
    "tanh_normal": merged(PENDULUM, {"algo": {"distribution": "tanh_normal", "initial_log_std": -0.5}}),
    "state-dependent": merged(PENDULUM, {"algo": {"state_dependent_std": True, "entropy_coef": 0.01}}),
    "running statistics": merged(PENDULUM, {"env": {**RUNNING_NORMS, "observation_norm_steps": 20}}),
    "initial statistics": {"env": {"observation_norm": "initial", "observation_norm_steps": 50}},
    "clipped values": {"algo": {"value_clip_range": 0.2, "critic_loss": "smooth_l1", "critic_coef": 1.0}},
    "rollout advantages": {"algo": {"normalize_advantage": "rollout", "recompute_advantage": True, "num_envs": 1}},
    "left-over transitions": {"algo": {"minibatch_size": 24, "drop_last": True, "normalize_advantage": "none"}},
    "schedules, no clipping of the gradient": {
        "algo": {"clip_range_schedule": "linear", "learning_rate_schedule": "cosine", "max_gradient_norm": None},
        "network": {"init": "torch"},
    },
}


@pytest.mark.parametrize("settings", SETTINGS_OF_DQN.values(), ids=SETTINGS_OF_DQN)
def test_dqn_learns_with_every_setting_and_measures_what_the_fast_engine_does(settings: dict[str, Any]) -> None:
    trainer, fast = torchrl_trainer(DQN, settings), trainer_of(config_of(DQN, settings))
    first = as_array(trainer.policy.rows_AP)
    assert first.tobytes() == as_array(fast.policy.rows_AP).tobytes()  # the same first weights
    for _ in range(45):
        trainer.step()
        fast.step()
    trainer.close()
    assert (trainer.frames, trainer.state.updates) == (fast.frames, fast.state.updates)
    assert_sound(trainer, fast, first)


@pytest.mark.parametrize("settings", SETTINGS_OF_PPO.values(), ids=SETTINGS_OF_PPO)
def test_ppo_learns_with_every_setting_and_measures_what_the_fast_engine_does(settings: dict[str, Any]) -> None:
    trainer, fast = torchrl_trainer(PPO, settings), trainer_of(config_of(PPO, settings))
    first = as_array(trainer.policy.rows_AP)
    assert first.tobytes() == as_array(fast.policy.rows_AP).tobytes()
    for _ in range(2):
        trainer.step()
        fast.step()
    trainer.close()
    assert trainer.frames == fast.frames
    assert_sound(trainer, fast, first)


def assert_sound(trainer: Any, fast: Any, first: np.ndarray[Any, Any]) -> None:
    assert not trainer.failures
    rows = as_array(trainer.policy.rows_AP)
    assert np.isfinite(rows).all() and (rows != first).any()
    measured, expected = trainer.metrics(0), fast.metrics(0)
    assert [*measured] == [*expected]
    for name in ("epsilon", "learning_rate", "updates"):
        assert measured.get(name) == expected.get(name), name
    assert all(value is not None and np.isfinite(value) for value in measured.values())


@pytest.mark.parametrize(
    "policy", [{}, PENDULUM, merged(PENDULUM, {"algo": {"state_dependent_std": True, "entropy_coef": 0.01}})]
)
def test_the_first_update_of_ppo_is_that_of_the_fast_engine(policy: dict[str, Any]) -> None:
    """TorchRL's rollout, put through the fast engine's GAE, loss and Adam, in one minibatch: nothing is drawn."""
    settings = {"algo": {"epochs": 1, "num_envs": 2, "minibatch_size": 64, "value_clip_range": 0.5, "gamma": 0.9}}
    trainer, fast = torchrl_trainer(PPO, policy, settings), trainer_of(config_of(PPO, policy, settings))
    data = trainer.experience.collect(trainer.actor, 32, done=0)
    following, rollout = data["next"], fast.rollout
    rollout.observation[0] = data["observation"].transpose(0, 1)
    rollout.next_observation[0] = following["observation"].transpose(0, 1)
    action = data["action"].transpose(0, 1)
    rollout.action[0] = action if policy else torch.nn.functional.one_hot(action, 2)
    for name in ("reward", "terminated", "truncated"):
        getattr(rollout, name)[0] = following[name][..., 0].T
    fast._finish_rollout()
    fast._update()
    trainer._update(data)
    trainer.close()
    ours, theirs = fast.metrics(0), trainer.metrics(0)
    for name in ("loss", "policy_loss", "critic_loss", "entropy", "clip_fraction", "explained_variance"):
        assert theirs[name] == pytest.approx(ours[name], rel=1e-4, abs=1e-6), name
    np.testing.assert_allclose(as_array(trainer.policy.rows_AP), as_array(fast.policy.rows_AP), atol=2e-6)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("n_step", [1, 3])
def test_the_first_update_of_dqn_is_that_of_the_fast_engine(double: bool, n_step: int) -> None:
    """The fast engine's batch, through TorchRL's loss, clipping, AdamW and target update."""
    settings = {"algo": {"double": double, "n_step": n_step, "clip_gradient_value": 0.01, "tau": 0.3}}
    trainer, fast = (
        torchrl_trainer(DQN, settings),
        trainer_of(config_of(DQN, settings, {"hardware": {"kernels": "plain"}})),
    )
    for _ in range(40):
        fast._collect()
    batch = fast.state.replay.sample(32, n_step, fast.gamma_A1, [np.random.default_rng(3)])
    ended = batch.discount == 0
    steps = np.where(ended, 1, np.rint(np.log(np.maximum(batch.discount, 0.1)) / np.log(0.99)))
    following = {
        "observation": batch.next_observation[0],
        "reward": batch.reward[0][:, None],
        "done": ended[0][:, None],
    }
    data = TensorDict({"observation": batch.observation[0], "action": batch.action[0]}, [32])
    data["next"] = TensorDict({**following, "terminated": ended[0][:, None]}, [32])
    data["steps_to_next_obs"] = torch.from_numpy(steps[0].astype(np.int64))
    losses_A, _, _ = fast._improve(batch)
    optim.move_towards(fast.state.target_AP.numpy(), fast.state.parameters_AP.numpy(), [0.3], native=False)
    trainer.state.memory.sample = lambda: data
    trainer._update()
    trainer.close()
    assert trainer.metrics(0)["loss"] == pytest.approx(losses_A[0], rel=1e-5)
    np.testing.assert_allclose(as_array(trainer.policy.rows_AP), as_array(fast.policy.rows_AP), atol=2e-6)
    weights = trainer.state.target.capture(0)
    (name,) = [name for name in weights if name.endswith("2.weight")]
    expected = fast.target.views["1.weight"][0].T
    np.testing.assert_allclose(weights[name], expected, atol=2e-6)


def test_a_hard_target_is_copied_when_it_is_due_and_not_before() -> None:
    trainer = torchrl_trainer(DQN, {"algo": {"tau": 1.0, "target_every": 3}})
    following = []
    for step in range(46):  # updates 1 to 7 are in steps 39 to 45
        trainer.step()
        if step >= 39:
            ours = [parameter.detach().numpy() for parameter in trainer.network.parameters()]
            theirs = [*trainer.state.target.capture(0).values()]
            following.append(all(np.array_equal(*pair) for pair in zip(ours, theirs, strict=True)))
    trainer.close()
    assert trainer.state.updates == 7
    assert following == [False, False, True, False, False, True, False]


@pytest.mark.parametrize("what", ["Delayed", "ActionObservation"])
def test_dqn_finds_the_values_and_actions_of_probes(what: str) -> None:
    settings = {"env": {"id": f"Probe{what}-v0"}, "algo": {"gamma": 0.5, "tau": 0.1, "learning_rate": 3e-3}}
    trainer = stepped(500, DQN, settings)
    observation = probe_observations(what)
    value = trainer.network(torch.from_numpy(observation[0])).amax(-1).tolist()
    assert value == pytest.approx(list(VALUES[what].values()), abs=0.15)
    if what in CHOICES:
        assert trainer.policy.act(observation)[0].tolist() == list(CHOICES[what].values())


def test_ppo_finds_the_values_of_a_probe() -> None:
    settings = {"env": {"id": "ProbeDelayed-v0"}, "algo": {"gamma": 0.5, "gae_lambda": 0.9, "learning_rate": 3e-3}}
    trainer = stepped(30, PPO, settings)
    values = trainer.critic.module(torch.from_numpy(probe_observations("Delayed")[0]))
    assert values[:, 0].tolist() == pytest.approx([0.5, 1.0], abs=0.15)


@pytest.mark.parametrize("distribution", ["gaussian", "tanh_normal"])
def test_the_policy_that_is_evaluated_is_the_one_torchrl_trained(distribution: str) -> None:
    trainer = stepped(1, PPO, PENDULUM, {"algo": {"distribution": distribution, "initial_log_std": -1.0}})
    observation = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    loc = trainer.actor.get_dist(TensorDict({"observation": torch.from_numpy(observation)}, [5])).base_dist
    bounds = envs.spaces(trainer.config.env).action
    mean = (loc.loc if distribution == "gaussian" else loc.base_dist.loc).detach().numpy()
    expected = np.clip(mean, bounds.low, bounds.high) if distribution == "gaussian" else np.tanh(mean) * bounds.high
    np.testing.assert_allclose(trainer.policy.act(observation[None])[0], expected, atol=1e-5)


def test_n_step_returns_end_with_the_episode_and_wait_for_their_rewards() -> None:
    trainer = torchrl_trainer(DQN, {"algo": {"n_step": 3, "gamma": 0.5, "num_envs": 2}})
    memory = trainer.state.memory
    for step in range(8):  # the first environment terminates at step 3, the second meets a time limit there
        done = torch.full((2, 1, 1), step == 3)
        terminated = done & torch.tensor([True, False])[:, None, None]
        now = torch.full((2, 1, 4), float(step))
        following = {"observation": now + 1, "reward": torch.full((2, 1, 1), step + 1.0)}
        data = TensorDict({"observation": now, "action": torch.zeros(2, 1, dtype=torch.int64)}, [2, 1])
        data["next"] = TensorDict({**following, "done": done, "terminated": terminated}, [2, 1])
        memory.extend(data)
    trainer.close()
    stored = memory.buffer[:]
    assert stored["observation"][:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]  # 5, 6 and 7 wait
    # From 1: 2 + 3 / 2 + 4 / 4 = 4.5, as from 0: 1 + 2 / 2 + 3 / 4 = 2.75, then the end cuts them.
    assert stored["next", "reward"][::2, 0].tolist() == [2.75, 4.5, 5.0, 4.0, 9.75]
    assert stored["next", "observation"][::2, 0].tolist() == [3, 4, 4, 4, 7]
    assert stored["steps_to_next_obs"][::2].ravel().tolist() == [3, 3, 2, 1, 3]
    assert stored["next", "terminated"][::2, 0].tolist() == [False, True, True, True, False]
    assert not stored["next", "terminated"][1::2].any()  # a time limit bootstraps


def test_a_time_limit_truncates_and_counts_as_an_episode() -> None:
    trainer = stepped(12, DQN, {"env": {"time_limit": 5}, "algo": {"num_envs": 2}})
    stored = trainer.state.memory.buffer[:]
    done = stored["next", "done"][:, 0].reshape(-1, 2)
    assert done[:, 0].tolist() == [False] * 4 + [True] + [False] * 4 + [True] + [False] * 2
    assert not stored["next", "terminated"].any()
    assert [(frames, episode.env, episode.return_, episode.length) for frames, episode in trainer.episodes] == [
        (frames, env, 5.0, 5) for frames in (10, 20) for env in (0, 1)
    ]


def test_returns_are_of_rewards_as_the_environment_gave_them() -> None:
    settings = {"time_limit": 4, "frame_skip": 2, "reward_scale": 3.0, "reward_clip": 5.0}
    trainer = stepped(4, DQN, {"env": settings})
    assert [(frames, episode.return_, episode.length) for frames, episode in trainer.episodes] == [(8, 8.0, 4)]
    assert trainer.state.memory.buffer[:]["next", "reward"].ravel().tolist() == [5.0] * 4  # 2 x 3, clipped


def test_epochs_end_at_the_target_kl() -> None:
    settings = {"algo": {"target_kl": 1e-9, "epochs": 5, "num_envs": 1, "rollout_steps": 32}}
    assert stepped(1, PPO, settings).metrics(0)["updates"] == 2  # of 32 / 16 in the first epoch


def test_statistics_of_torchrl_are_those_that_are_saved() -> None:
    trainer = torchrl_trainer(DQN, {"env": {"observation_norm": "running"}})
    seen = [trainer.experience.collect(trainer.acting, 1, done=step)["next", "observation"] for step in range(50)]
    trainer.close()
    moments = trainer.policy.normalizer.moments
    assert moments.count[0] >= 50
    last = trainer.experience.statistics
    np.testing.assert_allclose(last.loc["observation"].numpy(), moments.mean[0], atol=1e-6)
    np.testing.assert_allclose(last.scale["observation"].numpy(), 1 / moments.scale()[0], rtol=1e-3)
    assert torch.cat(seen).abs().max() <= 10  # clipped, and normalised


def test_initial_statistics_are_of_random_steps_and_stay() -> None:
    trainer = torchrl_trainer(PPO, {"env": {"observation_norm": "initial", "observation_norm_steps": 200}})
    before = trainer.policy.normalizer.capture(0)
    trainer.step()
    trainer.close()
    assert before["count"] == 200 and (before["squares"] > 0).all()
    assert_same_bits(trainer.policy.normalizer.capture(0), before)
    statistics = trainer.experience.statistics
    np.testing.assert_allclose(statistics.loc.numpy(), before["mean"], rtol=1e-6)
    np.testing.assert_allclose(statistics.scale.numpy(), np.sqrt(before["squares"] / 200), rtol=1e-5)


TINY: dict[str, dict[str, Any]] = {
    "dqn": merged(CARTPOLE, {"algo": {"n_step": 2}}),
    "ppo": merged(HOPPER, {"total_frames": 192, "checkpoint": {"every_frames": 64}}),
}


@pytest.mark.parametrize("settings", TINY.values(), ids=TINY)
def test_the_same_seed_repeats_the_run_and_leaves_other_generators_alone(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    runs = [Folder(tmp_path).trained(settings, ENGINE, {"seed": seed}) for seed in (3, 3, 4)]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert recorded(runs[0]) == recorded(runs[1]) != recorded(runs[2])
    assert_same_bits(last_tree(runs[0])["training"], last_tree(runs[1])["training"])
    manifest = runs[0].manifest
    assert (manifest["engine"], manifest["exact"]) == ("torchrl", False)
    assert manifest["inexact_because"] == [inexactness(config_of(ENGINE))]
    assert "torchrl" in manifest["numerics"]


@pytest.mark.parametrize("settings", TINY.values(), ids=TINY)
def test_a_stopped_run_goes_on_with_what_it_learned(settings: dict[str, Any], tmp_path: Path) -> None:
    run = Folder(tmp_path).stopped_and_resumed(130, settings, ENGINE)
    opened = Run.open(run.directory)
    assert (opened.manifest["status"], opened.manifest["resumed"]) == ("finished", 1)
    frames = [json.loads(line)["frames"] for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    assert frames == sorted(frames) and frames[-1] == settings["total_frames"]


@pytest.mark.parametrize("settings", TINY.values(), ids=TINY)
def test_a_checkpoint_holds_weights_optimizer_memory_and_statistics(settings: dict[str, Any], tmp_path: Path) -> None:
    run = Folder(tmp_path).trained(settings, ENGINE)
    tree = last_tree(run)["training"]
    other = torchrl_trainer(settings, {"total_frames": 1000})  # the learning rate falls to 0 at the end
    assert restore(other.state, 0, tree)
    assert_same_bits(captured(other.state, 0), tree)
    assert other.frames == settings["total_frames"]
    before = as_array(other.policy.rows_AP)
    for _ in range(3):
        other.step()
    assert (as_array(other.policy.rows_AP) != before).any() and not other.failures
    if "memory" in tree:
        assert other.state.memory.buffer.writer.state_dict()["_cursor"] == other.state.memory.written % 200
    other.close()


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (("optimizer", "0", "exp_avg"), None, "optimizer"),
        (("optimizer", "steps"), -1, "optimizer"),
        (("memory", "action"), 7, "memory"),
        (("memory", "next_reward"), np.nan, "memory"),
        (("memory", "written"), 10, "memory"),
        (("parameters_AP",), np.nan, "parameters_AP"),
    ],
)
def test_a_forged_checkpoint_is_one_line(place: tuple[str, ...], value: Any, reason: str, tmp_path: Path) -> None:
    tree = last_tree(Folder(tmp_path).trained(CARTPOLE, ENGINE))["training"]
    node = tree
    for name in place[:-1]:
        node = node[name]
    held = node[place[-1]]
    if isinstance(held, np.ndarray) and value is not None:
        held[0] = value
    else:
        node[place[-1]] = value
    trainer = torchrl_trainer(CARTPOLE)
    with pytest.raises(ResumeError, match=reason):
        restore(trainer.state, 0, tree)
    trainer.close()


def test_the_commands_take_its_runs(rlrun: Callable[..., Answer]) -> None:
    short = ("total_frames=300", "evaluation.episodes=2", "tuned=none", "network=small")
    started = rlrun("engine=torchrl", "run.dir=a", *short)
    assert (started.code, started.err) == (0, "")
    assert "engine: torchrl" in started.out
    assert json.loads(rlrun("eval", "a", "--episodes", "2", "--json").out)["checkpoint"] == "best.ckpt"
    refused = rlrun("resume", "a", "total_frames=400", "--require-exact")
    assert refused.code == 4 and "engine=torchrl" in refused.errors[0]
    extended = rlrun("resume", "a", "total_frames=400")
    assert extended.code == 0 and "not exactly the run it would have been: engine=torchrl" in extended.err
    assert Run.open(Path("a")).manifest["frames"] == 400
    other = rlrun("resume", "a", "engine=rlrun", "total_frames=500")
    assert other.code == 4 and "engine" in other.errors[0]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ((DQN, {"algo": {"dueling": True}}), "algo.dueling=true needs engine=rlrun"),
        ((DQN, {"env": {"frame_stack": 4}}), "env.frame_stack=4 needs engine=rlrun"),
        ((DQN, {"hardware": {"kernels": "numpy"}}), "hardware.kernels=numpy needs engine=rlrun"),
        ((PPO, {"algo": {"clip_range": 1.5}}), "algo.clip_range=1.5 needs engine=rlrun"),
    ],
)
def test_what_torchrl_can_not_do_is_one_line(settings: tuple[dict[str, Any], ...], line: str) -> None:
    config_of(*settings)
    with pytest.raises(UsageError, match=line) as caught:
        config_of(*settings, ENGINE)
    assert "\n" not in str(caught.value)


def test_a_sweep_trains_its_runs_one_by_one() -> None:
    spaces = envs.Spaces(4, envs.DiscreteActions(2))

    def batch(*trees: Mapping[str, Any]) -> int:
        config: RunConfig = config_of(*trees)
        return largest_batch(config, spaces, workers=1)

    assert batch(DQN) > 1 and batch(DQN, {"sweep": {"batch": 4}}) == 4
    assert batch(DQN, ENGINE) == batch(DQN, ENGINE, {"sweep": {"batch": 4}}) == 1


@pytest.mark.parametrize("what", probes.BROKEN)
def test_an_environment_that_fails_is_named_with_its_step(what: str, tmp_path: Path) -> None:
    settings = {"env": {"id": f"Probe{what}-v0", "kwargs": {"at": 60}}, "evaluation": {"episodes": 0}}
    run = Folder(tmp_path).run(CARTPOLE, settings, ENGINE, {"algo": {"num_envs": 1 if what == "NaN" else 2}})
    (outcome,) = train([run], Silent())
    assert isinstance(outcome.error, EnvironmentFailure)
    assert f"env Probe{what}-v0 failed at step" in str(outcome.error)


def test_the_watchdog_knows_its_environments() -> None:
    from rlrun.torchrl_engine.guard import Guarded

    config = config_of(DQN, {"seed": 5})
    guarded = Guarded(config.env, 5, 1)
    guarded.reset(seed=0)
    guarded.step(0)
    guarded.close()
    assert {Guarded.step.__code__, Guarded.reset.__code__} <= _STEPPING
    assert guarded.whereabouts(guarded.index) == (0, 1, "step 1 of the agent with seed 5")


def test_nothing_else_imports_torchrl_before_it_is_used() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "torchrl_engine":
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            named += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in named if name.split(".")[0] in ("torchrl", "tensordict")], path
            inside = {"rlrun.torchrl_engine", "rlrun.torchrl_engine.dqn", "rlrun.torchrl_engine.ppo"}
            assert not inside.intersection(named), path


@pytest.mark.slow
def test_it_solves_cartpole(tmp_path: Path) -> None:
    settings = {
        "algo": {
            "name": "ppo", "num_envs": 8, "rollout_steps": 64, "minibatch_size": 128, "learning_rate": 1e-3,
            "gae_lambda": 0.9,
        },
        "total_frames": 30_720,
    }  # fmt: skip
    run = Folder(tmp_path).trained(settings, ENGINE, {"evaluation": {"every_frames": 0, "episodes": 10}})
    assert run.manifest["evaluation"]["return_mean"] > 300
    assert resumed(run).status == "finished"

"""The config groups: every choice composes, precedence is as promised, and files agree with the dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rlrun import envs
from rlrun.cli.groups import configs_directory, description, find_groups
from rlrun.config import (
    ALGORITHMS,
    CheckpointConfig,
    DQNConfig,
    EvaluationConfig,
    HardwareConfig,
    LoggingConfig,
    PlotConfig,
    PPOConfig,
    RunConfig,
    StopConfig,
    SweepConfig,
    from_mapping,
    to_mapping,
)
from rlrun.config.resuming import forbidden_changes
from rlrun.errors import UsageError

CONFIGS = configs_directory()
GROUPS = find_groups([CONFIGS])
FILES = sorted(CONFIGS.rglob("*.yaml"))
PAIRS = sorted(set(GROUPS["tuned"]) - {"none"})
Compose = Callable[..., RunConfig]


def read(path: str) -> dict[str, Any]:
    values = yaml.safe_load((CONFIGS / path).read_text(encoding="utf-8"))
    assert isinstance(values, dict)
    return values


@pytest.fixture
def compose(rlrun: Any) -> Compose:
    """The config that a command line would train."""

    def call(*overrides: str) -> RunConfig:
        answer = rlrun("--cfg", "job", *overrides)
        assert answer.code == 0, answer.err
        return from_mapping(yaml.safe_load(answer.out))

    return call


# --- the files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_file_begins_with_its_description(path: Path) -> None:
    assert len(description(path)) > 10
    assert description(path).endswith(".")


@pytest.mark.parametrize("name", ALGORITHMS)
def test_algo_files_list_every_default(name: str) -> None:
    assert read(f"algo/{name}.yaml") == to_mapping(ALGORITHMS[name]())


def test_hardware_file_lists_every_default() -> None:
    assert read("hardware/auto.yaml") == to_mapping(HardwareConfig())


def test_root_file_lists_every_default() -> None:
    root = read("config.yaml")
    sections = {
        "checkpoint": CheckpointConfig(),
        "evaluation": EvaluationConfig(),
        "logging": LoggingConfig(),
        "stop": StopConfig(),
        "plot": PlotConfig(),
        "sweep": SweepConfig(),
    }
    for key, section in sections.items():
        assert root[key] == to_mapping(section)
    plain = {key: value for key, value in to_mapping(RunConfig()).items() if not isinstance(value, dict)}
    assert {key: root[key] for key in plain} == {**plain, "device": "${hardware.device}"}
    known = {"defaults", "hydra", *to_mapping(RunConfig())}
    assert set(root) <= known


@pytest.mark.parametrize("name", sorted(set(GROUPS["env"]) - {"gymnasium"}))
def test_environment_exists(name: str) -> None:
    values = read(f"env/{name}.yaml")
    assert values["name"] == name
    config = from_mapping({"env": values}).env
    assert envs.spaces(config).observation_size > 0


@pytest.mark.parametrize("pair", PAIRS)
def test_tuned_pair_composes_and_fits_its_environment(pair: str, compose: Compose) -> None:
    algo, _, env = pair.partition("_")
    config = compose(f"algo={algo}", f"env={env}")
    assert config.total_frames == read(f"tuned/{pair}.yaml")["total_frames"]
    assert 5 <= config.total_frames // config.evaluation.every_frames <= 20
    if algo == "dqn":
        assert isinstance(envs.spaces(config.env).action, envs.DiscreteActions)


@pytest.mark.parametrize("name", sorted(GROUPS["experiment"]))
def test_experiment_composes(name: str, compose: Compose) -> None:
    values = read(f"experiment/{name}.yaml")
    config = compose(f"experiment={name}")
    assert config.total_frames == values["total_frames"]
    assert {key: getattr(config.algo, key) for key in values["algo"]} == values["algo"]
    fields = {field.name for field in dataclasses.fields(config.algo)} - {"name"}
    assert set(values["algo"]) == fields, "an experiment sets every field of its algorithm"


# --- precedence ------------------------------------------------------------------------------------------------------


def test_defaults_are_tuned_dqn_on_cartpole(compose: Compose) -> None:
    config = compose()
    assert (config.algo.name, config.env.id) == ("dqn", "CartPole-v1")
    tuned = read("tuned/dqn_cartpole.yaml")
    assert config.algo == DQNConfig(**tuned["algo"]) != DQNConfig()
    assert config.network.hidden == tuple(tuned["network"]["hidden"])


def test_tuned_wins_over_groups_and_root(compose: Compose) -> None:
    tuned, plain = compose("algo=ppo"), compose("algo=ppo", "tuned=none")
    values = read("tuned/ppo_cartpole.yaml")
    assert (tuned.total_frames, tuned.algo) == (values["total_frames"], PPOConfig(**values["algo"]))
    assert (plain.total_frames, plain.algo) == (50_000, PPOConfig())
    assert tuned.total_frames != plain.total_frames and tuned.algo != plain.algo


def test_network_typed_wins_over_tuned(compose: Compose) -> None:
    assert compose("network=large").network.hidden == (256, 256, 256)
    assert compose("network=auto").network.hidden == (64, 64)
    assert compose("env=acrobot").network.hidden == (256, 256)


def test_command_line_wins_over_everything(compose: Compose) -> None:
    config = compose(
        "experiment=tutorial_dqn", "algo.gamma=0.5", "network.hidden=[8]", "total_frames=7777", "stop.episodes=3"
    )
    assert (config.algo.gamma, config.network.hidden) == (0.5, (8,))
    assert (config.total_frames, config.stop.episodes) == (7777, 3)


def test_groups_typed_win_over_those_of_an_experiment(compose: Compose) -> None:
    config = compose("experiment=tutorial_dqn", "env=acrobot", "network=small")
    assert (config.env.id, config.network.hidden, config.stop.episodes) == ("Acrobot-v1", (64, 64), 600)


def test_experiment_takes_nothing_from_tuned_settings(compose: Compose) -> None:
    untouched = compose("experiment=tutorial_dqn", "env=acrobot")
    assert isinstance(untouched.algo, DQNConfig)
    assert untouched.algo == DQNConfig()
    assert untouched.evaluation.every_frames == 0


def test_device_comes_from_hardware_unless_typed(compose: Compose) -> None:
    assert compose().device == "auto"
    assert compose("hardware=cuda").device == "cuda"
    assert compose("hardware=cuda", "device=cpu").device == "cpu"
    assert compose("hardware.device=cpu").device == "cpu"


def test_tutorial_dqn_is_the_tutorial(compose: Compose) -> None:
    config = compose("experiment=tutorial_dqn")
    assert config.algo == DQNConfig(
        learning_rate=1e-4,
        optimizer="adamw",
        amsgrad=True,
        weight_decay=0.01,
        gamma=0.99,
        batch_size=128,
        buffer_size=10_000,
        tau=0.005,
        target_every=1,
        epsilon_start=0.9,
        epsilon_end=0.05,
        epsilon_schedule="exponential",
        epsilon_frames=1000,
        loss="huber",
        clip_gradient_value=100.0,
        max_gradient_norm=None,
    )
    assert (config.network.hidden, config.network.activation, config.network.init) == ((128, 128), "relu", "torch")
    assert (config.stop.episodes, config.plot.figures) == (600, "auto")


def test_tutorial_ppo_is_the_tutorial(compose: Compose) -> None:
    config = compose("experiment=tutorial_ppo")
    algo: Any = config.algo
    assert config.env.id == "InvertedDoublePendulum-v5"
    assert (config.env.observation_norm, config.env.observation_norm_steps) == ("initial", 1000)
    assert config.env.observation_clip is None and not config.env.reward_norm
    assert (algo.rollout_steps, algo.minibatch_size, algo.epochs, algo.drop_last) == (1000, 64, 10, True)
    assert (algo.clip_range, algo.gamma, algo.gae_lambda, algo.entropy_coef) == (0.2, 0.99, 0.95, 1e-4)
    assert (algo.critic_loss, algo.critic_coef, algo.max_gradient_norm) == ("smooth_l1", 1.0, 1.0)
    assert (algo.learning_rate, algo.learning_rate_schedule, algo.adam_epsilon) == (3e-4, "cosine", 1e-8)
    assert (algo.normalize_advantage, algo.recompute_advantage) == ("rollout", True)
    assert (algo.distribution, algo.state_dependent_std) == ("tanh_normal", True)
    assert config.network.hidden == (256, 256, 256) and config.network.activation == "tanh"
    assert (config.total_frames, config.evaluation.every_frames, config.evaluation.episodes) == (50_000, 10_000, 1)


# --- environments by id ----------------------------------------------------------------------------------------------


def test_any_id_is_taken_without_tuned_settings(compose: Compose) -> None:
    config = compose("env.id=Taxi-v3")
    assert (config.env.id, config.env.name) == ("Taxi-v3", "taxi-v3")
    assert config.algo == DQNConfig()


def test_name_of_an_id_is_safe_in_paths(compose: Compose) -> None:
    assert compose("env.id=ALE/Pong-v5").env.name == "ale_pong-v5"


IDS = [
    "CartPole-v1",
    "_under:Nav-v0",
    "x" * 62 + "/.Maze-v0",
    "a_module_of_my_own." * 4 + "environments:Nav-v0",
    "",
    "\u8ff7\u8def",
    "._-",
]


@given(st.sampled_from(IDS) | st.text(max_size=80))
def test_a_config_whose_environment_has_no_name_is_taken_back(identifier: str) -> None:
    config = from_mapping({"env": {"id": identifier}})
    assert config.env.name
    assert from_mapping(to_mapping(config)) == config


def test_problems_are_one_line_each_whatever_the_keys() -> None:
    text = "a\nthe file is fine\u2028mend it\x1b"
    with pytest.raises(UsageError) as raised:
        from_mapping({text: 1, "env": {text: 1}})
    assert len(str(raised.value).splitlines()) == 2
    (line,) = forbidden_changes({}, {"env": {"kwargs": {text: text}}})[:1]
    assert line.isprintable()


def test_own_config_folder(compose: Compose, workplace: Path) -> None:
    (workplace / "mine" / "env").mkdir(parents=True)
    (workplace / "mine" / "env" / "short.yaml").write_text(
        "# A short episode.\nid: CartPole-v1\nname: short\ntime_limit: 20\n"
    )
    (workplace / "mine" / "tuned").mkdir()
    (workplace / "mine" / "tuned" / "dqn_short.yaml").write_text("# @package _global_\n# Mine.\ntotal_frames: 4321\n")
    config = compose("--config-dir", "mine", "env=short")
    assert (config.env.time_limit, config.total_frames) == (20, 4321)

"""Checkpoints with a right digest and a hostile state: each is refused, or trains soundly, and harms nobody beside it."""

from __future__ import annotations

import copy
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import DQN, PPO, RUNNING_NORMS, Folder, Silent, assert_same_bits, last_tree, merged, recorded

import rlrun
from rlrun import envs, envstate
from rlrun.arrays import real, whole
from rlrun.checkpoint import load, save
from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.config import EnvConfig, from_mapping, to_mapping
from rlrun.errors import EnvironmentFailure, ResumeError
from rlrun.run import Run
from rlrun.seeding import set_state
from rlrun.training import train

Path_ = tuple[str | int, ...]
SHORT = {
    "total_frames": 64,
    "evaluation": {"every_frames": 32, "episodes": 1},
    "logging": {"every_frames": 32},
    "checkpoint": {"every_frames": 64},
}
DQN_RUN = merged(
    DQN,
    SHORT,
    {
        "algo": {"n_step": 3, "batch_size": 8, "learning_starts": 16, "max_gradient_norm": 10.0},
        "network": {"hidden": [8]},
        "env": {"observation_norm": "running", "time_limit": 10},
    },
)
PPO_RUN = merged(
    PPO,
    SHORT,
    {"algo": {"rollout_steps": 16}, "network": {"hidden": [8]}, "env": {"id": "Pendulum-v1", **RUNNING_NORMS}},
)
MUJOCO_RUN = merged(PPO_RUN, {"env": {"id": "Hopper-v5"}})


class Population:
    """Two finished runs, of which the first one's checkpoint is forged before both are extended together."""

    def __init__(self, place: Path, settings: dict[str, Any]) -> None:
        self.place = place
        self.runs = [Folder(place / "original").run(settings, {"seed": seed}) for seed in (1, 2)]
        assert [outcome.status for outcome in train(self.runs, Silent())] == ["finished"] * 2
        self.checkpoint = Path("checkpoints", "step_000000000064.ckpt")
        self.header, self.tree = load(self.runs[0].directory / self.checkpoint)
        _, honest = self.extended(self.tree)
        self.honest = recorded(honest), last_tree(honest)

    def extended(self, tree: dict[str, Any], header: dict[str, Any] | None = None) -> tuple[Any, Run]:
        """What becomes of the first run with ``tree`` in its checkpoint, and the second run."""
        copies = self.place / "copies"
        shutil.rmtree(copies, ignore_errors=True)
        for number, run in enumerate(self.runs):
            shutil.copytree(run.directory, copies / str(number))
        save(copies / "0" / self.checkpoint, self.header if header is None else header, tree)
        runs = [Run.open(copies / str(number)) for number in range(2)]
        for run in runs:
            run.config = from_mapping(to_mapping(run.config) | {"total_frames": 128})
        forged, honest = train(runs, Silent(), resume=True, frames=64)
        assert honest.status == "finished"
        return forged, honest.run

    def try_one(self, tree: dict[str, Any], header: dict[str, Any] | None = None) -> Any:
        """As ``extended``; the second run's bytes are what they always are."""
        forged, honest = self.extended(tree, header)
        assert recorded(honest) == self.honest[0]
        assert_same_bits(last_tree(honest), self.honest[1])
        if forged.status == "finished":
            check_sound(forged.run)
        return forged


def check_sound(run: Run) -> None:
    """What it has saved since is finite and can be opened."""
    _, _, tree = CheckpointFolder(run.checkpoints, 1).newest(pytest.fail)
    assert np.isfinite(tree["training"]["parameters_AP"]).all()
    manifest = Run.open(run.directory).manifest
    assert manifest["status"] == "finished" and manifest["frames"] == 128


@pytest.fixture(scope="module", params=["dqn", "ppo", "mujoco"])
def population(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Population:
    settings = {"dqn": DQN_RUN, "ppo": PPO_RUN, "mujoco": MUJOCO_RUN}[request.param]
    return Population(tmp_path_factory.mktemp(request.param), settings)


def places(tree: Any, here: Path_ = ()) -> Iterator[Path_]:
    """The place of every leaf and branch of a tree; of long lists the first entries."""
    if here:
        yield here
    if isinstance(tree, dict):
        for key in tree:
            yield from places(tree[key], (*here, key))
    elif isinstance(tree, list):
        for index in range(min(len(tree), 2)):
            yield from places(tree[index], (*here, index))


def at(tree: Any, place: Path_) -> Any:
    for step in place:
        tree = tree[step]
    return tree


def with_value(tree: Any, place: Path_, value: Any) -> Any:
    """A copy with another value at a place."""
    tree = copy.deepcopy(tree)
    at(tree, place[:-1])[place[-1]] = value
    return tree


def hostile(value: Any) -> Iterator[Any]:
    """What somebody might write in place of a value."""
    yield from ("text", {"type": "object", "attributes": {"__class__": 3, "step": "x"}}, [], {})
    if isinstance(value, np.ndarray):
        yield from (value.astype(np.float64 if value.dtype != np.float64 else np.float32), value[..., None], value[:0])
        yield np.full(value.shape, np.nan if value.dtype.kind == "f" else -1, value.dtype)
        yield 0.5
    elif isinstance(value, bool | int):
        yield from (-1, 2**70, 0.5, math.nan, None, np.zeros(3), 10**400)
    elif isinstance(value, float):
        yield from (math.nan, math.inf, -1e300, None, np.zeros(3))
    elif isinstance(value, dict):
        yield from (value | {"type": "object"}, {key: None for key in value}, value | {"step": 0, "__class__": 1})
    else:
        yield from (0, None, [[]] * 1000)


OF_THE_ENVIRONMENT = ("training", "environments", "envs")


def forgeries(tree: Any) -> list[tuple[Path_, Any]]:
    return [(place, value) for place in places(tree) for value in hostile(at(tree, place))]


def check(population: Population, place: Path_, value: Any) -> None:
    """Only numbers in an environment, which alone knows what they mean, may be found out when it is stepped."""
    outcome = population.try_one(with_value(population.tree, place, value))
    if outcome.status != "finished":
        late = (EnvironmentFailure,) if place[:3] == OF_THE_ENVIRONMENT else ()
        assert isinstance(outcome.error, (ResumeError, *late)), f"{place} = {value!r:.60}: {outcome.error!r}"
        assert "\n" not in str(outcome.error)


def test_hostile_values_all_over_the_state(population: Population) -> None:
    """An even choice of what the slow test below tries."""
    everything = forgeries(population.tree)
    for place, value in everything[:: len(everything) // 70]:
        check(population, place, value)


@pytest.mark.slow
def test_every_hostile_value_in_every_place(population: Population) -> None:
    for place, value in forgeries(population.tree):
        check(population, place, value)


def changed(array: np.ndarray, where: Any, value: float) -> np.ndarray:
    array = array.copy()
    array[where] = value
    return array


MEAN = dict.fromkeys(("return_mean", "return_std", "return_iqm", "return_min", "return_max"), 1.0)
CRAFTED: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "steps": ("dqn", lambda tree: tree["training"].update(steps=65), "steps: expected 64 at its frame, found 65"),
    "updates": ("dqn", lambda tree: tree["training"].update(updates=10**9), "updates: expected"),
    "written": ("dqn", lambda tree: tree["training"]["replay"].update(written=-64), "replay.written: expected 64"),
    "block": ("dqn", lambda tree: tree["training"]["exploration"].update(block=9), "exploration.block: expected 0"),
    "iterations": ("ppo", lambda tree: tree["training"].update(iterations=True), "iterations: expected 2"),
    "action": (
        "dqn",
        lambda tree: tree["training"]["replay"].update(rows=changed(tree["training"]["replay"]["rows"], (3, -1), 2.0)),
        "an action that does not exist",
    ),
    "done": (
        "dqn",
        lambda tree: tree["training"]["replay"].update(
            outcomes=changed(tree["training"]["replay"]["outcomes"], (3, 2), 0.5)
        ),
        "neither true nor false",
    ),
    "random numbers that repeat": (
        "dqn",
        lambda tree: tree["training"]["sampling"]["state"].update(state=0, inc=0),
        "an increment that is even",
    ),
    "another generator": (
        "ppo",
        lambda tree: tree["training"].update(acting=dict(np.random.Generator(np.random.SFC64(1)).bit_generator.state)),
        "expected the state of a PCG64, found 'SFC64'",
    ),
    "squares below 0": (
        "dqn",
        lambda tree: tree["training"]["optimizer"].update(second=-1 - tree["training"]["optimizer"]["second"]),
        "'second' can't be",
    ),
    "half a step": ("ppo", lambda tree: tree["training"]["optimizer"].update(steps=1e300), "steps: 1e\\+300"),
    "a column of metrics": ("dqn", lambda tree: tree["training"]["means"].update(frames=[1.0, 1.0]), "no mean of this"),
    "handled": ("dqn", lambda tree: tree["loop"].update(handled=65), "whole number from 0 to 64, found 65"),
    "a best that always wins": (
        "dqn",
        lambda tree: tree["loop"].update(best=MEAN | {"return_mean": math.inf, "episodes": 1, "frames": 1}),
        "expected a finite number, found inf",
    ),
    "an evaluation of text": (
        "ppo",
        lambda tree: tree["loop"].update(evaluation=MEAN | {"return_std": "\x1b[31m", "episodes": 1, "frames": 1}),
        "no evaluation",
    ),
    "offsets": ("dqn", lambda tree: tree.update(offsets=[1]), "holds no offsets"),
    "an offset beyond": (
        "dqn",
        lambda tree: tree["offsets"].update({"metrics.jsonl": 10**15}),
        "counts on 10{15} bytes",
    ),
    "an offset in a row": (
        "dqn",
        lambda tree: tree["offsets"].update({"metrics.jsonl": tree["offsets"]["metrics.jsonl"] - 1}),
        "has no row that ends at byte",
    ),
    "count of episodes": ("dqn", lambda tree: tree["offsets"].update(episode_count=10**15), "more episodes than"),
}


@pytest.fixture(scope="module")
def populations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Population]:
    settings = {"dqn": DQN_RUN, "ppo": PPO_RUN}
    return {name: Population(tmp_path_factory.mktemp(name), settings[name]) for name in settings}


@pytest.mark.parametrize("forgery", CRAFTED)
def test_what_would_train_unsoundly_is_refused(forgery: str, populations: dict[str, Population]) -> None:
    name, change, words = CRAFTED[forgery]
    tree = copy.deepcopy(populations[name].tree)
    change(tree)
    outcome = populations[name].try_one(tree)
    assert isinstance(outcome.error, ResumeError)
    assert re.search(words, str(outcome.error)), outcome.error


@pytest.mark.parametrize(
    "header", [{"config": None}, {"config": [1]}, {"frames": 63}, {"config": {"algo": {"x": "\n" * 9999}}}]
)
def test_a_header_of_another_run_is_refused(header: dict[str, Any], populations: dict[str, Population]) -> None:
    population = populations["dqn"]
    outcome = population.try_one(population.tree, population.header | header)
    assert isinstance(outcome.error, ResumeError) and len(str(outcome.error)) < 10_000


@pytest.mark.parametrize("frames", [..., "x", None, [1], {}, True, 64.0, -1, 1 << 60, math.inf, math.nan])
def test_frames_that_are_none_are_refused_of_a_policy(
    frames: Any, populations: dict[str, Population], tmp_path: Path
) -> None:
    population = populations["dqn"]
    directory = shutil.copytree(population.runs[0].directory, tmp_path / "run")
    header = {key: value for key, value in population.header.items() if key != "frames"}
    save(directory / "checkpoints/best.ckpt", header | ({} if frames is ... else {"frames": frames}), population.tree)
    with pytest.raises(ResumeError, match=r"best\.ckpt does not say after how many frames"):
        rlrun.load(directory)


def test_a_checkpoint_without_environments_is_not_exact(populations: dict[str, Population]) -> None:
    population = populations["dqn"]
    outcome = population.try_one(with_value(population.tree, OF_THE_ENVIRONMENT, None))
    assert outcome.status == "finished" and outcome.run.manifest["exact"] is False
    assert outcome.run.manifest["inexact_because"] == ["new episodes began: the checkpoint has no environment state"]


def test_the_command_line_says_it_in_one_line(populations: dict[str, Population], rlrun: Any) -> None:
    population = populations["ppo"]
    tree = with_value(population.tree, ("training", "parameters_AP"), np.float32([np.nan]))
    directory = population.extended(population.tree)[0].run.directory.with_name("alone")
    shutil.copytree(population.runs[0].directory, directory)
    save(directory / population.checkpoint, population.header, tree)
    answer = rlrun("resume", str(directory), "total_frames=128")
    assert (
        answer.code == 4 and len(answer.errors) == 1 and "does not fit this config (parameters_AP" in answer.errors[0]
    )


# --- environments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["step", "__class__", "reset", "np_random", "unwrapped", "close"])
def test_a_state_never_shadows_what_the_class_has(name: str) -> None:
    env, forged = envs.make(EnvConfig(id="CartPole-v1")), envs.make(EnvConfig(id="CartPole-v1"))
    forged.reset(seed=1)
    state = envstate.capture(forged)
    state["layers"][-1]["attributes"][name] = 5
    with pytest.raises(ResumeError, match=f"attribute '{name}' of CartPoleEnv: .* is not plain data"):
        envstate.restore(env, state)
    assert name not in vars(env.unwrapped)


@pytest.mark.parametrize("name", ["spec", "render_mode", "metadata"])
def test_how_an_environment_was_made_stays(name: str) -> None:
    env = envs.make(EnvConfig(id="CartPole-v1"))
    env.reset(seed=1)
    before, state = getattr(env.unwrapped, name), envstate.capture(env)
    state["layers"][-1]["attributes"][name] = "human"
    envstate.restore(env, state)
    assert getattr(env.unwrapped, name) is before


def test_a_function_is_not_replaced_by_data_nor_an_object_reached_into() -> None:
    env = envs.make(EnvConfig(id="CartPole-v1"))
    env.reset(seed=1)
    env.unwrapped.helper = math.sqrt  # type: ignore[attr-defined]
    env.unwrapped.module = math  # type: ignore[attr-defined]
    for name, tree in (
        ("helper", 3),
        ("module", {"type": "object", "attributes": {"sqrt": 3}}),
        ("action_space", {"type": "object", "attributes": {"n": 10**9}}),
        ("gravity", {"type": "space", "generator": None}),
    ):
        state = envstate.capture(env)
        state["layers"][-1]["attributes"][name] = tree
        with pytest.raises(ResumeError, match=f"attribute '{name}' of CartPoleEnv"):
            envstate.restore(env, state)
    assert env.unwrapped.helper is math.sqrt and math.sqrt(4) == 2  # type: ignore[attr-defined]


def test_no_index_of_the_simulator_comes_from_a_checkpoint() -> None:
    """MuJoCo's native code follows them without a look."""
    env = envs.make(EnvConfig(id="Hopper-v5"))
    env.reset(seed=1)
    state = envstate.capture(env)
    (simulation,) = [tree for layer in state["layers"] for tree in layer["attributes"].values() if is_simulation(tree)]
    assert {array.dtype.kind for array in simulation["arrays"].values()} == {"f"}
    before = env.unwrapped.data.moment_colind.copy()  # type: ignore[attr-defined]
    simulation["arrays"]["moment_colind"] = np.full_like(before, 2**30)
    envstate.restore(env, state)
    assert (env.unwrapped.data.moment_colind == before).all()  # type: ignore[attr-defined]
    simulation["state"] = simulation["state"][:-1]
    with pytest.raises(ResumeError, match="attribute 'data' of HopperEnv: expected float64"):
        envstate.restore(env, state)


def is_simulation(tree: Any) -> bool:
    return isinstance(tree, dict) and tree.get("type") == "simulation"


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (np.random.PCG64, lambda state: state["state"].update(inc=2)),
        (np.random.PCG64DXSM, lambda state: state["state"].update(inc=0)),
        (np.random.MT19937, lambda state: state["state"].update(pos=10_000)),
        (np.random.MT19937, lambda state: state["state"].update(key=np.zeros(624, np.uint32))),
        (np.random.Philox, lambda state: state.update(buffer_pos=-5)),
        (np.random.SFC64, lambda state: state.update(bit_generator="PCG64")),
    ],
)
def test_states_that_no_generator_comes_to_are_refused(kind: Any, change: Callable[[Any], Any]) -> None:
    generator = np.random.Generator(kind(1))
    state = copy.deepcopy(generator.bit_generator.state)
    set_state(generator, state)
    change(state)
    with pytest.raises(ValueError):
        set_state(generator, state)


def test_numbers_of_a_checkpoint() -> None:
    assert whole(3) == 3 and real(2) == 2.0
    for value in (-1, True, 2.0, 10**400, None, "3"):
        with pytest.raises(ValueError, match="whole number"):
            whole(value)
    for value in (math.nan, math.inf, True, 10**400, None, "3"):
        with pytest.raises(ValueError, match="finite number"):
            real(value)

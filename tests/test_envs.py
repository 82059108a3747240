"""Ids, spaces and probes with their exit codes; capture and restore of every shipped environment, bit for bit."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import gymnasium
import numpy as np
import probes
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Space

from rlrun import checkpoint, env_ids, envs, envstate
from rlrun.config import EnvConfig
from rlrun.envs import BoxActions, DiscreteActions, Environment, MultiDiscreteActions
from rlrun.errors import EnvironmentFailure, ResumeError, RlrunError, UnavailableError, UsageError

SHIPPED = [
    "CartPole-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
    "InvertedPendulum-v5",
    "InvertedDoublePendulum-v5",
    "HalfCheetah-v5",
    "Hopper-v5",
    "Walker2d-v5",
    "Ant-v5",
    "Swimmer-v5",
    "Reacher-v5",
    "Humanoid-v5",
    "Pusher-v5",
    "HumanoidStandup-v5",
]


class Blank(gymnasium.Env[Any, Any]):
    """Any spaces, zeros for ever; ``result`` replaces what reset or step returns."""

    def __init__(self, observation: Space[Any], action: Space[Any], **result: Any) -> None:
        self.observation_space, self.action_space = observation, action
        self.result = result
        self.first = result.pop("first", np.zeros(observation.shape or (), np.float32))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.first, {}

    def step(self, action: Any) -> Any:
        default = {"successor": self.first, "reward": 0.0, "terminated": False, "truncated": False, "info": {}}
        return tuple({**default, **self.result}.values())


class Walk(gymnasium.Env[np.ndarray, Any]):
    """A random walk that can keep its position where no one looks, and its state in kinds that are hard to keep."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Discrete(2)

    def __init__(self, hidden: str = "nothing") -> None:
        self.hidden = hidden
        self.own: dict[str, Any] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.count, self.window = 0, deque([0.0] * 3, maxlen=3)
        self.alias = self.np_random
        self.plain: dict[Any, Any] = {(1, 2): np.float32(0.5), "nan": float("nan"), 3: [None, True, np.array(2)]}
        # Neither a generator nor an iterator has a state that can be read.
        self.numbers = itertools.count() if self.hidden == "iterator" else None
        return self._observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.count += 1
        self.window.append(self.alias.normal() + action)
        reward = float(next(self.numbers)) if self.numbers is not None else 0.0
        if self.hidden == "global":
            reward += np.random.random()
        return self._observation(), reward, self.count >= 40, False, {}

    def _observation(self) -> np.ndarray:
        return np.array([sum(self.window), self.plain[(1, 2)]])


class OwnState(Walk):
    """Keeps its count in an object that only its own get_state() and set_state() can reach."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        self.box = itertools.count()
        return super().reset(seed=seed)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, info = super().step(action)
        return observation, float(next(self.box)), terminated, truncated, info

    def get_state(self) -> dict[str, int]:
        return {"next": int(repr(self.box).strip("count()"))}

    def set_state(self, state: dict[str, int]) -> None:
        self.box = itertools.count(state["next"])


@pytest.fixture
def register() -> Iterator[Callable[..., EnvConfig]]:
    """Register an environment for one test and return its config."""
    identifiers = []

    def register_one(entry_point: Any, identifier: str = "Test-v0", **settings: Any) -> EnvConfig:
        gymnasium.register(identifier, entry_point, **settings)
        identifiers.append(identifier)
        return EnvConfig(id=identifier)

    yield register_one
    for identifier in identifiers:
        del gymnasium.registry[identifier]


@pytest.mark.parametrize(
    ("identifier", "kind", "message"),
    [
        ("CartPole", UsageError, "write the version: CartPole-v1"),
        ("CartPol-v1", UsageError, "did you mean CartPole-v1?"),
        ("CartPole-v99", UsageError, "CartPole-v0, CartPole-v1"),
        ("HalfCheetah-v2", UnavailableError, "use HalfCheetah-v5"),
        ("LunarLander-v3", UnavailableError, 'pip install "gymnasium[box2d]"'),
        ("ALE/Pong-v5", UnavailableError, "install ale-py"),
        ("phys2d/CartPole-v1", UnavailableError, "jax"),
        ("nowhere:Env-v0", UsageError, "imports the module 'nowhere'"),
        (" CartPole-v1", UsageError, "expected a Gymnasium id such as CartPole-v1"),
        ("", UsageError, "expected a Gymnasium id"),
        ("../x", UsageError, "expected a Gymnasium id"),
        (
            "Blackjack-v1",
            UsageError,
            "observation space Tuple(Discrete(32), Discrete(11), Discrete(2)) is not supported",
        ),
        ("FrozenLake-v1", UsageError, "observation space Discrete(16) is not supported"),
    ],
)
def test_wrong_ids_end_in_one_line(identifier: str, kind: type[RlrunError], message: str) -> None:
    with pytest.raises(kind) as caught:
        envs.spaces(EnvConfig(id=identifier))
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"env.id={identifier}")
    assert "\n" not in str(caught.value)


def test_a_module_in_an_id_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evilmod.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError):
        envs.make(EnvConfig(id="evilmod:CartPole-v1"))
    assert "evilmod" not in sys.modules


def test_installed_packages_register_their_environments(
    register: Callable[..., EnvConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plugin:
        def load(self) -> None:
            register(Walk, "plugged/Walk-v0")

    monkeypatch.setattr(env_ids, "entry_points", lambda group: [Plugin()] if group == "rlrun.envs" else [])
    assert envs.spaces(EnvConfig(id="plugged/Walk-v0")).observation_size == 2


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"foo": 1}, "unexpected keyword argument 'foo'"),
        ({"max_episode_steps": -1}, "unexpected keyword argument 'max_episode_steps'"),
        ({"render_mode": "bogus"}, "choices: human, rgb_array"),
    ],
)
def test_wrong_keyword_arguments(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        envs.make(EnvConfig(id="CartPole-v1", kwargs=kwargs))


@pytest.mark.parametrize(
    ("observation", "action", "message"),
    [
        (Dict(x=Box(0, 1, (2,))), Discrete(2), "observation space Dict"),
        (Box(0, 1, (2,)), Dict(x=Discrete(2)), "action space Dict"),
        (Box(0, 1, (2,)), Box(-np.inf, 1, (2,)), "no finite bounds"),
        (Box(0, 1, (2,)), Box(0, 3, (2,), np.int64), "Box of floats"),
    ],
)
def test_unsupported_spaces(register: Any, observation: Space[Any], action: Space[Any], message: str) -> None:
    config = register(Blank, kwargs={"observation": observation, "action": action})
    with pytest.raises(UsageError, match=message):
        envs.spaces(config)


def test_spaces_are_what_an_agent_needs(register: Callable[..., EnvConfig]) -> None:
    spaces = envs.spaces(EnvConfig(id="CartPole-v1", frame_stack=3))
    assert (spaces.observation_size, spaces.action) == (12, DiscreteActions(2))
    box = envs.spaces(EnvConfig(id="InvertedPendulum-v5")).action
    assert isinstance(box, BoxActions)
    assert (box.low.tolist(), box.high.tolist(), str(box.low.dtype)) == ([-3.0], [3.0], "float32")
    config = register(Blank, kwargs={"observation": Box(0, 255, (4, 4), np.uint8), "action": MultiDiscrete([2, 3])})
    spaces = envs.spaces(config)
    assert (spaces.observation_size, spaces.action) == (16, MultiDiscreteActions((2, 3)))


def test_the_step_limit_is_in_steps_of_the_agent() -> None:
    assert envs.step_limit(EnvConfig(id="MountainCar-v0")) == 200
    assert envs.step_limit(EnvConfig(id="MountainCar-v0", frame_skip=3)) == 67
    assert envs.step_limit(EnvConfig(id="MountainCar-v0", frame_skip=3, time_limit=1000)) == 1000


def test_only_registered_wrappers_remain(register: Callable[..., EnvConfig]) -> None:
    env = envs.make(EnvConfig(id="CartPole-v1"))
    assert env is env.unwrapped
    wrapper = gymnasium.wrappers.ClipReward.wrapper_spec(min_reward=0.0, max_reward=0.5)
    wrapped = envs.make(register(Walk, additional_wrappers=(wrapper,), max_episode_steps=3))
    assert isinstance(wrapped, gymnasium.wrappers.ClipReward)
    assert wrapped.env is wrapped.unwrapped
    assert gymnasium.spec("CartPole-v1").max_episode_steps == 500  # the registry is not touched


def test_making_an_old_environment_prints_nothing_and_loads_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys; from rlrun import envs; from rlrun.config import EnvConfig\n"
        "for id in ('CartPole-v0', 'HalfCheetah-v4', 'HalfCheetah-v5'):\n"
        "    env = envs.make(EnvConfig(id=id)); env.reset(seed=0)\n"
        "env.step(env.action_space.sample() * float('nan'))\n"  # MuJoCo warns, and would write MUJOCO_LOG.TXT here
        "assert 'torch' not in sys.modules"
    )
    root = str(Path(envs.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("identifier", ["CartPole-v1", "Ant-v5", "ProbeActionObservationBox-v0"])
def test_probing_a_sound_environment_says_nothing(identifier: str, capfd: pytest.CaptureFixture[str]) -> None:
    probes.register()
    envs.probe(EnvConfig(id=identifier), 0)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"first": np.zeros(4, np.float32)}, r"observation of shape \(4,\), its space says \(3,\)"),
        ({"first": [0.0, 0.0, 0.0]}, "observation of type list, expected a NumPy array"),
        ({"first": np.array(["a", "b", "c"])}, "observation of dtype <U1, its space says float32"),
        ({"successor": np.full(3, np.nan)}, "observation that is not finite"),
        ({"successor": None}, "observation of type NoneType"),
        ({"reward": float("nan")}, "reward nan, expected a finite number"),
        ({"reward": None}, "reward None, expected a finite number"),
        ({"reward": "much"}, "reward 'much', expected a finite number"),
        ({"reward": "1.0"}, "reward '1.0', expected a finite number"),
        ({"reward": 10**400}, "expected a finite number"),
        ({"successor": np.ma.masked_array(np.zeros(3, np.float32), [1, 0, 0])}, "observation of type MaskedArray"),
        ({"terminated": 1}, "terminated=1, expected a boolean"),
        ({"truncated": None}, "truncated=None, expected a boolean"),
        ({"info": None}, "info of type NoneType, expected a dict"),
        ({"sixth": 0}, "too many values to unpack"),
    ],
)
def test_probing_a_broken_environment(register: Any, result: dict[str, Any], message: str) -> None:
    config = register(Blank, kwargs={"observation": Box(0, 1, (3,)), "action": Discrete(2), **result})
    with pytest.raises(EnvironmentFailure, match=message) as caught:
        envs.probe(config, 0)
    assert caught.value.exit_code == 7
    assert "Test-v0" in str(caught.value)


@pytest.mark.parametrize(
    ("identifier", "message"),
    [("ProbeRaise-v0", "RuntimeError: the simulator is on fire"), ("ProbeExit-v0", "raised SystemExit")],
)
def test_probing_an_environment_that_raises(identifier: str, message: str) -> None:
    probes.register()
    with pytest.raises(EnvironmentFailure, match=message):
        envs.probe(EnvConfig(id=identifier), 0)


def test_an_environment_that_raises_what_is_no_exception(register: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Walk, "__init__", mock.Mock(side_effect=BaseException("no more")))
    with pytest.raises(EnvironmentFailure, match="can not be made: BaseException: no more"):
        envs.make(register(Walk))
    probes.register()
    monkeypatch.setattr(probes.Broken, "step", mock.Mock(side_effect=GeneratorExit))
    with pytest.raises(EnvironmentFailure, match=r"raised GeneratorExit in its first steps"):
        envs.probe(EnvConfig(id="ProbeRaise-v0"), 0)


def test_memory_that_runs_out_while_probing_is_no_failure_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    probes.register()
    monkeypatch.setattr(probes.Broken, "step", mock.Mock(side_effect=MemoryError))
    with pytest.raises(MemoryError):
        envs.probe(EnvConfig(id="ProbeRaise-v0"), 0)


def play(env: Environment, actions: list[Any], reset_every: int = 60) -> list[Any]:
    """The bytes and types of everything that comes back, over the ends of episodes."""
    seen: list[Any] = []
    for step, action in enumerate(actions, 1):
        observation, reward, terminated, truncated, _ = env.step(action)
        seen.append((observation.dtype, observation.tobytes(), np.float64(reward).tobytes(), terminated, truncated))
        if terminated or truncated or step % reset_every == 0:
            seen.append(env.reset()[0].tobytes())
    return seen


def sampled(env: Environment, count: int) -> list[Any]:
    env.action_space.seed(1)
    return [env.action_space.sample() for _ in range(count)]


@pytest.mark.parametrize("identifier", SHIPPED)
def test_a_restored_environment_goes_on_bit_for_bit(identifier: str, tmp_path: Path) -> None:
    config = EnvConfig(id=identifier)
    env, other = envs.make(config), envs.make(config)
    env.reset(seed=7)
    actions = sampled(env, 250)
    play(env, actions[:97])
    state = envstate.capture(env)
    # Through a checkpoint file: the tree must survive one, and share no memory with the environment.
    checkpoint.save(tmp_path / "one.ckpt", {}, state)
    expected = play(env, actions[97:])
    next_action = env.action_space.sample()
    other.reset(seed=99)
    play(other, actions[:5])
    envstate.restore(other, checkpoint.load(tmp_path / "one.ckpt")[1])
    assert play(other, actions[97:]) == expected
    assert np.array_equal(other.action_space.sample(), next_action)


@pytest.mark.parametrize("identifier", SHIPPED)
def test_shipped_environments_are_found_exact(identifier: str) -> None:
    assert envstate.exactness(EnvConfig(id=identifier), 0) is None


def test_unusual_plain_state_and_wrappers_are_exact(register: Callable[..., EnvConfig], tmp_path: Path) -> None:
    names = gymnasium.wrappers
    wrappers = (names.NormalizeObservation.wrapper_spec(), names.RecordEpisodeStatistics.wrapper_spec())
    config = register(Walk, additional_wrappers=wrappers)
    assert envstate.exactness(config, 0) is None
    env, other = envs.make(config), envs.make(config)
    env.reset(seed=0)
    play(env, [1] * 50)
    envstate.restore(other, envstate.capture(env))
    assert other.unwrapped.alias is other.unwrapped.np_random  # type: ignore[attr-defined]
    plain = other.unwrapped.plain  # type: ignore[attr-defined]
    assert [type(value) for value in plain.values()] == [np.float32, float, list]
    assert list(plain) == [(1, 2), "nan", 3]
    checkpoint.save(tmp_path / "one.ckpt", {}, envstate.capture(env))


@pytest.mark.parametrize("hidden", ["iterator", "global"])
def test_hidden_state_is_found_inexact(register: Any, hidden: str) -> None:
    reason = envstate.exactness(register(Walk, kwargs={"hidden": hidden}), 0)
    assert reason is not None
    assert "differs after" in reason


def test_an_environment_that_raises_is_inexact_with_the_reason() -> None:
    probes.register()
    assert envstate.exactness(EnvConfig(id="ProbeRaise-v0"), 0) == "RuntimeError: the simulator is on fire"


def test_the_environments_own_state_functions_win(register: Callable[..., EnvConfig]) -> None:
    assert envstate.exactness(register(OwnState), 0) is None


def test_a_state_of_another_environment_is_refused() -> None:
    cartpole, acrobot = envs.make(EnvConfig(id="CartPole-v1")), envs.make(EnvConfig(id="Acrobot-v1"))
    cartpole.reset(seed=0)
    with pytest.raises(ResumeError, match="CartPoleEnv"):
        envstate.restore(acrobot, envstate.capture(cartpole))


def test_a_damaged_state_or_another_model_is_refused() -> None:
    config = EnvConfig(id="Hopper-v5")
    env = envs.make(config)
    env.reset(seed=0)
    state = envstate.capture(env)
    state["layers"][0]["attributes"]["_np_random"]["state"]["values"][0] = "Unknown"
    with pytest.raises(ResumeError, match="does not fit"):
        envstate.restore(envs.make(config), state)
    state = envstate.capture(env)
    state["layers"][0]["attributes"]["data"]["model"] = "another"
    with pytest.raises(ResumeError, match="MuJoCo model differs"):
        envstate.restore(envs.make(config), state)

"""What a captured state may hold and what it may be put into, and how a state that is not the whole one is found."""

from __future__ import annotations

import itertools
import math
import sys
from collections import deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from rlrun import envs, envstate
from rlrun.config import EnvConfig
from rlrun.errors import EnvironmentFailure, ResumeError

ANY = EnvConfig(id="Any-v0")


class Plain(gymnasium.Env[np.ndarray, Any]):
    """Episodes of ``length`` steps, which end as ``ends`` says; ``attributes`` are what it has besides."""

    observation_space = Box(-np.inf, np.inf, (1,), np.float64)

    def __init__(self, length: int = 10**9, ends: str = "terminated", **attributes: Any) -> None:
        self.action_space = Discrete(2)
        self.length, self.ends, self.count = length, ends, 0
        self.closed = False
        vars(self).update(attributes)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self.count == self.length:
            raise RuntimeError("a step after the end")
        self.count += 1
        ended = self.count == self.length
        return np.full(1, self.count), 0.0, ended and self.ends == "terminated", ended and self.ends == "truncated", {}

    def close(self) -> None:
        self.closed = True


def restored(saved: Any, fresh: Any) -> Any:
    """What an attribute is after ``saved`` was captured and restored into ``fresh``."""
    env = Plain(attribute=fresh)
    envstate.restore(env, envstate.capture(Plain(attribute=saved)))
    return env.attribute  # type: ignore[attr-defined]


def restore_tree(tree: Any, fresh: Any) -> Any:
    """What an attribute is after a tree from a checkpoint was put in place of ``fresh``."""
    env = Plain(attribute=fresh)
    state = envstate.capture(env)
    state["layers"][-1]["attributes"]["attribute"] = tree
    envstate.restore(env, state)
    return env.attribute  # type: ignore[attr-defined]


@pytest.fixture
def exactness_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str | None]]:
    """What is found of two environments that ``make`` gives, which must be closed afterwards."""
    made: list[Plain] = []

    def exactness(make: Callable[[], Plain], seed: int = 0) -> str | None:
        monkeypatch.setattr(envstate, "make", lambda config: made.append(make()) or made[-1])
        return envstate.exactness(ANY, seed)

    yield exactness
    assert len(made) == 2 and all(env.closed for env in made)


# --- kinds -----------------------------------------------------------------------------------------------------------

GENERATORS = (np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64)


@pytest.mark.parametrize(
    "value",
    [
        *[None, True, 7, 2.5, float("nan"), "text", [1, [2.0, "x"]], (1, (None,)), {(1, 2): [3], "k": {4: (5,)}}],
        *[np.float32(1.5), np.float64(2.5), np.int64(-3), np.uint8(4), np.bool_(True)],
        *[np.arange(3, dtype=np.int64), np.eye(2, dtype=np.float32), np.array(2.5), np.array([True]), np.zeros(0)],
        *[deque([1, 2]), deque([1.0, 2.0], maxlen=2)],
    ],
    ids=repr,
)
def test_plain_data_comes_back_with_its_type(value: Any) -> None:
    for fresh in (value, None):
        found = restored(value, fresh)
        assert type(found) is type(value) and repr(found) == repr(value)
        if isinstance(value, np.ndarray | np.generic):
            assert found.dtype == value.dtype and found.shape == value.shape
        if isinstance(value, deque):
            assert found.maxlen == value.maxlen


@pytest.mark.parametrize("kind", GENERATORS)
def test_generators_go_on(kind: Any) -> None:
    saved, fresh = np.random.Generator(kind(1)), np.random.Generator(kind(2))
    saved.random(5)
    found = restored(saved, fresh)
    assert found is fresh and found.random() == saved.random()
    found = restored([saved], [fresh])[0]
    assert found.random(3).tolist() == saved.random(3).tolist()


def test_a_capture_shares_no_memory() -> None:
    def make() -> Any:
        return Plain(array=np.zeros(2), nested=[np.zeros(2)], thing=SimpleNamespace(array=np.zeros(2)))

    def change(env: Any) -> None:
        env.array += 1
        env.nested[0] += 1
        env.thing.array += 1

    env, first, second = make(), make(), make()
    state = envstate.capture(env)
    change(env)
    envstate.restore(first, state)
    change(first)
    envstate.restore(second, state)
    assert not np.any([second.array, second.nested[0], second.thing.array])


@pytest.mark.parametrize(
    "value",
    [
        *[object(), math.sqrt, np.random.RandomState(0), itertools.count(), 1j, b"x", {1}],
        *[np.longdouble(1), np.zeros(2, np.longdouble), np.zeros(2, complex), np.array(["x"]), np.array([None])],
        *[[object()], (object(),), {1: object()}, deque([object()]), SimpleNamespace(), SimpleNamespace(a=object())],
        *[type("Float", (float,), {})(1), type("Array", (np.ndarray,), {})(1), type("List", (list,), {})()],
        *[type("Class", (), {"__slots__": ()}), np.str_("x"), np.complex64(1)],
        np.random.Generator(type("Bits", (np.random.PCG64,), {})(1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_plain_is_not_captured(value: Any) -> None:
    captured = envstate.capture(Plain(before=1, attribute=value, after=2))["layers"][0]["attributes"]
    assert "attribute" not in captured and (captured["before"], captured["after"]) == (1, 2)
    assert restored(value, value) is value


def test_secrets_are_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMULATOR_TOKEN", "correct horse")
    env = Plain(login=["it is", "the correct horse"], other=[1, "horse"])
    attributes = envstate.capture(env)["layers"][0]["attributes"]
    assert "login" not in attributes and attributes["other"] == [1, "horse"]


@pytest.mark.parametrize(
    "name", ["env", "spec", "metadata", "render_mode", "fullpath", "_ezpickle_args", "_ezpickle_kwargs"]
)
def test_how_it_was_made_is_neither_captured_nor_restored(name: str) -> None:
    env = Plain(**{name: "before"})
    state = envstate.capture(env)
    assert name not in state["layers"][0]["attributes"]
    state["layers"][0]["attributes"] = {name: "changed", "count": 7}
    envstate.restore(env, state)
    assert getattr(env, name) == "before" and env.count == 7


def test_an_object_is_restored_in_place() -> None:
    fresh = SimpleNamespace(position=1.0, inner=[2])
    found = restored(SimpleNamespace(position=3.0, inner=[4]), fresh)
    assert found is fresh and vars(found) == {"position": 3.0, "inner": [4]}


def test_what_only_a_reset_makes_is_there_to_be_filled_in() -> None:
    """By a reset that is always the same, or what could not be captured would differ from one restore to the next."""
    seeds = []

    class Late(Plain):
        def reset(self, **options: Any) -> Any:
            seeds.append(options.get("seed"))
            self.thing = SimpleNamespace(a=0)
            return super().reset(**options)

    env, other = Late(), Late()
    env.reset()
    env.thing.a = 3
    envstate.restore(other, envstate.capture(env))
    assert other.thing.a == 3 and seeds == [None, 0]


def test_the_generator_of_a_space_goes_on() -> None:
    env, other = Plain(), Plain()
    env.action_space.seed(1)
    other.action_space.seed(2)
    space = other.action_space
    envstate.restore(other, envstate.capture(env))
    assert other.action_space is space
    assert [space.sample() for _ in range(20)] == [env.action_space.sample() for _ in range(20)]


# --- what a state may be put into ------------------------------------------------------------------------------------

KINDS = {"number": 1.0, "text": "text", "sequence": [1.0], "dict": {1: 2}, "nothing": None}
IN_PLACE = {"object": SimpleNamespace(a=1), "space": Discrete(3), "generator": np.random.default_rng(0)}


@pytest.mark.parametrize(
    ("saved", "fresh"),
    [
        *itertools.permutations([1, True, 1.0, np.float32(1), np.array(1)], 2),
        *itertools.permutations([[1], (1,), deque([1]), np.ones(1)], 2),
        *[pair for value in KINDS.values() for pair in ((value, None), (None, value))],
        *[(math.nan, math.nan), ([[math.nan]], np.array([1, math.nan])), (math.nan, None), (math.inf, 1.0)],
        (SimpleNamespace(a=math.nan), SimpleNamespace(a=None)),
    ],
    ids=repr,
)
def test_kinds_are_wide(saved: Any, fresh: Any) -> None:
    found = restored(saved, fresh)
    assert type(found) is type(saved) and repr(found) == repr(saved)


@pytest.mark.parametrize(
    ("saved", "fresh"),
    [
        (saved, fresh)
        for saved, fresh in itertools.permutations(KINDS | IN_PLACE, 2)
        if "nothing" not in (saved, fresh) or {saved, fresh} & IN_PLACE.keys()
    ],
)
def test_another_kind_is_refused(saved: str, fresh: str) -> None:
    with pytest.raises(ResumeError, match=f"attribute 'attribute' of Plain: expected {fresh}, found {saved}"):
        restored((KINDS | IN_PLACE)[saved], (KINDS | IN_PLACE)[fresh])


@pytest.mark.parametrize(
    ("saved", "fresh"),
    [
        *[(math.nan, 1.0), (np.float32("nan"), 1.0), (np.array(math.nan), 1.0), (np.array([1, math.nan]), [0.0])],
        *[([1.0, [math.nan]], [0.0]), ((math.nan, 1.0), (0.0,)), (deque([1.0, math.nan]), [0.0])],
        *[({1: math.nan, 2: 1.0}, {1: 0.0})],
    ],
    ids=repr,
)
def test_a_number_that_is_newly_none_is_refused(saved: Any, fresh: Any) -> None:
    with pytest.raises(ResumeError, match="attribute 'attribute' of Plain: is not a number"):
        restored(saved, fresh)
    assert repr(restored(saved, saved)) == repr(saved)


def deep(levels: int) -> list[Any]:
    tree: list[Any] = []
    for _ in range(levels):
        tree = [tree]
    return tree


@pytest.mark.parametrize(
    ("tree", "fresh"),
    [
        *[({"type": "scalar", "value": array}, 1.0) for array in (np.zeros(0), np.array(1.0), np.zeros((1, 2)), [1])],
        *[({"type": "deque", "items": [1], "maxlen": value}, deque()) for value in ("x", -1, 10**30)],
        *[({"type": "dict", "keys": [1], "values": []}, {}), ({"type": "dict", "keys": [[1]], "values": [1]}, {})],
        *[({"type": "tuple"}, ()), ({"type": "tuple", "items": 1}, ()), ([{"type": "unknown"}], []), ({}, None)],
        *[({"type": "unknown"}, None), (object(), None), (deep(5000), [])],
        *[({"type": "object", "attributes": value}, SimpleNamespace(a=1)) for value in (None, [1], {"a": {}})],
        *[({"type": "object", "attributes": {"a": "x"}}, SimpleNamespace(a=1))],
        *[({"type": "space", "generator": value}, Discrete(2)) for value in (5, "x", [1], {"type": "space"})],
        *[([{"type": "generator", "state": value}], [1]) for value in (None, {}, 5)],
    ],
)
def test_a_forged_tree_is_refused(tree: Any, fresh: Any) -> None:
    with pytest.raises(ResumeError, match="attribute|does not fit"):
        restore_tree(tree, fresh)


def test_what_a_fresh_one_does_not_have_yet_is_of_the_kind_that_its_class_has() -> None:
    class Lives(Plain):
        lives = 3

    env, other = Lives(), Lives()
    env.lives, env.late = 2, [1]  # type: ignore[attr-defined]
    state = envstate.capture(env)
    envstate.restore(other, state)
    assert (other.lives, other.late) == (2, [1])  # type: ignore[attr-defined]
    for name, tree, message in (
        ("lives", "x", "expected number, found text"),
        ("step", 5, "function is not plain data"),
    ):
        state["layers"][0]["attributes"][name] = tree
        with pytest.raises(ResumeError, match=f"attribute '{name}' of Lives: .*{message}"):
            envstate.restore(Lives(), state)
        del state["layers"][0]["attributes"][name]


def test_a_tree_of_no_sense_is_refused_with_the_name_of_its_attribute() -> None:
    with pytest.raises(ResumeError, match="attribute 'attribute' of Plain: 'int' object is not iterable"):
        restore_tree({"type": "tuple", "items": 1}, ())


def hopper() -> Any:
    env = envs.make(EnvConfig(id="Hopper-v5"))
    env.reset(seed=1)
    env.step(np.ones(3))
    return env


def test_a_simulation_is_captured_with_its_time_and_shares_no_memory() -> None:
    env, other = hopper(), hopper()
    env.step(np.zeros(3))
    time, position = env.unwrapped.data.time, env.unwrapped.data.xpos.copy()
    state = envstate.capture(env)
    env.step(np.ones(3))
    assert not np.array_equal(env.unwrapped.data.xpos, position)
    envstate.restore(other, state)
    assert other.unwrapped.data.time == time > 0 and np.array_equal(other.unwrapped.data.xpos, position)


def test_a_simulation_of_another_model_is_refused() -> None:
    other = hopper()
    other.unwrapped.model.body_mass[1] += 1
    with pytest.raises(ResumeError, match="MuJoCo model differs"):
        envstate.restore(other, envstate.capture(hopper()))


def test_without_mujoco_nothing_is_a_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)
    assert restored(1, 2) == 1


def test_a_simulation_is_neither_taken_away_nor_made() -> None:
    env = hopper()
    state = envstate.capture(env)
    attributes = state["layers"][-1]["attributes"]
    simulation, attributes["data"] = attributes["data"], None
    with pytest.raises(ResumeError, match="expected simulation, found nothing"):
        envstate.restore(env, state)
    with pytest.raises(ResumeError, match="expected nothing, found simulation"):
        restore_tree(simulation, None)


@pytest.mark.parametrize(
    "state",
    [{}, *[{"layers": value, "own": None} for value in (None, [], [{"class": "Plain"}], [np.zeros(1)])]],
    ids=repr,
)
def test_a_state_without_its_parts_is_refused(state: Any) -> None:
    with pytest.raises(ResumeError):
        envstate.restore(Plain(), state)


# --- an environment's own functions ----------------------------------------------------------------------------------


class Own(Plain):
    """Has functions for a state that cannot be seen from outside."""

    def get_state(self) -> Any:
        return self.action_space.hidden  # type: ignore[attr-defined]

    def set_state(self, state: Any) -> None:
        if isinstance(state, str):
            raise {"bad": RuntimeError, "exit": SystemExit}[state](state)
        self.action_space.hidden = state  # type: ignore[attr-defined]


def own(hidden: Any) -> Own:
    env = Own()
    env.action_space.hidden = hidden  # type: ignore[attr-defined]
    return env


def test_its_own_state_is_handed_back() -> None:
    env = own(None)
    envstate.restore(env, envstate.capture(own((1, 2))))
    assert env.get_state() == (1, 2)


class Exiting(Own):
    def get_state(self) -> Any:
        raise SystemExit(3)


@pytest.mark.parametrize(
    ("make", "error"),
    [(lambda: own(object()), "_NotPlainError: object"), (Own, "AttributeError"), (Exiting, "SystemExit: 3")],
)
def test_its_own_state_that_can_not_be_had_is_its_failure(make: Callable[[], Own], error: str) -> None:
    with pytest.raises(EnvironmentFailure, match=f"get_state\\(\\) of (Own|Exiting) failed: {error}"):
        envstate.capture(make())


@pytest.mark.parametrize(("state", "error"), [("bad", "RuntimeError: bad"), ("exit", "SystemExit: exit")])
def test_its_own_state_that_it_does_not_take_is_refused(state: str, error: str) -> None:
    with pytest.raises(ResumeError, match=f"does not fit .*set_state\\(\\) failed: {error}"):
        envstate.restore(own(None), envstate.capture(own(state)))


def test_a_state_of_its_own_is_only_for_what_has_one() -> None:
    class Half(Plain):
        def get_state(self) -> int:
            return 1

    assert envstate.capture(Half())["own"] is None
    with pytest.raises(ResumeError, match="environment state is not of Own"):
        envstate.restore(own(None), envstate.capture(own(1)) | {"own": None})
    with pytest.raises(ResumeError, match="environment state is not of Plain"):
        envstate.restore(Plain(), envstate.capture(Plain()) | {"own": {"state": 1}})


# --- what is not the whole state -------------------------------------------------------------------------------------


class Hidden(Plain):
    """Begins each episode with a number of a generator that can't be captured, seeded as the environment is."""

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        if options.get("seed") is not None:
            self.hidden = np.random.RandomState(options["seed"])
        super().reset(**options)
        return np.array([self.hidden.rand()]), {}


class Counting(Plain):
    """Its ``counter`` can't be captured; ``shown`` says where it can be seen."""

    def __init__(self, shown: str, **options: Any) -> None:
        super().__init__(**options)
        self.counter, self.shown = itertools.count(), shown

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        count = next(self.counter)
        match self.shown:
            case "observation":
                observation = np.array([count])
            case "reward":
                reward = count
            case "type":
                reward = np.float32(0) if count >= 30 else np.float64(0)
            case "terminated":
                terminated = count == 30
            case "truncated":
                truncated = count == 30
        return observation, reward, terminated, truncated, info


@pytest.mark.parametrize("ends", ["terminated", "truncated"])
@pytest.mark.parametrize("length", [1, 10, 24, 25, 57, 88, 10**9])
def test_episodes_of_any_length_are_tried(length: int, ends: str, exactness_of: Any) -> None:
    assert exactness_of(lambda: Plain(length=length, ends=ends)) is None


@pytest.mark.parametrize("shown", ["observation", "reward", "type", "terminated", "truncated"])
def test_whatever_comes_back_is_compared(shown: str, exactness_of: Any) -> None:
    reason = exactness_of(lambda: Counting(shown))
    steps = {"observation": 1, "reward": 1}.get(shown, 7)
    assert reason == f"a restored environment differs after {steps} steps"


@pytest.mark.parametrize("seed", [0, 1])
def test_a_generator_that_only_a_reset_asks_is_found(seed: int, exactness_of: Any) -> None:
    assert exactness_of(Hidden, seed) == "a restored environment differs after a reset"


def test_a_generator_that_only_a_reset_asks_is_found_at_the_end_of_an_episode(exactness_of: Any) -> None:
    assert exactness_of(lambda: Hidden(length=30)) == "a restored environment differs after 6 steps"


def test_a_count_of_resets_that_can_not_be_captured_is_found(exactness_of: Any) -> None:
    """A restored environment was reset once more than the first one: when it was made, and before it was filled in."""

    class Resets(Plain):
        def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
            super().reset(**options)
            return np.array([next(self.counter)]), {}  # type: ignore[attr-defined]

    assert exactness_of(lambda: Resets(counter=itertools.count())) == "a restored environment differs after a reset"


OF_THE_MODULE: dict[str, Any] = {
    "episodes": 0,
    "harder": [0, {"by": 1}],
    "random": np.random.default_rng(0),
    "cache": {},
}


class Curriculum(Plain):
    """Something that it has in common with all others changes, and shows only after a thousand episodes."""

    played, seen = 0, np.zeros(3)

    def __init__(self, change: Callable[[], object], **options: Any) -> None:
        super().__init__(**options)
        self.change = change

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        self.change()
        return super().reset(**options)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda: setattr(Curriculum, "played", Curriculum.played + 1), "Curriculum.played"),
        (lambda: Curriculum.seen.__setitem__(1, Curriculum.seen[1] + 1), "Curriculum.seen"),
        (lambda: OF_THE_MODULE.update(episodes=OF_THE_MODULE["episodes"] + 1), "OF_THE_MODULE"),
        (lambda: OF_THE_MODULE["harder"][1].update(by=OF_THE_MODULE["harder"][1]["by"] + 1), "OF_THE_MODULE"),
        (lambda: OF_THE_MODULE["random"].random(), "OF_THE_MODULE"),
    ],
)
def test_what_all_environments_share_is_found_before_it_shows(change: Any, what: str, exactness_of: Any) -> None:
    expected = f"{__name__}.{what} is changed by stepping; it is in no environment"
    assert exactness_of(lambda: Curriculum(change, length=10)) == expected


def test_what_is_filled_once_is_not_taken_for_state(exactness_of: Any) -> None:
    assert exactness_of(lambda: Curriculum(lambda: OF_THE_MODULE["cache"].update(made=1), length=10)) is None


def test_no_episode_is_broken_off_where_episodes_end(exactness_of: Any) -> None:
    """As in training: what a reset in the middle of an episode does is of no account."""

    class Broken(Plain):
        def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
            early = self.count not in (0, self.length)
            observation, info = super().reset(**options)
            return observation + (next(self.counter) if early else 0), info  # type: ignore[attr-defined]

    first, second = itertools.count(0), itertools.count(10)
    counters = iter((first, second))
    assert exactness_of(lambda: Broken(length=25, counter=next(counters))) is None


def test_the_same_actions_are_tried_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    class Recording(Plain):
        def step(self, action: int) -> Any:
            tried.append(int(action))
            return super().step(action)

    monkeypatch.setattr(envstate, "make", lambda config: Recording())
    for seed in (1, 1, 2):
        assert envstate.exactness(ANY, seed) is None
    first, again, other = np.reshape(tried, (3, 24 + 2 * 64)).tolist()
    assert first == again != other and first[24::2] == first[25::2]


@pytest.mark.parametrize("error", [RuntimeError("on fire"), SystemExit(3), GeneratorExit("closed")])
def test_an_environment_that_raises_is_inexact(error: BaseException, exactness_of: Any) -> None:
    class Raising(Plain):
        def step(self, action: int) -> Any:
            raise error

    assert exactness_of(Raising) == f"{type(error).__name__}: {error}"

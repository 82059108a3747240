"""The interaction protocol as an event tape, its capture and restore, and agents that do not notice each other."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Any
from unittest import mock

import gymnasium
import numpy as np
import probes
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from rlrun.config import EnvConfig
from rlrun.envs import repeated
from rlrun.errors import EnvironmentFailure, ResumeError
from rlrun.interrupts import Unwound
from rlrun.rollout import Environments, Episode


class Tape(gymnasium.Env[np.ndarray, Any]):
    """Observes 100 * episode + step. Episode k ends as ``ends[k]`` = (steps, terminated, truncated); the last one repeats."""

    observation_space = Box(0, np.inf, (1,), np.float32)

    def __init__(self, **settings: Any) -> None:
        self.ends, self.episode, self.count = settings["ends"], 0, 0
        self.action_space = {
            "discrete": Discrete(3),
            "shifted": Discrete(3, start=-1),
            "multi": MultiDiscrete([3, 4]),
            "box": Box(-1, 1, (2, 1), np.float32),
        }[settings["action"]]
        self.actions: list[Any] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.count = self.episode + 1, 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(np.asarray(action)) or self.action_space.contains(action)
        self.actions.append(action)
        self.count += 1
        length, terminated, truncated = self.ends[min(self.episode, len(self.ends)) - 1]
        over = self.count == length
        return self._observation(), float(self.count), over and terminated, over and truncated, {}

    def _observation(self) -> np.ndarray:
        return np.array([100 * self.episode + self.count], np.float32)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    probes.register()
    gymnasium.register("Tape-v0", Tape)
    gymnasium.register("TapeLimit5-v0", Tape, max_episode_steps=5)
    yield
    for identifier in ("Tape-v0", "TapeLimit5-v0"):
        del gymnasium.registry[identifier]


def tape_config(*ends: list[Any], identifier: str = "Tape-v0", action: str = "discrete", **settings: Any) -> EnvConfig:
    return EnvConfig(id=identifier, kwargs={"ends": list(ends), "action": action}, **settings)


def record(environments: Environments, steps: int, agent: int = 0, env: int = 0) -> list[tuple[Any, ...]]:
    """(observation, reward, next observation, terminated, truncated) of each step, observations as lists of frames."""
    agents, num_envs, _ = environments.observation.shape
    events = []
    for _ in range(steps):
        before = environments.observation[agent, env].tolist()
        environments.step(np.zeros((agents, num_envs), np.int64))
        after, reward = environments.next_observation[agent, env].tolist(), float(environments.reward[agent, env])
        flags = bool(environments.terminated[agent, env]), bool(environments.truncated[agent, env])
        events.append((before, reward, after, *flags))
    return events


def test_a_termination_delivers_the_final_observation_and_then_the_reset_one() -> None:
    environments = Environments(tape_config([2, True, False], [9, False, False]), 1, [0])
    assert record(environments, 3) == [
        ([100], 1, [101], False, False),
        ([101], 2, [102], True, False),
        ([200], 1, [201], False, False),
    ]


def test_a_truncation_by_the_environment_is_no_termination() -> None:
    environments = Environments(tape_config([2, False, True], [9, False, False]), 1, [0])
    assert record(environments, 3) == [
        ([100], 1, [101], False, False),
        ([101], 2, [102], False, True),
        ([200], 1, [201], False, False),
    ]


@pytest.mark.parametrize("settings", [{"time_limit": 2}, {"identifier": "TapeLimit5-v0", "time_limit": 2}])
def test_the_configured_time_limit_truncates(settings: dict[str, Any]) -> None:
    environments = Environments(tape_config([9, True, False], **settings), 1, [0])
    assert record(environments, 3) == [
        ([100], 1, [101], False, False),
        ([101], 2, [102], False, True),
        ([200], 1, [201], False, False),
    ]


def test_a_registered_time_limit_counts_simulator_steps() -> None:
    environments = Environments(tape_config([99, True, False], identifier="TapeLimit5-v0", frame_skip=2), 1, [0])
    assert [event[4] for event in record(environments, 6)] == [False, False, True, False, False, True]


def test_termination_at_the_time_limit_keeps_both_flags() -> None:
    environments = Environments(tape_config([2, True, False], time_limit=2), 1, [0])
    assert record(environments, 2)[1] == ([101], 2, [102], True, True)


def test_both_flags_of_the_environment_are_kept_and_then_cleared() -> None:
    environments = Environments(tape_config([1, True, True], [9, False, False]), 1, [0])
    assert record(environments, 2) == [([100], 1, [101], True, True), ([200], 1, [201], False, False)]


def test_frame_skip_sums_rewards_and_stops_at_the_end() -> None:
    environments = Environments(tape_config([5, True, False], frame_skip=3), 1, [0])
    assert record(environments, 3) == [
        ([100], 1 + 2 + 3, [103], False, False),
        ([103], 4 + 5, [105], True, False),
        ([200], 1 + 2 + 3, [203], False, False),
    ]
    environments = Environments(tape_config([5, True, False], frame_skip=3), 1, [0])
    record(environments, 2)
    assert environments.finished == [Episode(agent=0, env=0, return_=15.0, length=2)]


def test_frame_stack_is_newest_last_and_filled_with_the_first_observation() -> None:
    environments = Environments(tape_config([2, True, False], [9, False, False], frame_stack=3), 1, [0])
    assert record(environments, 4) == [
        ([100, 100, 100], 1, [100, 100, 101], False, False),
        ([100, 100, 101], 2, [100, 101, 102], True, False),
        ([200, 200, 200], 1, [200, 200, 201], False, False),
        ([200, 200, 201], 2, [200, 201, 202], False, False),
    ]


def test_every_agent_and_environment_has_its_own_row() -> None:
    environments = Environments(tape_config([3, True, False]), 2, [0, 1])
    tapes = [environment.unwrapped for environment in environments._envs]
    environments.step(np.array([[0, 1], [2, 1]]))
    assert [tape.actions for tape in tapes] == [[0], [1], [2], [1]]  # type: ignore[attr-defined]
    tapes[2].count = 2  # type: ignore[attr-defined]
    environments.step(np.zeros((2, 2), np.int64))
    assert environments.next_observation[..., 0].tolist() == [[102, 102], [103, 102]]
    assert environments.observation[..., 0].tolist() == [[102, 102], [200, 102]]
    assert environments.terminated.tolist() == [[False, False], [True, False]]
    assert environments.finished == [Episode(agent=1, env=0, return_=1 + 3, length=2)]
    environments.step(np.zeros((2, 2), np.int64))
    assert [(episode.agent, episode.env) for episode in environments.finished] == [(0, 0), (0, 1), (1, 1)]


def test_rewards_are_scaled_then_clipped_and_returns_are_not() -> None:
    config = tape_config([4, True, False], reward_scale=0.5, reward_clip=1.2)
    environments = Environments(config, 1, [0])
    assert [event[1] for event in record(environments, 4)] == pytest.approx([0.5, 1.0, 1.2, 1.2])
    assert environments.finished == [Episode(0, 0, 10.0, 4)]


def test_actions_reach_the_environment_as_its_space_wants_them() -> None:
    shifted = Environments(tape_config([9, True, False], action="shifted"), 1, [0])
    shifted.step(np.array([[2]]))
    assert shifted._envs[0].unwrapped.actions == [1]  # type: ignore[attr-defined]
    multi = Environments(tape_config([9, True, False], action="multi"), 1, [0])
    multi.step(np.array([[[2, 3]]]))
    assert multi._envs[0].unwrapped.actions[0].tolist() == [2, 3]  # type: ignore[attr-defined]
    box = Environments(tape_config([9, True, False], action="box"), 1, [0])
    action = np.array([[[0.25, -0.5]]], np.float32)
    box.step(action)
    action[...] = 9  # an environment may keep its action
    assert box._envs[0].unwrapped.actions[0].tolist() == [[0.25], [-0.5]]  # type: ignore[attr-defined]


def bytes_of(environments: Environments, agent: int) -> list[bytes]:
    names = ("observation", "next_observation", "reward", "terminated", "truncated")
    return [getattr(environments, name)[agent].tobytes() for name in names]


def actions_for(environments: Environments, steps: int, seed: int) -> np.ndarray:
    """Actions [steps, N] or [steps, N, K] of one agent."""
    space = environments._envs[0].action_space
    rng = np.random.default_rng(seed)
    if isinstance(space, Discrete):
        return rng.integers(int(space.n), size=(steps, environments.observation.shape[1]))
    assert isinstance(space, Box)
    shape = (steps, environments.observation.shape[1], *space.shape)
    return rng.uniform(space.low, space.high, shape).astype(np.float32)


@pytest.mark.parametrize("identifier", ["CartPole-v1", "Hopper-v5"])
def test_an_agent_among_four_is_the_agent_alone(identifier: str) -> None:
    config, seeds = EnvConfig(id=identifier, frame_stack=2), [5, 6, 7, 8]
    together = Environments(config, 2, seeds)
    alone = Environments(config, 2, [seeds[2]])
    actions = np.stack([actions_for(together, 120, seed) for seed in seeds], axis=1)
    episodes: tuple[list[Any], list[Any]] = ([], [])
    for action in actions:
        together.step(action)
        alone.step(action[2:3])
        assert bytes_of(together, 2) == bytes_of(alone, 0)
        episodes[0].extend((e.env, e.return_, e.length) for e in together.finished if e.agent == 2)
        episodes[1].extend((e.env, e.return_, e.length) for e in alone.finished)
    assert episodes[0] == episodes[1] != []


def test_seeds_and_environments_differ() -> None:
    environments = Environments(EnvConfig(id="CartPole-v1"), 2, [1, 2])
    assert len({row.tobytes() for row in environments.observation.reshape(4, -1)}) == 4


@pytest.mark.parametrize("identifier", ["CartPole-v1", "Pendulum-v1", "Walker2d-v5"])
def test_restore_goes_on_bit_for_bit_in_another_population(identifier: str) -> None:
    config = EnvConfig(id=identifier, frame_skip=2, frame_stack=2, time_limit=30)
    original = Environments(config, 2, [3, 4])
    actions = actions_for(original, 120, 0)
    for action in actions[:47]:
        original.step(np.stack([action, action]))
    tree = original.capture(1)
    resumed = Environments(config, 2, [4])
    for action in actions[:7]:
        resumed.step(action[None])
    assert resumed.restore(0, tree)
    assert resumed.observation[0].tobytes() == original.observation[1].tobytes()
    ended = 0
    for action in actions[47:]:
        original.step(np.stack([action, action]))
        resumed.step(action[None])
        assert bytes_of(resumed, 0) == bytes_of(original, 1)
        expected = [(e.env, e.return_, e.length) for e in original.finished if e.agent == 1]
        assert [(e.env, e.return_, e.length) for e in resumed.finished] == expected
        ended += len(expected)
    assert ended >= 4
    assert resumed.capture(0)["step"] == original.capture(1)["step"] == 120


def test_capturing_changes_nothing() -> None:
    config = EnvConfig(id="Ant-v5")
    watched, left_alone = Environments(config, 1, [0]), Environments(config, 1, [0])
    for action in actions_for(watched, 40, 0):
        watched.step(action[None])
        watched.capture(0)
        left_alone.step(action[None])
        assert bytes_of(watched, 0) == bytes_of(left_alone, 0)


def test_without_exact_capture_a_restore_begins_new_episodes_deterministically() -> None:
    config = EnvConfig(id="CartPole-v1")
    original = Environments(config, 2, [9], exact=False)
    record(original, 5)
    tree = original.capture(0)
    assert tree["envs"] is None
    resumed, again = Environments(config, 2, [9], exact=False), Environments(config, 2, [9], exact=False)
    fresh = resumed.observation.copy()
    assert not resumed.restore(0, tree)
    assert not again.restore(0, tree)
    assert resumed.observation.tobytes() == again.observation.tobytes()
    assert not np.isin(resumed.observation, np.concatenate([original.observation, fresh])).any()
    lengths = []
    for _ in range(15):
        resumed.step(np.zeros((1, 2), np.int64))
        lengths += [episode.length for episode in resumed.finished]
    assert lengths  # an always-left CartPole falls within 11 steps, counted from the cut
    assert max(lengths) <= 11


def test_a_tree_of_other_shape_is_refused() -> None:
    tree = Environments(EnvConfig(id="CartPole-v1"), 2, [0]).capture(0)
    with pytest.raises(ResumeError, match="num_envs"):
        Environments(EnvConfig(id="CartPole-v1"), 3, [0]).restore(0, tree)


def broken_population(identifier: str) -> tuple[Environments, Environments]:
    """Three agents whose second breaks, at its fifth step, and its first alone and healthy."""
    config, healthy = EnvConfig(id=identifier), EnvConfig(id=identifier, kwargs={"at": 10**9})
    environments, reference = Environments(config, 2, [1, 2, 3]), Environments(healthy, 2, [1])
    for index in (0, 1, 3, 4, 5):
        environments._envs[index].unwrapped.at = 10**9  # type: ignore[attr-defined]
    return environments, reference


@pytest.mark.parametrize(
    ("identifier", "what"),
    [
        ("ProbeNaN-v0", "reward nan"),
        ("ProbeNaNObservation-v0", "observation is not finite"),
        ("ProbeShape-v0", r"observation of shape \(4,\), its space says \(3,\)"),
        ("ProbeRaise-v0", "RuntimeError: the simulator is on fire"),
        ("ProbeExit-v0", "SystemExit"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_broken_environment_fails_its_own_agent_only(identifier: str, what: str) -> None:
    environments, reference = broken_population(identifier)
    for step in range(8):
        assert set(environments.failures) == ({1} if step >= 5 else set())
        environments.step(np.zeros((3, 2), np.int64))
        reference.step(np.zeros((1, 2), np.int64))
        assert bytes_of(environments, 0) == bytes_of(reference, 0) == bytes_of(environments, 2)
    failure = environments.failures[1]
    assert isinstance(failure, EnvironmentFailure)
    assert failure.exit_code == 7
    with pytest.raises(EnvironmentFailure, match=rf"env {identifier} failed at step 5 of .* seed 2: {what}"):
        raise failure
    assert all(set(data) <= {0} for data in bytes_of(environments, 1))
    assert environments.capture(1)["envs"] is None
    assert environments._envs[2].unwrapped.count == 5  # type: ignore[attr-defined]
    environments.close()


class NoText(Exception):
    """Whose text can't be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("where", ["step", "reset"])
@pytest.mark.parametrize("kind", [asyncio.CancelledError, GeneratorExit, BaseException, NoText])
def test_whatever_an_environment_raises_fails_its_own_agent(
    kind: type[BaseException], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments = Environments(tape_config([1, True, False]), 1, [0, 1])
    broken = mock.Mock(side_effect=kind)
    monkeypatch.setattr(environments._envs[1], "reset", broken)
    if where == "step":
        environments._steps[1] = broken
    environments.step(np.zeros((2, 1), np.int64))
    assert set(environments.failures) == {1}
    assert f"failed at step 1 of the agent with seed 1: {kind.__name__} (" in str(environments.failures[1])


@pytest.mark.parametrize("frame_skip", [1, 2])
@pytest.mark.parametrize(
    ("place", "value", "what"),
    [
        (0, np.ma.masked_array(np.ones(1, np.float32), [True]), "observation of type MaskedArray"),
        (1, "1.0", "reward '1.0', expected a"),
        (2, 2, "terminated=2, expected a boolean"),
        (3, None, "truncated=None, expected a boolean"),
    ],
)
def test_values_of_another_kind_fail_their_agent(place: int, value: Any, what: str, frame_skip: int) -> None:
    environments = Environments(tape_config([9, True, False], frame_skip=frame_skip), 1, [0])
    environments.step(np.zeros((1, 1), np.int64))  # sound values first
    given = [np.ones(1, np.float32), 1.0, False, False, {}]
    given[place] = value
    environments._steps[0] = repeated(lambda action: tuple(given), frame_skip)
    environments.step(np.zeros((1, 1), np.int64))
    assert what in str(environments.failures[0])


@pytest.mark.parametrize("reward", [1, True, np.bool_(True), np.float32(1), np.array(1.0), np.int64(1)])
def test_rewards_of_any_kind_of_number(reward: Any) -> None:
    environments = Environments(tape_config([9, True, False]), 1, [0])
    environments._steps[0] = lambda action: (np.ones(1, np.float32), reward, np.bool_(False), False, {})
    environments.step(np.zeros((1, 1), np.int64))
    assert not environments.failures and environments.reward[0, 0] == 1.0


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Unwound])
def test_a_signal_is_no_failure_of_the_environment(kind: type[BaseException]) -> None:
    environments = Environments(tape_config([1, True, False]), 1, [0])
    environments._steps[0] = mock.Mock(side_effect=kind)
    with pytest.raises(kind):
        environments.step(np.zeros((1, 1), np.int64))


def test_memory_that_runs_out_in_a_reset_is_no_failure_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    environments = Environments(tape_config([1, True, False]), 1, [0])
    monkeypatch.setattr(Tape, "_observation", mock.Mock(side_effect=[np.zeros(1, np.float32), MemoryError]))
    with pytest.raises(MemoryError):  # the step is well, the reset after it is not
        environments.step(np.zeros((1, 1), np.int64))


def test_an_infinite_reward_is_not_hidden_by_clipping() -> None:
    environments = Environments(tape_config([9, True, False], reward_clip=1.0), 1, [0])
    environments._steps[0] = lambda action: (np.zeros(1, np.float32), math.inf, False, False, {})
    environments.step(np.zeros((1, 1), np.int64))
    assert "reward inf" in str(environments.failures[0])


def test_a_failure_drops_the_episode_that_it_ended() -> None:
    environments = Environments(tape_config([9, True, False]), 1, [0])
    environments._steps[0] = lambda action: (np.zeros(1, np.float32), math.nan, True, False, {})
    environments.step(np.zeros((1, 1), np.int64))
    assert environments.finished == []
    assert not environments.terminated.any()


def test_learning_probes_pay_what_they_promise() -> None:
    for what, action, expected in (("Constant", 0, 1.0), ("Action", 1, 1.0), ("Action", 0, 0.0)):
        environments = Environments(EnvConfig(id=f"Probe{what}-v0"), 1, [0])
        environments.step(np.array([[action]]))
        assert (environments.reward[0, 0], environments.terminated[0, 0]) == (expected, True)
    delayed = Environments(EnvConfig(id="ProbeDelayed-v0"), 1, [0])
    assert record(delayed, 3) == [
        ([0], 0, [1], False, False),
        ([1], 1, [1], True, False),
        ([0], 0, [1], False, False),
    ]
    for suffix, right in (
        ("", lambda seen: np.int64(seen > 0)),
        ("Box", lambda seen: np.array([0.5 * seen], np.float32)),
    ):
        environments = Environments(EnvConfig(id=f"ProbeActionObservation{suffix}-v0"), 1, [0])
        seen = set()
        for _ in range(20):
            observed = float(environments.observation[0, 0, 0])
            seen.add(observed)
            environments.step(np.array([[right(observed)]]))
            assert environments.reward[0, 0] == 1.0
        assert seen == {-1.0, 1.0}

"""The replay memory: what the ring holds, n-step returns worked by hand, and that every transition is as likely as any other.

In these tests the observation of environment e at its step t is 100 e + t, the reward is 2^t (environment 0) or 1000 (environment 1).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pytest
import torch

from rlrun.replay import Batch, Replay

GAMMA = np.array([[0.5]], np.float32)


class Slots(np.random.Generator):
    """A generator that draws the slots of a memory of ``size`` transitions in order."""

    def __init__(self, size: int) -> None:
        super().__init__(np.random.PCG64(0))
        self.size = size

    def random(self, count: Any = None, *_: Any, **__: Any) -> Any:
        assert count == self.size
        return (np.arange(self.size) + 0.5) / self.size


def fill(
    replay: Replay,
    steps: range,
    terminated: Collection[tuple[int, int]] = (),
    truncated: Collection[tuple[int, int]] = (),
) -> None:
    """Add steps; ``terminated`` and ``truncated`` list (step, environment)."""
    envs = range(replay.num_envs)

    def every(values: list[Any]) -> np.ndarray:
        """The same for every agent."""
        return np.array([values] * len(replay.rows))

    for t in steps:
        replay.add(
            every([[100.0 * e + t] for e in envs]),
            every([[100.0 * e + t + 1] for e in envs]),
            every([t % 3 for _ in envs]),
            every([2.0**t if e == 0 else 1000.0 for e in envs]),
            every([(t, e) in terminated for e in envs]),
            every([(t, e) in truncated for e in envs]),
        )


def everything(replay: Replay, n_step: int = 1, gamma: np.ndarray = GAMMA) -> Batch:
    """Every transition once, in the order of the slots."""
    agents = len(replay.rows)
    gammas = np.broadcast_to(gamma, (agents, 1))
    return replay.sample(len(replay), n_step, gammas, [Slots(len(replay))] * agents)


def test_what_the_ring_holds_before_and_after_it_wraps() -> None:
    replay = Replay(agents=1, capacity=4, num_envs=1, observation_size=1)
    fill(replay, range(3), terminated={(1, 0)}, truncated={(2, 0)})
    batch = everything(replay)
    assert len(replay) == 3
    assert batch.observation[0].tolist() == [[0], [1], [2]]
    assert batch.next_observation[0].tolist() == [[1], [2], [3]]
    assert batch.action.dtype == np.int64 and batch.action[0].tolist() == [0, 1, 2]
    assert batch.reward[0].tolist() == [1, 2, 4]
    assert batch.discount[0].tolist() == [0.5, 0, 0.5]  # a termination ends the future, a truncation does not
    fill(replay, range(3, 6))
    assert len(replay) == 4
    assert everything(replay).observation[0].ravel().tolist() == [4, 5, 2, 3]


def test_environments_lie_side_by_side() -> None:
    replay = Replay(agents=1, capacity=6, num_envs=2, observation_size=1)
    fill(replay, range(4))
    batch = everything(replay)
    assert batch.observation[0].ravel().tolist() == [3, 103, 1, 101, 2, 102]
    assert batch.reward[0].tolist() == [8, 1000, 2, 1000, 4, 1000]


def test_each_agent_has_its_own_transitions_draws_and_discount() -> None:
    replay = Replay(agents=2, capacity=3, num_envs=1, observation_size=1)
    for t in range(3):
        o = np.array([[[t]], [[10 + t]]])
        replay.add(o, o + 1, o[..., 0], o[..., 0], np.zeros((2, 1), bool), np.zeros((2, 1), bool))
    randoms = [np.random.default_rng(seed) for seed in (1, 2)]
    gamma = np.array([[0.9], [0.5]], np.float32)
    batch = replay.sample(5, 1, gamma, randoms)
    for agent, seed in enumerate((1, 2)):
        slots = (np.random.default_rng(seed).random(5) * 3).astype(int)
        assert batch.observation[agent].ravel().tolist() == (10 * agent + slots).tolist()
        np.testing.assert_allclose(batch.discount[agent], gamma[agent, 0])


def test_n_step_sums_end_with_a_termination() -> None:
    """Rewards 1 2 4 8 16, gamma 1/2, n = 3; step 2 terminates."""
    replay = Replay(agents=1, capacity=8, num_envs=1, observation_size=1)
    fill(replay, range(5), terminated={(2, 0)})
    batch = everything(replay, n_step=3)
    # 0: 1 + 2/2 + 4/4 = 3, no future.  1: 2 + 4/2 = 4, no future.  2: 4, no future.
    # 3: 8 + 16/2 = 16 and nothing collected since: the value of observation 5 counts 1/4.  4: 16, the value of 5 counts 1/2.
    assert batch.reward[0].tolist() == [3, 4, 4, 16, 16]
    assert batch.discount[0].tolist() == [0, 0, 0, 0.25, 0.5]
    assert batch.next_observation[0].ravel().tolist() == [3, 3, 3, 5, 5]
    assert batch.observation[0].ravel().tolist() == [0, 1, 2, 3, 4]


def test_n_step_sums_end_with_a_truncation_but_bootstrap() -> None:
    replay = Replay(agents=1, capacity=8, num_envs=1, observation_size=1)
    fill(replay, range(6), truncated={(2, 0)})
    batch = everything(replay, n_step=3)
    # as above up to step 2, but the value of the final observation 3 counts; 3: 8 + 16/2 + 32/4 = 24 and 1/8 of the value of 6.
    assert batch.reward[0].tolist() == [3, 4, 4, 24, 32, 32]
    assert batch.discount[0].tolist() == [0.125, 0.25, 0.5, 0.125, 0.25, 0.5]
    assert batch.next_observation[0].ravel().tolist() == [3, 3, 3, 6, 6, 6]


def test_n_step_sums_do_not_mix_environments() -> None:
    replay = Replay(agents=1, capacity=8, num_envs=2, observation_size=1)
    fill(replay, range(3), terminated={(1, 1)})
    batch = everything(replay, n_step=2)
    assert batch.observation[0].ravel().tolist() == [0, 100, 1, 101, 2, 102]
    assert batch.reward[0].tolist() == [1 + 1, 1000 + 500, 2 + 2, 1000, 4, 1000]
    assert batch.discount[0].tolist() == [0.25, 0, 0.25, 0, 0.5, 0.5]
    assert batch.next_observation[0].ravel().tolist() == [2, 102, 3, 102, 3, 103]


def test_n_step_sums_in_a_wrapped_ring_do_not_cross_from_the_newest_to_the_oldest() -> None:
    replay = Replay(agents=1, capacity=6, num_envs=2, observation_size=1)
    fill(replay, range(5))  # slots hold steps 3 3 4 4 2 2
    batch = everything(replay, n_step=3)
    assert batch.observation[0].ravel().tolist() == [3, 103, 4, 104, 2, 102]
    assert batch.reward[0].tolist() == [8 + 8, 1500, 16, 1000, 4 + 4 + 4, 1750]
    assert batch.discount[0].tolist() == [0.25, 0.25, 0.5, 0.5, 0.125, 0.125]
    assert batch.next_observation[0].ravel().tolist() == [5, 105, 5, 105, 5, 105]


def test_one_step_of_the_n_step_path_equals_the_one_step_path() -> None:
    replay = Replay(agents=2, capacity=6, num_envs=2, observation_size=1)
    fill(replay, range(5), terminated={(3, 0)}, truncated={(2, 1)})
    gamma = np.array([[0.9], [0.5]], np.float32)
    slots = np.tile(np.arange(6), (2, 1))
    last, reward, discount = replay._sum_rewards(slots, 1, gamma)
    batch = everything(replay, gamma=gamma)
    assert (last == slots).all() and (reward == batch.reward).all() and (discount == batch.discount).all()


def test_sampling_is_uniform() -> None:
    replay = Replay(agents=1, capacity=20, num_envs=1, observation_size=1)
    fill(replay, range(30))
    random = [np.random.default_rng(0)]
    drawn = np.concatenate([replay.sample(100, 1, GAMMA, random).observation.ravel() for _ in range(100)])
    counts = np.bincount(drawn.astype(int), minlength=30)
    assert counts[:10].sum() == 0  # overwritten
    chi_square = ((counts[10:] - 500) ** 2 / 500).sum()
    assert chi_square < 43.8  # 19 degrees of freedom, p = 0.001


@pytest.mark.parametrize("steps", [3, 9])
def test_a_restored_memory_is_the_same_and_goes_on_at_the_same_place(steps: int) -> None:
    replay = Replay(agents=2, capacity=6, num_envs=1, observation_size=1)
    fill(replay, range(steps), terminated={(1, 0)}, truncated={(2, 0)})
    restored = Replay(agents=1, capacity=6, num_envs=1, observation_size=1)
    tree = replay.capture(1).whole()
    fill(replay, range(50, 52))  # what is captured is a copy
    restored.restore(0, tree)
    assert len(restored) == min(steps, 6)
    fill(restored, range(50, 52))
    for n_step in (1, 3):
        expected, batch = everything(replay, n_step), everything(restored, n_step)
        for name in ("observation", "next_observation", "action", "reward", "discount"):
            assert (getattr(batch, name)[0] == getattr(expected, name)[1]).all(), name


@pytest.mark.parametrize("steps", [2, 5])
def test_cut_ends_the_newest_episodes_of_one_agent(steps: int) -> None:
    """What is collected after a cut belongs to new episodes: sums stop there and bootstrap, as after a truncation."""
    replay = Replay(agents=2, capacity=8, num_envs=2, observation_size=1)
    fill(replay, range(steps))
    replay.cut(1)
    fill(replay, range(steps, steps + 1))
    batch = everything(replay, n_step=2)
    newest_before_cut = np.flatnonzero(batch.observation[1].ravel() % 100 == steps - 1)
    assert len(newest_before_cut) == 2
    for slot in newest_before_cut:
        assert batch.discount[:, slot].tolist() == [0.25, 0.5]
        assert batch.next_observation[1, slot, 0] % 100 == steps
    others = np.setdiff1d(np.arange(len(replay)), newest_before_cut)
    assert (batch.reward[0, others] == batch.reward[1, others]).all()


@pytest.mark.parametrize("n_step", [1, 3])
def test_a_memory_in_tensors_gives_the_same_samples(n_step: int) -> None:
    """The memory of a GPU, on the CPU."""
    memories = [Replay(2, 12, 2, 3, device) for device in (None, torch.device("cpu"))]
    random, ends = np.random.default_rng(0), np.random.default_rng(1)
    gamma = np.array([[0.9], [0.5]], np.float32)
    for _ in range(9):
        observation, following = random.standard_normal((2, 2, 2, 3)).astype(np.float32)
        action, reward = random.integers(4, size=(2, 2)), random.standard_normal((2, 2)).astype(np.float32)
        terminated, truncated = ends.random((2, 2)) < 0.2, ends.random((2, 2)) < 0.2
        for memory in memories:
            memory.add(observation, following, action, reward, terminated, truncated)
    generators = [[np.random.default_rng(seed) for seed in (1, 2)] for _ in memories]
    arrays = memories[0].sample(20, n_step, gamma, generators[0])
    tensors = memories[1].sample(20, n_step, torch.from_numpy(gamma), generators[1])
    for ours, theirs in zip(arrays.to_torch(), tensors, strict=True):
        torch.testing.assert_close(ours, theirs)
    for memory in memories:
        memory.cut(1)
    trees = [memory.capture(1).whole() for memory in memories]
    assert trees[0]["rows"].tobytes() == trees[1]["rows"].tobytes()
    assert trees[0]["outcomes"].tobytes() == trees[1]["outcomes"].tobytes()
    memories[1].restore(0, trees[0])
    assert memories[1].capture(0).whole()["outcomes"].tobytes() == trees[0]["outcomes"].tobytes()

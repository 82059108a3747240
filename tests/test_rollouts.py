"""How a rollout is cut into minibatches."""

from __future__ import annotations

import numpy as np

from rlrun.config import EnvConfig
from rlrun.normalization import ObservationNormalizer
from rlrun.trainers.rollouts import Columns, Rollout


def columns_of(agents: int, transitions: int) -> Columns:
    rows = np.arange(agents * transitions, dtype=np.float32).repeat(6).reshape(agents, transitions, 6)
    return Columns(rows, observation_size=1)


def test_a_shuffle_covers_everything_in_an_order_of_each_agent() -> None:
    columns, random = columns_of(2, 12), [np.random.default_rng(seed) for seed in (1, 2)]
    seen = columns.shuffled(4, False, random, [0, 1]).target
    assert sorted(seen[0].tolist()) == list(range(12)) and sorted(seen[1].tolist()) == list(range(12, 24))
    assert seen[0].tolist() != sorted(seen[0].tolist()) and seen[0].tolist() != (seen[1] - 12).tolist()
    assert columns.shuffled(5, False, random, [0, 1]).rows.shape == (2, 10, 6)  # what fills no minibatch is left out
    assert columns.part(slice(4, 8)).target.tolist() == [[4, 5, 6, 7], [16, 17, 18, 19]]


def test_advantages_are_normalised_in_each_minibatch() -> None:
    random = [np.random.default_rng(seed) for seed in (1, 2)]
    shuffled = columns_of(2, 12).shuffled(4, True, random, [0, 1])
    advantage = shuffled.advantage.reshape(2, 3, 4)
    np.testing.assert_allclose(advantage.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(advantage.std(-1, ddof=1), 1, rtol=1e-5)
    assert sorted(shuffled.target[0].tolist()) == list(range(12))  # and nothing else is


def test_an_agent_that_sits_out_draws_no_order() -> None:
    random = [np.random.default_rng(seed) for seed in (1, 2)]
    before = str(random[0].bit_generator.state)
    columns_of(2, 12).shuffled(4, False, random, [1])
    assert str(random[0].bit_generator.state) == before != str(random[1].bit_generator.state)


def test_successors_are_what_no_step_began_with() -> None:
    """Two agents, 3 steps of 2 environments: a time limit, a termination, and what the rollout ends with."""
    rollout = Rollout(2, 3, 2, observation_size=1, action_size=1)
    rollout.next_observation[:] = np.arange(1, 13).reshape(2, 3, 2, 1)
    rollout.truncated[0, 0, 1] = True  # agent 0, step 0, environment 1: place 1
    rollout.terminated[0, 2, 0] = True  # the future ends: no value is needed
    rollout.terminated[1, 1, 1] = rollout.truncated[1, 1, 1] = True  # both: it ends as well
    ((observation, places),) = rollout.unseen_successors(ObservationNormalizer(EnvConfig(), 2, 1))
    assert [where.tolist() for where in places] == [[1, 5], [4, 5]]
    assert observation.shape == (2, 64, 1)
    assert observation[0, :3, 0].tolist() == [2, 6, 0] and observation[1, :3, 0].tolist() == [11, 12, 0]

"""How a rollout is cut into minibatches."""

from __future__ import annotations

import numpy as np

from rlrun.trainers.rollouts import Columns


def columns_of(agents: int, transitions: int) -> Columns:
    rows = np.arange(agents * transitions, dtype=np.float32).repeat(6).reshape(agents, transitions, 6)
    return Columns(rows, observation_size=1)


def test_minibatches_are_disjoint_and_cover_everything() -> None:
    columns, random = columns_of(2, 12), [np.random.default_rng(seed) for seed in (1, 2)]
    batches = [batch.target.copy() for batch in columns.minibatches(4, random, [0, 1])]
    assert [batch.shape for batch in batches] == [(2, 4)] * 3
    seen = np.concatenate(batches, axis=1)
    assert sorted(seen[0].tolist()) == list(range(12)) and sorted(seen[1].tolist()) == list(range(12, 24))
    assert seen[0].tolist() != sorted(seen[0].tolist()) and seen[0].tolist() != (seen[1] - 12).tolist()
    assert sum(len(batch.target[0]) for batch in columns.minibatches(5, random, [0, 1])) == 10  # the rest is left out


def test_an_agent_that_sits_out_draws_no_order() -> None:
    random = [np.random.default_rng(seed) for seed in (1, 2)]
    before = str(random[0].bit_generator.state)
    list(columns_of(2, 12).minibatches(4, random, [1]))
    assert str(random[0].bit_generator.state) == before != str(random[1].bit_generator.state)

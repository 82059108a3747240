"""Generalised advantage estimation by hand and against TorchRL."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchrl.objectives.value.functional import generalized_advantage_estimate

from rlrun.advantages import gae


def by_hand(terminated: list[bool], truncated: list[bool]) -> list[float]:
    """Rewards 1 2 4, values 8 4 2, values of the successors 4 2 16; gamma 1/2, lambda 1/2."""
    shape = (1, 3, 1)
    ended = np.array(terminated).reshape(shape)
    return (
        gae(
            np.array([1.0, 2.0, 4.0], np.float32).reshape(shape),
            np.array([8.0, 4.0, 2.0], np.float32).reshape(shape),
            np.array([4.0, 2.0, 16.0], np.float32).reshape(shape),
            ended,
            ended | np.array(truncated).reshape(shape),
            [0.5],
            [0.5],
        )
        .ravel()
        .tolist()
    )


def test_without_an_end() -> None:
    # deltas: 1 + 4/2 - 8 = -5;  2 + 2/2 - 4 = -1;  4 + 16/2 - 2 = 10
    # advantages from the end: 10;  -1 + 10/4 = 1.5;  -5 + 1.5/4 = -4.625
    assert by_hand([False] * 3, [False] * 3) == [-4.625, 1.5, 10]


def test_a_termination_has_no_future() -> None:
    # after step 1: its delta is 2 - 4 = -2 and nothing follows it;  -5 + -2/4 = -5.5
    assert by_hand([False, True, False], [False] * 3) == [-5.5, -2, 10]


def test_a_truncation_bootstraps_but_ends_the_trace() -> None:
    # after step 1: its delta keeps the successor's value, -1, but step 2 is of another episode;  -5 + -1/4 = -5.25
    assert by_hand([False] * 3, [False, True, False]) == [-5.25, -1, 10]


def test_a_termination_at_the_time_limit_has_no_future() -> None:
    assert by_hand([False, True, False], [False, True, False]) == [-5.5, -2, 10]


@pytest.mark.parametrize("truncations", [False, True])
def test_equals_torchrl(truncations: bool) -> None:
    random = np.random.default_rng(0)
    shape = (2, 40, 3)
    reward, value, following = (random.standard_normal(shape).astype(np.float32) for _ in range(3))
    terminated = random.random(shape) < 0.1
    done = terminated | (random.random(shape) < 0.1) if truncations else terminated
    gammas, lambdas = [0.99, 0.9], [0.95, 0.5]
    advantage = gae(reward, value, following, terminated, done, gammas, lambdas)
    assert advantage.dtype == np.float32
    for agent in range(2):
        columns = (value, following, reward, done, terminated)  # TorchRL wants [environments, time, 1]
        tensors = [torch.from_numpy(column[agent].T[..., None].copy()) for column in columns]
        expected, target = generalized_advantage_estimate(gammas[agent], lambdas[agent], *tensors)
        np.testing.assert_allclose(advantage[agent], expected[..., 0].T, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(advantage[agent] + value[agent], target[..., 0].T, rtol=1e-4, atol=1e-5)


def test_agents_do_not_change_each_others_bits() -> None:
    random = np.random.default_rng(0)
    shape = (3, 20, 2)
    reward, value, following = (random.standard_normal(shape).astype(np.float32) for _ in range(3))
    ended = random.random(shape) < 0.1
    together = gae(reward, value, following, ended, ended, [0.9, 0.99, 1.0], [0.95, 0.5, 1.0])
    one = slice(1, 2)
    alone = gae(reward[one], value[one], following[one], ended[one], ended[one], [0.99], [0.5])
    assert alone[0].tobytes() == together[1].tobytes()

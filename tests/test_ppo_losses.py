"""The losses of PPO as literal numbers, and their slopes against autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlrun.trainers.ppo_losses import (
    clipped_objective,
    clipped_objective_slope,
    critic_loss,
    critic_loss_slope,
    explained_variance,
    normalized,
)


def test_clipped_objective() -> None:
    log_ratio = np.log([[0.5, 0.9, 1.0, 1.3, 0.5, 1.3]])
    advantage = np.array([[1.0, 1.0, 2.0, 1.0, -1.0, -1.0]])
    objective = clipped_objective(np, log_ratio, advantage, np.array([[0.2]]))
    # a good action that became likelier than 1.2 and a bad one less likely than 0.8 gain nothing more
    np.testing.assert_allclose(objective, [[0.5, 0.9, 2.0, 1.2, -0.8, -1.3]])
    slope = clipped_objective_slope(log_ratio, advantage, np.array([[0.2]]))
    np.testing.assert_allclose(slope, [[0.5, 0.9, 2.0, 0.0, 0.0, -1.3]])


def test_critic_loss_with_clipping() -> None:
    value, target, old = np.array([[3.0, 3.0, 1.1]]), np.array([[0.0, 4.0, 4.0]]), np.array([[1.0, 1.0, 1.0]])
    assert critic_loss(np, value, target, old, None, "mse").tolist() == [[9, 1, pytest.approx(2.9**2)]]
    # kept within 0.5 of the old value: 1.5, 1.5 and 1.1
    clipped = critic_loss(np, value, target, old, np.array([[0.5]]), "mse")
    np.testing.assert_allclose(clipped, [[9, 6.25, 2.9**2]])
    np.testing.assert_allclose(critic_loss_slope(value, target, old, np.array([[0.5]]), "mse"), [[6, 0, -5.8]])
    np.testing.assert_allclose(critic_loss(np, value, target, old, None, "smooth_l1"), [[2.5, 0.5, 2.4]])


@pytest.mark.parametrize("kind", ["mse", "smooth_l1"])
@pytest.mark.parametrize("clip", [None, 0.3])
def test_slopes_equal_autograd(clip: float | None, kind: str) -> None:
    random = np.random.default_rng(0)
    value, target, old, log_ratio, advantage = (random.standard_normal((2, 500)) for _ in range(5))
    limits = None if clip is None else np.array([[clip], [2 * clip]])
    leaf = torch.tensor(value, requires_grad=True)
    bound = None if limits is None else torch.from_numpy(limits)
    critic_loss(torch, leaf, torch.from_numpy(target), torch.from_numpy(old), bound, kind).sum().backward()
    np.testing.assert_allclose(critic_loss_slope(value, target, old, limits, kind), leaf.grad)

    leaf, limits = torch.tensor(log_ratio, requires_grad=True), np.array([[0.2], [0.4]])
    clipped_objective(torch, leaf, torch.from_numpy(advantage), torch.from_numpy(limits)).sum().backward()
    np.testing.assert_allclose(clipped_objective_slope(log_ratio, advantage, limits), leaf.grad)


def test_normalized() -> None:
    advantage = np.array([[1.0, 2.0, 3.0], [10.0, 10.0, 40.0]], np.float32)
    rows = torch.from_numpy(advantage)
    expected = (rows - rows.mean(1, keepdim=True)) / rows.std(1, keepdim=True)
    np.testing.assert_allclose(normalized(advantage), expected, rtol=1e-6)
    assert normalized(np.ones((1, 5), np.float32)).tolist() == [[0.0] * 5]


def test_explained_variance() -> None:
    target = np.array([[1.0, 3.0], [1.0, 3.0], [1.0, 3.0], [2.0, 2.0]])
    value = np.array([[1.0, 3.0], [0.0, 0.0], [3.0, 1.0], [0.0, 1.0]])
    assert explained_variance(value, target).tolist() == [1.0, 0.0, -3.0, 0.0]

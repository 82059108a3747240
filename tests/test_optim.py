"""Adam, clipping and schedules against torch.optim and torch.nn.utils."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rlrun import optim

RATES, DECAYS = [1e-2, 3e-3, 0.5], [0.0, 0.1, 0.01]


def gradients_of(steps: int) -> torch.Tensor:
    """Gradients [steps, 3, 20]; later ones are smaller, so that AMSGrad matters."""
    random = torch.Generator().manual_seed(0)
    return torch.randn(steps, 3, 20, generator=random) * torch.linspace(2, 0.01, steps)[:, None, None]


# The plain step's bias corrections are float32, as in torch's capturable optimizers, so that a GPU need not wait for the CPU.
@pytest.mark.parametrize(("path", "tolerance"), [("_fused_step", 1e-5), ("_plain_step", 1e-4)])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_equals_torch_with_a_learning_rate_for_each_agent(path: str, tolerance: float, amsgrad: bool) -> None:
    rows, gradients = torch.linspace(-1, 1, 60).reshape(3, 20), torch.zeros(3, 20)
    expected = [row.clone().requires_grad_() for row in rows]
    oracles = [
        torch.optim.AdamW([row], lr=rate, weight_decay=decay, eps=1e-6, amsgrad=amsgrad)
        for row, rate, decay in zip(expected, RATES, DECAYS, strict=True)
    ]
    adam = optim.Adam(rows, gradients, 1e-6, amsgrad)
    for newest in gradients_of(20):
        gradients.copy_(newest)
        for agent in range(3):
            getattr(adam, path)(agent, RATES[agent], DECAYS[agent])
            expected[agent].grad = newest[agent].clone()
            oracles[agent].step()
    for agent in range(3):
        torch.testing.assert_close(rows[agent], expected[agent].detach(), rtol=tolerance, atol=tolerance)
    assert adam.steps_A.tolist() == [20, 20, 20]


def test_without_weight_decay_it_is_adam() -> None:
    rows, gradients = torch.ones(1, 20), torch.zeros(1, 20)
    expected = rows[0].clone().requires_grad_()
    oracle, adam = torch.optim.Adam([expected], lr=0.1), optim.Adam(rows, gradients, 1e-8, amsgrad=False)
    for newest in gradients_of(5):
        gradients.copy_(newest[:1])
        adam.step([0.1], [0.0], [0])
        expected.grad = newest[0].clone()
        oracle.step()
    torch.testing.assert_close(rows[0], expected.detach(), rtol=1e-5, atol=1e-6)


def test_only_the_named_agents_move() -> None:
    rows = torch.ones(3, 20)
    adam = optim.Adam(rows, torch.ones(3, 20), 1e-8, amsgrad=True)
    adam.step(RATES, [0.0] * 3, [0, 2])
    assert adam.steps_A.tolist() == [1, 0, 1]
    assert rows[1].tolist() == [1.0] * 20 and not adam.first_AP[1].any()
    torch.testing.assert_close(rows[[0, 2], 0], 1 - torch.tensor([1e-2, 0.5]))  # the first step is the learning rate


@pytest.mark.parametrize("amsgrad", [False, True])
def test_a_restored_optimizer_goes_on_with_the_same_bits(amsgrad: bool) -> None:
    rows, gradients = torch.ones(3, 20), torch.zeros(3, 20)
    adam = optim.Adam(rows, gradients, 1e-8, amsgrad)
    alone, its_gradients = torch.ones(1, 20), torch.zeros(1, 20)
    fresh = optim.Adam(alone, its_gradients, 1e-8, amsgrad)
    for step, newest in enumerate(gradients_of(8)):
        if step == 5:
            tree = adam.capture(1)
            assert tree["steps"] == 5 and (tree["largest"] is not None) == amsgrad
            fresh.restore(0, tree)
            alone[0] = rows[1]
        if step >= 5:
            its_gradients[0] = newest[1]
            fresh.step(RATES[1:2], DECAYS[1:2], [0])
        gradients.copy_(newest)
        adam.step(RATES, DECAYS, range(3))
    assert torch.equal(alone[0], rows[1])


def test_clip_values() -> None:
    gradients = torch.tensor([[-3.0, 0.5, 3.0]] * 3)
    optim.clip_values(list(gradients), [1.0, None, 2.0])
    assert gradients.tolist() == [[-1.0, 0.5, 1.0], [-3.0, 0.5, 3.0], [-2.0, 0.5, 2.0]]


@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_clip_norms_equals_torch_for_each_agent(limit: float) -> None:
    gradients = gradients_of(1)[0]
    expected = []
    for row in gradients.clone():
        parameter = torch.zeros(20, requires_grad=True)
        parameter.grad = row
        norm = torch.nn.utils.clip_grad_norm_([parameter], limit)
        expected.append((float(norm), parameter.grad))
    norms = optim.clip_norms(list(gradients), [limit] * 3)
    np.testing.assert_allclose(norms, [norm for norm, _ in expected], rtol=1e-5)
    for row, (_, clipped) in zip(gradients, expected, strict=True):
        torch.testing.assert_close(row, clipped, rtol=1e-5, atol=1e-7)


def test_clip_norms_without_a_limit_only_measures() -> None:
    gradients = torch.tensor([[3.0, 4.0], [30.0, 40.0]])
    assert optim.clip_norms(list(gradients), [None, 5.0]).tolist() == [5.0, 50.0]
    assert gradients[0].tolist() == [3.0, 4.0]
    torch.testing.assert_close(gradients[1], torch.tensor([3.0, 4.0]))


@pytest.mark.parametrize(
    ("kind", "frames", "factor"),
    [
        ("constant", 0, 1.0), ("constant", 99, 1.0),
        ("linear", 0, 1.0), ("linear", 25, 0.75), ("linear", 100, 0.0), ("linear", 130, 0.0),
        ("cosine", 0, 1.0), ("cosine", 50, 0.5), ("cosine", 25, 0.8535533905932737), ("cosine", 100, 0.0),
    ],
)  # fmt: skip
def test_schedules(kind: str, frames: int, factor: float) -> None:
    assert optim.schedule(kind, frames, 100) == pytest.approx(factor, abs=1e-12)


def test_cosine_equals_torch() -> None:
    optimizer: Any = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50, 0.0)
    for batch in range(50):
        assert optim.schedule("cosine", batch * 1000, 50_000) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        scheduler.step()

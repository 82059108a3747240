"""Adam, clipping and schedules against torch.optim and torch.nn.utils."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlrun import optim
from rlrun.kernels.native import library

RATES, DECAYS = [1e-2, 3e-3, 0.5], [0.0, 0.1, 0.01]


def gradients_of(steps: int) -> torch.Tensor:
    """Gradients [steps, 3, 20]; later ones are smaller, so that AMSGrad matters."""
    random = torch.Generator().manual_seed(0)
    return torch.randn(steps, 3, 20, generator=random) * torch.linspace(2, 0.01, steps)[:, None, None]


def step_all(adam: optim.Adam) -> None:
    for agent in range(3):
        adam.step(agent, RATES[agent], DECAYS[agent])


def step_all_on_device(adam: optim.Adam) -> None:
    adam.step_on_device(torch.tensor(RATES)[:, None], torch.tensor(DECAYS)[:, None], torch.ones(3, 1, dtype=torch.bool))


# On a device, bias corrections are float32, as in torch's capturable optimizers, so that a GPU need not wait for the CPU.
@pytest.mark.parametrize(("path", "tolerance"), [(step_all, 1e-5), (step_all_on_device, 1e-4)])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_equals_torch_with_a_learning_rate_for_each_agent(path: Any, tolerance: float, amsgrad: bool) -> None:
    rows, gradients = torch.linspace(-1, 1, 60).reshape(3, 20), torch.zeros(3, 20)
    expected = [row.clone().requires_grad_() for row in rows]
    oracles = [
        torch.optim.AdamW([row], lr=rate, weight_decay=decay, eps=1e-6, amsgrad=amsgrad)
        for row, rate, decay in zip(expected, RATES, DECAYS, strict=True)
    ]
    adam = optim.Adam(rows, gradients, 1e-6, amsgrad)
    for newest in gradients_of(20):
        gradients.copy_(newest)
        path(adam)
        for agent in range(3):
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
        adam.step(0, 0.1, 0.0)
        expected.grad = newest[0].clone()
        oracle.step()
    torch.testing.assert_close(rows[0], expected.detach(), rtol=1e-5, atol=1e-6)


def test_only_the_named_agents_move() -> None:
    rows = torch.ones(3, 20)
    adam = optim.Adam(rows, torch.ones(3, 20), 1e-8, amsgrad=True)
    for agent in (0, 2):
        adam.step(agent, RATES[agent], 0.0)
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
            fresh.step(0, RATES[1], DECAYS[1])
        gradients.copy_(newest)
        step_all(adam)
    assert torch.equal(alone[0], rows[1])


@pytest.mark.parametrize("amsgrad", [False, True])
def test_only_active_agents_move_on_a_device(amsgrad: bool) -> None:
    rows = torch.ones(3, 20)
    adam = optim.Adam(rows, torch.ones(3, 20), 1e-8, amsgrad)
    active = torch.tensor([[True], [False], [True]])
    adam.step_on_device(torch.tensor(RATES)[:, None], torch.zeros(3, 1), active)
    assert adam.steps_A.tolist() == [1, 0, 1] and rows[1].tolist() == [1.0] * 20
    assert all(not tensor[1].any() for tensor in adam.tensors[1:])
    torch.testing.assert_close(rows[[0, 2], 0], 1 - torch.tensor([1e-2, 0.5]))


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("size", [16, 400])
def test_the_c_library_steps_with_the_same_bits(size: int, amsgrad: bool) -> None:
    if library() is None:
        pytest.skip("no C compiler, or another BLAS in NumPy")
    random = torch.Generator().manual_seed(0)
    gradients = torch.zeros(1, size)
    steppers = [optim.Adam(torch.ones(1, size), gradients, 1e-6, amsgrad, native) for native in (False, True)]
    assert [bool(adam._native) for adam in steppers] == [False, True]
    for step in range(30):
        gradients.copy_(torch.randn(1, size, generator=random) * 10.0 ** (step % 7 - 4))
        for adam in steppers:
            adam.step(0, 1e-3, 0.01, limit=(0.5 if step % 2 else float("inf")), scale=0.3)
    for ours, theirs in zip(*(adam.tensors for adam in steppers), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("value_limit", [None, 0.4])
@pytest.mark.parametrize("norm_limit", [None, 0.5, 1e6])
@pytest.mark.parametrize("on_device", [False, True])
def test_descent_clips_as_torch_and_steps(on_device: bool, norm_limit: float | None, value_limit: float | None) -> None:
    rows, gradients = torch.ones(3, 20), torch.zeros(3, 20)
    descent = optim.Descent(
        optim.Adam(rows, gradients, 1e-2, amsgrad=False), [value_limit] * 3, [norm_limit] * 3, DECAYS
    )  # an epsilon as large as the gradients: Adam alone would undo their scale
    expected = [torch.ones(20, requires_grad=True) for _ in range(3)]
    oracles = [
        torch.optim.AdamW([row], lr=rate, weight_decay=decay, eps=1e-2)
        for row, rate, decay in zip(expected, RATES, DECAYS, strict=True)
    ]
    for newest in gradients_of(5):
        gradients.copy_(newest)
        if on_device:
            norms = descent.on_device(torch.tensor(RATES)[:, None], torch.ones(3, 1, dtype=torch.bool)).numpy()
        else:
            norms = descent(RATES, range(3))
        for agent, (row, oracle) in enumerate(zip(expected, oracles, strict=True)):
            row.grad = newest[agent].clone()
            if value_limit is not None:
                torch.nn.utils.clip_grad_value_([row], value_limit)
            if norm_limit is not None:
                norm = torch.nn.utils.clip_grad_norm_([row], norm_limit)
                assert norms is not None and norms[agent] == pytest.approx(float(norm), rel=1e-5)
            oracle.step()
    torch.testing.assert_close(rows, torch.stack(expected).detach(), rtol=1e-4, atol=1e-5)


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

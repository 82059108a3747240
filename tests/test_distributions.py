"""Action distributions against torch.distributions and TorchRL; their gradients by hand against autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchrl.modules.distributions import TanhNormal

from rlrun.distributions import SMALLEST_STD, Categorical, Distribution, Normal, make_distribution
from rlrun.envs import Actions, BoxActions, DiscreteActions, MultiDiscreteActions, Spaces

LOW, HIGH = np.array([-1.0, -2.0, 0.0], np.float32), np.array([1.0, 2.0, 3.0], np.float32)
DISTRIBUTIONS: dict[str, Distribution] = {
    "categorical": Categorical([4], multiple=False),
    "multi_categorical": Categorical([2, 3, 5], multiple=True),
    "gaussian_free_std": Normal(LOW, HIGH, squash=False, state_dependent_std=False),
    "gaussian_state_dependent_std": Normal(LOW, HIGH, squash=False, state_dependent_std=True),
    "tanh_normal_free_std": Normal(LOW, HIGH, squash=True, state_dependent_std=False),
    "tanh_normal_state_dependent_std": Normal(LOW, HIGH, squash=True, state_dependent_std=True),
}


def case(distribution: Distribution, dtype: Any = np.float64) -> dict[str, Any]:
    """Outputs, free parameter, kept actions and noise of 2 agents, 6 samples."""
    random = np.random.default_rng(0)
    outputs = random.standard_normal((2, 6, distribution.outputs)).astype(dtype)
    log_std = 0.3 * random.standard_normal((2, 1, distribution.stored)).astype(dtype) if distribution.free_std else None
    noise = distribution.noise((2, 6), random).astype(dtype)
    action = distribution.sample(outputs, log_std, distribution.noise((2, 6), random).astype(dtype))
    return {"outputs": outputs, "log_std": log_std, "action": action.astype(dtype), "noise": noise}


def as_torch(values: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value is None else torch.from_numpy(value) for name, value in values.items()}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_numpy_and_torch_say_the_same(name: str) -> None:
    values = case(DISTRIBUTIONS[name])
    by_numpy = DISTRIBUTIONS[name].log_prob_and_entropy(np, **values)
    by_torch = DISTRIBUTIONS[name].log_prob_and_entropy(torch, **as_torch(values))
    for left, right in zip(by_numpy, by_torch, strict=True):
        assert left.shape == (2, 6)
        np.testing.assert_allclose(left, right.numpy(), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_gradient_by_hand_equals_autograd(name: str, dtype: Any) -> None:
    distribution, values = DISTRIBUTIONS[name], case(DISTRIBUTIONS[name], dtype)
    random = np.random.default_rng(1)
    d_log_prob, d_entropy = random.standard_normal((2, 6)).astype(dtype), random.standard_normal((2, 1)).astype(dtype)

    tensors = as_torch(values)
    leaves = [tensors["outputs"].requires_grad_()]
    if distribution.free_std:
        leaves.append(tensors["log_std"].requires_grad_())
    log_prob, entropy = distribution.log_prob_and_entropy(torch, **tensors)
    (log_prob * torch.from_numpy(d_log_prob) + entropy * torch.from_numpy(d_entropy)).sum().backward()

    d_outputs, d_log_std = distribution.gradient(**values, d_log_prob=d_log_prob, d_entropy=d_entropy)
    tolerance = {"rtol": 1e-9, "atol": 1e-9} if dtype is np.float64 else {"rtol": 1e-4, "atol": 2e-5}
    assert d_outputs.dtype == dtype
    np.testing.assert_allclose(d_outputs, leaves[0].grad.numpy(), **tolerance)
    assert (d_log_std is not None) == distribution.free_std
    if d_log_std is not None:
        np.testing.assert_allclose(d_log_std.sum(1, keepdims=True), leaves[1].grad.numpy(), **tolerance)


def test_categorical_equals_torch() -> None:
    values = case(DISTRIBUTIONS["categorical"])
    log_prob, entropy = DISTRIBUTIONS["categorical"].log_prob_and_entropy(np, **values)
    oracle = torch.distributions.Categorical(logits=torch.from_numpy(values["outputs"]))
    np.testing.assert_allclose(log_prob, oracle.log_prob(torch.from_numpy(values["action"].argmax(-1))).numpy())
    np.testing.assert_allclose(entropy, oracle.entropy().numpy())


def test_multi_categorical_is_the_sum_of_independent_choices() -> None:
    values = case(DISTRIBUTIONS["multi_categorical"])
    log_prob, entropy = DISTRIBUTIONS["multi_categorical"].log_prob_and_entropy(np, **values)
    parts = [slice(0, 2), slice(2, 5), slice(5, 10)]
    oracles = [torch.distributions.Categorical(logits=torch.from_numpy(values["outputs"][..., part])) for part in parts]
    chosen = [torch.from_numpy(values["action"][..., part].argmax(-1)) for part in parts]
    expected = sum(oracle.log_prob(choice) for oracle, choice in zip(oracles, chosen, strict=True))
    np.testing.assert_allclose(log_prob, expected.numpy())
    np.testing.assert_allclose(entropy, sum(oracle.entropy() for oracle in oracles).numpy())


@pytest.mark.parametrize("name", ["gaussian_free_std", "gaussian_state_dependent_std"])
def test_gaussian_equals_torch(name: str) -> None:
    values = case(DISTRIBUTIONS[name])
    log_prob, entropy = DISTRIBUTIONS[name].log_prob_and_entropy(np, **values)
    oracle = torch.distributions.Normal(*mean_and_std(values))
    np.testing.assert_allclose(log_prob, oracle.log_prob(torch.from_numpy(values["action"])).sum(-1).numpy())
    np.testing.assert_allclose(entropy, oracle.entropy().sum(-1).numpy())


@pytest.mark.parametrize("name", ["tanh_normal_free_std", "tanh_normal_state_dependent_std"])
def test_tanh_normal_equals_torchrl_up_to_the_jacobian(name: str) -> None:
    """The Jacobian of an action is the same under every policy, so log-ratios of two policies must agree."""
    distribution, values = DISTRIBUTIONS[name], case(DISTRIBUTIONS[name])
    other = {**values, "outputs": values["outputs"] + 0.3}
    ours = distribution.log_prob_and_entropy(np, **values)[0] - distribution.log_prob_and_entropy(np, **other)[0]
    low, high = torch.from_numpy(LOW).double(), torch.from_numpy(HIGH).double()
    action = torch.from_numpy(distribution.to_env(values["action"]))
    policies = [
        TanhNormal(*mean_and_std(each), low=low, high=high, tanh_loc=False, upscale=1.0) for each in (values, other)
    ]
    theirs = policies[0].log_prob(action) - policies[1].log_prob(action)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)


def test_the_entropy_of_a_tanh_normal_is_that_of_the_squashed_action() -> None:
    """The estimate from one sample, averaged over many, against -E[log p] of TorchRL's density with its Jacobian."""
    distribution = DISTRIBUTIONS["tanh_normal_state_dependent_std"]
    random = np.random.default_rng(0)
    values = {"outputs": np.tile([0.3, -0.5, 0.1, -0.5, -1.0, 0.0], (1, 20_000, 1)), "log_std": None}
    noise = distribution.noise((1, 20_000), random).astype(np.float64)
    sample = distribution.sample(**values, noise=noise)
    _, entropy = distribution.log_prob_and_entropy(np, **values, action=sample, noise=noise)
    low, high = torch.from_numpy(LOW).double(), torch.from_numpy(HIGH).double()
    oracle = TanhNormal(*mean_and_std(values), low=low, high=high, tanh_loc=False, upscale=1.0)
    theirs = -oracle.log_prob(torch.from_numpy(distribution.to_env(sample))).numpy()
    np.testing.assert_allclose(entropy, theirs, rtol=1e-3, atol=1e-3)  # sample by sample, not only on average


def mean_and_std(values: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """As the documentation says: exp(log_std), or softplus biased so that 0 means 1, above the smallest (as TorchRL's)."""
    outputs = torch.from_numpy(values["outputs"])
    if values["log_std"] is not None:
        return outputs, torch.from_numpy(values["log_std"]).exp().expand_as(outputs)
    bias = float(np.log(np.expm1(1 - SMALLEST_STD)))
    return outputs[..., :3], torch.nn.functional.softplus(outputs[..., 3:] + bias) + SMALLEST_STD


def test_an_output_of_zero_means_a_standard_deviation_of_one() -> None:
    distribution = DISTRIBUTIONS["tanh_normal_state_dependent_std"]
    sample = distribution.sample(np.zeros((1, 1, 6)), None, np.ones((1, 1, 3)))
    np.testing.assert_allclose(sample, 1.0)


def test_choices_are_drawn_as_often_as_their_probabilities() -> None:
    distribution = Categorical([3, 2], multiple=True)
    logits = np.log([0.2, 0.5, 0.3, 0.9, 0.1]).astype(np.float32)
    count = 20_000
    noise = distribution.noise((1, count), np.random.default_rng(0))
    action = distribution.sample(np.tile(logits, (1, count, 1)), None, noise)
    assert set(action.sum(-1).ravel().tolist()) == {2.0}  # one choice of each component
    np.testing.assert_allclose(action.mean((0, 1)), [0.2, 0.5, 0.3, 0.9, 0.1], atol=5 * 0.5 / np.sqrt(count))
    chosen = distribution.to_env(action)
    assert chosen.shape == (1, count, 2)
    joint = np.mean((chosen[0, :, 0] == 1) & (chosen[0, :, 1] == 0))
    assert joint == pytest.approx(0.45, abs=5 * 0.5 / np.sqrt(count))  # independent


def test_gaussian_samples_have_the_mean_and_deviation_asked_for() -> None:
    distribution = DISTRIBUTIONS["gaussian_free_std"]
    count = 20_000
    outputs, log_std = np.tile([1.0, -2.0, 0.0], (1, count, 1)), np.log([[[0.5, 1.0, 2.0]]])
    sample = distribution.sample(outputs, log_std, distribution.noise((1, count), np.random.default_rng(0)))
    np.testing.assert_allclose(sample.mean((0, 1)), [1, -2, 0], atol=5 * 2 / np.sqrt(count))
    np.testing.assert_allclose(sample.std((0, 1)), [0.5, 1, 2], rtol=0.05)


def test_actions_as_environments_take_them() -> None:
    one = DISTRIBUTIONS["categorical"]
    best = one.to_env(one.mode(np.array([[[0.0, 3.0, 1.0, -1.0]]])))
    assert best.shape == (1, 1) and best.dtype == np.int64 and best.tolist() == [[1]]
    several = DISTRIBUTIONS["multi_categorical"]
    logits = np.array([[[0, 1, 5, 0, 0, 0, 0, 0, 0, 2]]], np.float32)
    assert several.to_env(several.mode(logits)).tolist() == [[[1, 0, 4]]]
    kept = np.array([[[-5.0, 0.5, 9.0]]], np.float32)
    assert DISTRIBUTIONS["gaussian_free_std"].to_env(kept).tolist() == [[[-1.0, 0.5, 3.0]]]
    squashed = DISTRIBUTIONS["tanh_normal_free_std"].to_env(kept)
    np.testing.assert_allclose(squashed, [[[np.tanh(-5), 2 * np.tanh(0.5), 1.5 + 1.5 * np.tanh(9)]]], rtol=1e-6)
    state_dependent = DISTRIBUTIONS["tanh_normal_state_dependent_std"]
    assert state_dependent.mode(np.arange(6.0)[None, None]).tolist() == [[[0, 1, 2]]]


@pytest.mark.parametrize(
    ("action", "name", "dependent", "expected"),
    [
        (DiscreteActions(3), "gaussian", False, (3, 3, False)),
        (MultiDiscreteActions((2, 3)), "gaussian", False, (5, 5, False)),
        (BoxActions(LOW, HIGH), "gaussian", False, (3, 3, True)),
        (BoxActions(LOW, HIGH), "tanh_normal", True, (6, 3, False)),
    ],
)
def test_the_action_space_chooses(action: Actions, name: str, dependent: bool, expected: tuple[int, int, bool]) -> None:
    distribution = make_distribution(Spaces(4, action), name, dependent)
    assert (distribution.outputs, distribution.stored, distribution.free_std) == expected
    assert getattr(distribution, "squash", False) == (name == "tanh_normal")

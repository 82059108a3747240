"""The NumPy kernels against autograd of the plain path, and their independence of the batch of agents."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rlrun.config import NetworkConfig
from rlrun.kernels.mlp import MLPKernel
from rlrun.kernels.native import library
from rlrun.networks import MLP, Layout, build, build_dueling, leaves

NETWORKS: dict[str, Callable[[NetworkConfig], MLP]] = {
    "one": lambda config: build(config, 5, 1, gain=1.0),
    "three": lambda config: build(config, 5, 3, gain=1.0),
    "dueling": lambda config: build_dueling(config, 5, 3),
}


def kernel_of(layout: Layout, network: MLP, rows: torch.Tensor) -> tuple[MLPKernel, np.ndarray]:
    gradients = np.full(tuple(rows.shape), np.float32(7))  # the kernel overwrites
    return MLPKernel(network, layout.views("n", rows.numpy()), layout.views("n", gradients)), gradients


@pytest.mark.parametrize("agents", [1, 3])
@pytest.mark.parametrize("hidden", [(16,), (64, 32), (50, 33, 7)])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_forward_and_backward_equal_autograd(kind: str, activation: str, hidden: tuple[int, ...], agents: int) -> None:
    network = NETWORKS[kind](NetworkConfig(hidden=hidden, activation=activation, init="torch"))
    layout = Layout({"n": network})
    rows = torch.from_numpy(layout.initial_rows(range(agents)))
    random = np.random.default_rng(0)
    x = random.standard_normal((agents, 10, 5)).astype(np.float32)
    slope = random.standard_normal((agents, 10, network.output_size)).astype(np.float32)

    plain_gradients = torch.zeros_like(rows)
    parameters = leaves(layout.views("n", rows), layout.views("n", plain_gradients))
    plain = network.forward(parameters, torch.from_numpy(x))
    plain.backward(torch.from_numpy(slope))

    kernel, gradients = kernel_of(layout, network, rows)
    y = kernel.forward(x)
    np.testing.assert_allclose(y, plain.detach().numpy(), rtol=1e-5, atol=1e-6)
    kernel.backward(slope)
    for name, gradient in layout.views("n", gradients).items():
        expected = layout.views("n", plain_gradients)[name].numpy()
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_an_agent_has_the_same_bits_alone_and_in_a_batch(kind: str, activation: str) -> None:
    network = NETWORKS[kind](NetworkConfig(hidden=(50, 33), activation=activation, init="torch"))
    layout = Layout({"n": network})
    rows = torch.from_numpy(layout.initial_rows(range(5)))
    random = np.random.default_rng(0)
    for batch in (1, 10, 64):
        x = random.standard_normal((5, batch, 5)).astype(np.float32)
        slope = random.standard_normal((5, batch, network.output_size)).astype(np.float32)
        together, gradients = kernel_of(layout, network, rows)
        y = together.forward(x).copy()
        together.backward(slope)
        for agent in (0, 3):
            one = slice(agent, agent + 1)
            alone, gradients_alone = kernel_of(layout, network, rows[one].clone())
            assert alone.forward(x[one].copy()).tobytes() == y[agent].tobytes()
            alone.backward(slope[one].copy())
            assert gradients_alone[0].tobytes() == gradients[agent].tobytes()


def test_the_kernel_follows_the_parameters() -> None:
    network = build(NetworkConfig(hidden=(8,)), 5, 2, gain=1.0)
    layout = Layout({"n": network})
    rows = torch.from_numpy(layout.initial_rows([0]))
    kernel, _ = kernel_of(layout, network, rows)
    x = np.ones((1, 4, 5), np.float32)
    before = kernel.forward(x).copy()
    rows += 0.5
    after = kernel.forward(x)
    np.testing.assert_allclose(after, network.forward(layout.views("n", rows), torch.from_numpy(x)), rtol=1e-5)
    assert np.abs(after - before).max() > 0.1


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("hidden", [(16,), (50, 33, 7), (120, 84)])
def test_the_c_library_has_the_same_bits(hidden: tuple[int, ...], outputs: int, activation: str) -> None:
    if library() is None:
        pytest.skip("no C compiler, or another BLAS in NumPy")
    network = build(NetworkConfig(hidden=hidden, activation=activation, init="torch"), 5, outputs, gain=1.0)
    layout = Layout({"n": network})
    random = np.random.default_rng(0)
    for agents, batch in ((1, 1), (1, 2), (1, 64), (3, 1), (5, 10), (8, 128)):
        rows = layout.initial_rows(range(agents))
        rows += 0.1 * random.standard_normal(rows.shape).astype(np.float32)
        x = random.standard_normal((agents, batch, 11)).astype(np.float32)[..., :5]  # as it lies in a replay memory
        slope = random.standard_normal((agents, batch, outputs)).astype(np.float32)
        seen = []
        for native in (False, True):
            gradients = np.zeros_like(rows)
            kernel = MLPKernel(network, layout.views("n", rows), layout.views("n", gradients), native)
            seen.append((kernel.forward(x).tobytes(), kernel.backward(slope), gradients.tobytes()))
            assert (kernel._buffers[batch].native is not None) == native
        assert seen[0] == seen[1]


def test_inference_of_a_large_batch_goes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build(NetworkConfig(hidden=(16,), activation="tanh", init="torch"), 5, 3, gain=1.0)
    layout = Layout({"n": network})
    kernel = MLPKernel(network, layout.views("n", layout.initial_rows([1, 2])))
    x = np.random.default_rng(0).standard_normal((2, 50, 5)).astype(np.float32)
    whole = kernel.infer(x).copy()
    monkeypatch.setattr("rlrun.kernels.mlp.LARGEST", 16)
    np.testing.assert_allclose(kernel.infer(x), whole, rtol=1e-5, atol=1e-6)
    assert sorted(kernel._buffers) == [2, 16, 50]


def test_the_c_library_is_ours_alone_whatever_the_umask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if library() is None:
        pytest.skip("no C compiler, or another BLAS in NumPy")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = os.umask(0o002)
    try:
        assert library.__wrapped__() is not None
    finally:
        os.umask(before)
    (built,) = (tmp_path / "rlrun").glob("*.so")
    assert built.stat().st_mode & 0o777 == 0o700


def test_without_a_home_numpy_does_all_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert library.__wrapped__() is None


def test_without_a_compiler_numpy_does_all_the_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert library.__wrapped__() is None
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "missing"))
    if library() is None:
        return
    assert library.__wrapped__() is not None  # compiled anew
    built = next((tmp_path / "missing" / "rlrun").glob("*.so"))
    built.chmod(0o777)
    assert library.__wrapped__() is None  # somebody else could have written it

"""Networks over the agent axis against torch.nn, and the layout of their parameters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlrun.config import NetworkConfig
from rlrun.networks import ALIGNMENT, MLP, Layout, Parameter, build, build_dueling, leaves, orthogonal


def layout_of(**settings: Any) -> Layout:
    config = NetworkConfig(**({"hidden": (7, 5)} | settings))
    return Layout(
        {"actor": build(config, 3, 2, gain=0.01), "critic": build(config, 3, 1, 1.0), "std": Parameter(2, -0.5)}
    )


def sequential(config: NetworkConfig, inputs: int, outputs: int, views: dict[str, Tensor], agent: int) -> nn.Sequential:
    """torch.nn's network with one agent's weights."""

    def linear(block: str) -> nn.Linear:
        weight, bias = views[f"{block}.weight"][agent], views[f"{block}.bias"][agent]
        layer = nn.Linear(*weight.shape)
        layer.weight.data, layer.bias.data = weight.T.clone(), bias.clone()
        return layer

    layers: list[nn.Module] = []
    for index, width in enumerate(config.hidden):
        layers.append(linear(str(index)))
        if config.layer_norm:
            norm = nn.LayerNorm(width)
            norm.weight.data, norm.bias.data = views[f"{index}.norm.weight"][agent], views[f"{index}.norm.bias"][agent]
            layers.append(norm)
        layers.append(nn.Tanh() if config.activation == "tanh" else nn.ReLU())
    return nn.Sequential(*layers, linear("head"))


def test_every_block_starts_at_a_multiple_of_the_alignment_and_none_overlap() -> None:
    layout = layout_of()
    blocks = [place for network in layout.blocks.values() for place in network.values()]
    assert len(blocks) == 6 + 6 + 1
    end = 0
    for offset, shape in blocks:
        assert offset % ALIGNMENT == 0 and offset >= end
        end = offset + math.prod(shape)
    assert layout.size % ALIGNMENT == 0 and 0 <= layout.size - end < ALIGNMENT


@pytest.mark.parametrize("agents", [1, 3])
def test_views_share_memory_with_the_rows(agents: int) -> None:
    layout = layout_of()
    rows = torch.zeros(agents, layout.size)
    for number, view in enumerate(layout.views("actor", rows).values(), 1):
        view += number
    assert sorted(set(rows.flatten().tolist())) == [0, 1, 2, 3, 4, 5, 6]
    as_numpy = layout.views("std", rows.numpy())
    as_numpy["value"][:] = 9
    assert (rows == 9).sum() == agents * 2


def test_initial_rows_depend_on_the_seed_alone() -> None:
    layout = layout_of()
    batch, alone = (torch.from_numpy(layout.initial_rows(seeds)) for seeds in ([5, 7, 5], [7]))
    assert torch.equal(batch[1], alone[0]) and torch.equal(batch[0], batch[2])
    assert not torch.equal(batch[0], batch[1])


def test_orthogonal_initialisation() -> None:
    rows = torch.from_numpy(layout_of(init="orthogonal").initial_rows([3]))
    layout = layout_of(init="orthogonal")
    actor, critic = layout.views("actor", rows), layout.views("critic", rows)
    first = actor["0.weight"][0]  # 3 x 7: orthonormal rows, gain sqrt(2) in hidden layers
    torch.testing.assert_close(first @ first.T, 2 * torch.eye(3), atol=1e-5, rtol=0)
    head = actor["head.weight"][0]  # 5 x 2: orthonormal columns, gain 0.01
    torch.testing.assert_close(head.T @ head, 1e-4 * torch.eye(2), atol=1e-9, rtol=0)
    assert critic["head.weight"][0].norm() == pytest.approx(1.0, abs=1e-6)
    assert all(not view.any() for name, view in actor.items() if name.endswith("bias"))
    assert layout.views("std", rows)["value"].tolist() == [[-0.5, -0.5]]


def test_orthogonal_is_drawn_uniformly() -> None:
    """The sign of the QR factors is fixed, so that each entry is as often negative as positive."""
    random = np.random.default_rng(0)
    signs = np.mean([np.sign(orthogonal((4, 4), 1.0, random)) for _ in range(500)], axis=0)
    assert np.abs(signs).max() < 5 / math.sqrt(500)


def test_torch_initialisation_is_uniform_within_the_fan_in() -> None:
    layout = Layout({"q": build(NetworkConfig(hidden=(100, 80), init="torch"), 4, 2, gain=1.0)})
    views = layout.views("q", torch.from_numpy(layout.initial_rows([1])))
    for block, fan_in in (("0", 4), ("1", 100), ("head", 80)):
        bound = 1 / math.sqrt(fan_in)
        for name in (f"{block}.weight", f"{block}.bias"):
            assert views[name].abs().max() <= bound
        weight = views[f"{block}.weight"]
        assert weight.abs().max() > 0.95 * bound
        assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.1)
        assert views[f"{block}.bias"].any()


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("outputs", [1, 3])
def test_forward_equals_torch_sequential(activation: str, layer_norm: bool, outputs: int) -> None:
    config = NetworkConfig(hidden=(7, 5), activation=activation, layer_norm=layer_norm, init="torch")
    network = build(config, 4, outputs, gain=1.0)
    layout = Layout({"n": network})
    rows = torch.from_numpy(layout.initial_rows([1, 2, 3])) + 0.1
    views = layout.views("n", rows)
    x = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    y = network.forward(views, x)
    assert y.shape == (3, 6, outputs)
    for agent in range(3):
        torch.testing.assert_close(
            y[agent], sequential(config, 4, outputs, views, agent)(x[agent]), rtol=1e-5, atol=1e-6
        )


def test_layer_norm_begins_as_the_identity() -> None:
    layout = Layout({"n": build(NetworkConfig(hidden=(8,), layer_norm=True), 2, 1, gain=1.0)})
    views = layout.views("n", torch.from_numpy(layout.initial_rows([0])))
    assert views["0.norm.weight"].tolist() == [[1.0] * 8] and views["0.norm.bias"].tolist() == [[0.0] * 8]


def test_dueling_streams_share_all_hidden_layers_but_the_last() -> None:
    network = build_dueling(NetworkConfig(hidden=(6, 4), activation="relu", init="torch"), 3, 2)
    assert isinstance(network, MLP) and network.output_size == 3
    layout = Layout({"q": network})
    views = {name: view[0] for name, view in layout.views("q", torch.from_numpy(layout.initial_rows([0]))).items()}
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    shared = torch.relu(x @ views["0.weight"] + views["0.bias"])
    last = torch.relu(shared @ views["1.weight"] + views["1.bias"])
    assert last.shape == (5, 8)
    value = last[:, :4] @ views["value.weight"] + views["value.bias"]
    advantage = last[:, 4:] @ views["advantage.weight"] + views["advantage.bias"]
    y = network.forward({name: view[None] for name, view in views.items()}, x[None])[0]
    torch.testing.assert_close(y, torch.cat([value, advantage], 1))


def test_gradients_of_leaves_land_in_their_rows() -> None:
    network = build(NetworkConfig(hidden=(4,), init="torch"), 2, 2, gain=1.0)
    layout = Layout({"n": network})
    rows = torch.from_numpy(layout.initial_rows([0, 1]))
    gradients = torch.zeros_like(rows)
    parameters = leaves(layout.views("n", rows), layout.views("n", gradients))
    network.forward(parameters, torch.ones(2, 3, 2)).sum().backward()
    assert layout.views("n", gradients)["head.bias"].tolist() == [[3.0, 3.0]] * 2
    assert gradients.count_nonzero() == 2 * (2 * 4 + 4 + 4 * 2 + 2)

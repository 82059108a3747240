"""Networks over the agent axis, in plain PyTorch.

Each agent's parameters live in one row of a tensor [A, P]: layers are views into it, so that optimizer, clipping, target update and
checkpoint touch one row each. Every block starts at a multiple of 16 floats: element-wise kernels then treat an agent's numbers alike
whatever A is, which keeps an agent's bits independent of its neighbours.

Shapes: A agents, B batch, I inputs, H hidden, O outputs, P parameters.

To add a network, write a class with the four members of ``Network`` and return it in ``build``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from rlrun.config import NetworkConfig
from rlrun.lazy import torch
from rlrun.seeding import Stream, generator

if TYPE_CHECKING:
    from torch import Tensor

warnings.filterwarnings(
    "ignore", "grad and param do not obey the gradient layout contract"
)  # gradients lie in rows, as they should
ALIGNMENT = 16
Rows = TypeVar("Rows", "Tensor", "np.ndarray[Any, Any]")


class Network(Protocol):
    """What a kind of network defines. It never sees more than views into the rows."""

    output_size: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape, without A, of every block of parameters."""
        ...

    def initialize(self, views: Mapping[str, np.ndarray[Any, Any]], random: np.random.Generator) -> None:
        """Fill one agent's blocks."""
        ...

    def forward(self, views: Mapping[str, Tensor], x_ABI: Tensor) -> Tensor:
        """The outputs [A, B, O]."""
        ...


@dataclass(frozen=True)
class Head:
    """A linear output of an MLP that reads ``start:stop`` of the last hidden layer."""

    name: str
    width: int
    gain: float
    start: int
    stop: int


class MLP:
    """Hidden layers with an activation, then linear heads whose outputs are concatenated."""

    def __init__(self, config: NetworkConfig, inputs: int, hidden: Sequence[int], heads: Sequence[Head]) -> None:
        self.config, self.inputs, self.hidden, self.heads = config, inputs, tuple(hidden), tuple(heads)
        self.output_size = sum(head.width for head in heads)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, (i, o) in enumerate(zip((self.inputs, *self.hidden), self.hidden, strict=False)):
            shapes |= {f"{layer}.weight": (i, o), f"{layer}.bias": (o,)}
            if self.config.layer_norm:
                shapes |= {f"{layer}.norm.weight": (o,), f"{layer}.norm.bias": (o,)}
        for head in self.heads:
            shapes |= {f"{head.name}.weight": (head.stop - head.start, head.width), f"{head.name}.bias": (head.width,)}
        return shapes

    def initialize(self, views: Mapping[str, np.ndarray[Any, Any]], random: np.random.Generator) -> None:
        gains = {head.name: head.gain for head in self.heads}
        for name, view in views.items():
            block, _, kind = name.rpartition(".")
            if block.endswith("norm"):
                view[:] = 1.0 if kind == "weight" else 0.0
            elif self.config.init == "torch":  # as torch.nn.Linear: uniform within 1 / sqrt(fan in)
                bound = 1 / math.sqrt(views[f"{block}.weight"].shape[0])
                view[:] = random.uniform(-bound, bound, view.shape)
            elif kind == "weight":
                view[:] = orthogonal(view.shape, gains.get(block, math.sqrt(2)), random)

    def forward(self, views: Mapping[str, Tensor], x_ABI: Tensor) -> Tensor:
        h_ABH = x_ABI
        activation = torch.tanh if self.config.activation == "tanh" else torch.relu
        for layer in range(len(self.hidden)):
            h_ABH = torch.baddbmm(views[f"{layer}.bias"].unsqueeze(1), h_ABH, views[f"{layer}.weight"])
            if self.config.layer_norm:
                h_ABH = torch.nn.functional.layer_norm(h_ABH, h_ABH.shape[-1:])
                h_ABH = h_ABH * views[f"{layer}.norm.weight"].unsqueeze(1) + views[f"{layer}.norm.bias"].unsqueeze(1)
            h_ABH = activation(h_ABH)
        return torch.cat([self._head(head, views, h_ABH[..., head.start : head.stop]) for head in self.heads], dim=-1)

    def _head(self, head: Head, views: Mapping[str, Tensor], h_ABH: Tensor) -> Tensor:
        weight, bias = views[f"{head.name}.weight"], views[f"{head.name}.bias"].unsqueeze(1)
        if head.width == 1:  # a matrix product of width one gives other bits at A = 1 than in a batch
            return (h_ABH * weight.transpose(1, 2)).sum(-1, keepdim=True) + bias
        return torch.baddbmm(bias, h_ABH, weight)


class Parameter:
    """A free vector that depends on no input, such as a log standard deviation."""

    def __init__(self, size: int, value: float) -> None:
        self.output_size, self.value = size, value

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"value": (self.output_size,)}

    def initialize(self, views: Mapping[str, np.ndarray[Any, Any]], random: np.random.Generator) -> None:
        views["value"][:] = self.value

    def forward(self, views: Mapping[str, Tensor], x_ABI: Tensor) -> Tensor:
        return views["value"].unsqueeze(1)


def build(config: NetworkConfig, inputs: int, outputs: int, gain: float) -> MLP:
    """The configured network with one head. ``gain``: scale of the head's orthogonal initial weights."""
    return MLP(config, inputs, config.hidden, [Head("head", outputs, gain, 0, config.hidden[-1])])


def build_dueling(config: NetworkConfig, inputs: int, actions: int) -> MLP:
    """Value and advantage streams (Wang et al. 2016): they share all hidden layers but the last. Outputs: value, then advantages."""
    width = config.hidden[-1]
    heads = [Head("value", 1, 1.0, 0, width), Head("advantage", actions, 1.0, width, 2 * width)]
    return MLP(config, inputs, (*config.hidden[:-1], 2 * width), heads)


def orthogonal(shape: tuple[int, ...], gain: float, random: np.random.Generator) -> np.ndarray[Any, Any]:
    """An orthogonal matrix times ``gain`` (Saxe et al. 2014), drawn uniformly."""
    rows, columns = shape
    q, r = np.linalg.qr(random.standard_normal((max(rows, columns), min(rows, columns))))
    q *= np.sign(np.diag(r))
    return gain * (q if rows >= columns else q.T)


class Layout:
    """Where each block of several named networks lies in a row of ``size`` floats."""

    def __init__(self, networks: Mapping[str, Network]) -> None:
        self.networks = dict(networks)
        self.blocks: dict[str, dict[str, tuple[int, tuple[int, ...]]]] = {}
        offset = 0
        for name, network in self.networks.items():
            self.blocks[name] = {}
            for block, shape in network.shapes().items():
                self.blocks[name][block] = (offset, shape)
                offset += -(-math.prod(shape) // ALIGNMENT) * ALIGNMENT
        self.size = offset

    def views(self, name: str, rows_AP: Rows) -> dict[str, Rows]:
        """The blocks of network ``name`` as [A, *shape] views into the rows."""
        agents = len(rows_AP)
        return {
            block: rows_AP[:, offset : offset + math.prod(shape)].reshape(agents, *shape)
            for block, (offset, shape) in self.blocks[name].items()
        }

    def place_of(self, index: int) -> str:
        """The network and block that float ``index`` of a row belongs to: ``q.0.weight``."""
        places = [
            (offset, f"{name}.{block}") for name, blocks in self.blocks.items() for block, (offset, _) in blocks.items()
        ]
        return max(place for place in places if place[0] <= index)[1]

    def initial_rows(self, seeds: Sequence[int]) -> np.ndarray[Any, Any]:
        """Fresh parameters float32 [A, P], each row drawn from its own seed."""
        rows = np.zeros((len(seeds), self.size), np.float32)
        for agent, seed in enumerate(seeds):
            random = generator(seed, Stream.WEIGHTS)
            for name, network in self.networks.items():
                one = {block: view[0] for block, view in self.views(name, rows[agent : agent + 1]).items()}
                network.initialize(one, random)
        return rows


def leaves(views: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The views as leaves of autograd whose gradients accumulate straight into the rows of gradients."""
    result = {}
    for block, view in views.items():
        leaf = view.detach().requires_grad_()
        leaf.grad = gradients[block]
        result[block] = leaf
    return result

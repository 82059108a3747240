"""The networks of the plain loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from benchmarks.peers.common import Settings

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


def mlp(inputs: int, network: Settings, outputs: int, gain: float = 1.0) -> nn.Sequential:
    """Hidden layers with their activation, then a linear layer; orthogonal initial weights where the settings say so."""
    sizes: Sequence[int] = [inputs, *network["hidden"]]
    layers: list[nn.Module] = []
    for i, o in pairwise(sizes):
        layers += [_linear(i, o, network, math.sqrt(2)), ACTIVATIONS[network["activation"]]()]
    return nn.Sequential(*layers, _linear(sizes[-1], outputs, network, gain))


def _linear(inputs: int, outputs: int, network: Settings, gain: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    if network["init"] == "orthogonal":
        torch.nn.init.orthogonal_(layer.weight, gain)
        torch.nn.init.zeros_(layer.bias)
    return layer

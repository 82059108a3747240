"""Forward and backward of a stack of MLPs with NumPy.

The same math as ``networks.MLP.forward`` and its autograd, for MLPs without layer normalisation. NumPy multiplies a stack of matrices one
after another, so an agent's numbers are the same bits alone and in any batch.

Shapes: A agents, B batch, H hidden.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlrun.networks import MLP

Array = np.ndarray[Any, Any]


class MLPKernel:
    """One stack of MLPs over views into rows of parameters, and of gradients where it is trained."""

    def __init__(self, network: MLP, views: dict[str, Array], gradients: dict[str, Array] | None = None) -> None:
        assert not network.config.layer_norm
        layers = len(network.hidden)
        self.relu = network.config.activation == "relu"
        self.weights = [views[f"{layer}.weight"] for layer in range(layers)]
        self.biases = [views[f"{layer}.bias"][:, None, :] for layer in range(layers)]
        self.heads = network.heads
        self.head_weights = [views[f"{head.name}.weight"] for head in network.heads]
        self.head_biases = [views[f"{head.name}.bias"][:, None, :] for head in network.heads]
        self.columns = _columns(network)
        if gradients is not None:
            self.weight_gradients = [gradients[f"{layer}.weight"] for layer in range(layers)]
            self.bias_gradients = [gradients[f"{layer}.bias"][:, None, :] for layer in range(layers)]
            self.head_weight_gradients = [gradients[f"{head.name}.weight"] for head in network.heads]
            self.head_bias_gradients = [gradients[f"{head.name}.bias"][:, None, :] for head in network.heads]
        self._buffers: dict[int, tuple[list[Array], Array, list[Array], Array]] = {}
        self._inputs: Array
        self._hidden: list[Array]

    def forward(self, x: Array) -> Array:
        """Outputs [A, B, O] of inputs [A, B, I]. The array is reused by the next call of the same batch size."""
        hidden, outputs, _, _ = self._buffers.get(x.shape[1]) or self._allocate(x.shape[0], x.shape[1])
        self._inputs, self._hidden = x, hidden
        for weight, bias, h in zip(self.weights, self.biases, hidden, strict=True):
            np.matmul(x, weight, out=h)
            h += bias
            if self.relu:
                np.maximum(h, 0, out=h)
            else:
                np.tanh(h, out=h)
            x = h
        if len(self.heads) == 1:
            np.matmul(x, self.head_weights[0], out=outputs)
            outputs += self.head_biases[0]
            return outputs
        for head, weight, bias, (start, stop) in zip(
            self.heads, self.head_weights, self.head_biases, self.columns, strict=True
        ):
            outputs[..., start:stop] = np.matmul(x[..., head.start : head.stop], weight) + bias
        return outputs

    def backward(self, output_gradient: Array) -> None:
        """Write the gradients of every parameter, from that of the last forward's outputs [A, B, O]. Overwrites them, does not add."""
        hidden = self._hidden
        _, _, hidden_gradients, ones = self._buffers[output_gradient.shape[1]]
        g = hidden_gradients[-1]
        for index, head in enumerate(self.heads):
            start, stop = self.columns[index]
            dy, into = output_gradient[..., start:stop], slice(head.start, head.stop)
            np.matmul(hidden[-1][..., into].swapaxes(1, 2), dy, out=self.head_weight_gradients[index])
            np.matmul(ones, dy, out=self.head_bias_gradients[index])
            np.matmul(dy, self.head_weights[index].swapaxes(1, 2), out=g[..., into])
        for layer in range(len(hidden) - 1, -1, -1):
            h = hidden[layer]
            if self.relu:
                g *= h > 0
            else:
                h *= h  # the activation has served its purpose: d tanh = 1 - tanh^2
                np.subtract(1, h, out=h)
                g *= h
            below = self._inputs if layer == 0 else hidden[layer - 1]
            np.matmul(below.swapaxes(1, 2), g, out=self.weight_gradients[layer])
            np.matmul(ones, g, out=self.bias_gradients[layer])
            if layer:
                np.matmul(g, self.weights[layer].swapaxes(1, 2), out=hidden_gradients[layer - 1])
                g = hidden_gradients[layer - 1]

    def _allocate(self, agents: int, batch: int) -> tuple[list[Array], Array, list[Array], Array]:
        hidden = [np.empty((agents, batch, weight.shape[-1]), np.float32) for weight in self.weights]
        outputs = np.empty((agents, batch, self.columns[-1][1]), np.float32)
        self._buffers[batch] = (hidden, outputs, [np.empty_like(h) for h in hidden], np.ones((1, batch), np.float32))
        return self._buffers[batch]


def _columns(network: MLP) -> list[tuple[int, int]]:
    columns, start = [], 0
    for head in network.heads:
        columns.append((start, start + head.width))
        start += head.width
    return columns

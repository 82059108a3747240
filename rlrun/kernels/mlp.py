"""Forward and backward of a stack of MLPs with NumPy.

The same math as ``networks.MLP.forward`` and its autograd, for MLPs without layer normalisation. NumPy multiplies a stack of matrices one
after another, so an agent's numbers are the same bits alone and in any batch. ``native`` helps where it can be had, with the same bits.

Shapes: A agents, B batch, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlrun.kernels.native import NativeStack, library
from rlrun.networks import MLP

Array = np.ndarray[Any, Any]
LARGEST = 4096  # samples that ``infer`` passes through at once


@dataclass
class Buffers:
    """Memory for one batch size, filled again by every pass: activations, outputs, and the slopes of the activations."""

    hidden: list[Array]
    zeros: list[Array]  # like hidden: the maximum with an array is four times as fast as with a scalar
    outputs: Array
    slopes: list[Array]
    ones: Array
    native: NativeStack | None


class MLPKernel:
    """One stack of MLPs over views into rows of parameters, and of gradients where it is trained."""

    def __init__(
        self, network: MLP, views: dict[str, Array], gradients: dict[str, Array] | None = None, native: bool = False
    ) -> None:
        """``native``: let the C library help."""
        assert not network.config.layer_norm
        layers = len(network.hidden)
        self.relu = network.config.activation == "relu"
        self.weights = [views[f"{layer}.weight"] for layer in range(layers)]
        self.biases = [views[f"{layer}.bias"][:, None, :] for layer in range(layers)]
        self.heads = network.heads
        self.head_weights = [views[f"{head.name}.weight"] for head in network.heads]
        self.head_biases = [views[f"{head.name}.bias"][:, None, :] for head in network.heads]
        self.columns = _columns(network)
        self.trained = gradients is not None
        if gradients is not None:
            self.weight_gradients = [gradients[f"{layer}.weight"] for layer in range(layers)]
            self.bias_gradients = [gradients[f"{layer}.bias"][:, None, :] for layer in range(layers)]
            self.head_weight_gradients = [gradients[f"{head.name}.weight"] for head in network.heads]
            self.head_bias_gradients = [gradients[f"{head.name}.bias"][:, None, :] for head in network.heads]
        # Of a dimension of one in between, NumPy takes other functions.
        simple = len(self.heads) == 1 and min(network.inputs, *network.hidden) > 1
        self._library = library() if native and simple else None
        self._buffers: dict[int, Buffers] = {}
        self._inputs: Array

    def infer(self, x: Array) -> Array:
        """As ``forward``, for batches of any size: a large one goes through in pieces, so that its activations need no memory."""
        batch = x.shape[1]
        if batch <= LARGEST:
            return self.forward(x)
        outputs = np.empty((*x.shape[:2], self.columns[-1][1]), np.float32)
        for start in range(0, batch, LARGEST):
            outputs[:, start : start + LARGEST] = self.forward(x[:, start : start + LARGEST])
        return outputs

    def forward(self, x: Array) -> Array:
        """Outputs [A, B, O] of inputs [A, B, I]. The array is reused by the next call of the same batch size."""
        buffers = self._buffers.get(x.shape[1]) or self._allocate(x.shape[0], x.shape[1])
        self._inputs, outputs = x, buffers.outputs
        if self.relu and buffers.native is not None and x.strides[2] == x.itemsize:
            buffers.native.forward(x)
            return outputs
        for weight, bias, h, zeros in zip(self.weights, self.biases, buffers.hidden, buffers.zeros, strict=True):
            np.matmul(x, weight, out=h)
            h += bias
            if self.relu:
                np.maximum(h, zeros, out=h)
            else:
                np.tanh(h, out=h)
            x = h
        if len(self.heads) == 1:
            np.matmul(x, self.head_weights[0], out=outputs)
            outputs += self.head_biases[0]
            return outputs
        for head, weight, head_bias, (start, stop) in zip(
            self.heads, self.head_weights, self.head_biases, self.columns, strict=True
        ):
            outputs[..., start:stop] = np.matmul(x[..., head.start : head.stop], weight) + head_bias
        return outputs

    def backward(self, output_gradient: Array) -> None:
        """Write the gradients of every parameter, from that of the last forward's outputs [A, B, O]. Overwrites them, does not add."""
        buffers = self._buffers[output_gradient.shape[1]]
        inputs = self._inputs
        if buffers.native is not None and inputs.strides[2] == inputs.itemsize and inputs.shape[1] > 1:
            buffers.native.backward(inputs, np.ascontiguousarray(output_gradient))
            return
        hidden, ones, g = buffers.hidden, buffers.ones, buffers.slopes[-1]
        for index, head in enumerate(self.heads):
            start, stop = self.columns[index]
            dy, into = output_gradient[..., start:stop], slice(head.start, head.stop)
            np.matmul(hidden[-1][..., into].swapaxes(1, 2), dy, out=self.head_weight_gradients[index])
            np.matmul(ones, dy, out=self.head_bias_gradients[index])
            _times_transposed(dy, self.head_weights[index], out=g[..., into])
        for layer in range(len(hidden) - 1, -1, -1):
            h = hidden[layer]
            if self.relu:
                g *= h > 0
            else:
                h *= h  # the activation has served its purpose: d tanh = 1 - tanh^2
                np.subtract(1, h, out=h)
                g *= h
            below = inputs if layer == 0 else hidden[layer - 1]
            np.matmul(below.swapaxes(1, 2), g, out=self.weight_gradients[layer])
            np.matmul(ones, g, out=self.bias_gradients[layer])
            if layer:
                g = _times_transposed(g, self.weights[layer], out=buffers.slopes[layer - 1])

    def _allocate(self, agents: int, batch: int) -> Buffers:
        hidden = [np.empty((agents, batch, weight.shape[-1]), np.float32) for weight in self.weights]
        outputs = np.empty((agents, batch, self.columns[-1][1]), np.float32)
        slopes, ones = [np.empty_like(h) for h in hidden], np.ones((1, batch), np.float32)
        zeros = [np.zeros_like(h) for h in hidden]
        native = None
        if self._library is not None:
            gradients = [*self.weight_gradients, *self.head_weight_gradients] if self.trained else None
            weights, biases = [*self.weights, *self.head_weights], [*self.biases, *self.head_biases]
            native = NativeStack(self._library, weights, biases, gradients, [*hidden, outputs], slopes, ones, self.relu)
        self._buffers[batch] = Buffers(hidden, zeros, outputs, slopes, ones, native)
        return self._buffers[batch]


def _times_transposed(y: Array, weight: Array, out: Array) -> Array:
    """y [A, B, O] times the transposes of weight [A, I, O]."""
    transposed = weight.swapaxes(1, 2)
    # An outer product is not worth a call of BLAS for each agent.
    return np.multiply(y, transposed, out=out) if y.shape[-1] == 1 else np.matmul(y, transposed, out=out)


def _columns(network: MLP) -> list[tuple[int, int]]:
    columns, start = [], 0
    for head in network.heads:
        columns.append((start, start + head.width))
        start += head.width
    return columns

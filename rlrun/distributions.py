"""Action distributions: sampling, log-probability, entropy, and their gradients.

``log_prob_and_entropy`` is written once for NumPy and PyTorch (``xp``): with PyTorch it defines the meaning and autograd its gradient;
``gradient`` is the same derivative by hand, for the NumPy kernels.

Shapes: A agents, B batch (or N environments), X outputs of the actor, K action components, U choices of all components together.
An action is kept as what its log-probability needs: one-hot choices [.., U], or the Gaussian's value [.., K] before clipping or squashing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from rlrun.envs import BoxActions, DiscreteActions, MultiDiscreteActions, Spaces

Array = np.ndarray[Any, Any]
HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
SMALLEST_STD = 0.01
STD_BIAS = math.log(
    math.expm1(1.0 - SMALLEST_STD)
)  # so that an output of 0 means a standard deviation of 1, as in TorchRL


class Distribution(Protocol):
    """A policy's distribution over actions, given the actor's outputs [A, B, X] and a free parameter [A, 1, K] where there is one."""

    outputs: int  # X
    stored: int  # numbers in a kept action
    free_std: bool
    entropy_needs_noise: bool  # it is estimated from one sample

    def noise(self, shape: tuple[int, ...], random: np.random.Generator) -> Array:
        """Random numbers for ``sample``, all of a rollout at once."""
        ...

    def sample(self, outputs: Array, log_std: Array | None, noise: Array) -> Array:
        """A kept action drawn with the noise."""
        ...

    def mode(self, outputs: Array) -> Array:
        """The kept action of the greedy policy."""
        ...

    def to_env(self, action: Array) -> Array:
        """A kept action as environments take it."""
        ...

    def log_prob_and_entropy(self, xp: Any, outputs: Any, log_std: Any, action: Any, noise: Any) -> tuple[Any, Any]:
        """Log-probability and entropy, both [A, B]."""
        ...

    def gradient(
        self,
        outputs: Array,
        log_std: Array | None,
        action: Array,
        noise: Array | None,
        d_log_prob: Array,
        d_entropy: Array,
    ) -> tuple[Array, Array | None]:
        """Gradients of outputs [A, B, X] and free parameter [A, B, K], from those of log-probability [A, B] and entropy [A, 1]."""
        ...


class Categorical:
    """Independent choices among ``choices[k]`` options each."""

    free_std = entropy_needs_noise = False

    def __init__(self, choices: Sequence[int], multiple: bool) -> None:
        self.outputs = self.stored = sum(choices)
        self.multiple = multiple
        starts = np.cumsum([0, *choices])
        self.segments = [slice(int(start), int(stop)) for start, stop in pairwise(starts)]
        self.one_hot = [np.eye(options, dtype=np.float32) for options in choices]

    def noise(self, shape: tuple[int, ...], random: np.random.Generator) -> Array:
        return random.gumbel(size=(*shape, self.outputs)).astype(np.float32)

    def sample(self, outputs: Array, log_std: Array | None, noise: Array) -> Array:
        return self.mode(outputs + noise)  # the Gumbel-max trick

    def mode(self, outputs: Array) -> Array:
        chosen = [
            one_hot.take(outputs[..., segment].argmax(-1), axis=0)
            for one_hot, segment in zip(self.one_hot, self.segments, strict=True)
        ]
        return chosen[0] if len(chosen) == 1 else np.concatenate(chosen, -1)

    def to_env(self, action: Array) -> Array:
        choices = [action[..., segment].argmax(-1) for segment in self.segments]
        return np.stack(choices, -1) if self.multiple else choices[0]

    def log_prob_and_entropy(self, xp: Any, outputs: Any, log_std: Any, action: Any, noise: Any) -> tuple[Any, Any]:
        log_prob, entropy = 0.0, 0.0
        for segment in self.segments:
            log_p = _log_softmax(xp, outputs[..., segment])
            log_prob = log_prob + (log_p * action[..., segment]).sum(-1)
            entropy = entropy - (xp.exp(log_p) * log_p).sum(-1)
        return log_prob, entropy

    def gradient(
        self,
        outputs: Array,
        log_std: Array | None,
        action: Array,
        noise: Array | None,
        d_log_prob: Array,
        d_entropy: Array,
    ) -> tuple[Array, Array | None]:
        result = np.empty_like(outputs)
        for segment in self.segments:
            log_p = _log_softmax(np, outputs[..., segment])
            p = np.exp(log_p)
            entropy = -(p * log_p).sum(-1, keepdims=True)
            # d log p(a) / d z = [a] - p,   d H / d z = -p (log p + H)
            result[..., segment] = d_log_prob[..., None] * (action[..., segment] - p) - d_entropy[..., None] * (
                p * (log_p + entropy)
            )
        return result, None


class Normal:
    """A diagonal Gaussian, clipped to the action bounds, or squashed into them by tanh.

    The density of a squashed action lacks its Jacobian here: it does not depend on the parameters, so ratios and gradients are the same.
    The squashed Gaussian's entropy has no closed form and is estimated from one sample (``noise``), as TorchRL does.
    """

    def __init__(self, low: Array, high: Array, squash: bool, state_dependent_std: bool) -> None:
        self.low, self.high, self.squash, self.size = low, high, squash, len(low)
        self.free_std, self.entropy_needs_noise = not state_dependent_std, squash
        self.outputs, self.stored = self.size * (2 if state_dependent_std else 1), self.size

    def noise(self, shape: tuple[int, ...], random: np.random.Generator) -> Array:
        return random.standard_normal((*shape, self.size), np.float32)

    def sample(self, outputs: Array, log_std: Array | None, noise: Array) -> Array:
        mean, std = self._mean_and_std(np, outputs, log_std)
        action: Array = mean + std * noise
        return action

    def mode(self, outputs: Array) -> Array:
        return outputs[..., : self.size]

    def to_env(self, action: Array) -> Array:
        if self.squash:
            squashed: Array = self.low + (np.tanh(action) + 1) * (0.5 * (self.high - self.low))
            return squashed
        return np.minimum(np.maximum(action, self.low), self.high)

    def _mean_and_std(self, xp: Any, outputs: Any, log_std: Any) -> tuple[Any, Any]:
        if self.free_std:
            return outputs, xp.exp(log_std)
        return outputs[..., : self.size], _softplus(xp, outputs[..., self.size :] + STD_BIAS) + SMALLEST_STD

    def log_prob_and_entropy(self, xp: Any, outputs: Any, log_std: Any, action: Any, noise: Any) -> tuple[Any, Any]:
        mean, std = self._mean_and_std(xp, outputs, log_std)
        log_std = log_std if self.free_std else xp.log(std)
        z = (action - mean) / std
        log_prob = -0.5 * (z * z).sum(-1) - (log_std + HALF_LOG_TWO_PI).sum(-1)
        if not self.squash:
            return log_prob, (log_std + (0.5 + HALF_LOG_TWO_PI)).sum(-1) + xp.zeros_like(log_prob)
        sampled = mean + std * noise
        volume = float(np.log(0.5 * (self.high - self.low)).sum())
        entropy = (0.5 * noise**2 + log_std + HALF_LOG_TWO_PI + _log_tanh_slope(xp, sampled)).sum(-1) + volume
        return log_prob, entropy

    def gradient(
        self,
        outputs: Array,
        log_std: Array | None,
        action: Array,
        noise: Array | None,
        d_log_prob: Array,
        d_entropy: Array,
    ) -> tuple[Array, Array | None]:
        mean, std = self._mean_and_std(np, outputs, log_std)
        z = (action - mean) / std
        d_mean = d_log_prob[..., None] * (z / std)
        d_log_std = d_log_prob[..., None] * (z * z - 1)
        if self.squash:
            assert noise is not None
            slope = 2 * np.tanh(mean + std * noise) * d_entropy[..., None]  # d log(1 - tanh(u)^2) / d u = -2 tanh(u)
            d_mean -= slope
            d_log_std += d_entropy[..., None] - slope * std * noise
        else:
            d_log_std += d_entropy[..., None]
        if self.free_std:
            return d_mean, d_log_std
        sigmoid = 1 / (1 + np.exp(-(outputs[..., self.size :] + STD_BIAS)))
        return np.concatenate([d_mean, d_log_std / std * sigmoid], -1), None


def make_distribution(spaces: Spaces, name: str, state_dependent_std: bool) -> Distribution:
    """The distribution for an action space."""
    match spaces.action:
        case DiscreteActions(n):
            return Categorical([n], multiple=False)
        case MultiDiscreteActions(nvec):
            return Categorical(nvec, multiple=True)
        case BoxActions(low, high):
            return Normal(low, high, name == "tanh_normal", state_dependent_std)


def _log_softmax(xp: Any, z: Any) -> Any:
    z = z - xp.amax(z, axis=-1, keepdims=True)
    return z - xp.log(xp.exp(z).sum(-1, keepdims=True))


def _softplus(xp: Any, x: Any) -> Any:
    """log(1 + e^x). Not by logaddexp: torch's rounds the end of an array differently, so bits would depend on its length."""
    return xp.maximum(x, xp.zeros_like(x)) + xp.log1p(xp.exp(-abs(x)))


def _log_tanh_slope(xp: Any, u: Any) -> Any:
    """log(1 - tanh(u)^2), without cancellation."""
    return 2 * (math.log(2) - u - _softplus(xp, -2 * u))

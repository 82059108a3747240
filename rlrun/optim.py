"""Adam and AdamW over flat rows, with a learning rate for each agent, and clipping for each agent.

Rows [A, P]: parameters, gradients and moments of one agent lie in one row each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.arrays import as_array, fill, real, shared, zeros_like
from rlrun.kernels.native import NativeAdam, address, library
from rlrun.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]
BETA1, BETA2 = 0.9, 0.999


class Adam:
    """Adam (Kingma & Ba 2015) with decoupled weight decay (Loshchilov & Hutter 2019) and AMSGrad (Reddi et al. 2018).

    ``step`` is for the CPU: NumPy, or the C library with the same bits. ``step_on_device`` is the same math for all rows at once,
    without a number that the CPU would have to know, so that a CUDA graph can hold it.
    """

    def __init__(self, rows_AP: Any, gradients_AP: Any, epsilon: float, amsgrad: bool, native: bool = False) -> None:
        """Rows are arrays or tensors. ``native``: let the C library help."""
        self.rows_AP, self.gradients_AP, self.epsilon = rows_AP, gradients_AP, np.float32(epsilon)
        self.first_AP, self.second_AP = zeros_like(rows_AP), zeros_like(rows_AP)
        self.largest_AP = zeros_like(rows_AP) if amsgrad else None
        self.steps_A = zeros_like(rows_AP[:, 0])
        self._native: list[NativeAdam] = []
        if on_cpu(rows_AP):
            parts = (rows_AP, gradients_AP, self.first_AP, self.second_AP, self.largest_AP)
            arrays = [None if part is None else shared(part) for part in parts]
            self._rows = [[None if part is None else part[agent] for part in arrays] for agent in range(len(rows_AP))]
            self._steps: Array = shared(self.steps_A)
            helper = library() if native else None
            if helper is not None:
                constants = (BETA1, 1 - BETA1, BETA2, 1 - BETA2, epsilon)
                self._native = [NativeAdam(helper, rows, constants) for rows in self._rows]

    def step(
        self, agent: int, learning_rate: float, weight_decay: float, limit: float = math.inf, scale: float = 1.0
    ) -> None:
        """Move an agent's row against its gradients, which are clipped to [-limit, limit] and multiplied by ``scale`` before.

        m <- beta1 m + (1 - beta1) g          v <- beta2 v + (1 - beta2) g^2
        p <- (1 - rate decay) p - rate / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + epsilon)
        """
        self._steps[agent] += 1
        t = int(self._steps[agent])
        keep, rate = 1 - learning_rate * weight_decay, learning_rate / (1 - BETA1**t)
        root = math.sqrt(1 - BETA2**t)
        if self._native:
            self._native[agent].step(keep, rate, root, limit, scale)
            return
        row, gradient, first, second, largest = self._rows[agent]
        assert row is not None and gradient is not None and first is not None and second is not None
        slope = np.minimum(np.maximum(gradient, np.float32(-limit)), np.float32(limit)) * np.float32(scale)
        first *= np.float32(BETA1)
        first += np.float32(1 - BETA1) * slope
        second *= np.float32(BETA2)
        second += np.float32(1 - BETA2) * slope * slope
        spread = second if largest is None else np.maximum(largest, second, out=largest)
        row *= np.float32(keep)
        row -= np.float32(rate) * first / (np.sqrt(spread) / np.float32(root) + self.epsilon)

    def step_on_device(self, learning_rate_A1: Tensor, weight_decay_A1: Tensor, active_A1: Tensor) -> None:
        """Move the rows of the agents that are ``active`` (bool [A, 1]); the others keep theirs."""
        self.steps_A += active_A1[:, 0]
        steps_A1 = self.steps_A[:, None].clamp(min=1)
        first_AP = torch.lerp(self.first_AP, self.gradients_AP, 1 - BETA1)
        second_AP = BETA2 * self.second_AP + (1 - BETA2) * self.gradients_AP**2
        largest_AP = second_AP if self.largest_AP is None else torch.maximum(self.largest_AP, second_AP)
        denominator_AP = (largest_AP / (1 - BETA2**steps_A1)).sqrt() + float(self.epsilon)
        move_AP = first_AP / (1 - BETA1**steps_A1) / denominator_AP + weight_decay_A1 * self.rows_AP
        pairs = [(self.first_AP, first_AP), (self.second_AP, second_AP), (self.largest_AP, largest_AP)]
        for kept_AP, new_AP in [*pairs, (self.rows_AP, self.rows_AP - learning_rate_A1 * move_AP)]:
            if kept_AP is not None:
                kept_AP.copy_(torch.where(active_A1, new_AP, kept_AP))

    @property
    def tensors(self) -> list[Tensor]:
        """All that a step changes."""
        moments = [self.first_AP, self.second_AP, self.steps_A]
        return [self.rows_AP, *moments, *([] if self.largest_AP is None else [self.largest_AP])]

    def capture(self, agent: int) -> dict[str, Any]:
        return {
            "first": as_array(self.first_AP[agent]),
            "second": as_array(self.second_AP[agent]),
            "largest": None if self.largest_AP is None else as_array(self.largest_AP[agent]),
            "steps": float(self.steps_A[agent]),
        }

    def restore(self, agent: int, tree: dict[str, Any]) -> None:
        for name, moment_AP in (("first", self.first_AP), ("second", self.second_AP), ("largest", self.largest_AP)):
            if moment_AP is not None:
                fill(moment_AP[agent], tree[name])
                if np.isnan(tree[name]).any() or (name != "first" and (tree[name] < 0).any()):
                    raise ValueError(f"'{name}' can't be the mean of gradients, or of their squares")
        if not real(tree["steps"], low=0) < 2**53:
            raise ValueError(f"steps: {tree['steps']:g}")
        self.steps_A[agent] = tree["steps"]


class Descent:
    """From gradients to moved parameters: clipping with each agent's limits, then Adam.

    Limits are of every agent or of none: switched off is part of a population's signature.
    """

    def __init__(
        self,
        adam: Adam,
        value_limits: Sequence[float | None],
        norm_limits: Sequence[float | None],
        weight_decay: Sequence[float],
    ) -> None:
        self.adam, self.weight_decay = adam, weight_decay
        self._value_limits, self._norm_limits = _all_or_none(value_limits), _all_or_none(norm_limits)
        self._gradients: list[Array] = list(shared(adam.gradients_AP)) if on_cpu(adam.rows_AP) else []
        self._on_device: list[Tensor | None] = []
        if not isinstance(adam.rows_AP, np.ndarray):
            limits, device = (self._value_limits, self._norm_limits, weight_decay), adam.rows_AP.device
            self._on_device = [None if x is None else torch.tensor(x, device=device)[:, None] for x in limits]

    def __call__(self, learning_rate: Sequence[float], agents: Iterable[int]) -> Array | None:
        """Clip and step on the CPU. Returns the norms [A] of the gradients where they are limited."""
        limits, norms_A = self._value_limits, None
        if limits is not None and self._norm_limits is not None:  # the norm is that of the clipped gradients
            clip_values(self._gradients, limits)
        if self._norm_limits is not None:
            norms_A = norms(self._gradients)
        for agent in agents:
            limit = math.inf if limits is None else limits[agent]
            scale = 1.0
            if norms_A is not None and self._norm_limits is not None and norms_A[agent] > self._norm_limits[agent]:
                scale = self._norm_limits[agent] / (float(norms_A[agent]) + 1e-6)
            self.adam.step(agent, learning_rate[agent], self.weight_decay[agent], limit, scale)
        return norms_A

    def on_device(self, learning_rate_A1: Tensor, active_A1: Tensor) -> Tensor:
        """As ``__call__``, for a CUDA graph; the norms [A] always."""
        gradients_AP, (value_A1, norm_A1, decay_A1) = self.adam.gradients_AP, self._on_device
        if value_A1 is not None:
            gradients_AP.copy_(torch.minimum(torch.maximum(gradients_AP, -value_A1), value_A1))
        norms_A1: Tensor = torch.linalg.vector_norm(gradients_AP, dim=1, keepdim=True)
        if norm_A1 is not None:
            gradients_AP.mul_((norm_A1 / (norms_A1 + 1e-6)).clamp(max=1))
        assert decay_A1 is not None
        self.adam.step_on_device(learning_rate_A1, decay_A1, active_A1)
        return norms_A1[:, 0]


def on_cpu(rows: Any) -> bool:
    """Whether NumPy can work on the memory of an array or a tensor."""
    return isinstance(rows, np.ndarray) or rows.device.type == "cpu"


def move_towards(target_AP: Array, source_AP: Array, share: Sequence[float], native: bool) -> None:
    """target + share (source - target) for each agent's row, in place; a share of 1 copies."""
    helper = library() if native else None
    for target_P, source_P, part in zip(target_AP, source_AP, share, strict=True):
        if part == 1:
            target_P[:] = source_P
        elif helper is not None:
            helper.move_towards(len(target_P), address(target_P), address(source_P), part)
        else:
            target_P += (source_P - target_P) * np.float32(part)


def _all_or_none(limits: Sequence[float | None]) -> list[float] | None:
    given = [limit for limit in limits if limit is not None]
    assert len(given) in (0, len(limits))
    return given or None


def clip_values(gradients: Sequence[Array], limits: Sequence[float]) -> None:
    """Clip each agent's row of gradients to [-limit, limit], in place."""
    for gradient_P, limit in zip(gradients, limits, strict=True):
        np.clip(gradient_P, -limit, limit, out=gradient_P)


def norms(gradients: Sequence[Array]) -> Array:
    """The Euclidean norm of each agent's row of gradients [A]."""
    return np.array([math.sqrt(np.dot(gradient_P, gradient_P)) for gradient_P in gradients])


def schedule(kind: str, frames: int, total_frames: int) -> float:
    """The factor in [0, 1] on a learning rate or clip range after ``frames`` of ``total_frames``."""
    done = min(frames / total_frames, 1.0)
    match kind:
        case "linear":
            return 1.0 - done
        case "cosine":
            return 0.5 * (1.0 + float(np.cos(np.pi * done)))
        case _:
            return 1.0

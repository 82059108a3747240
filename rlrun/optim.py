"""Adam and AdamW over flat rows, with a learning rate for each agent, and clipping for each agent.

Rows [A, P]: parameters, gradients and moments of one agent lie in one row each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlrun.arrays import fitting

BETA1, BETA2 = 0.9, 0.999


class Adam:
    """Adam (Kingma & Ba 2015) with decoupled weight decay (Loshchilov & Hutter 2019) and AMSGrad (Reddi et al. 2018).

    On the CPU each row goes through torch's fused kernel; elsewhere through the same math written plainly.
    """

    def __init__(self, rows_AP: Tensor, gradients_AP: Tensor, epsilon: float, amsgrad: bool) -> None:
        self.epsilon, self.amsgrad = epsilon, amsgrad
        self.first_AP, self.second_AP = torch.zeros_like(rows_AP), torch.zeros_like(rows_AP)
        self.largest_AP = torch.zeros_like(rows_AP) if amsgrad else None
        self.steps_A = torch.zeros(len(rows_AP), dtype=torch.float32, device=rows_AP.device)
        # One list of tensors for each agent, bound once: slicing costs as much as the arithmetic on a small row.
        moments = [rows_AP, gradients_AP, self.first_AP, self.second_AP, self.steps_A]
        self._slices = [[part[agent] for part in moments] for agent in range(len(rows_AP))]
        self._largest = [[] if self.largest_AP is None else [self.largest_AP[agent]] for agent in range(len(rows_AP))]

    def step(self, learning_rate: Sequence[float], weight_decay: Sequence[float], agents: Iterable[int]) -> None:
        """Move the rows of ``agents`` against their gradients."""
        step = self._fused_step if self.first_AP.device.type == "cpu" else self._plain_step
        for agent in agents:
            step(agent, learning_rate[agent], weight_decay[agent])

    def _fused_step(self, agent: int, learning_rate: float, weight_decay: float) -> None:
        row_P, gradient_P, first_P, second_P, steps = self._slices[agent]
        steps += 1
        torch._fused_adamw_(
            [row_P],
            [gradient_P],
            [first_P],
            [second_P],
            self._largest[agent],
            [steps],
            lr=learning_rate,
            beta1=BETA1,
            beta2=BETA2,
            weight_decay=weight_decay,
            eps=self.epsilon,
            amsgrad=self.amsgrad,
            maximize=False,
        )

    def _plain_step(self, agent: int, learning_rate: float, weight_decay: float) -> None:
        row_P, gradient_P, first_P, second_P, steps = self._slices[agent]
        steps += 1
        row_P.mul_(1 - learning_rate * weight_decay)
        first_P.lerp_(gradient_P, 1 - BETA1)
        second_P.mul_(BETA2).addcmul_(gradient_P, gradient_P, value=1 - BETA2)
        for largest_P in self._largest[agent]:
            second_P = torch.maximum(largest_P, second_P, out=largest_P)
        denominator_P = (second_P.sqrt() / (1 - BETA2**steps).sqrt()).add_(self.epsilon)
        row_P.sub_(learning_rate / (1 - BETA1**steps) * first_P / denominator_P)

    def capture(self, agent: int) -> dict[str, Any]:
        largest = None if self.largest_AP is None else self.largest_AP[agent].numpy(force=True).copy()
        return {
            "first": self.first_AP[agent].numpy(force=True).copy(),
            "second": self.second_AP[agent].numpy(force=True).copy(),
            "largest": largest,
            "steps": float(self.steps_A[agent]),
        }

    def restore(self, agent: int, tree: dict[str, Any]) -> None:
        for name, moment_AP in (("first", self.first_AP), ("second", self.second_AP), ("largest", self.largest_AP)):
            if moment_AP is not None:
                row_P = moment_AP[agent]
                row_P.copy_(torch.from_numpy(fitting(tree[name], row_P.numpy(force=True))))
        self.steps_A[agent] = tree["steps"]


def clip_values(gradients: Sequence[Tensor], limits: Sequence[float | None]) -> None:
    """Clip each agent's row of gradients to [-limit, limit], in place."""
    for gradient_P, limit in zip(gradients, limits, strict=True):
        if limit is not None:
            gradient_P.clamp_(-limit, limit)


def clip_norms(gradients: Sequence[Tensor], limits: Sequence[float | None]) -> np.ndarray[Any, Any]:
    """Scale each agent's row of gradients down to a norm of ``limit``, in place. Returns the norms before, [A]."""
    norms = np.empty(len(gradients))
    for agent, (gradient_P, limit) in enumerate(zip(gradients, limits, strict=True)):
        norms[agent] = norm = float(torch.dot(gradient_P, gradient_P)) ** 0.5
        if limit is not None and norm > limit:
            gradient_P.mul_(limit / (norm + 1e-6))
    return norms


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

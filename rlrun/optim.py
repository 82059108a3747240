"""Adam and AdamW over flat rows, with a learning rate for each agent, and clipping for each agent.

Rows [A, P]: parameters, gradients and moments of one agent lie in one row each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

BETA1, BETA2 = 0.9, 0.999


class Adam:
    """Adam (Kingma & Ba 2015) with decoupled weight decay (Loshchilov & Hutter 2019) and AMSGrad (Reddi et al. 2018).

    On the CPU each row goes through torch's fused kernel; elsewhere through the same math written plainly.
    """

    def __init__(self, rows_AP: Tensor, epsilon: float, amsgrad: bool) -> None:
        self.epsilon, self.amsgrad = epsilon, amsgrad
        self.first_AP = torch.zeros_like(rows_AP)
        self.second_AP = torch.zeros_like(rows_AP)
        self.largest_AP = torch.zeros_like(rows_AP) if amsgrad else None
        self.steps_A = torch.zeros(len(rows_AP), dtype=torch.float32, device=rows_AP.device)
        self._fused_rows = [list(part) for part in (self.first_AP, self.second_AP, self.steps_A)]
        self._largest_rows = list(self.largest_AP) if self.largest_AP is not None else []

    def step(
        self, rows_AP: Tensor, gradients_AP: Tensor, learning_rate: Sequence[float], weight_decay: Sequence[float], agents: Sequence[int]
    ) -> None:
        """Move the rows of ``agents`` against their gradients."""
        step = self._fused_step if rows_AP.device.type == "cpu" else self._plain_step
        for agent in agents:
            step(rows_AP[agent], gradients_AP[agent], learning_rate[agent], weight_decay[agent], agent)

    def _fused_step(self, row_P: Tensor, gradient_P: Tensor, learning_rate: float, weight_decay: float, agent: int) -> None:
        first, second, steps = self._fused_rows
        steps[agent] += 1
        torch._fused_adamw_(
            [row_P],
            [gradient_P],
            [first[agent]],
            [second[agent]],
            [self._largest_rows[agent]] if self.amsgrad else [],
            [steps[agent]],
            lr=learning_rate,
            beta1=BETA1,
            beta2=BETA2,
            weight_decay=weight_decay,
            eps=self.epsilon,
            amsgrad=self.amsgrad,
            maximize=False,
        )

    def _plain_step(self, row_P: Tensor, gradient_P: Tensor, learning_rate: float, weight_decay: float, agent: int) -> None:
        first, second = self.first_AP[agent], self.second_AP[agent]
        self.steps_A[agent] += 1
        step = self.steps_A[agent]
        row_P.mul_(1 - learning_rate * weight_decay)
        first.lerp_(gradient_P, 1 - BETA1)
        second.mul_(BETA2).addcmul_(gradient_P, gradient_P, value=1 - BETA2)
        if self.largest_AP is not None:
            second = torch.maximum(self.largest_AP[agent], second, out=self.largest_AP[agent])
        denominator = (second.sqrt() / (1 - BETA2**step).sqrt()).add_(self.epsilon)
        row_P.sub_(learning_rate / (1 - BETA1**step) * first / denominator)

    def capture(self, agent: int) -> dict[str, Any]:
        largest = None if self.largest_AP is None else self.largest_AP[agent].numpy(force=True).copy()
        return {
            "first": self.first_AP[agent].numpy(force=True).copy(),
            "second": self.second_AP[agent].numpy(force=True).copy(),
            "largest": largest,
            "steps": float(self.steps_A[agent]),
        }

    def restore(self, agent: int, tree: dict[str, Any]) -> None:
        self.first_AP[agent] = torch.from_numpy(tree["first"])
        self.second_AP[agent] = torch.from_numpy(tree["second"])
        if self.largest_AP is not None:
            self.largest_AP[agent] = torch.from_numpy(tree["largest"])
        self.steps_A[agent] = tree["steps"]


def clip_values(gradients_AP: Tensor, limits: Sequence[float | None]) -> None:
    """Clip each agent's gradients to [-limit, limit], in place."""
    for gradient_P, limit in zip(gradients_AP, limits, strict=True):
        if limit is not None:
            gradient_P.clamp_(-limit, limit)


def clip_norms(gradients_AP: Tensor, limits: Sequence[float | None]) -> np.ndarray[Any, Any]:
    """Scale each agent's gradient down to a norm of ``limit``, in place. Returns the norms before, [A]."""
    norms = np.empty(len(gradients_AP))
    for agent, (gradient_P, limit) in enumerate(zip(gradients_AP, limits, strict=True)):
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

"""The math of PPO's update: each loss, and beside it its derivative by hand for the NumPy kernels.

Losses are written once for NumPy and PyTorch (``xp``). Shapes: A agents, B minibatch, M transitions of a rollout.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def clipped_objective(xp: Any, log_ratio_AB: Any, advantage_AB: Any, clip_A1: Any) -> Any:
    """min(r A, clip(r, 1 - e, 1 + e) A), to be maximised (equation 7)."""
    ratio_AB = xp.exp(log_ratio_AB)
    clipped_AB = xp.minimum(xp.maximum(ratio_AB, 1 - clip_A1), 1 + clip_A1)
    return xp.minimum(ratio_AB * advantage_AB, clipped_AB * advantage_AB)


def clipped_objective_slope(log_ratio_AB: Array, advantage_AB: Array, clip_A1: Array) -> Array:
    """d clipped_objective / d log_ratio, by hand: r A where the minimum is the unclipped term, else 0."""
    ratio_AB = np.exp(log_ratio_AB)
    unclipped_AB = ratio_AB * advantage_AB
    clipped_AB = np.minimum(np.maximum(ratio_AB, 1 - clip_A1), 1 + clip_A1) * advantage_AB
    slope: Array = unclipped_AB * (unclipped_AB <= clipped_AB)
    return slope


def critic_loss(xp: Any, value_AB: Any, target_AB: Any, old_value_AB: Any, clip_A1: Any | None, kind: str) -> Any:
    """Loss of each value [A, B]. With clipping, the larger of it and that of a value kept near the old one."""
    loss_AB = _error_loss(xp, value_AB - target_AB, kind)
    if clip_A1 is None:
        return loss_AB
    kept_AB = old_value_AB + xp.minimum(xp.maximum(value_AB - old_value_AB, -clip_A1), clip_A1)
    return xp.maximum(loss_AB, _error_loss(xp, kept_AB - target_AB, kind))


def critic_loss_slope(
    value_AB: Array, target_AB: Array, old_value_AB: Array, clip_A1: Array | None, kind: str
) -> Array:
    """d critic_loss / d value, by hand."""
    error_AB = value_AB - target_AB
    slope_AB = _error_slope(error_AB, kind)
    if clip_A1 is None:
        return slope_AB
    moved_AB = value_AB - old_value_AB
    kept_error_AB = old_value_AB + np.minimum(np.maximum(moved_AB, -clip_A1), clip_A1) - target_AB
    kept_slope_AB = _error_slope(kept_error_AB, kind) * (np.abs(moved_AB) < clip_A1)
    return np.where(_error_loss(np, error_AB, kind) >= _error_loss(np, kept_error_AB, kind), slope_AB, kept_slope_AB)


def _error_loss(xp: Any, error_AB: Any, kind: str) -> Any:
    if kind == "mse":
        return error_AB * error_AB
    size_AB = abs(error_AB)
    return xp.where(size_AB < 1, 0.5 * error_AB * error_AB, size_AB - 0.5)


def _error_slope(error_AB: Array, kind: str) -> Array:
    slope: Array = 2 * error_AB if kind == "mse" else np.minimum(np.maximum(error_AB, -1), 1)
    return slope


def normalized(advantage: Array) -> Array:
    """(x - mean) / standard deviation over the last axis."""
    size = np.float32(advantage.shape[-1])
    rows = np.ascontiguousarray(advantage)
    centred = rows - rows.sum(-1, keepdims=True) / size
    std = np.sqrt((centred * centred).sum(-1, keepdims=True) / (size - 1))
    result: Array = centred / (std + np.float32(1e-8))
    return result


def explained_variance(value_AM: Array, target_AM: Array) -> Array:
    """1 - Var(target - value) / Var(target) of each agent [A]; 0 where the targets do not vary."""
    error, target = (target_AM - value_AM).astype(np.float64), target_AM.astype(np.float64)
    spread = np.array([row.var() for row in target])
    left = np.array([row.var() for row in error])
    return np.where(spread > 0, 1 - left / np.maximum(spread, 1e-12), 0.0)

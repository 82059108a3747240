"""Generalised advantage estimation (Schulman et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def gae(
    reward_ATN: Array,
    value_ATN: Array,
    next_value_ATN: Array,
    terminated_ATN: Array,
    done_ATN: Array,
    gamma: Sequence[float],
    gae_lambda: Sequence[float],
) -> Array:
    """Advantages [A, T, N] of A agents, T steps, N environments.

    delta_t = r_t + gamma V(s_{t+1}) [not terminated] - V(s_t);   A_t = delta_t + gamma lambda [not done] A_{t+1}

    ``next_value`` is that of the step's true successor: after a time limit (truncated) it still counts, while the trace ends (done).
    The recursion runs over plain floats: as fast as an environment's hundredth part, and the same bits for every batch.
    """
    discount = np.array(gamma)[:, None, None]
    delta = reward_ATN + discount * next_value_ATN * (1.0 - terminated_ATN) - value_ATN
    trace = discount * np.array(gae_lambda)[:, None, None] * (1.0 - done_ATN)
    agents, _, envs = reward_ATN.shape
    advantage = np.empty(reward_ATN.shape, np.float32)
    for agent in range(agents):
        for env in range(envs):
            total, totals = 0.0, []
            for d, c in zip(delta[agent, ::-1, env].tolist(), trace[agent, ::-1, env].tolist(), strict=True):
                total = d + c * total
                totals.append(total)
            advantage[agent, ::-1, env] = totals
    return advantage

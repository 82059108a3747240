"""Statistics over a few noisy runs, after Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000


def iqm(values: ArrayLike) -> float:
    """Interquartile mean: the mean without the lowest and the highest quarter of the values, each rounded down to whole ones.

    nan for no values.
    """
    ordered = np.sort(np.asarray(values, float))
    return float(middle(ordered).mean()) if len(ordered) else float("nan")


def interval(values: ArrayLike, resamples: int = RESAMPLES) -> tuple[float, float] | None:
    """95 % interval of the IQM: percentiles of the IQMs of ``resamples`` samples drawn with replacement.

    The same values in the same order give the same interval. None for fewer than two values, of which it would say nothing.
    """
    sample = np.asarray(values, float)
    if len(sample) < 2:
        return None
    drawn = np.random.default_rng(0).integers(len(sample), size=(resamples, len(sample)))
    means = middle(np.sort(sample[drawn], axis=1)).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def summary(returns: Sequence[float]) -> dict[str, Any]:
    """Count, mean, IQM, its interval and best of the returns of several runs; None where there is nothing to compute it from."""
    some = len(returns) > 0
    bounds = interval(returns)
    return {
        "count": len(returns),
        "mean": float(np.mean(returns)) if some else None,
        "iqm": iqm(returns) if some else None,
        "interval": list(bounds) if bounds else None,
        "best": float(max(returns)) if some else None,
    }


def middle(ordered: NDArray[np.float64]) -> NDArray[np.float64]:
    """The middle half along the last axis, on which values are in order."""
    quarter = ordered.shape[-1] // 4
    return ordered[..., quarter : ordered.shape[-1] - quarter]

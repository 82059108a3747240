"""Statistics over a few noisy runs, after Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
_BOUNDS = (2.5, 97.5)  # percentiles between which 95 % lie

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A statistic and its 95 % interval, which is None where there are too few values for one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Averages:
    """IQM, mean and median."""

    iqm: Estimate
    mean: Estimate
    median: Estimate


def iqm(values: ArrayLike) -> float:
    """Interquartile mean: the mean without the lowest and the highest quarter of the values, each rounded down to whole ones.

    nan for no values.
    """
    ordered = np.sort(np.asarray(values, float))
    return float(middle(ordered).mean()) if len(ordered) else float("nan")


def interval(values: ArrayLike, resamples: int = RESAMPLES) -> tuple[float, float] | None:
    """95 % interval of the IQM: percentiles of the IQMs of ``resamples`` samples drawn with replacement.

    The same values in the same order give the same interval, and the same as ``bootstrap``: this one is for whoever can't wait
    for SciPy. None for fewer than two values, of which it would say nothing.
    """
    sample = np.asarray(values, float)
    if len(sample) < 2:
        return None
    drawn = np.random.default_rng(0).integers(len(sample), size=(resamples, len(sample)))
    means = middle(np.sort(sample[drawn], axis=1)).mean(axis=1)
    low, high = np.percentile(means, _BOUNDS)
    return float(low), float(high)


def bootstrap(samples: Sequence[ArrayLike], statistic: Callable[..., Array]) -> tuple[Array, Array]:
    """95 % interval of ``statistic`` by SciPy's bootstrap: percentiles over RESAMPLES draws with replacement from each sample by itself.

    Several samples are strata, such as environments, whose sizes may differ. Draws are the same for equal samples.
    ``statistic(*samples, axis=-1)``: along the last axis of samples [R, N]; it may put axes of its own first. Samples need at least
    two values each. Returns low and high.
    """
    from scipy import stats  # here, as it takes most of a second

    result = stats.bootstrap(
        [np.asarray(sample) for sample in samples],
        statistic,
        n_resamples=RESAMPLES,
        vectorized=True,
        axis=-1,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    low, high = np.percentile(result.bootstrap_distribution, _BOUNDS, axis=-1)
    return low, high


def averages(values: ArrayLike) -> Averages:
    """Of the scores of one task, at least one, in whatever order. The IQM and its interval are those of ``summary``."""
    return _estimated([values], _averages)


def averages_over_tasks(tasks: Sequence[ArrayLike]) -> Averages:
    """As Agarwal et al. have them: the IQM of the scores of all tasks together, mean and median of the tasks' means.

    ``tasks``: the scores of each, at least one, on one scale. Each task is resampled by itself.
    """
    return _estimated(tasks, _averages_over_tasks)


def _estimated(tasks: Sequence[ArrayLike], statistic: Callable[..., Array]) -> Averages:
    samples = [np.sort(np.asarray(values, float)) for values in tasks]
    middles = statistic(*samples)
    if min(map(len, samples)) < 2:
        return Averages(*(Estimate(float(value)) for value in middles))
    bounds = zip(middles, *bootstrap(samples, statistic), strict=True)
    return Averages(*(Estimate(float(value), float(low), float(high)) for value, low, high in bounds))


def _averages(sample: Array, axis: int = -1) -> Array:
    """IQM, mean and median [3, ...] along the last axis."""
    ordered, count = np.sort(sample, axis=axis), sample.shape[axis]
    median = (ordered[..., (count - 1) // 2] + ordered[..., count // 2]) / 2  # NumPy's would sort again
    return np.stack([middle(ordered).mean(axis=axis), ordered.mean(axis=axis), median])


def _averages_over_tasks(*samples: Array, axis: int = -1) -> Array:
    pooled = np.sort(np.concatenate(samples, axis=axis), axis=axis)
    means = np.stack([sample.mean(axis=axis) for sample in samples])
    return np.stack([middle(pooled).mean(axis=axis), means.mean(axis=0), np.median(means, axis=0)])


def improvement(pairs: Sequence[tuple[ArrayLike, ArrayLike]], least: int = 2) -> Estimate:
    """Probability that a run of the first kind scores more than one of the second; as much counts half.

    It is the Mann-Whitney statistic over the number of pairs of runs; over several tasks, each with its two samples, the mean of
    theirs. Runs are not taken to be paired: equal seeds of different settings have nothing in common. Without an interval if a
    sample has fewer than ``least`` values.
    """
    sides = [(np.asarray(first, float), np.asarray(second, float)) for first, second in pairs]
    wins_NM = [(np.sign(first[:, None] - second) + 1) / 2 for first, second in sides]
    value = float(np.mean([wins.mean() for wins in wins_NM]))
    if min(min(wins.shape) for wins in wins_NM) < max(least, 2):
        return Estimate(value)

    def mean(*drawn: Array, axis: int = -1) -> Array:
        """Of drawn numbers of runs [R, N], [R, M] of each task: a pair counts as often as both of its runs were drawn."""
        tasks = zip(wins_NM, map(_counts, drawn[::2]), map(_counts, drawn[1::2]), strict=True)
        means: Array = np.mean(
            [((first @ wins) * second).sum(axis=axis) / wins.size for wins, first, second in tasks], axis=0
        )
        return means

    low, high = bootstrap([np.arange(size) for wins in wins_NM for size in wins.shape], mean)
    return Estimate(value, float(low), float(high))


def _counts(drawn: Array) -> Array:
    """How often each of N numbers is in each of R draws of N of them. ``drawn``: [R, N]."""
    draws, size = drawn.shape
    places = drawn.astype(np.int64) + size * np.arange(draws)[:, None]
    return np.bincount(places.ravel(), minlength=drawn.size).reshape(draws, size).astype(float)


def summary(returns: Sequence[float]) -> dict[str, Any]:
    """Count, mean, IQM, its interval and best of the returns of several runs; None where there is nothing to compute it from.

    The order of the returns does not matter.
    """
    some = len(returns) > 0
    bounds = interval(sorted(returns))
    return {
        "count": len(returns),
        "mean": float(np.mean(returns)) if some else None,
        "iqm": iqm(returns) if some else None,
        "interval": list(bounds) if bounds else None,
        "best": float(max(returns)) if some else None,
    }


def middle(ordered: Array) -> Array:
    """The middle half along the last axis, on which values are in order."""
    quarter = ordered.shape[-1] // 4
    return ordered[..., quarter : ordered.shape[-1] - quarter]

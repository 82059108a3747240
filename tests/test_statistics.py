"""Statistics over runs, worked by hand."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from rlrun.reports.statistics import (
    RESAMPLES,
    Estimate,
    averages,
    averages_over_tasks,
    bootstrap,
    improvement,
    interval,
    iqm,
    middle,
    summary,
)


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([7.0], 7.0),
        ([1.0, 3.0], 2.0),
        ([9.0, 1.0, 2.0], 4.0),  # a quarter of three is none
        ([100.0, 1.0, 2.0, 4.0], 3.0),  # without 1 and 100
        ([8, 7, 6, 5, 4, 3, 2, 1], 4.5),  # without 1, 2, 7, 8
        ([0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 1000.0], 2.0),  # one of seven from each end
    ],
)
def test_interquartile_mean(values: list[float], mean: float) -> None:
    assert iqm(values) == mean


def test_interquartile_mean_of_nothing() -> None:
    assert math.isnan(iqm([]))


def test_interval_of_two_values() -> None:
    """Resamples are (0, 0), (0, 1), (1, 0), (1, 1): their means 0, 1/2, 1 with chances 1/4, 1/2, 1/4."""
    assert interval([0.0, 1.0]) == (0.0, 1.0)
    assert interval([3.0, 3.0, 3.0]) == (3.0, 3.0)
    assert interval([5.0]) is None and interval([]) is None


def test_interval_narrows_with_more_values_and_repeats() -> None:
    few, many = (np.random.default_rng(1).normal(size=count) for count in (8, 200))
    (low, high), (lower, higher) = interval(few) or (0, 0), interval(many) or (0, 0)
    assert low < iqm(few) < high and lower < iqm(many) < higher
    assert higher - lower < (high - low) / 2
    assert interval(few) == (low, high)


def test_interval_agrees_with_the_normal_approximation() -> None:
    """The IQM of a normal sample has a standard error of about 1.09 / sqrt(n) (asymptotic variance of the 25 % trimmed mean: 1.195)."""
    values = np.random.default_rng(2).normal(size=1000)
    low, high = interval(values) or (0, 0)
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(1.195 / 1000), rel=0.15)


def test_summary() -> None:
    assert summary([4.0]) == {"count": 1, "mean": 4.0, "iqm": 4.0, "interval": None, "best": 4.0}
    assert summary([]) == {"count": 0, "mean": None, "iqm": None, "interval": None, "best": None}
    result = summary([1.0, 3.0])
    assert (result["mean"], result["best"], result["interval"]) == (2.0, 3.0, [1.0, 3.0])


def test_summary_and_averages_are_one_definition() -> None:
    """A sweep's table, which does without SciPy, and compare, which has it, show the same digits; the order of runs is nothing."""
    for count in (2, 3, 5, 16, 33):
        values = np.random.default_rng(count).normal(size=count).tolist()
        table, compared = summary(values), averages(values[::-1])
        assert (table["iqm"], *table["interval"]) == (compared.iqm.value, compared.iqm.low, compared.iqm.high)
        assert table["mean"] == pytest.approx(compared.mean.value, rel=1e-14)


def test_averages_by_hand() -> None:
    result = averages([100.0, 1.0, 2.0, 5.0])
    assert (result.iqm.value, result.mean.value, result.median.value) == (3.5, 27.0, 3.5)
    assert averages([7.0]).mean == Estimate(7.0, None, None)
    two = averages([0.0, 1.0])  # resamples have the means 0, 1/2, 1 with chances 1/4, 1/2, 1/4
    assert two.iqm == two.mean == two.median == Estimate(0.5, 0.0, 1.0)
    flat = averages([3.0] * 5)
    assert flat.iqm == flat.mean == flat.median == Estimate(3.0, 3.0, 3.0)


def test_bounds_are_scipys() -> None:
    values = np.sort(np.random.default_rng(3).exponential(size=9))
    result = averages(values)
    for estimate, statistic in (
        (result.iqm, lambda sample, axis: stats.trim_mean(sample, 0.25, axis=axis)),
        (result.mean, np.mean),
        (result.median, np.median),
    ):
        theirs = stats.bootstrap(
            (values,), statistic, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
        ).confidence_interval
        assert (estimate.low, estimate.high) == pytest.approx(tuple(theirs), rel=1e-12)


def test_mean_interval_by_exact_enumeration() -> None:
    """All 27 resamples of (0, 1, 5) by hand: their means have the 2.5 % and 97.5 % points 0 and 5, as 1/27 is more than 2.5 %."""
    low, high = bootstrap([[0.0, 1.0, 5.0]], lambda sample, axis: sample.mean(axis=axis))
    assert (low, high) == (0.0, 5.0)
    # Of (0, 0, 0, 1) the number of ones drawn is binomial(4, 1/4): 0 with 32 %, 3 with 4.7 %, 4 with 0.4 %.
    assert averages([0.0, 0.0, 0.0, 1.0]).mean == Estimate(0.25, 0.0, 0.75)


def test_tasks_are_resampled_each_by_itself() -> None:
    """Were the tasks mixed, resamples could hold more than two of the large scores; sizes stay unequal."""
    seen: list[tuple[int, ...]] = []

    def count(*samples: np.ndarray, axis: int) -> np.ndarray:
        seen.extend(sample.shape[-1] for sample in samples)
        assert set(np.unique(samples[0])) <= {0.0, 1.0} and set(np.unique(samples[1])) <= {100.0, 200.0, 300.0}
        return samples[1].mean(axis=axis) - samples[0].mean(axis=axis)

    bootstrap([[0.0, 1.0], [100.0, 200.0, 300.0]], count)
    assert set(seen) == {2, 3}


def test_averages_over_tasks_of_unequal_sizes() -> None:
    """IQM of (0, 0, 1, 1, 2, 10): one of six from each end; mean and median of the means 0.5, 1 and 6."""
    result = averages_over_tasks([[0.0, 1.0], [0.0, 1.0, 2.0], [10.0, 2.0]])
    assert result.iqm.value == pytest.approx((0 + 1 + 1 + 2 + 2) / 5)
    assert (result.mean.value, result.median.value) == pytest.approx((2.5, 1.0))
    assert averages_over_tasks([[1.0], [2.0, 3.0]]).iqm.low is None


def test_stratified_bounds_are_those_of_a_plain_loop() -> None:
    tasks = [np.random.default_rng(seed).normal(loc=seed, size=size) for seed, size in ((1, 3), (2, 8), (3, 5))]
    rng = np.random.default_rng(99)
    resampled = [[rng.choice(task, size=len(task)) for task in tasks] for _ in range(4000)]
    means = [np.mean([sample.mean() for sample in samples]) for samples in resampled]
    iqms = [iqm(np.concatenate(samples)) for samples in resampled]
    result = averages_over_tasks(tasks)
    for estimate, drawn in ((result.mean, means), (result.iqm, iqms)):
        assert (estimate.low, estimate.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=0.05)


def test_probability_of_improvement_by_hand() -> None:
    """(1, 3) against (0, 3): 1 > 0, 1 < 3, 3 > 0, 3 = 3: two and a half of four."""
    assert improvement([([1.0, 3.0], [0.0, 3.0])]).value == 2.5 / 4
    assert improvement([([1.0, 3.0], [0.0, 3.0]), ([5.0, 5.0, 5.0], [4.0, 4.0])]).value == (2.5 / 4 + 1) / 2
    assert improvement([([2.0, 3.0], [0.0, 1.0])]) == Estimate(1.0, 1.0, 1.0)
    assert improvement([([2.0], [0.0, 1.0])]) == Estimate(1.0, None, None)
    assert improvement([([2.0, 3.0, 4.0], [0.0, 1.0, 2.0])], least=4) == Estimate(8.5 / 9, None, None)


def test_probability_of_improvement_is_mann_whitneys_and_its_interval_a_plain_loops() -> None:
    rng = np.random.default_rng(5)
    first, second = rng.integers(0, 9, size=11).astype(float), rng.integers(0, 7, size=6).astype(float)
    estimate = improvement([(first, second)])
    assert estimate.value == pytest.approx(stats.mannwhitneyu(first, second).statistic / 66)
    drawn = []
    for _ in range(4000):
        one, two = rng.choice(first, 11), rng.choice(second, 6)
        drawn.append(np.mean(one[:, None] > two) + np.mean(one[:, None] == two) / 2)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=0.03)


def covered(count: int, resamples: int = 1000, samples: int = 400) -> float:
    """How often the interval of the IQM of ``count`` normal values holds 0, the true IQM."""
    rng = np.random.default_rng(count)
    hits = [
        low <= 0.0 <= high
        for low, high in (interval(rng.normal(size=count), resamples) or (0, 0) for _ in range(samples))
    ]
    return float(np.mean(hits))


def test_a_95_percent_interval_holds_the_truth_about_95_times_in_100() -> None:
    """The standard error of 400 trials is 1.1 %. Few seeds are known to be covered less: what notes and comparisons say of them."""
    assert 0.915 <= covered(20) <= 0.985
    assert 0.91 <= covered(10) <= 0.98
    assert 0.85 <= covered(5) <= 0.95
    assert covered(3) < 0.85


def test_intervals_of_other_statistics_hold_the_truth() -> None:
    rng, hits = np.random.default_rng(7), []
    for _ in range(60):
        first, second = rng.normal(loc=1.0, size=15), rng.normal(size=15)
        estimate = improvement([(first, second)])
        assert estimate.low is not None and estimate.high is not None
        hits.append(estimate.low <= stats.norm.cdf(1 / np.sqrt(2)) <= estimate.high)
        tasks = averages_over_tasks([rng.normal(loc=2.0, size=size) for size in (12, 20, 9)])
        assert tasks.mean.low is not None and tasks.mean.high is not None
        hits.append(tasks.mean.low <= 2.0 <= tasks.mean.high)
    assert 0.88 <= np.mean(hits) <= 1.0


def test_the_middle_half_lies_along_the_last_axis() -> None:
    assert middle(np.arange(8.0).reshape(2, 4)).tolist() == [[1.0, 2.0], [5.0, 6.0]]


def test_what_training_and_sweeps_need_of_statistics_imports_neither_torch_nor_scipy() -> None:
    program = (
        "import sys; from rlrun.reports.statistics import summary; summary([1.0, 2.0]); "
        "sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0

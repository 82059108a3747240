"""Statistics over runs, worked by hand."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from rlrun.reports.statistics import interval, iqm, summary


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


def test_statistics_need_no_torch() -> None:
    program = "import sys, rlrun.reports.statistics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0

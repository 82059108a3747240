"""Curves over seeds, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from support import config_of

from rlrun.reports.curves import MOST_POINTS, aggregate, intervals
from rlrun.reports.records import Record, read_record
from rlrun.run import Run


def record_of(
    outputs: Path, points: list[tuple[int, float | None]], seconds_per_frame: float = 0.1, seed: int = 0
) -> Record:
    """A run with these evaluations."""
    run = Run.create(config_of({"outputs": str(outputs), "seed": seed}), {})
    rows = [{"type": "evaluation", "frames": frames, "return_mean": value} for frames, value in points]
    (run.directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"frames": frames, "seconds": frames * seconds_per_frame} for frames, _ in points]
    (run.directory / "timing.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_record(run.directory)


def test_places_are_those_that_all_have_reached_and_values_between_points_lie_on_lines(tmp_path: Path) -> None:
    records = [record_of(tmp_path, [(10, 1.0), (30, 3.0)]), record_of(tmp_path, [(20, 10.0), (30, 20.0), (40, 99.0)])]
    curve = aggregate(records, "evaluation", "return_mean")
    assert curve.where.tolist() == [20, 30] and curve.count == 2
    assert curve.middle.tolist() == [6.0, 11.5]
    assert curve.low.tolist() == [2.0, 3.0] and curve.high.tolist() == [10.0, 20.0]


def test_iqm_leaves_out_the_extremes(tmp_path: Path) -> None:
    records = [record_of(tmp_path, [(10, value)]) for value in (-1e9, 1.0, 3.0, 1e9)]
    curve = aggregate(records, "evaluation", "return_mean")
    assert curve.middle.tolist() == [2.0]


def test_seconds_of_training(tmp_path: Path) -> None:
    slow = record_of(tmp_path, [(10, 0.0), (20, 10.0)], seconds_per_frame=1.0)  # seconds 10 to 20
    fast = record_of(tmp_path, [(10, 0.0), (30, 20.0)], seconds_per_frame=0.5)  # seconds 5 to 15
    curve = aggregate([slow, fast], "evaluation", "return_mean", clock=True)
    assert curve.where.tolist() == [10, 15]
    assert curve.middle.tolist() == [5.0, 12.5]


def test_runs_without_points_are_not_counted(tmp_path: Path) -> None:
    one = record_of(tmp_path, [(10, 1.0), (20, None)])
    curve = aggregate([one, record_of(tmp_path, [])], "evaluation", "return_mean")
    assert curve.count == 1 and curve.where.tolist() == [10] and np.isnan([curve.low, curve.high]).all()
    assert aggregate([record_of(tmp_path, [])], "evaluation", "return_mean").count == 0


def test_runs_that_do_not_overlap_have_no_common_place(tmp_path: Path) -> None:
    records = [record_of(tmp_path, [(10, 1.0)]), record_of(tmp_path, [(20, 1.0)])]
    curve = aggregate(records, "evaluation", "return_mean")
    assert curve.count == 2 and len(curve.where) == len(curve.middle) == len(curve.low) == 0


def test_many_points_become_evenly_spaced_ones(tmp_path: Path) -> None:
    record = record_of(tmp_path, [(frames, 2.0 * frames) for frames in range(1, 1001)])
    curve = aggregate([record], "evaluation", "return_mean")
    assert len(curve.where) == MOST_POINTS and curve.where[[0, -1]].tolist() == [1, 1000]
    np.testing.assert_allclose(curve.middle, 2 * curve.where)


def test_intervals_do_not_depend_on_how_many_places_there_are() -> None:
    values = np.random.default_rng(1).normal(size=(5, 700))
    low, high = intervals(values)
    for place in (0, 419, 420, 699):
        alone = intervals(values[:, [place]])
        assert (low[place], high[place]) == (alone[0][0], alone[1][0])
    assert (low < high).all()


def test_the_interval_does_not_depend_on_the_order_of_the_runs(tmp_path: Path) -> None:
    values = (0.0, 1.0, 5.0, 40.0, 300.0, 301.0)
    records = [record_of(tmp_path, [(10, value)], seed=seed) for seed, value in enumerate(values)]
    found = aggregate(records, "evaluation", "return_mean")
    for other in (records[::-1], records[2:] + records[:2]):
        again = aggregate(other, "evaluation", "return_mean")
        assert (again.low.tolist(), again.high.tolist()) == (found.low.tolist(), found.high.tolist())
    unsorted = intervals(np.array(values[::-1])[:, None])
    assert (unsorted[0][0], unsorted[1][0]) != (found.low[0], found.high[0])  # it would, if they were not sorted

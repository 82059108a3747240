"""Parts of the storms about what a state holds and what must not touch it: items, environments, faults, interference, cost."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from benchmarks.reliability import ablation, cost, environments, faults, interference, report
from benchmarks.reliability.cases import ABLATED
from benchmarks.reliability.report import Row

SEED = int(os.environ.get("RLRUN_TEST_SEED", "0"))


def failures(rows: list[Row]) -> list[str]:
    return [failure for row in rows for failure in row.failures]


def test_every_item_of_a_state_matters_or_is_known_not_to() -> None:
    rows = ablation.storm(15, SEED)
    assert failures(rows) == []
    assert sum(row.tried for row in rows) >= 24  # a few items have no other value of their kind


def test_items_and_what_replaces_them() -> None:
    tree: dict[str, Any] = {"a": [1, 2.0], "b": {"c": True, "arrays": {"x": np.ones(2), "y": np.ones(0)}}, "d": None}
    places = [*ablation.places_of(tree)]
    assert places == [("a", 0), ("a", 1), ("b", "c"), ("b", "arrays"), ("d",)]
    without = ablation.ablated(tree, ("a", 0), "left out")
    assert without is not None and without["a"] == [2.0]
    changed = [ablation.ablated(tree, place, "changed") for place in places]
    assert changed[0] is not None and changed[0]["a"] == [3, 2.0]
    assert changed[2] is not None and changed[2]["b"]["c"] is False
    assert changed[3] is not None and changed[3]["b"]["arrays"]["x"].tolist() == [2.5, 2.5]
    assert changed[4] is None
    assert tree["a"] == [1, 2.0] and tree["b"]["arrays"]["x"].tolist() == [1.0, 1.0]


def test_environments_go_on_in_a_new_process_and_hidden_state_is_found() -> None:
    rows = environments.storm(2, SEED)
    assert sum(row.tried for row in rows) == 4
    assert failures(rows) == []


def test_every_shipped_environment_has_a_turn() -> None:
    assert len(environments.SHIPPED) == 14
    for name in environments.SHIPPED:
        assert environments.settings_of(name, wrapped=True)[:2] == [
            f"env={name}",
            environments.settings_of(name, False)[1],
        ]


def test_faults_end_in_one_line_and_spare_others() -> None:
    rows = faults.storm(4, SEED)
    assert [row.tried for row in rows] == [3, 1, 1]
    assert failures(rows) == []


def test_what_must_not_change_training_does_not() -> None:
    rows = interference.storm(len(interference.VARIANTS), SEED, ABLATED[:2])
    assert [row.tried for row in rows] == [1] * len(interference.VARIANTS)
    assert failures(rows) == []


def test_the_cost_of_checkpoints_is_measured() -> None:
    settings = cost.composed(
        ("algo=dqn", "env=cartpole", "algo.learning_starts=100", "checkpoint.every_frames=200"), 1000
    )
    measured = cost.measure(settings, agents=2, first_frame=400)
    assert measured["saves"] == 3  # of frames 600, 800 and 1000
    assert measured["saving"] > 0 and measured["training"] > 0 and measured["megabytes"] > 0


def test_rows_and_their_table() -> None:
    row = Row("calm")
    row.add()
    row.add("wind", "two\nlines")
    assert (row.tried, row.good, row.failures) == (2, 1, ["wind; two lines"])
    results = {
        "cost": {"command": "c", "rows": [{"what": "b", "tried": 1000, "good": 1000, "note": "x", "failures": []}]},
        "kills": {"command": "k", "rows": [{"what": "a", "tried": 2, "good": 1, "note": "", "failures": ["wind"]}]},
    }
    lines = report.table(results).splitlines()[2:]
    assert lines == ["| a | 2 | **1** | `k` |", "| b (x) | 1,000 | 1,000 | `c` |"]


@pytest.mark.parametrize("name", report.NAMES)
def test_every_storm_has_a_size(name: str) -> None:
    module = __import__(f"benchmarks.reliability.{name}", fromlist=["RUNS"])
    assert module.RUNS >= 1 and callable(module.storm) and module.__doc__

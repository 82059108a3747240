"""``rlrun ls``: sweeps as one line, what filters let through, the order, and what fits on a terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from planted import plant, plant_sweep

from rlrun.cli.output import _fitting, shown_size, shown_time


@pytest.fixture
def outputs(workplace: Path) -> Path:
    return workplace / "outputs"


def names(answer: Any) -> list[str]:
    assert answer.code == 0, answer.err
    return [line.split()[0] for line in answer.out.splitlines()[1:]]


def cells(answer: Any, row: int = 1) -> dict[str, str]:
    """Column -> text of a row of the table."""
    header, line = answer.out.splitlines()[0], answer.out.splitlines()[row]
    starts = [header.index(word) for word in header.split()]
    ends = [*starts[1:], len(line)]
    return {word: line[start:end].strip() for word, start, end in zip(header.split(), starts, ends, strict=True)}


def test_a_sweep_is_one_line(rlrun: Any, outputs: Path) -> None:
    returns = {"120000_a_s1": 0.0, "120000_a_s2": 10.0, "120000_a_s3": 20.0, "120000_a_s4": 90.0, "120000_a_s5": 999.0}
    sweep = plant_sweep(outputs, "2026-01-01_120000_a", returns)
    path = sweep / "120000_a_s5" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "failed", "frames": 40, "exact": False}))
    (sweep / "120000_a_s1" / "checkpoints" / "step_000000000100.ckpt").write_bytes(b"x" * 5000)
    answer = rlrun("ls")
    assert names(answer) == ["2026-01-01_120000_a"]
    row = cells(answer)
    assert row["status"] == "4 finished, 1 failed" and row["seed"] == "5 runs" and row["algo"] == "dqn"
    assert row["return"] == "15.0"  # the middle half of 0, 10, 20, 90, which have finished
    assert row["frames"] == "440/500" and row["exact"] == "no" and row["speed"] == "50"
    files = [file.stat().st_size for file in sweep.rglob("*") if file.is_file() and file.parent != sweep]
    assert row["size"] == shown_size(sum(files)) and sum(files) > 5000
    assert sorted(names(rlrun("ls", "--all"))) == sorted(returns)
    assert sorted(names(rlrun("ls", "2026-01-01"))) == sorted(returns)
    assert names(rlrun("ls", "*_s2")) == ["120000_a_s2"]
    assert cells(rlrun("ls", "--filter", "return>=20"))["seed"] == "3 runs"


FITS = [
    (["algo=ppo"], ["ppo"]),
    (["algo=dqn"], ["fast", "slow"]),
    (["algo=dqn,ppo", "status=done"], ["slow", "ppo"]),
    (["status!=done"], ["fast"]),
    (["env=cartpole-v1"], ["fast", "slow", "ppo"]),
    (["env=CartPole-v1"], ["fast", "slow", "ppo"]),
    (["env=Cart*", "seed=3"], ["slow"]),
    (["name=f*"], ["fast"]),
    (["return>9.5"], ["slow", "ppo"]),
    (["return<=10"], ["slow"]),
    (["best>1"], []),
    (["algo.gamma=0.9"], ["slow"]),
    (["algo.gamma=0.9,0.99"], ["fast", "slow", "ppo"]),
    (["algo.learning_rate<=1e-4"], ["fast", "slow"]),
    (["algo.rollout_steps=2048"], ["ppo"]),
    (["algo.rollout_steps!=2048"], ["fast", "slow"]),
    (["network.hidden=[64,64]", "algo.double=false"], ["fast", "slow"]),
    (["age>30m"], ["slow", "ppo"]),
    (["age<90m", "status=finished"], ["slow"]),
    (["size>1MB"], []),
    (["size<1MB", "speed=50"], ["fast", "slow", "ppo"]),
    (["exact=true"], ["slow", "ppo"]),
    (["exact=false"], ["fast"]),
    (["run=slow"], ["slow"]),
    (["run=*lo*"], ["slow"]),
    (["run!=205411_resumed_s0"], ["fast", "slow", "ppo"]),
    (["run=2*s"], []),
    (["name=1e3"], []),
]


@pytest.fixture
def three(outputs: Path) -> None:
    day = outputs / "2026-01-01"
    plant(day, "fast", 0, {"name": "fast"}, status="failed", evaluation=None, exact=False)
    plant(day, "slow", 3600, {"seed": 3, "algo": {"name": "dqn", "gamma": 0.9}})
    plant(day, "ppo", 7200, {"algo": {"name": "ppo"}}, evaluation={"return_mean": 30.5}, frames=7)


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(("filters", "expected"), FITS, ids=[" ".join(filters) for filters, _ in FITS])
def test_filters_hold_together(rlrun: Any, filters: list[str], expected: list[str]) -> None:
    answer = rlrun("ls", "--filter", *filters)
    assert names(answer) == expected if expected else answer.out == "no run fits; rlrun ls shows all\n"
    assert [
        Path(run["directory"]).name for run in json.loads(rlrun("ls", "--json", "--filter", *filters).out)
    ] == expected


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        ("gama=1", "--filter gama=1: unknown key 'gama'; did you mean 'algo.gamma'?"),
        ("lr=1", "--filter lr=1: unknown key 'lr'; did you mean 'algo.learning_rate'?"),
        ("retrun>1", "--filter retrun>1: unknown key 'retrun'; did you mean 'return'?"),
        ("status=finish", "unknown status 'finish'; choices: waiting, running, finished"),
        ("return>high", "--filter return>high: > compares numbers, and 'high' is none"),
        ("return", "write KEY=VALUE, or 'KEY>VALUE' in quotes"),
        ("return=", "write KEY=VALUE"),
        ("age>3 days", "'3 days' is no time; write 45s, 30m, 12h, 7d or 2w"),
        ("size>big", "'big' is no size"),
        ("seed=[1", "can't parse seed=[1"),
    ],
)
def test_a_filter_that_can_not_be_is_one_line(rlrun: Any, filter_: str, expected: str) -> None:
    answer = rlrun("ls", "--filter", filter_)
    assert answer.code == 2 and len(answer.errors) == 1 and expected in answer.errors[0]
    assert len(rlrun("ls", "--filter", filter_, "nonsense=1").errors) == 2


@pytest.mark.usefixtures("three")
def test_order(rlrun: Any, outputs: Path) -> None:
    (outputs / "2026-01-01" / "slow" / "large").write_bytes(bytes(9000))
    for key, order in {
        "age": ["fast", "slow", "ppo"],
        "return": ["ppo", "slow", "fast"],
        "frames": ["fast", "slow", "ppo"],
        "size": ["slow"],
        "name": ["fast", "ppo", "slow"],
    }.items():
        assert names(rlrun("ls", "--sort", key))[: len(order)] == order, key
    assert names(rlrun("ls", "--sort", "return", "-r")) == ["slow", "ppo", "fast"]  # who has none is last all the same
    assert names(rlrun("ls", "--sort", "name", "-r")) == ["slow", "ppo", "fast"]
    assert rlrun("ls", "--sort", "luck").code == 2


def test_runs_that_may_be_anyones(rlrun: Any, outputs: Path) -> None:
    day = outputs / "2026-01-01"
    plant(day, "hostile\x1b[31m", algo="\x1b]0;x\x07", created="yesterday", frames_per_second=10**400)
    plant(day, "nameless", evaluation={"return_mean": "1"}, exact="yes", seed=10**30)
    plant(day, "broken").joinpath("run.json").write_text("{")
    (outputs / ".removed-1-0").mkdir()
    plant(outputs / ".removed-1-0", "gone")
    plant(outputs, ".removed-1-1")
    answer = rlrun("ls")
    assert sorted(names(answer)) == ["broken", "hostile[31m", "nameless"] and "\x1b" not in answer.out
    assert names(rlrun("ls", "--filter", "status=unreadable")) == ["broken"]
    for key in ("return", "speed", "age", "size", "name"):
        assert len(names(rlrun("ls", "--sort", key, "--all"))) == 3
    day.joinpath("nameless", "config.yaml").write_text("- a list")
    assert rlrun("ls", "--filter", "algo.gamma=0.99").code == 0
    assert rlrun("ls", "nothing").errors[0].startswith("no run at nothing")
    assert {run["size"] > 0 for run in json.loads(rlrun("ls", "--json").out)} == {True}


def test_json_lists_the_runs_of_sweeps_and_no_sweep(rlrun: Any, outputs: Path) -> None:
    plant_sweep(outputs, "2026-01-01_120000_a", {"120000_a_s1": 1.0, "120000_a_s2": 2.0})
    runs = json.loads(rlrun("ls", "--json", "--sort", "return").out)
    assert [Path(run["directory"]).name for run in runs] == ["120000_a_s2", "120000_a_s1"]
    assert all({"status", "seed", "overrides", "size"} <= run.keys() for run in runs)


def test_a_narrow_terminal_gets_fewer_columns() -> None:
    """Each column takes its width and three for what is between; the first named goes first, and a narrow one may come back."""
    columns, rows = ("run", "status", "a", "size"), [["x" * 20, "finished", "1", "10MB"]]
    assert _fitting(columns, rows, 100, ("a", "size")) == [0, 1, 2, 3]  # 23 + 11 + 4 + 7 = 45
    assert _fitting(columns, rows, 46, ("a", "size")) == [0, 1, 2, 3]
    assert _fitting(columns, rows, 45, ("a", "size")) == [0, 1, 3]
    assert _fitting(columns, rows, 40, ("a", "size")) == [0, 1, 2]
    assert _fitting(columns, rows, 10, ("a", "size")) == [0, 1]


def test_sizes_and_times_in_words() -> None:
    assert [shown_size(size) for size in (0, 999, 1000, 12_345, 1.5e6, 2e9, 3e15)] == [
        "0B", "999B", "1.0KB", "12KB", "1.5MB", "2.0GB", "3000TB",
    ]  # fmt: skip
    assert [shown_time(seconds) for seconds in (None, 5, 119, 120, 7200, 48 * 3600, 8640000)] == [
        "-", "5s", "119s", "2m", "2h", "2d", "100d",
    ]  # fmt: skip


def test_settings_that_came_later_are_those_of_before(rlrun: Any, outputs: Path) -> None:
    old, new = plant(outputs / "day", "old"), plant(outputs / "day", "new")
    path = old / "config.yaml"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("engine:")))
    assert sorted(names(rlrun("ls", "--filter", "engine=rlrun"))) == ["new", "old"]
    assert "no setting differs" in rlrun("diff", str(old), str(new)).out

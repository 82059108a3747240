"""The views of a sweep, on made-up events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support import DQN, config_of

from rlrun.cli import sweep_tally, sweep_view
from rlrun.cli.sweep_tally import Tally
from rlrun.cli.sweep_view import PlainSweepView, TerminalSweepView, choose_sweep_view
from rlrun.run import Run
from rlrun.sweeps.batches import Batch


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Two learning rates with two seeds each."""
    made = []
    for number, (rate, seed) in enumerate(((r, s) for r in ("0.1", "0.2") for s in (0, 1)), 1):
        typed = ["algo=dqn", f"algo.learning_rate={rate}", f"seed={seed}"]
        config = config_of(DQN, {"seed": seed, "total_frames": 1000, "algo": {"learning_rate": float(rate)}})
        made.append(Run.create(config, {"overrides": typed, "job": number, "status": "waiting"}, tmp_path))
    return made


def played(view: Any, runs: list[Run], clock: list[float]) -> None:
    """Two batches of which the first is trained: one member finishes, one fails."""
    view.start(Path("outputs/sweeps/x"), runs, [Batch(tuple(runs[:2]), None), Batch(tuple(runs[2:]), 400)], 2)
    view.launched(0)
    view.header(0, {"device": "cpu"})
    view.launched(1)
    view.header(1, {"device": "cpu"})
    view.progress(0, 100, None)
    clock[0] += 10
    view.progress(0, 600, 12.5)
    view.tick()
    view.evaluated(0, 1, 600, {"return_mean": 50.0, "return_std": 1.0, "episodes": 2}, True)
    view.evaluated(0, 0, 600, {"return_mean": 40.0, "return_std": 1.0, "episodes": 1}, True)
    view.note("step_1.ckpt is damaged\x1b[2J")
    view.ended(0, 0, "finished", None)
    view.ended(0, 1, "failed", "diverged at frame 700")
    clock[0] += 1
    view.tick()
    view.left(0)
    view.finish()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_plain_lines(runs: list[Run], clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    played(PlainSweepView(), runs, clock)
    out, err = capsys.readouterr()
    assert err == "rlrun: note: step_1.ckpt is damaged[2J\n"
    assert out.splitlines() == [
        "sweep outputs/sweeps/x: 4 runs in 2 batches, 2 workers",
        "batch 1 of 2: 2 runs  algo.learning_rate=0.1  seed: 2 values",
        "device: cpu",
        "batch 2 of 2: 2 runs  algo.learning_rate=0.2  seed: 2 values",
        "2,000/4,000 agent-frames  120/s  0 done, 0 failed, 4 running, 0 waiting",
        "#2 algo.learning_rate=0.1 seed=1: 600 frames: return 50.0 ± 1.0 over 2 episodes  (best of the sweep so far)",
        "#1 algo.learning_rate=0.1 seed=0: 600 frames: return 40.0 ± 1.0 over 1 episode",
        "#2 algo.learning_rate=0.1 seed=1 failed: diverged at frame 700",
        "batch 1 of 2 ended: 1 failed, 1 finished",
    ]


def test_terminal(runs: list[Run], clock: list[float]) -> None:
    console = Console(force_terminal=True, width=120, record=True)
    played(TerminalSweepView(console), runs, clock)
    text = console.export_text()
    words = [
        "2 runs",
        "600/1,000",
        "100/s",
        "return 12.5",
        "120/s",
        "0:00:16 left",
        "0 done, 0 failed, 4 running",
        "50%",
    ]
    words += ["1 done, 1 failed, 2 running, 0 waiting", "best so far  50.0 at 600  #2 algo.learning_rate=0.1 seed=1"]
    assert all(word in text for word in words), text
    assert text.count("seed=0: 600 frames: return 40.0") == 1 and "diverged at frame 700" in text


def test_quiet(runs: list[Run], clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    played(choose_sweep_view(quiet=True), runs, clock)
    assert capsys.readouterr().out == ""
    assert isinstance(choose_sweep_view(quiet=False), PlainSweepView)


def test_many_runs_do_not_flood_the_screen(
    runs: list[Run], clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_tally, "_MANY_RUNS", 3)
    monkeypatch.setattr(sweep_view, "_MOST_BATCHES", 2)
    console = Console(force_terminal=True, width=120, record=True)
    view = TerminalSweepView(console)
    view.start(Path("x"), runs, [Batch((run,), None) for run in runs], 4)
    for batch, value in enumerate((1.0, 3.0, 2.0, 1.0)):
        view.launched(batch)
        view.evaluated(batch, 0, 100, {"return_mean": value, "return_std": 0.0, "episodes": 1}, True)
    clock[0] += 1
    view.tick()
    view.finish()
    text = console.export_text()
    assert "return 3.0" in text and "return 2.0" not in text
    assert "and 2 more batches" in text


def test_runs_that_were_done_before_count_as_done(runs: list[Run], clock: list[float]) -> None:
    tally = Tally()
    tally.start(Path("x"), runs, [Batch((runs[3],), 500)], 1)
    assert tally.totals()[:2] == (3500, 4000) and tally.counts() == "3 done, 0 failed, 0 running, 1 waiting"


def test_a_directory_cannot_steer_the_terminal(runs: list[Run], clock: list[float]) -> None:
    runs[3].directory = runs[3].directory.with_name("x\x1b[2J")
    tally = Tally()
    tally.start(Path("x"), runs, [Batch((runs[3],), None)], 1)
    tally.evaluated(0, 0, 1, {"return_mean": 1.0}, True)
    assert tally.best == (1.0, "1.0 at 1  #4 algo.learning_rate=0.2 seed=1  x[2J")

"""Parts of the storms in which processes are killed and signalled from outside; ``python -m benchmarks reliability`` runs all."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from benchmarks.reliability import cases, kills, signals, soak
from benchmarks.reliability.contract import Baseline, Case, fingerprint, problems_of, runs_in, start, uninterrupted

SEED = int(os.environ.get("RLRUN_TEST_SEED", "0"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Baseline, Path]:
    """A short run that nothing interrupted, and its folder."""
    folder = tmp_path_factory.mktemp("tiny") / "whole"
    return uninterrupted(cases.tiny(), folder), folder


@pytest.mark.parametrize("kind", [kind for kind in kills.KINDS if "population" not in kind])
def test_killed_runs_end_as_if_nothing_had_been(kind: str) -> None:
    case = random.Random(f"{SEED} {kind}").choice(kills.KINDS[kind])
    (row,) = kills.storm(2, SEED, {kind: [case]})
    assert (row.tried, row.failures) == (2, [])


def test_signalled_runs_end_as_if_nothing_had_been() -> None:
    rows = signals.storm(3, SEED)
    assert [row.tried for row in rows] == [1, 1, 1]
    assert [failure for row in rows for failure in row.failures] == []


def test_long_runs_are_watched_and_killed_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """How level the memory is, a run so short doesn't tell."""
    monkeypatch.setattr(soak, "KILLED_AFTER", (0.5, 1.5))
    monkeypatch.setattr(soak, "MOST_GROWTH", 1.0)
    case = Case("short", (*cases.EVERYWHERE, *cases.SHORT_DQN, "checkpoint.every_frames=500"))
    level, equal = soak.storm(20, SEED, [case])
    assert level.failures == equal.failures == []
    assert int(equal.note.split()[0]) > 0


@pytest.mark.parametrize(
    ("watched", "words"),
    [
        (soak.Watched([100] * 9 + [104], [8] * 10, 4), []),
        (soak.Watched([100] * 8 + [104] * 2, [8] * 10, 4), ["memory grew by 4.0%"]),
        (soak.Watched([100] * 10, [8] * 8 + [9] * 2, 4), ["open files grew"]),
        (soak.Watched([100] * 10, [8] * 10, 5), ["5 files of checkpoints"]),
    ],
)
def test_the_soak_would_notice(watched: soak.Watched, words: list[str]) -> None:
    assert watched.problems() == words


def test_the_comparison_sees_a_bit_a_row_and_a_leftover(tiny: tuple[Baseline, Path]) -> None:
    baseline, folder = tiny
    (directory,) = runs_in(folder)
    assert problems_of(folder, baseline.fingerprints) == []
    for name in ("metrics.jsonl", "episodes.csv"):
        path = directory / name
        whole = path.read_bytes()
        path.write_bytes(whole + whole.splitlines(keepends=True)[-1])
        assert f"{directory.name}: {name} differ" in problems_of(folder, baseline.fingerprints)
        assert len(problems_of(folder, baseline.fingerprints)) == 2  # the row that is there twice, too
        path.write_bytes(whole)
    (directory / "checkpoints" / ".tmp-1-1").touch()
    assert problems_of(folder, baseline.fingerprints) == [f"{directory.name}: left .tmp-1-1"]
    (directory / "checkpoints" / ".tmp-1-1").unlink()
    newest = sorted(directory.glob("checkpoints/step_*.ckpt"))[-1]
    newest.rename(newest.with_suffix(".away"))
    assert fingerprint(directory)["last checkpoint"] != baseline.fingerprints[0]["last checkpoint"]
    newest.with_suffix(".away").rename(newest)


def test_all_processes_of_a_sweep_are_found_and_killed(tmp_path: Path) -> None:
    command = start([*cases.SWEEP[0].arguments[:-4], "total_frames=10000000"], tmp_path)
    while len([*tmp_path.glob("outputs/sweeps/*/*/timing.jsonl")]) < 4:  # two batches of two are at work
        assert command.process.poll() is None
        time.sleep(0.01)
    workers = set(command.pids()) - {command.process.pid}
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)  # else it may find that its parent is gone, and go
    command.process.kill()
    command.process.wait()
    assert len(workers) >= 2 and set(command.pids()) == workers  # orphans, in sessions of their own
    command.kill()
    assert command.wait().code == 137
    assert command.pids() == []

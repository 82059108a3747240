"""Parts of the storms that strike at the disk: calls that kill or fail, their order, and damaged checkpoints."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from benchmarks.reliability import calls, cases, corruption, syscalls
from benchmarks.reliability.forked import Strike, rlrun_forked

SEED = int(os.environ.get("RLRUN_TEST_SEED", "0"))
POINTS = 6  # of about 200, for each kind of strike
DAMAGED = 12  # in each way, each case
needs_strace = pytest.mark.skipif(not syscalls.is_available(), reason="strace is missing or may not trace here")


def test_a_kill_or_an_error_at_any_call_to_the_disk_loses_nothing() -> None:
    rows = calls.storm(POINTS, SEED)
    assert [row.tried for row in rows] == [POINTS] * 6
    assert [failure for row in rows for failure in row.failures] == []


def test_one_old_checkpoint_too_many_ends_no_run(tmp_path: Path) -> None:
    baseline, made = calls.undisturbed(tmp_path / "undisturbed")
    ended, _ = rlrun_forked(baseline.case.arguments, tmp_path, Strike(made.index("unlink"), errno.EIO))
    assert (ended.code, ended.err) == (0, "")


def test_damaged_checkpoints_are_found_and_the_one_before_is_used() -> None:
    rows = corruption.storm(DAMAGED, SEED)
    assert [row.tried for row in rows] == [DAMAGED // 4] * 4
    assert [failure for row in rows for failure in row.failures] == []


def test_the_storm_of_damage_would_notice(tmp_path: Path) -> None:
    """That no damage was reported."""
    baseline, cut = corruption.stopped(corruption.CASES[0], tmp_path)
    assert len(corruption.resume(baseline, cut)) == 1


# --- with strace -----------------------------------------------------------------------------------------------------


@needs_strace
def test_checkpoints_reach_the_disk_in_an_order_that_survives_power_loss(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    traced = syscalls.traced(cases.tiny(), tmp_path / "empty", tmp_path / "traced")
    assert syscalls.misordered(traced) == []
    assert len({call.name for call in traced} & {"write", "fsync", "rename", "unlink", "openat", "mkdir"}) == 6


@needs_strace
def test_a_kill_at_a_system_call(tmp_path: Path) -> None:
    """One of a run and one of a resume, to see that the long storm works."""
    chance = random.Random(SEED)
    for stage in syscalls.stages(tmp_path):
        assert len(stage.calls) > 50
        (call,) = syscalls.some(stage.calls, 1, chance)
        assert syscalls.struck(stage, tmp_path / "struck", call, "signal=KILL", syscalls.check_killed) == []


SAVE = [
    '1 write(3</w/outputs/r/metrics.jsonl>, "{}", 2) = 2',
    "1 fsync(3</w/outputs/r/metrics.jsonl>) = 0",
    '1 openat(AT_FDCWD</w>, "outputs/r/checkpoints/.tmp-1-1", O_WRONLY|O_CREAT) = 4</w/outputs/r/checkpoints/.tmp-1-1>',
    '1 write(4</w/outputs/r/checkpoints/.tmp-1-1>, "x", 1) = 1',
    "1 fsync(4</w/outputs/r/checkpoints/.tmp-1-1>) = 0",
    '1 rename("outputs/r/checkpoints/.tmp-1-1", "outputs/r/checkpoints/step_000000000002.ckpt") = 0',
    "1 fsync(4</w/outputs/r/checkpoints>) = 0",
    '1 unlink("outputs/r/checkpoints/step_000000000001.ckpt") = 0',
]


def test_a_wrong_order_is_seen() -> None:
    assert syscalls.misordered(syscalls.parse("\n".join(SAVE))) == []
    for missing, words in (
        (1, "outputs/r/metrics.jsonl is not on the disk before"),
        (4, "outputs/r/checkpoints/.tmp-1-1 is not on the disk before"),
        (6, "is deleted before its successor's name is on the disk"),
        (5, "no save was seen"),
    ):
        lines = [line for number, line in enumerate(SAVE) if number != missing]
        (problem,) = syscalls.misordered(syscalls.parse("\n".join(lines)))
        assert words in problem

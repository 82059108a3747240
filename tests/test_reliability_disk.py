"""Parts of the storms that strike at the disk: calls that kill or fail, their order, and damaged checkpoints."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.reliability import cases, corruption, syscalls
from benchmarks.reliability.contract import Baseline, continuation, fingerprint, problems_of, runs_in
from benchmarks.reliability.forked import Strike, rlrun_forked
from rlrun import checkpoint_folder

SEED = int(os.environ.get("RLRUN_TEST_SEED", "0"))
KILLS, FAULTS = 8, 5  # points of each storm, of about 200
ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EMFILE)
needs_strace = pytest.mark.skipif(not syscalls.is_available(), reason="strace is missing or may not trace here")


@pytest.fixture(scope="module", params=[None, 0], ids=["whole", "pieces"])
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Baseline, list[str]]]:
    """A short run that nothing disturbed, and its calls to the disk; its replay memory is saved whole, or in pieces."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        if request.param is not None:
            patch.setattr(checkpoint_folder, "SMALLEST", request.param)
        ended, calls = rlrun_forked(cases.tiny().arguments, folder)
        assert ended.code == 0, ended.err
        assert any(folder.rglob("*.piece")) == (request.param is not None)
        prints = [fingerprint(directory) for directory in runs_in(folder)]
        yield Baseline(cases.tiny(), prints, 0.0), calls


def finished(baseline: Baseline, folder: Path) -> list[str]:
    """Go on with what a strike left, and say what differs from the undisturbed run."""
    assert syscalls.check_visible(folder) == []
    ended, _ = rlrun_forked(continuation(baseline.case, folder), folder)
    assert (ended.code, ended.err) == (0, "")
    return problems_of(folder, baseline.fingerprints)


def test_a_kill_at_any_call_to_the_disk_loses_nothing(whole: tuple[Baseline, list[str]], tmp_path: Path) -> None:
    baseline, calls = whole
    for number in sorted(random.Random(SEED).sample(range(len(calls)), KILLS)):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        ended, made = rlrun_forked(baseline.case.arguments, folder, Strike(number))
        assert (ended.code, made) == (137, calls[: number + 1])
        assert finished(baseline, folder) == [], f"killed at call {number}, {calls[number]}"


@pytest.mark.parametrize("lasting", [True, False], ids=["lasting", "once"])
def test_an_error_from_any_call_to_the_disk_is_one_line_and_loses_nothing(
    lasting: bool, whole: tuple[Baseline, list[str]], tmp_path: Path
) -> None:
    baseline, calls = whole
    chance = random.Random(SEED)
    points = [number for number, name in enumerate(calls) if name not in syscalls.GOES_ON]
    for number in sorted(chance.sample(points, FAULTS)):
        folder, error = tmp_path / f"{number}", chance.choice(ERRORS)
        folder.mkdir()
        ended, _ = rlrun_forked(baseline.case.arguments, folder, Strike(number, error, lasting))
        where = f"{errno.errorcode[error]} from call {number}, {calls[number]}"
        if lasting or ended.code != 0:  # a save that fails once is tried again
            assert syscalls.check_storage_error(ended, folder, resumed=False) == [], where
        assert finished(baseline, folder) == [], where


def test_one_old_checkpoint_too_many_ends_no_run(whole: tuple[Baseline, list[str]], tmp_path: Path) -> None:
    baseline, calls = whole
    ended, _ = rlrun_forked(baseline.case.arguments, tmp_path, Strike(calls.index("unlink"), errno.EIO))
    assert (ended.code, ended.err) == (0, "")
    assert problems_of(tmp_path, baseline.fingerprints) == []


def test_damaged_checkpoints_are_found_and_the_one_before_is_used() -> None:
    rows = corruption.storm(40, SEED, resumed_one_in=20)
    assert [row.tried for row in rows] == [8, 10, 10, 10, 2]
    assert [failure for row in rows for failure in row.failures] == []


def test_the_storm_of_damage_would_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for frames in (1, 2):
        checkpoint_folder.CheckpointFolder(tmp_path, 2).save(frames, {}, {"x": frames})
    newest = tmp_path / "step_000000000002.ckpt"
    newest.write_bytes(newest.read_bytes()[:-1])
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_folder, "find_damage", lambda path: None)
        assert corruption.choose(newest) != []
    assert corruption.choose(newest) == []


# --- with strace -----------------------------------------------------------------------------------------------------


@needs_strace
def test_checkpoints_reach_the_disk_in_an_order_that_survives_power_loss(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    calls = syscalls.traced(cases.tiny(), tmp_path / "empty", tmp_path / "traced")
    assert syscalls.misordered(calls) == []
    assert len({call.name for call in calls} & {"write", "fsync", "rename", "unlink", "openat", "mkdir"}) == 6


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

"""The folder of checkpoints: written atomically, pruned with care, recovered when damaged."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrun import checkpoint, checkpoint_folder, plain
from rlrun.checkpoint import load, save
from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.errors import ResumeError, StorageError


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(tmp_path, keep=2)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a save would have waited; it does not."""
    seconds: list[float] = []
    monkeypatch.setattr(checkpoint_folder.time, "sleep", seconds.append)
    return seconds


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def of_a_newer_rlrun(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "SCHEMA", checkpoint.SCHEMA + 1)
        save(path, {}, {})


def test_saving_publishes_in_an_order_that_survives_power_loss(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.save(1, {}, {})
    folder.save(2, {}, {})
    tape: list[str] = []

    def recorded(name: str) -> None:
        original = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            tape.append(name)
            return original(*arguments, **options)

        monkeypatch.setattr(os, name, call)

    for name in ("open", "write", "fsync", "rename", "unlink"):
        recorded(name)
    folder.save(3, {}, {"x": np.zeros(4)})
    assert tape == ["open", "write", "write", "write", "write", "fsync", "rename", "open", "fsync", "unlink"]


@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_a_disk_error_leaves_what_was_there(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch, slept: list[float], call: str, number: int
) -> None:
    folder.save(1, {}, {"x": 1})

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StorageError) as raised:
            folder.save(2, {}, {"x": 2})
    assert os.strerror(number) in str(raised.value)
    assert "step_000000000002.ckpt" in str(raised.value)
    assert slept == [0.1, 0.5]
    assert names(folder.directory) == ["step_000000000001.ckpt"]
    assert folder.newest(pytest.fail)[2] == {"x": 1}


def test_what_was_left_behind_is_looked_for_once(folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    tidied: list[Path] = []
    monkeypatch.setattr(checkpoint_folder, "remove_stale", tidied.append)
    folder.save(1, {}, {})
    folder.save_best({}, {})
    assert tidied == [folder.directory]


def test_a_disk_that_recovers_costs_nothing(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch, slept: list[float]
) -> None:
    tries = iter((StorageError("full"), StorageError("full"), None))

    def saving(*arguments: Any) -> None:
        if error := next(tries):
            raise error
        save(*arguments)

    monkeypatch.setattr(checkpoint_folder, "save", saving)
    folder.save(1, {"frames": 1}, {"x": 1})
    assert slept == [0.1, 0.5] and folder.newest(pytest.fail)[1:] == ({"frames": 1}, {"x": 1})


def test_a_vanished_folder_is_not_waited_for(tmp_path: Path, slept: list[float]) -> None:
    with pytest.raises(StorageError, match="No such file"):
        CheckpointFolder(tmp_path / "gone", keep=1).save(1, {}, {})
    assert slept == [] and names(tmp_path) == []


def test_a_kill_in_the_middle_of_a_save_loses_nothing(folder: CheckpointFolder) -> None:
    folder.save(1, {}, {"x": 1})
    child = os.fork()
    if child == 0:
        os.rename = lambda *_: os._exit(9)
        folder.save(2, {}, {"x": 2})
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = names(folder.directory)
    assert len(left) == 2
    assert left[0].startswith(".tmp-")
    assert folder.newest(pytest.fail)[2] == {"x": 1}
    CheckpointFolder(folder.directory, keep=2).save(3, {}, {})
    assert names(folder.directory) == ["step_000000000001.ckpt", "step_000000000003.ckpt"]


def test_a_repeated_process_id_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "_temporary_numbers", iter(range(5)))
    (tmp_path / f".tmp-{os.getpid()}-0").write_text("left by an earlier process")
    save(tmp_path / "a", {}, {})
    assert load(tmp_path / "a") == ({}, {})


def test_the_newest_stay_and_nothing_else_is_touched(folder: CheckpointFolder) -> None:
    others = ["best.ckpt", "notes.txt", "step_00000000001.ckpt", "step_000000000001_ckpt"]
    others += ["step_000000000000.ckpt.bad", "step_00000000000٣.ckpt"]
    for name in others:
        (folder.directory / name).write_text("mine")
    (folder.directory / "step_000000000005.ckpt").symlink_to(folder.directory / "notes.txt")
    (folder.directory / "step_000000000006.ckpt").mkdir()
    for frames in (10, 20, 30, 40):
        folder.save(frames, {"frames": frames}, {})
    kept = ["step_000000000030.ckpt", "step_000000000040.ckpt"]
    assert names(folder.directory) == sorted([*others, *kept, "step_000000000005.ckpt", "step_000000000006.ckpt"])


def test_saving_behind_newer_ones_prunes_only_older_ones(folder: CheckpointFolder) -> None:
    for frames in (10, 20, 15):
        folder.save(frames, {}, {})
    assert names(folder.directory) == [f"step_0000000000{frames}.ckpt" for frames in (10, 15, 20)]


def test_a_failed_delete_is_not_fatal(folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(Path, "unlink", fail)
    for frames in (1, 2, 3):
        folder.save(frames, {}, {})
    assert len(names(folder.directory)) == 3


def test_a_damaged_checkpoint_costs_one_interval(folder: CheckpointFolder) -> None:
    for frames in (10, 20):
        folder.save(frames, {"frames": frames}, {"x": frames})
    damage(folder.directory / "step_000000000020.ckpt")
    notices: list[str] = []
    path, header, state = folder.newest(notices.append)
    assert (path.name, header, state) == ("step_000000000010.ckpt", {"frames": 10}, {"x": 10})
    assert notices == [
        "step_000000000020.ckpt is damaged (sha256 mismatch), renamed to step_000000000020.ckpt.bad; using step_000000000010.ckpt"
    ]
    assert names(folder.directory) == ["step_000000000010.ckpt", "step_000000000020.ckpt.bad"]
    path.write_bytes(b"")
    with pytest.raises(ResumeError, match="every checkpoint"):
        folder.newest(notices.append)
    assert len(notices) == 2
    with pytest.raises(ResumeError, match="no checkpoint to continue from"):
        folder.newest(notices.append)


def test_each_damaged_one_is_named_with_the_next_to_try(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=5)
    for frames in (10, 20, 30, 40, 50):
        folder.save(frames, {}, {})
    for frames in (10, 30, 40):
        damage(tmp_path / f"step_0000000000{frames}.ckpt")
    notices: list[str] = []
    assert [frames for frames, _ in folder.undamaged(notices.append)] == [50, 20]
    assert [notice.rpartition("; ")[2] for notice in notices] == [
        "using step_000000000030.ckpt",
        "using step_000000000020.ckpt",
        "no older one is left",
    ]


def test_a_damaged_checkpoint_that_can_not_be_renamed_is_skipped(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for frames in (10, 20):
        folder.save(frames, {}, {})
    damage(folder.directory / "step_000000000020.ckpt")

    def fail(*_: Any) -> None:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(Path, "rename", fail)
    notices: list[str] = []
    assert folder.newest(notices.append)[0].name == "step_000000000010.ckpt"
    assert notices == ["step_000000000020.ckpt is damaged (sha256 mismatch); using step_000000000010.ckpt"]


def test_one_of_a_newer_rlrun_is_not_taken_for_damaged(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.save(10, {}, {})
    path = folder.directory / "step_000000000020.ckpt"
    of_a_newer_rlrun(path, monkeypatch)
    assert next(folder.undamaged(pytest.fail)) == (20, path)
    assert folder.last_good() == path.name
    for ask in (lambda: folder.newest(pytest.fail), lambda: folder.at(20)):
        with pytest.raises(ResumeError, match="upgrade rlrun"):
            ask()


def test_a_damaged_checkpoint_is_not_gone_back_to(folder: CheckpointFolder) -> None:
    folder.save(10, {}, {})
    damage(folder.directory / "step_000000000010.ckpt")
    with pytest.raises(ResumeError, match=r"step_000000000010\.ckpt is damaged \(sha256 mismatch\)"):
        folder.at(10)
    assert names(folder.directory) == ["step_000000000010.ckpt"]


def test_the_last_good_one_is_named_and_nothing_touched(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folder.last_good() is None
    for frames in (10, 20, 30):
        save(folder.directory / f"step_0000000000{frames}.ckpt", {}, {})
    assert folder.last_good() == "step_000000000030.ckpt"
    damage(folder.directory / "step_000000000030.ckpt")
    assert folder.last_good() == "step_000000000020.ckpt"

    def failing(path: Path) -> str | None:
        if path.name == "step_000000000020.ckpt":
            raise ResumeError("can't be read")
        return checkpoint.find_damage(path)

    monkeypatch.setattr(checkpoint_folder, "find_damage", failing)
    assert folder.last_good() == "step_000000000010.ckpt"
    assert len(names(folder.directory)) == 3


def test_what_is_newer_is_deleted_for_good(folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(checkpoint_folder, "sync_directory", synced.append)
    for frames in (10, 20, 30, 40):
        save(folder.directory / f"step_0000000000{frames}.ckpt", {}, {})
    folder.delete_after(40)
    assert synced == [] and len(names(folder.directory)) == 4
    folder.delete_after(20)
    assert synced == [folder.directory]
    assert names(folder.directory) == ["step_000000000010.ckpt", "step_000000000020.ckpt"]

    def fail(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(StorageError, match="can't delete from"):
        folder.delete_after(10)


def test_the_evaluation_of_the_best(folder: CheckpointFolder) -> None:
    assert folder.best_evaluation() is None
    for evaluation in ({"return_mean": 3.5, "frames": 10}, None, "x", {}, {"return_mean": "3.5"}):
        folder.save_best({"evaluation": evaluation, "config": {"seed": 1}}, {})
        usable = isinstance(evaluation, dict) and "frames" in evaluation
        assert folder.best_evaluation() == ((evaluation, {"seed": 1}) if usable else None)
    folder.save_best({"evaluation": {"return_mean": 3.5}}, {})
    damage(folder.directory / "best.ckpt")
    assert folder.best_evaluation() is None


def test_selectors(folder: CheckpointFolder) -> None:
    for selector in ("best", "last"):
        with pytest.raises(ResumeError, match="there is: nothing"):
            folder.resolve(selector)
    for frames in (10, 300, 2000):
        save(folder.directory / f"step_{frames:012d}.ckpt", {}, {})
    with pytest.raises(ResumeError, match="no checkpoint 'best' .*there is: 10, 300, 2000"):
        folder.resolve("best")
    folder.save_best({"return": 1.0}, {})
    assert folder.resolve("best") == folder.directory / "best.ckpt"
    assert folder.resolve("last").name == "step_000000002000.ckpt"
    assert folder.resolve("10").name == "step_000000000010.ckpt"
    for wrong in ("11", "", "../best", "1_0", "-10"):
        with pytest.raises(ResumeError, match="there is: best, 10, 300, 2000"):
            folder.resolve(wrong)


def test_a_linked_folder_is_refused_and_a_missing_one_is_empty(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(StorageError, match="symbolic link"):
        CheckpointFolder(tmp_path / "link", keep=1).save(1, {}, {})
    with pytest.raises(ResumeError, match="symbolic link"):
        CheckpointFolder(tmp_path / "link", keep=1).delete_after(0)
    with pytest.raises(ResumeError, match="no checkpoint to continue from .*there is: nothing"):
        CheckpointFolder(tmp_path / "gone", keep=1).newest(pytest.fail)
    assert names(tmp_path) == ["link"]

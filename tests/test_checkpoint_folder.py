"""The folder of checkpoints: written atomically, pruned with care, recovered when damaged."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrun import plain
from rlrun.checkpoint import load, save
from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.errors import ResumeError, StorageError


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(tmp_path, keep=2)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


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
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch, call: str, number: int
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
    assert names(folder.directory) == ["step_000000000001.ckpt"]
    assert folder.newest(pytest.fail)[2] == {"x": 1}


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
    others = ["best.ckpt", "notes.txt", "step_1.ckpt", "step_000000000000.ckpt.bad", "step_00000000000٣.ckpt"]
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
    newest = folder.directory / "step_000000000020.ckpt"
    newest.write_bytes(newest.read_bytes()[:-1] + b"?")
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


def test_selectors(folder: CheckpointFolder) -> None:
    with pytest.raises(ResumeError, match="there is: nothing"):
        folder.resolve("best")
    for frames in (10, 2000):
        folder.save(frames, {}, {})
    with pytest.raises(ResumeError, match="no checkpoint 'best' .*there is: 10, 2000"):
        folder.resolve("best")
    assert folder.save_best({"return": 1.0}, {}) == folder.resolve("best")
    assert folder.resolve("last").name == "step_000000002000.ckpt"
    assert folder.resolve("10").name == "step_000000000010.ckpt"
    for wrong in ("11", "", "../best", "1_0", "-10"):
        with pytest.raises(ResumeError, match="there is: best, 10, 2000"):
            folder.resolve(wrong)


def test_a_linked_or_vanished_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(StorageError, match="symbolic link"):
        CheckpointFolder(tmp_path / "link", keep=1).save(1, {}, {})
    with pytest.raises(StorageError, match="No such file"):
        CheckpointFolder(tmp_path / "gone", keep=1).save(1, {}, {})
    assert names(tmp_path) == ["link"]

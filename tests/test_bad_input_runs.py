"""Rows 51 to 62, 103 and 104 of the catalogue of ``test_bad_input.py``: runs and checkpoints that can't be used."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from test_cli import TINY, leftovers, only_run

from rlrun import __version__
from rlrun.checkpoint import MAGIC, load, save
from rlrun.cli import folders, main
from rlrun.errors import StorageError
from rlrun.run import Run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 600 frames that has checkpoints at 400 and 600."""
    outputs = tmp_path_factory.mktemp("trained") / "outputs"
    assert main(["-q", *TINY, "checkpoint.every_frames=200", f"outputs={outputs}"]) == 0
    return outputs


@pytest.fixture
def run(trained: Path, workplace: Path) -> Run:
    """A copy of it, in the current folder."""
    shutil.copytree(trained, workplace / "outputs")
    return only_run(workplace)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_such_run(rlrun: Any, run: Run, workplace: Path) -> None:
    """Row 51: nothing there, something that is near, a file."""
    name = run.directory.name
    (workplace / "notes.txt").write_text("hello")
    before = leftovers(workplace)
    for command in ("resume", "eval"):
        for selector, words in (
            (f"outputs/{name}x", f"no run at outputs/{name}x; nearest: {name}"),
            ("/nonexistent/run", "no run at /nonexistent/run"),
            ("notes.txt", "notes.txt is a file, not a run; give the directory of the run"),
            (str(run.checkpoints / "best.ckpt"), "best.ckpt is a file, not a run; give the directory of the run"),
        ):
            answer = rlrun(command, selector)
            assert answer.code == 4 and len(answer.errors) == 1
            assert words in answer.errors[0]
    assert leftovers(workplace) == before


def test_no_checkpoint(rlrun: Any, run: Run, workplace: Path) -> None:
    """Row 52: it ended before the first one."""
    shutil.rmtree(run.checkpoints)
    before = contents(workplace)
    answer = rlrun("resume", str(run.directory), "total_frames=700")
    assert answer.code == 4 and len(answer.errors) == 1
    assert "has no checkpoint to continue from; start it over: rlrun total_frames=600" in answer.errors[0]
    answer = rlrun("eval", str(run.directory))
    assert answer.code == 4 and answer.errors[0].endswith("has no checkpoint any more, though it has finished")
    # What is to be trained is written before training looks for it; the lock file holds nothing.
    assert {name for name, data in contents(workplace).items() if data != before.get(name)} <= {
        str((run.directory / "run.lock").relative_to(workplace))
    }


@pytest.mark.parametrize("command", ["export", "video", "plot"])
@pytest.mark.parametrize("is_gone", [True, False])
def test_a_failure_makes_no_run_anew_and_leaves_no_empty_folder(
    command: str, is_gone: bool, rlrun: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = leftovers(run.directory)

    def deleted() -> None:
        shutil.rmtree(run.directory)

    def full(*_: Any, **__: Any) -> None:
        raise StorageError("no space")

    for place in ("rlrun.export.export", "rlrun.video.film", "rlrun.cli.plot.draw_into"):
        monkeypatch.setattr(place, full)
    if is_gone:
        make = folders.folder_for
        monkeypatch.setattr(f"rlrun.cli.{command}.folder_for", lambda *typed: deleted() or make(*typed))
    answer = rlrun(command, str(run.directory))
    words = f"{run.directory} is gone: it was moved or deleted meanwhile" if is_gone else "no space"
    assert (answer.code, answer.errors) == (5, [words])
    assert not run.directory.exists() if is_gone else leftovers(run.directory) == before


@pytest.mark.parametrize("command", ["export", "eval", "resume", "resume=auto"])
def test_a_folder_of_checkpoints_that_can_not_be_read_is_not_taken_for_an_empty_one(
    command: str, rlrun: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(call: Any) -> Any:
        def refuse(path: Any = ".") -> Any:
            if str(path) == str(run.checkpoints):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return call(path)

        return refuse

    run.update(status="stopped")
    (run.checkpoints / "best.ckpt").unlink()
    monkeypatch.setattr(os, "listdir", refusing(os.listdir))
    monkeypatch.setattr(os, "scandir", refusing(os.scandir))
    again = [*TINY, "checkpoint.every_frames=200", f"run.dir={run.directory}", f"outputs={run.config.outputs}", command]
    answer = rlrun(*(again if "=" in command else [command, str(run.directory)]))
    assert answer.code == 4 and answer.errors == [f"can't read {run.checkpoints}: Permission denied"]


def stable_baselines() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data", "{}")
        archive.writestr("policy.pth", b"x" * 600)
    return file.getvalue()


def torch_save() -> bytes:
    import torch

    file = io.BytesIO()
    torch.save({"weights": torch.zeros(3)}, file)
    return file.getvalue()


class Evil:
    """Makes the file ``canary`` when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("canary",)


FOREIGN = {
    "damaged (0 bytes)": lambda: b"",
    "not an rlrun checkpoint (looks like a text file)": lambda: b"hello, world\n" * 9,
    "not an rlrun checkpoint (looks like a Stable-Baselines3 zip)": stable_baselines,
    "not an rlrun checkpoint (looks like a torch.save file)": torch_save,
    "not an rlrun checkpoint (looks like a safetensors file)": lambda: safetensors.numpy.save({"a": np.zeros(3)}),
    "not an rlrun checkpoint (looks like a pickle; refused)": lambda: pickle.dumps(Evil()),
}


@pytest.mark.parametrize("words", FOREIGN)
def test_what_is_no_checkpoint(words: str, rlrun: Any, run: Run, workplace: Path) -> None:
    """Rows 53, 54, 55, 56: an older one takes its place, or there is one line; nothing is executed, and the file is kept."""
    content = FOREIGN[words]()
    older, newest = sorted(run.checkpoints.glob("step_*.ckpt"))
    newest.write_bytes(content)
    answer = rlrun("eval", "latest", "--checkpoint", "last")
    assert (answer.code, answer.errors) == (4, [f"{newest.relative_to(workplace)} is {words}"])
    answer = rlrun("resume", "latest", "total_frames=700")
    assert answer.code == 0, answer.err
    assert f"{newest.name} is {words}, renamed to {newest.name}.bad; using {older.name}" in answer.out + answer.err
    assert (newest.with_name(f"{newest.name}.bad")).read_bytes() == content
    for path in run.checkpoints.glob("step_*.ckpt"):
        path.write_bytes(content)
    answer = rlrun("resume", "latest", "total_frames=800")
    assert answer.code == 4 and answer.errors[-1].endswith(
        f"every checkpoint in {run.checkpoints.relative_to(workplace)} is damaged"
    )
    assert not (workplace / "canary").exists()


@pytest.mark.parametrize("how", ["half", "bit"])
def test_damaged_checkpoint(how: str, rlrun: Any, run: Run) -> None:
    """Row 57: half of a file, or one bit of it: the older one is used, and the damaged one kept."""
    older, newest = sorted(run.checkpoints.glob("step_*.ckpt"))
    whole = newest.read_bytes()
    middle = len(whole) // 2
    damaged = whole[:middle] + (b"" if how == "half" else bytes([whole[middle] ^ 4]) + whole[middle + 1 :])
    newest.write_bytes(damaged)
    answer = rlrun("resume", "latest", "total_frames=700")
    assert answer.code == 0, answer.err
    assert f"{newest.name} is damaged (sha256 mismatch), renamed to {newest.name}.bad; using {older.name}" in answer.err
    assert newest.with_name(f"{newest.name}.bad").read_bytes() == damaged
    assert Run.open(run.directory).manifest["frames"] == 700


def test_checkpoint_of_another_config(rlrun: Any, run: Run) -> None:
    """Row 58: the settings beside it are not those it was trained with."""
    path = run.directory / "config.yaml"
    original = path.read_text()
    for old, new, words in (
        ("gamma: 0.99", "gamma: 0.5", "algo.gamma: 0.99 -> 0.5"),
        ("seed: 0", "seed: 5", "seed: 0 -> 5"),
        ("CartPole-v1", "CartPole-v0", "env.id: CartPole-v1 -> CartPole-v0"),
    ):
        assert old in original
        path.write_text(original.replace(old, new))
        for command in (["resume", "latest", "total_frames=700"], ["eval", "latest"]):
            answer = rlrun(*command)
            assert answer.code == 4 and len(answer.errors) == 1, (command, answer.err)
            assert "of this config: " in answer.errors[0] and words in answer.errors[0]


def test_checkpoint_of_a_newer_rlrun(rlrun: Any, run: Run) -> None:
    """Row 59: refused where its form is newer; noted where other libraries wrote it."""
    newest = max(run.checkpoints.glob("step_*.ckpt"))
    header, state = load(newest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlrun.checkpoint.SCHEMA", 4)
        save(newest, header, state)
    answer = rlrun("resume", "latest", "total_frames=700")
    assert answer.code == 4 and len(answer.errors) == 1
    assert f"was written by rlrun {__version__} (schema 4), this one reads 2; upgrade rlrun" in answer.errors[0]
    save(newest, header, state)
    run = Run.open(run.directory)
    run.update(versions=run.manifest["versions"] | {"numpy": "0.1"})
    answer = rlrun("resume", "latest", "total_frames=700")
    assert answer.code == 0 and "numpy: 0.1 -> " in answer.out + answer.err
    assert Run.open(run.directory).manifest["exact"] is False


def test_finished_run(rlrun: Any, run: Run, workplace: Path) -> None:
    """Row 60: nothing to do, and nothing touched."""
    before = contents(workplace)
    answer = rlrun("resume", "latest")
    where = run.directory.relative_to(workplace)
    assert (answer.code, answer.err) == (0, "")
    extend = f"extend with: rlrun resume {where} total_frames=1200\n"
    assert answer.out == f"already complete (600/600 frames); {extend}"
    assert contents(workplace) == before
    (run.checkpoints / "step_000000000600.ckpt").unlink()
    before = f"already complete (600/600 frames, but its last checkpoint is of frame 400); {extend}"
    assert rlrun("resume", "latest").out == before
    for path in run.checkpoints.glob("step_*"):
        path.unlink()
    answer = rlrun("resume", "latest")
    assert answer.code == 0 and "none of its checkpoints is left to extend it from" in answer.out


def test_run_in_use(rlrun: Any, run: Run) -> None:
    """Row 61: it names who has it."""
    with run.lock():
        answer = rlrun("resume", "latest", "total_frames=700")
    assert answer.code == 8 and len(answer.errors) == 1
    assert f"in use by pid {os.getpid()} on host " in answer.errors[0]
    assert Run.open(run.directory).config == run.config


def test_fewer_frames(rlrun: Any, run: Run, workplace: Path) -> None:
    """Row 62: what is trained can't be taken back."""
    before = contents(workplace)
    answer = rlrun("resume", "latest", "total_frames=500")
    assert (answer.code, answer.errors) == (4, ["total_frames: 600 -> 500 is less; it can only grow"])
    answer = rlrun("resume", "latest", "total_frames=10")  # below algo.learning_starts
    assert (answer.code, answer.errors) == (4, ["total_frames: 600 -> 10 is less; it can only grow"])
    answer = rlrun("resume", "latest", "~total_frames")
    assert (answer.code, answer.errors) == (2, ["'~total_frames' has no value; write total_frames=VALUE"])
    assert contents(workplace) == before


def test_sweep_is_resumed_as_a_whole(rlrun: Any, workplace: Path, fake_worker: Any) -> None:
    """Row 103: two runs are refused (see TYPED); the directory of a sweep means all of it."""
    fake_worker("[end(m, 'stopped' if s else 'finished') for m, s in enumerate(seeds)]")
    assert rlrun("-q", "-m", "seed=0,1,2", "sweep.batch=1", "evaluation.episodes=0").code != 0
    (sweep,) = (workplace / "outputs" / "sweeps").iterdir()
    before = {path.parent.name: path.read_bytes() for path in sweep.glob("*/run.json")}
    fake_worker()
    assert rlrun("resume", str(sweep)).code == 0
    after = {path.parent.name: path.read_bytes() for path in sweep.glob("*/run.json")}
    assert {json.loads(data)["status"] for data in after.values()} == {"finished"}
    assert [after[name] == data for name, data in sorted(before.items())] == [True, False, False]


def test_directory_of_another_tool(rlrun: Any, workplace: Path) -> None:
    """Row 104: no run.json, or somebody else's."""
    folder = workplace / "theirs"
    folder.mkdir()
    (folder / "model.zip").write_bytes(stable_baselines())
    for command in ("resume", "eval"):
        answer = rlrun(command, "theirs")
        assert (answer.code, answer.errors) == (4, ["theirs is not an rlrun run (it has no run.json)"])
    for content in (b'{"run": "theirs"}', b"[]", b"\xff", b"{", MAGIC + struct.pack("<I", 9)):
        (folder / "run.json").write_bytes(content)
        for command in ("resume", "eval"):
            answer = rlrun(command, "theirs")
            assert answer.code == 4 and len(answer.errors) == 1
            assert "theirs/run.json" in answer.errors[0]
    assert leftovers(workplace) == ["theirs", "theirs/model.zip", "theirs/run.json"]

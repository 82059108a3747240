"""``rlrun rm``: what goes, what is asked, and what is never taken."""

from __future__ import annotations

import io
import os
import resource
import shutil
import types
from pathlib import Path
from typing import Any

import pytest
from planted import checkpoint, plant, plant_sweep

from rlrun import deletion
from rlrun.cli import main
from rlrun.deletion import inode_of
from rlrun.errors import LostFileError, StorageError
from rlrun.garbage import garbage_around
from rlrun.locks import lock


@pytest.fixture
def outputs(workplace: Path) -> Path:
    return workplace / "outputs"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def answering(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(text))


def test_it_asks_and_says_what_goes(rlrun: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = plant(outputs / "2026-01-01", "first"), plant(outputs / "2026-01-01", "second")
    checkpoint(first, "best.ckpt", 100)
    for text in ("", "n\n", "yeah\n", "\n"):
        answering(monkeypatch, text)
        answer = rlrun("rm", "first")
        assert answer.code == 0 and "with 1 best checkpoint? [y/N]" in answer.out and "nothing deleted" in answer.out
        assert first.is_dir()
    answering(monkeypatch, "y\n")
    answer = rlrun("rm", "first")
    assert (
        answer.code == 0 and "deleted 1 directory" in answer.out and "outputs/2026-01-01/first  finished" in answer.out
    )
    assert not first.exists() and second.is_dir()
    answering(monkeypatch, "Yes\n")
    assert rlrun("rm", str(second)).code == 0
    assert os.listdir(outputs) == []  # its day is empty, too


def test_without_a_terminal_it_must_be_told(rlrun: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    run = plant(outputs / "2026-01-01", "mine")
    best = checkpoint(run, "best.ckpt", 100)
    answer = rlrun("rm", "mine")
    assert answer.code == 2 and answer.errors[0].startswith("there is no terminal to ask on; type --yes")
    assert answer.out == "" and run.exists()
    answer = rlrun("rm", "nothing")
    assert answer.code == 4 and answer.errors[0].startswith("no run at nothing")
    answer = rlrun("rm", "mine", "--yes")
    assert answer.code == 2 and "1 best checkpoint would be deleted; type --best as well" in answer.errors[0]
    assert rlrun("rm", "mine", "--best").code == 2
    answer = rlrun("rm", "mine", "--dry-run")
    assert answer.code == 0 and "would delete 1 directory" in answer.out and best.is_file()
    assert rlrun("rm", "mine", "--yes", "--best").code == 0 and not run.exists()
    plant(outputs / "2026-01-01", "plain")
    assert rlrun("rm", "plain", "-y").code == 0


def test_a_sweep_goes_whole_and_a_glob_takes_each_once(rlrun: Any, outputs: Path) -> None:
    sweep = plant_sweep(outputs, "2026-01-01_120000_a", {"120000_a_s1": 1.0, "120000_a_s2": 4.0})
    other = plant_sweep(outputs, "2026-01-02_120000_a", {"120000_b_s1": 1.0, "120000_b_s2": 2.0})
    answer = rlrun("rm", "2026-01-01", str(sweep / "120000_a_s1"), "-y")
    assert answer.code == 0 and "sweep of 2 runs" in answer.out and "deleted 1 directory" in answer.out
    assert not sweep.exists()
    assert rlrun("rm", "*_s2", "-y").code == 0
    assert [path.name for path in sorted(other.iterdir())] == ["120000_b_s1", "sweep.json"]
    assert rlrun("rm", "*_s9", "-y").code == 4 and rlrun("rm", "latest", "-y").code == 0


def test_what_is_being_trained_stays(rlrun: Any, outputs: Path) -> None:
    run = plant(outputs / "2026-01-01", "mine", status="running")
    sweep = plant_sweep(outputs, "2026-01-01_120000_a", {"120000_a_s1": 1.0, "120000_a_s2": 4.0})
    other = plant(outputs / "2026-01-01", "idle")
    with lock(run):
        answer = rlrun("rm", "mine", "idle", "-y")
        assert answer.code == 8 and "outputs/2026-01-01/mine is in use" in answer.errors[0]
        assert other.is_dir()  # all or nothing
    with lock(sweep, "sweep"):
        assert rlrun("rm", str(sweep / "120000_a_s1"), "-y").code == 8
        assert rlrun("rm", str(sweep), "-y").code == 8
    with lock(sweep / "120000_a_s2"):
        assert rlrun("rm", str(sweep), "-y").code == 8
    assert (sweep / "120000_a_s1" / "run.json").is_file() and run.is_dir()
    with lock(run.parent):  # of another tool: it is no sweep
        assert rlrun("rm", "mine", "-y").code == 0


def test_only_directories_of_runs_and_no_links(rlrun: Any, outputs: Path, workplace: Path) -> None:
    precious = workplace / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    run = plant(outputs / "2026-01-01", "mine")
    (run / "videos").symlink_to(precious)
    (workplace / "link").symlink_to(run)
    answer = rlrun("rm", "link", "-y")
    assert answer.code == 4 and "is a symbolic link" in answer.errors[0]
    for what in ("precious", ".", "outputs", "outputs/2026-01-01", "precious/file"):
        assert rlrun("rm", what, "-y").code == 4, what
    assert rlrun("rm", "mine", "-y").code == 0
    assert (precious / "file").is_file() and not run.exists()


def test_what_is_no_runs_stays(rlrun: Any, workplace: Path) -> None:
    """run.dir= may put a run into a folder with other things in it; a directory that rlrun made is the run's alone."""
    project = plant(workplace, "project")
    (project / "thesis.tex").write_text("x")
    answer = rlrun("rm", "project", "-y")
    assert answer.code == 4 and "project holds thesis.tex, which is of no run" in answer.errors[0]
    (project / "thesis.tex").unlink()
    plant(project, "120000_other_s0")
    assert rlrun("rm", "project", "-y").code == 4
    shutil.rmtree(project / "120000_other_s0")
    assert rlrun("rm", "project", "-y").code == 0
    made = plant(workplace / "outputs" / "2026-01-01", "120000_mine_s0")
    (made / "notes.txt").write_text("x")
    assert rlrun("rm", "120000_mine", "-y").code == 0 and not made.exists()


def test_a_kill_leaves_no_half_of_a_run(rlrun: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(outputs / "2026-01-01", "120000_mine_s0")
    with monkeypatch.context() as patch:
        patch.setattr(deletion, "_empty", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert rlrun("rm", "120000_mine", "-y").code == 130
    (hidden,) = (outputs / "2026-01-01").iterdir()
    assert (hidden / "run.json").is_file()  # all of it is there, but it is no run
    assert rlrun("ls").out.startswith("no run in outputs yet")
    assert rlrun("rm", "120000_mine", "-y").code == 4
    assert rlrun("gc", "-y").out == "nothing to free\n"  # it may be being deleted right now
    os.utime(hidden, (0, 0))
    answer = rlrun("gc", "-y")
    assert "directories whose deletion was cut short  1" in answer.out and not hidden.exists()


def test_what_can_not_be_deleted_is_one_line(rlrun: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says where what is left is: typed again, the run is not there any more."""
    run = plant(outputs / "2026-01-01", "mine")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        answer = rlrun("rm", "mine", "-y")
        assert answer.code == 5 and answer.errors == [f"can't delete {run}: Permission denied"]
    assert (run / "run.json").is_file()
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        answer = rlrun("rm", "mine", "-y")
    (left,) = run.parent.iterdir()
    assert answer.code == 5 and answer.errors == [
        f"can't delete all of {run}: Permission denied; what is left of it is in {left}; mend the cause, then delete that with rm -r"
    ]


def test_what_can_not_be_deleted_does_not_keep_the_others(
    rlrun: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (plant(outputs / "2026-01-01", name) for name in ("first", "second", "third"))
    real = os.rename

    def refuse(source: str, to: str, **options: int) -> None:
        if source != third.name:
            raise PermissionError(13, "Permission denied")
        real(source, to, **options)

    monkeypatch.setattr(os, "rename", refuse)
    answer = rlrun("rm", "first", "second", "third", "-y")
    assert answer.code == 5 and answer.errors == [f"can't delete {second}: Permission denied"]
    assert f"rlrun: note: can't delete {first}: Permission denied\n" in answer.err
    assert "deleted 1 directory, " in answer.out
    assert first.is_dir() and second.is_dir() and not third.exists()
    answer = rlrun("rm", "first", "-y")
    assert answer.code == 5 and "deleted" not in answer.out


def test_a_deletion_ends_however_deep_a_folder_is(
    rlrun: Any, outputs: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace / "precious").write_text("x")
    run = plant(outputs / "2026-01-01", "mine")
    monkeypatch.chdir(run / "checkpoints")
    for _ in range(300):  # deeper than a path can say, and than there are descriptors
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    os.symlink(workplace, "link")
    monkeypatch.chdir(workplace)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
    try:
        assert rlrun("rm", "mine", "-y").code == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert os.listdir(outputs) == [] and (workplace / "precious").is_file()


@pytest.mark.parametrize("wanted", ["checkpoints", ".."])
def test_a_folder_that_is_swapped_while_it_is_deleted_leads_nowhere(
    wanted: str, outputs: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write there moves the folder out under the deletion, and puts a link in its place."""
    precious = workplace / "elsewhere" / "precious"
    precious.mkdir(parents=True)
    (precious / "file").write_text("x")
    run, real = plant(outputs / "d", "mine"), os.open

    def swapping(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if path == wanted:
            (folder,) = (outputs / "d").glob(".removed-*/checkpoints")
            folder.rename(workplace / "elsewhere" / "moved")
            folder.symlink_to(precious)
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", swapping)
    with pytest.raises(StorageError, match="can't delete all of"):
        deletion.delete(run, inode_of(run))
    assert (precious / "file").is_file()


def test_a_run_whose_folder_is_swapped_while_it_asks_stays(
    rlrun: Any, outputs: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does anything go that is in its place then, be it when it asks, or when it holds the run."""
    precious = workplace / "home" / "mine" / "precious"
    precious.mkdir(parents=True)
    run, sibling = plant(outputs / "2026-01-01", "mine"), plant(outputs / "2026-01-02", "other")

    def swap(*_: Any) -> bool:
        run.parent.rename(workplace / "moved")
        run.parent.symlink_to(workplace / "home")
        return True

    def swapped(how: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(how, swap)
            answer = rlrun("rm", "mine", "-y")
        assert answer.code == 5 and len(answer.errors) == 1 and "was moved meanwhile" in answer.errors[0]
        assert precious.is_dir() and (workplace / "moved" / "mine" / "run.json").is_file()
        run.parent.unlink()
        (workplace / "moved").rename(run.parent)

    swapped("rlrun.cli.rm.confirmed")
    assert os.listdir(precious.parent) == ["precious"]  # no lock either
    swapped("rlrun.locks.remove_stale")

    def replace(*_: Any) -> bool:
        run.rename(workplace / "moved")
        sibling.rename(run)
        return True

    monkeypatch.setattr("rlrun.cli.rm.confirmed", replace)
    assert rlrun("rm", "mine", "-y").code == 5 and (run / "run.json").is_file()


def test_a_deletion_that_is_interrupted_anywhere_is_just_that(
    rlrun: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(call: Any) -> Any:
        def then(*arguments: Any, **options: Any) -> None:
            call(*arguments, **options)
            raise KeyboardInterrupt

        return then

    for name in ("close", "unlink", "fstat"):
        plant(outputs / "d", "mine")
        with monkeypatch.context() as patch:
            patch.setattr(deletion, "os", types.SimpleNamespace(**vars(os) | {name: interrupted(getattr(os, name))}))
            assert rlrun("rm", "mine", "-y").code == 130, name


def test_what_is_being_deleted_is_no_remains(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder keeps its time when it is renamed: of an old run it would look as if its deletion had been cut short."""
    run = plant(outputs / "d", "mine")
    os.utime(run, (0, 0))
    found: list[Any] = []
    monkeypatch.setattr(deletion, "_empty", lambda *_: found.extend(garbage_around(outputs)))
    with pytest.raises(StorageError):
        deletion.delete(run, inode_of(run))
    assert found == []


def test_the_folder_one_stands_in(rlrun: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = plant(outputs / "2026-01-01", "120000_a_s1")
    (run / "checkpoints").mkdir(exist_ok=True)
    monkeypatch.chdir(run)
    assert rlrun("rm", ".", "--yes").code == 0
    monkeypatch.chdir(outputs)
    assert not run.exists()
    other = plant(outputs / "2026-01-01", "120000_b_s1")
    (other / "checkpoints").mkdir(exist_ok=True)
    assert rlrun("rm", str(other / "checkpoints" / ".."), "--yes").code == 0
    assert not other.exists()


@pytest.mark.parametrize("name", ["report-thesis.html", "mlruns", "export"])
def test_what_a_run_never_writes_is_not_taken_for_its_own(name: str, rlrun: Any, workplace: Path) -> None:
    run = plant(workplace, "mine")
    (run / name).mkdir()
    answer = rlrun("rm", "mine", "--yes")
    assert answer.code == 4 and f"holds {name}, which is of no run" in answer.errors[0] and run.is_dir()


def test_what_another_deletes_meanwhile_is_deleted(rlrun: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [plant(outputs / "d", name) for name in ("a", "b", "c")]

    def others(question: str, yes: bool) -> bool:
        deletion.delete(runs[0], inode_of(runs[0]))
        return True

    real = deletion.os.open

    def late(path: Any, *rest: Any, **options: Any) -> int:
        descriptor = real(path, *rest, **options)
        if path == runs[1] / "run.lock":
            deletion.delete(runs[1], inode_of(runs[1]))
        return descriptor

    monkeypatch.setattr("rlrun.cli.rm.confirmed", others)
    monkeypatch.setattr("rlrun.locks.os.open", late)
    answer = rlrun("rm", *map(str, runs), "-y")
    assert (answer.code, answer.err) == (0, "") and os.listdir(outputs / "d") == []


def test_a_run_that_another_rm_holds_and_deletes_is_lost(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = plant(outputs / "d", "a")
    with lock(run), pytest.raises(LostFileError), monkeypatch.context() as patch:
        patch.setattr("rlrun.locks.time.sleep", lambda _: deletion.delete(run, inode_of(run)))
        with lock(run):
            pass


def test_a_reader_that_has_gone_stops_no_deletion(rlrun: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unread(*arguments: str) -> int:
        reader, writer = os.pipe()
        os.close(reader)
        with monkeypatch.context() as patch, open(writer, "w") as stdout:
            patch.setattr("sys.stdout", stdout)
            return main([*arguments])

    run, done = plant(outputs / "d", "mine"), plant(outputs / "d", "done")
    for frames in (10, 20):
        checkpoint(done, f"step_{frames:012d}.ckpt", frames)
    assert unread("rm", "mine", "-y", "-n") == 0 and run.exists()
    assert unread("rm", "mine", "-y") == 0 and not run.exists()
    assert unread("gc", "-y") == 0 and len(os.listdir(done / "checkpoints")) == 1
    answering(monkeypatch, "y\n")
    assert unread("rm", "done") == 0 and done.exists()  # nobody can have read the question

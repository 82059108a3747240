"""``rlrun gc``: what it finds, and that every run goes on and plays as before once it has gone."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from planted import checkpoint, plant, plant_sweep
from support import CARTPOLE, Folder, assert_same_run, merged, resumed

from rlrun import checkpoint_folder, garbage, plain
from rlrun.checkpoint import find_damage, read_header
from rlrun.cli.asking import confirmed
from rlrun.cli.output import shown_size
from rlrun.finding import REMOVED
from rlrun.locks import lock
from rlrun.pieces import names_of
from rlrun.run import Run


@pytest.fixture
def outputs(workplace: Path) -> Path:
    return workplace / "outputs"


def going(rlrun: Any, *options: str) -> dict[str, list[str]]:
    """Category -> names of what would go."""
    answer = rlrun("gc", "--dry-run", "--json", *options)
    assert answer.code == 0, answer.err
    found: dict[str, list[str]] = {}
    for item in json.loads(answer.out):
        found.setdefault(item["what"], []).append(Path(item["path"]).name)
    return found


def step(frames: int) -> str:
    return f"step_{frames:012d}.ckpt"


def old(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (0, 0))


def is_open(folder: Path, descriptor: int | None) -> bool:
    """Whether a descriptor is of this folder."""
    return descriptor is not None and os.path.samestat(os.fstat(descriptor), folder.stat())


def test_older_checkpoints_of_finished_runs(rlrun: Any, outputs: Path) -> None:
    run = plant(outputs / "d", "done")
    for frames in (10, 20, 30):
        checkpoint(run, step(frames), frames)
    checkpoint(run, "best.ckpt", 20)
    stopped = plant(outputs / "d", "stopped", status="stopped")
    for frames in (10, 20):
        checkpoint(stopped, step(frames), frames)
    assert going(rlrun) == {garbage.OLDER: [step(10), step(20)]}
    assert going(rlrun, "--keep", "2") == {garbage.OLDER: [step(10)]}
    assert going(rlrun, "--best") == {garbage.OLDER: [step(10), step(20)], garbage.BEST: ["best.ckpt"]}
    assert going(rlrun, "stopped") == {}
    assert going(rlrun, "done") == going(rlrun)
    answer = rlrun("gc", "--yes")
    assert "older checkpoints of finished runs  2" in answer.out and "freed" in answer.out
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", step(30)]
    assert rlrun("gc", "-y").out == "nothing to free\n"


def test_what_is_damaged_is_not_what_stays(rlrun: Any, outputs: Path) -> None:
    run = plant(outputs / "d", "done")
    for frames in (10, 20, 30):
        checkpoint(run, step(frames), frames)
    (run / "checkpoints" / step(30)).write_bytes(b"RLRUN1\nhalf of it")
    (run / "checkpoints" / f"{step(5)}.bad").write_bytes(b"x")
    assert going(rlrun) == {garbage.OLDER: [step(10)], garbage.DAMAGED: [f"{step(5)}.bad"]}
    for frames in (10, 20):
        (run / "checkpoints" / step(frames)).write_bytes(b"x")
    assert going(rlrun) == {}  # they are all there is


def test_temporary_files_and_pieces_of_no_checkpoint(rlrun: Any, outputs: Path) -> None:
    run = plant(outputs / "d", "mine", status="stopped")
    checkpoint(run, step(10), 10)
    (run / ".tmp-1-1").write_text("x")
    (run / "checkpoints" / ".tmp-1-2").write_text("x")
    piece = run / "checkpoints" / f"{0:012d}-{5:012d}-{'a' * 16}.piece"
    piece.write_text("x")
    assert going(rlrun) == {garbage.TEMPORARY: [".tmp-1-2", ".tmp-1-1"], garbage.PIECES: [piece.name]}
    path = checkpoint(run, step(20), 20)
    path.write_bytes(b"x")  # it may have needed the piece
    assert garbage.PIECES not in going(rlrun)
    path.unlink()
    assert rlrun("gc", "-y").code == 0
    assert not piece.exists() and not list(run.rglob(".tmp-*"))


def test_runs_that_never_began(rlrun: Any, outputs: Path) -> None:
    day = outputs / "2026-01-01"
    failed = plant(day, "120000_failed_s0", status="failed")
    with_best = plant(day, "120000_best_s0", status="failed")
    checkpoint(with_best, "best.ckpt", 5)
    begun = plant(day, "120000_begun_s0", status="failed")
    checkpoint(begun, step(10), 10)
    damaged = plant(day, "120000_damaged_s0", status="failed")
    (damaged / "checkpoints" / f"{step(10)}.bad").write_bytes(b"x")
    plant(day, "given", status="failed")  # by run.dir=
    starting, killed = (plant(day, f"120000_{name}_s0", status="running") for name in ("starting", "killed"))
    old(killed / "run.json")
    plant_sweep(outputs, "2026-01-01_120000_a", {"120000_a_s1": 1.0}, status="failed")
    assert going(rlrun) == {garbage.UNBEGUN: [failed.name, killed.name]}
    assert going(rlrun, "--best") == {garbage.UNBEGUN: [with_best.name, failed.name, killed.name]}
    with lock(killed):
        assert going(rlrun) == {garbage.UNBEGUN: [failed.name]}
    assert rlrun("gc", "-y").code == 0
    assert not failed.exists() and not killed.exists() and starting.is_dir() and with_best.is_dir()


def test_empty_directories(rlrun: Any, outputs: Path) -> None:
    half = outputs / "2026-01-02" / "120000_half_s0"
    for path in (
        outputs / "2026-01-01",
        half / "checkpoints",
        outputs / "mine",
        outputs / "sweeps" / "2026-01-01_120000_a",
    ):
        path.mkdir(parents=True)
    (half / "config.yaml").write_text("x")
    assert going(rlrun) == {}  # somebody may be making a run in them
    old(outputs / "2026-01-01", half, outputs / "mine", outputs / "sweeps" / "2026-01-01_120000_a")
    assert going(rlrun) == {garbage.EMPTY: ["2026-01-01", "2026-01-01_120000_a", half.name]}
    (half / "thesis.tex").write_text("x")
    old(half)
    assert half.name not in going(rlrun)[garbage.EMPTY]
    assert rlrun("gc", "-y").code == 0
    assert sorted(os.listdir(outputs)) == ["2026-01-02", "mine", "sweeps"]


def test_who_is_asked_and_what_is_left_alone(rlrun: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = plant(outputs / "d", "done")
    for frames in (10, 20):
        checkpoint(run, step(frames), frames)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    answer = rlrun("gc")
    assert answer.code == 2 and answer.errors[0].startswith("there is no terminal to ask on") and answer.out == ""
    assert rlrun("gc", "--older-than", "1h").out == "nothing to free\n"
    assert going(rlrun, "--older-than", "1h") == {}
    old(run / "run.json")
    assert going(rlrun, "--older-than", "1000w") == {garbage.OLDER: [step(10)]}
    assert rlrun("gc", "--older-than", "1 hour").code == 2 and rlrun("gc", "--keep", "0").code == 2
    assert rlrun("gc", "--json").code == 2 and rlrun("gc", "-n", "--outputs", "run").code == 0
    with lock(run):
        assert going(rlrun) == {}
    monkeypatch.setattr("rlrun.cli.gc.require_someone", lambda yes: None)

    def busy(question: str, yes: bool) -> bool:
        stack.enter_context(lock(run))
        return True

    with contextlib.ExitStack() as stack:
        monkeypatch.setattr("rlrun.cli.gc.confirmed", busy)
        answer = rlrun("gc")
        assert answer.code == 0 and "is in use by pid" in answer.err and "freed 0B" in answer.out
    assert (run / "checkpoints" / step(10)).is_file()
    monkeypatch.setattr("rlrun.cli.gc.confirmed", confirmed)
    (run / "run.json").write_text("{")
    assert going(rlrun) == {}


def test_one_that_can_not_be_freed_stops_no_other(rlrun: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [plant(outputs / "d", name) for name in ("1_gone", "2_sealed", "3_stuck", "4_fine")]
    _, sealed, stuck, fine = ([checkpoint(run, step(frames), frames) for frames in (10, 20, 30)] for run in runs)
    (runs[1] / "run.lock").symlink_to("elsewhere")
    left = outputs / "d" / f"{REMOVED}1-0"
    left.mkdir()
    old(left)
    unlink = os.unlink

    def refusing(name: Any, dir_fd: int | None = None) -> None:
        if name == stuck[1].name and is_open(stuck[1].parent, dir_fd):
            raise PermissionError(1, "Operation not permitted")
        unlink(name, dir_fd=dir_fd)

    def others(question: str, yes: bool) -> bool:
        shutil.rmtree(runs[0])
        return True

    monkeypatch.setattr(os, "unlink", refusing)
    monkeypatch.setattr("rlrun.cli.gc.confirmed", others)
    size = fine[0].stat().st_size
    answer = rlrun("gc", "-y")
    assert answer.code == 5 and answer.errors == ["not all could be freed; the notes say why"]
    assert [line for line in answer.err.splitlines() if line.startswith("rlrun: note")] == [
        "rlrun: note: can't lock outputs/d/2_sealed/run.lock: Too many levels of symbolic links",
        f"rlrun: note: can't delete outputs/d/3_stuck/checkpoints/{step(20)}: Operation not permitted",
    ]
    assert len(list(sealed[0].parent.iterdir())) == 3
    assert f"freed {shown_size(3 * size)}" in answer.out
    assert [path.exists() for path in stuck] == [False, True, True] and [path.exists() for path in fine] == [
        False,
        False,
        True,
    ]
    assert not left.exists()


def test_what_is_swapped_while_it_asks_leads_nowhere(
    rlrun: Any, outputs: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write in outputs moves folders out of it, and puts links to the like in their places."""
    for place in (outputs / "2026-01-01", workplace / "home"):
        done = plant(place, "done")
        for frames in (10, 20):
            checkpoint(done, step(frames), frames)
        plant(place, "120000_failed_s0", status="failed")
        (place / f"{REMOVED}1-0").mkdir()
        (place / "2026-01-02_120000_a").mkdir()
        (place / ".tmp-1-2").touch()
        old(place / f"{REMOVED}1-0", place / "2026-01-02_120000_a", place / ".tmp-1-2")
    home = sorted((workplace / "home").rglob("*"))

    def swapping(question: str, yes: bool) -> bool:
        (outputs / "2026-01-01").rename(workplace / "moved")
        (outputs / "2026-01-01").symlink_to(workplace / "home")
        return True

    found = sum(map(len, going(rlrun).values()))
    monkeypatch.setattr("rlrun.cli.gc.confirmed", swapping)
    answer = rlrun("gc", "-y")
    assert answer.code == 5 and answer.out.endswith("freed 0B\n")
    assert found == 4 and answer.err.count("was moved meanwhile") == 4
    assert sorted((workplace / "home").rglob("*")) == home and len(list((workplace / "moved").rglob("*.ckpt"))) == 2


def test_it_follows_no_links(rlrun: Any, outputs: Path, workplace: Path) -> None:
    run, other = plant(outputs / "d", "done"), plant(workplace / "elsewhere", "other")
    for frames in (10, 20):
        checkpoint(other, step(frames), frames)
    (run / "checkpoints").rmdir()
    (run / "checkpoints").symlink_to(other / "checkpoints")
    (outputs / "2026-01-01").symlink_to(workplace / "elsewhere")
    assert going(rlrun) == going(rlrun, "--best") == {}


# --- what stays ------------------------------------------------------------------------------------------------------


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_folder, "SMALLEST", 0)


def usable(run: Run) -> Iterator[str]:
    """The checkpoints of a run, each known to be whole, with all its pieces."""
    for path in sorted(run.checkpoints.glob("*.ckpt")):
        assert find_damage(path) is None, path
        for name in names_of(read_header(path).get("pieces", [])):
            assert find_damage(run.checkpoints / name) is None, (path, name)
        yield path.name


@pytest.mark.usefixtures("everything_is_large")
@pytest.mark.parametrize("seed", range(3))
def test_a_kill_at_any_file_leaves_runs_that_go_on(
    rlrun: Any, outputs: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed before a random deletion, each time one later, until it comes to its end."""
    folder = Folder(outputs)
    settings = merged(CARTPOLE, {"checkpoint": {"every_frames": 50, "keep": 5}, "seed": seed})
    run, whole = folder.trained(settings), folder.trained(settings, {"total_frames": 500})
    (run.checkpoints / f"{0:012d}-{5:012d}-{'a' * 16}.piece").write_text("x")
    (run.checkpoints / f"{step(1)}.bad").write_text("x")
    keep = random.Random(seed).randint(1, 3)
    names = set(usable(run))
    assert len(names) == 6
    unlink, left = os.unlink, 0

    def unlink_few(name: Any, dir_fd: int | None = None) -> None:
        nonlocal left
        if is_open(run.checkpoints, dir_fd):
            if not left:
                raise KeyboardInterrupt
            left -= 1
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlink_few)
    for killed in range(20):
        left = killed
        code = rlrun("gc", "-y", "--keep", str(keep), str(run.directory)).code
        names = set(usable(run))
        assert len(names) > keep and {"best.ckpt", step(400)} <= names
        if code == 0:
            break
        assert code == 130
    monkeypatch.setattr(os, "unlink", unlink)
    assert code == 0 and len(names) == keep + 1 and killed > 2
    assert rlrun("eval", str(run.directory), "--episodes", "1").code == 0
    assert rlrun("eval", str(run.directory), "--episodes", "1", "--checkpoint", "last").code == 0
    pieces = {name for path in run.checkpoints.glob("step_*.ckpt") for name in names_of(read_header(path)["pieces"])}
    assert {path.name for path in run.checkpoints.glob("*.piece")} == pieces
    assert resumed(run, total_frames=500).status == "finished"
    assert_same_run(run, whole)


def test_what_killed_commands_left_in_the_folders_of_a_run(rlrun: Any, outputs: Path) -> None:
    run = plant(outputs / "d", "done")
    file, folder, link = run / "plots" / ".tmp-1-2", run / "exports" / ".tmp-export-x", run / "videos" / ".tmp-3-4"
    for path in (file, folder, link):
        path.parent.mkdir()
    file.write_text("12345")
    folder.mkdir()
    (folder / "policy.onnx").write_text("123")
    link.symlink_to(outputs)
    young = run / "plots" / ".tmp-5-6"
    young.touch()
    old(file, folder)
    assert going(rlrun) == {garbage.TEMPORARY: [".tmp-1-2", ".tmp-export-x"]}
    assert rlrun("gc", "--yes").code == 0
    assert not file.exists() and not folder.exists() and young.exists() and link.is_symlink() and run.is_dir()


def test_what_killed_commands_left_of_a_sweep_and_beside_runs(rlrun: Any, outputs: Path) -> None:
    sweep = plant_sweep(outputs, "2026-01-01_120000_a", {"120000_a_s1": 1.0})
    of_sweep = [sweep / ".tmp-1-2", sweep / "plots" / ".tmp-1-3"]
    others = [outputs / ".tmp-1-4", outputs / ".tmp-other", sweep / ".tmp-5-6"]
    (sweep / "plots").mkdir()
    for path in (*of_sweep, *others):
        path.write_text("12345")
    old(*of_sweep, *others[:2])
    assert going(rlrun, sweep.name) == {garbage.TEMPORARY: [path.name for path in of_sweep]}
    assert going(rlrun) == {garbage.TEMPORARY: [".tmp-1-2", ".tmp-1-3", ".tmp-1-4"]}
    assert rlrun("gc", sweep.name, "-y").out.endswith("freed 10B\n") and rlrun("gc", "-y").code == 0
    assert not any(path.exists() for path in of_sweep)
    assert [path.exists() for path in others] == [False, True, True]


def test_what_is_just_being_written_stays(rlrun: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report, say: it is written into the directory of a run without the run's lock."""
    run = plant(outputs / "d", "done")
    left = run / ".tmp-1-1"
    real = plain.write_all

    def freeing(descriptor: int, data: bytes) -> None:
        monkeypatch.setattr(plain, "write_all", real)
        left.write_text("x")
        assert going(rlrun) == {garbage.TEMPORARY: [left.name]}
        assert rlrun("gc", "-y").code == 0
        plain.write_all(descriptor, data)

    monkeypatch.setattr(plain, "write_all", freeing)
    assert plain.write_atomically(run / "report.html", b"all of it") == 9
    assert (run / "report.html").read_bytes() == b"all of it" and not left.exists()
    assert not list(run.glob(".tmp-*"))

"""Large replay memories saved in pieces: what a save costs, what comes back, and what may be missing or forged."""

from __future__ import annotations

import contextlib
import errno
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import CARTPOLE, Folder, assert_same_run, resumed

import rlrun.checkpoint
from rlrun import checkpoint_folder
from rlrun.arrays import Ring
from rlrun.checkpoint import load, packed, save
from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.errors import ResumeError, StorageError
from rlrun.pieces import MOST, Pieces, is_piece, names_of
from rlrun.plain import open_regular, write_atomically

CAPACITY = 10
X = "0" * 64


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_folder, "SMALLEST", 0)
    monkeypatch.setattr(checkpoint_folder, "PAUSES", ())


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(tmp_path, keep=2)


def ring(written: int) -> Ring:
    """A ring to which the rows 0, 1, 2, ... were written."""
    array = np.full((CAPACITY, 2), -1, np.int64)
    for row in range(written):
        array[row % CAPACITY] = row, -row
    return Ring(written, {"rows": array, "last": array[:, 1].astype(np.float32)})


def save_rings(folder: CheckpointFolder, *written: int) -> None:
    for rows in written:
        folder.save(rows, {}, {"training": {"replay": ring(rows)}})


def newest(folder: CheckpointFolder) -> tuple[int, Any]:
    notices: list[str] = []
    path, _, tree = folder.newest(notices.append)
    return int(path.stem.removeprefix("step_")), tree["training"]["replay"]


def spans(folder: CheckpointFolder) -> list[tuple[int, ...]]:
    names = [path.stem for path in folder.directory.glob("*.piece")]
    return sorted(tuple(map(int, name.split("-")[:2])) for name in names)


def piece(folder: CheckpointFolder, first: int, last: int) -> Path:
    (path,) = folder.directory.glob(f"{first:012d}-{last:012d}-*.piece")
    return path


@pytest.mark.parametrize(
    "written",
    [
        *[(0,), (3,), (3, 7), (3, 10), (4, 9, 13), (4, 9, 13, 13, 21), (4, 40), (10, 20, 30), (2, 25, 27)],
        *[(1,), (4, 4, 4), (1, 2, 3, 4, 5, 6, 7)],
    ],
)
def test_what_comes_back_is_the_whole_ring(written: tuple[int, ...], folder: CheckpointFolder) -> None:
    save_rings(folder, *written)
    frames, tree = newest(folder)
    expected = ring(written[-1]).whole()
    assert frames == written[-1] and tree.keys() == expected.keys() and tree["written"] == expected["written"]
    for name in ("rows", "last"):
        assert tree[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(tree[name], expected[name])


def test_only_what_is_new_is_written_and_what_nobody_needs_is_deleted(folder: CheckpointFolder) -> None:
    """By two chains in turn, which share no file."""
    save_rings(folder, 4, 6)
    assert spans(folder) == [(0, 4), (0, 6)]
    save_rings(folder, 9)
    assert spans(folder) == [(0, 4), (0, 6), (4, 9)]
    save_rings(folder, 13)
    assert spans(folder) == [(0, 4), (0, 6), (4, 9), (6, 13)]
    save_rings(folder, 15)
    assert spans(folder) == [(0, 6), (4, 9), (6, 13), (9, 15)]  # rows 5 to 15 need not the first
    assert folder.at(13)[2]["training"]["replay"]["written"] == 13


def test_a_piece_of_which_all_rows_were_overwritten_is_needed_no_more(folder: CheckpointFolder) -> None:
    save_rings(folder, 4, 5, 14)
    assert spans(folder) == [(0, 5), (4, 14)]


def test_the_best_is_no_turn(folder: CheckpointFolder) -> None:
    for rows in (4, 6, 8):
        save_rings(folder, rows)
        folder.save_best({}, {})
    assert spans(folder) == [(0, 4), (0, 6), (4, 8)]


def test_the_header_that_was_given_stays_as_it_is(folder: CheckpointFolder) -> None:
    header = {"frames": 4}
    folder.save(4, header, {"replay": ring(4)})
    assert header == {"frames": 4} and len(folder.newest(pytest.fail)[1]["pieces"]) == 1


def test_a_small_ring_is_saved_whole(folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_folder, "SMALLEST", ring(4).nbytes + 1)
    save_rings(folder, 4)
    assert spans(folder) == [] and newest(folder)[1]["written"] == 4
    monkeypatch.setattr(checkpoint_folder, "SMALLEST", ring(4).nbytes)
    save_rings(folder, 6)
    assert spans(folder) == [(0, 6)]


def test_pieces_of_the_process_before_stay_as_long_as_a_checkpoint_needs_them(tmp_path: Path) -> None:
    save_rings(CheckpointFolder(tmp_path, keep=3), 4, 6)
    folder = CheckpointFolder(tmp_path, keep=3)
    save_rings(folder, 8)
    assert spans(folder) == [(0, 4), (0, 6), (0, 8)]
    save_rings(folder, 9, 10)
    assert spans(folder) == [(0, 8), (0, 9), (8, 10)]


@pytest.mark.parametrize("content", [None, [["x"]]])
def test_no_piece_is_deleted_while_a_checkpoint_does_not_say_which_it_needs(
    content: Any, folder: CheckpointFolder
) -> None:
    path = folder.directory / "step_000000000099.ckpt"
    path.write_text("x") if content is None else save(path, {"pieces": content}, {})
    unused = folder.directory / f"{0:012d}-{1:012d}-{X[:16]}.piece"
    link = unused.with_name(unused.name.replace("-", "1-", 1))
    unused.touch()
    link.symlink_to(__file__)
    save_rings(folder, 4)
    assert unused.exists()
    path.unlink()
    save_rings(folder, 6)
    assert not unused.exists() and link.is_symlink()


@pytest.mark.parametrize("pieces", [None, [], [["x"]]])
def test_only_pieces_that_the_header_names_are_read(pieces: Any, folder: CheckpointFolder) -> None:
    """Only their digests were held against the files. That it names others is no damage: the file stays as it is."""
    save_rings(folder, 4)
    path = folder.directory / "step_000000000004.ckpt"
    header, tree = load(path)
    save(path, {**header, "pieces": pieces}, tree)
    with pytest.raises(ResumeError, match="pieces that its header does not name"):
        newest(folder)
    assert path.exists()


def test_many_small_pieces_become_one(folder: CheckpointFolder) -> None:
    array = np.arange(1000)
    for written in range(1, 2 * MOST + 4):
        folder.save(written, {}, {"replay": Ring(written, {"rows": array})})
    assert len(spans(folder)) < MOST and (0, 2 * MOST + 1) in spans(folder)
    np.testing.assert_array_equal(folder.newest(pytest.fail)[2]["replay"]["rows"], array[: 2 * MOST + 3])


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_folder_that_can_not_be_listed_costs_no_piece(
    call: int, folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_rings(folder, 4, 6)
    scandir, calls = os.scandir, [0]

    def failing(place: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise OSError(errno.EMFILE, "Too many open files")
        return scandir(place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", failing)
        save_rings(folder, 8)
    assert calls[0] >= call and newest(folder)[0] == 8


def test_a_piece_that_can_not_be_read_for_a_moment_is_not_missing(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_rings(folder, 4, 6)

    def failing(path: Path) -> Any:
        if path.suffix == ".piece":
            raise OSError(errno.EMFILE, "Too many open files")
        return open_regular(path)

    with monkeypatch.context() as patch:
        patch.setattr("rlrun.checkpoint.open_regular", failing)
        with pytest.raises(ResumeError, match="Too many open files"):
            newest(folder)
    assert newest(folder)[0] == 6 and not list(folder.directory.glob("*.bad"))


def test_the_same_frame_saved_again_leaves_what_there_is_as_it_is(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a process that resumed, and cut the newest episode: its rows differ."""
    save_rings(folder, 4)
    changed = ring(4)
    changed.arrays["rows"][3] = 9
    again = CheckpointFolder(folder.directory, keep=2)
    write = rlrun.checkpoint.write_atomically
    with monkeypatch.context() as patch:
        patch.setattr("rlrun.checkpoint.write_atomically", lambda *_: (_ for _ in ()).throw(StorageError("full")))
        with pytest.raises(StorageError):
            again.save(4, {}, {"training": {"replay": changed}})
    assert write is rlrun.checkpoint.write_atomically
    np.testing.assert_array_equal(newest(folder)[1]["rows"], ring(4).whole()["rows"])


@pytest.mark.parametrize("how", ["flipped", "missing", "another"])
def test_a_damaged_piece_damages_the_checkpoints_that_need_it(how: str, folder: CheckpointFolder) -> None:
    save_rings(folder, 4, 6)
    path = piece(folder, 0, 6)
    match how:
        case "flipped":
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        case "missing":
            path.unlink()
        case "another":
            save(path, {}, {"rows": np.zeros((6, 2), np.int64), "last": np.zeros(6, np.float32)})
    notices: list[str] = []
    found = folder.newest(notices.append)[0]
    assert found.name == "step_000000000004.ckpt"
    assert len(notices) == 1 and path.name in notices[0] and "using step_000000000004.ckpt" in notices[0]
    assert not list(folder.directory.glob("*.bad"))  # with its piece back it is good again
    with pytest.raises(ResumeError):
        folder.at(6)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[
            ("pieces", value)
            for value in ([], [[0, 4, "x"]], "x", [[0, 4]], [["../../x", 4, X]], [[4, 2, X]], [[0, 8, X]])
        ],
        ("pieces", [[0, 4, ""]] * (MOST + 1)),
        *[("written", value) for value in (0, -1, 1.5, 10**12)],
        *[("capacity", value) for value in (0, -1, 10**12, 10**30, None, 3)],
    ],
)
def test_a_forged_reference_is_refused(key: str, value: Any, folder: CheckpointFolder) -> None:
    save_rings(folder, 4, 8)
    path = folder.directory / "step_000000000008.ckpt"
    header, tree = load(path)
    tree["training"]["replay"][key] = value
    save(path, header, tree)
    with contextlib.suppress(ResumeError):
        replay = newest(folder)[1]
        assert key == "capacity" and len(replay["rows"]) <= 8  # what is left is held against the config


@pytest.mark.parametrize(
    "rows",
    [
        {},
        {"rows": [1] * 4, "last": [1] * 4},
        {"rows": {"a": 1, "b": 2, "c": 3, "d": 4}, "last": None},
        {"rows": np.array(4), "last": np.zeros(4, np.float32)},
        {"rows": np.zeros((4, 2), np.int64)},
        {"rows": np.zeros((4, 2), np.int64), "last": np.zeros(4, np.float32), "more": np.zeros((4, 1000))},
        {"rows": np.zeros((4, 1), np.int64), "last": np.zeros(4, np.float32)},
        {"rows": np.zeros((4, 2), np.complex64), "last": np.zeros(4, np.float32)},
    ],
    ids=["none", "lists", "dicts", "number", "fewer", "more", "narrower", "complex"],
)
def test_a_forged_piece_is_refused(rows: dict[str, Any], folder: CheckpointFolder) -> None:
    save_rings(folder, 4, 6, 8)
    path = folder.directory / "step_000000000008.ckpt"
    header, tree = load(path)
    reference = tree["training"]["replay"]["pieces"][-1]
    chunks = packed({}, rows)
    reference[2] = chunks[-1].hex()
    first, last, digest = reference
    (folder.directory / f"{first:012d}-{last:012d}-{digest[:16]}.piece").write_bytes(b"".join(chunks))
    save(path, header | {"pieces": tree["training"]["replay"]["pieces"]}, tree)
    with pytest.raises(ResumeError, match="malformed: not written by rlrun"):
        newest(folder)


def forge(folder: CheckpointFolder, frames: int, **changes: Any) -> None:
    """Write what a checkpoint says of its ring anew."""
    path = folder.directory / f"step_{frames:012d}.ckpt"
    header, tree = load(path)
    tree["training"]["replay"].update(changes)
    save(path, {**header, "pieces": tree["training"]["replay"]["pieces"]}, tree)


@pytest.mark.parametrize(
    ("written", "capacity"),
    [*[(value, CAPACITY) for value in (0, 3, 4.0)], *[(4, value) for value in (0, True, 10.0)], (0, 0), (3, 0)],
)
def test_forged_counts_reach_no_row(written: Any, capacity: Any, folder: CheckpointFolder) -> None:
    save_rings(folder, 4)
    forge(folder, 4, written=written, capacity=capacity)
    with pytest.raises(ResumeError, match="malformed"):
        newest(folder)


def test_rows_that_no_piece_has_are_not_made_up(folder: CheckpointFolder) -> None:
    save_rings(folder, 4, 6, 9)
    pieces = folder.at(9)[1]["pieces"]
    forge(folder, 9, pieces=pieces[1:])
    with pytest.raises(ResumeError, match="pieces that are not all there"):
        newest(folder)
    for wrong in ([], pieces[:1], pieces[::-1], [pieces[0], pieces[0], pieces[1]]):
        forge(folder, 9, pieces=wrong)
        with pytest.raises(ResumeError, match="pieces that do not fit together"):
            newest(folder)


@pytest.mark.parametrize("names", [("rows",), ("rows", "last", "more")])
def test_pieces_have_the_same_arrays(names: tuple[str, ...], folder: CheckpointFolder) -> None:
    save_rings(folder, 4, 5, 6)
    pieces = folder.at(6)[1]["pieces"]
    content = packed({}, {name: np.zeros(2) for name in names})
    pieces[1][2] = content[-1].hex()
    write_atomically(folder.directory / names_of(pieces[1:]).pop(), *content)
    forge(folder, 6, pieces=pieces)
    with pytest.raises(ResumeError, match="pieces of different arrays"):
        newest(folder)


def test_no_more_memory_is_taken_than_pieces_are_large(folder: CheckpointFolder) -> None:
    save_rings(folder, 4)
    small = folder.at(4)[1]["pieces"][0]
    large = [4, 9 * 10**15, small[2]]
    piece(folder, 0, 4).with_name(names_of([large]).pop()).write_bytes(piece(folder, 0, 4).read_bytes())
    forge(folder, 4, pieces=[small, large], written=9 * 10**15, capacity=9 * 10**15)
    with pytest.raises(ResumeError, match="a ring larger than its pieces"):
        newest(folder)


@pytest.mark.parametrize("rows", [5, None, "0123", [0, 1, 2, 3], dict.fromkeys("abcd"), np.array(4), np.zeros(3)])
def test_a_piece_of_another_length_is_refused(rows: Any, folder: CheckpointFolder) -> None:
    pieces = Pieces(folder.directory)
    reference = pieces.save(ring(4))
    content = packed({}, {"rows": rows})
    reference["pieces"][0][2] = content[-1].hex()
    write_atomically(folder.directory / names_of(reference["pieces"]).pop(), *content)
    save(folder.directory / "step_000000000004.ckpt", {"pieces": reference["pieces"]}, {"replay": reference})
    with pytest.raises(ResumeError, match="a piece of another length than its name says"):
        folder.newest(pytest.fail)


@pytest.mark.parametrize(
    "references",
    [
        *[None, "x", {}, [5], ["012"], [[0, 4]], [[0, 4, X, 1]], [[0.0, 4, X]], [[False, 4, X]], [[0, 4, None]]],
        *[
            [[-1, 4, X]],
            [[4, 4, X]],
            [[4, 2, X]],
            [[0, 10**18, X]],
            [[0, 4, "x"]],
            [[0, 4, X + "0"]],
            [[0, 4, f"{X}\n"]],
        ],
        [[0, 4, X]] * (MOST + 1),
    ],
)
def test_references_that_no_save_wrote(references: Any) -> None:
    with pytest.raises(ValueError):
        names_of(references)


def test_names_of_pieces() -> None:
    names = names_of([[0, 1, "a" * 64], [7, 10**18 - 1, "1f" * 32], *[[0, 4, X]] * (MOST - 2)])
    assert names == {
        f"000000000000-000000000001-{'a' * 16}.piece",
        f"000000000007-{10**18 - 1}-{'1f' * 8}.piece",
        f"000000000000-000000000004-{'0' * 16}.piece",
    }
    assert all(map(is_piece, names))
    others = ("x.piece", f"{min(names)}.bad", min(names).replace(".", "_"), "step_000000000000.ckpt")
    assert not any(map(is_piece, others))


def test_a_piece_that_can_not_be_deleted_is_passed_over(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink, tried = os.unlink, []

    def failing(path: Any) -> None:
        tried.append(path)
        if len(tried) == 1:
            raise PermissionError(errno.EACCES, "no")
        unlink(path)

    monkeypatch.setattr("rlrun.pieces.os.unlink", failing)
    for last in (1, 2, 3):
        (folder.directory / f"{0:012d}-{last:012d}-{X[:16]}.piece").touch()
    save_rings(folder, 4)
    assert len(tried) == 3 and len(spans(folder)) == 2


def test_a_failed_save_does_not_count_on_its_piece(folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    save_rings(folder, 4)
    with monkeypatch.context() as patch:
        patch.setattr("rlrun.plain.os.rename", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(StorageError):
            save_rings(folder, 6)
    save_rings(folder, 8)
    assert spans(folder) == [(0, 4), (0, 8)] and newest(folder)[0] == 8


def test_a_run_that_is_killed_and_resumed_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    settings = {"checkpoint": {"every_frames": 40}, "algo": {"buffer_size": 100}}
    outputs = Folder(tmp_path / "outputs")
    expected = outputs.trained(CARTPOLE, settings)
    run = outputs.stopped_and_resumed(170, CARTPOLE, settings)
    assert list(run.checkpoints.glob("*.piece"))
    assert_same_run(run, expected)
    for path in run.checkpoints.glob(f"step_{400:012d}.ckpt"):
        path.write_bytes(path.read_bytes()[:-1])
    assert resumed(run).status == "finished"
    assert_same_run(run, expected)


def test_rows_wider_than_those_of_other_pieces_take_no_memory(folder: CheckpointFolder) -> None:
    """The first piece says how wide a row is: one wide row must not make room for as many as the ring has."""
    save_rings(folder, 1)
    pieces = []
    for first, last, rows in ((0, 1, np.zeros((1, 30_000), np.uint8)), (1, 20_000, np.ones((19_999, 1), np.uint8))):
        chunks = packed({}, {"rows": rows})
        pieces.append([first, last, chunks[-1].hex()])
        (folder.directory / names_of(pieces[-1:]).pop()).write_bytes(b"".join(chunks))
    forge(folder, 1, pieces=pieces, written=20_000, capacity=20_000)
    tracemalloc.start()
    try:
        with pytest.raises(ResumeError, match="a ring larger than its pieces"):
            newest(folder)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()

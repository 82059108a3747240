"""Rows to disk and back, and the cut at a checkpoint."""

from __future__ import annotations

import errno
import json
import math
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrun import metrics
from rlrun.errors import ResumeError, StorageError
from rlrun.locks import lock
from rlrun.metrics import Recorder, last_returns, read_episodes, read_rows, read_rows_from

FILES = ("metrics.jsonl", "timing.jsonl", "episodes.csv")


def contents(directory: Path) -> list[bytes]:
    return [(directory / name).read_bytes() for name in FILES]


def record(recorder: Recorder, frames: range) -> None:
    for frame in frames:
        recorder.metrics({"frames": frame, "loss": 1 / (frame + 1)})
        recorder.timing({"frames": frame, "seconds": frame / 7})
        recorder.episode(frame, frame / 3, frame + 1)


def test_rows_come_back_as_recorded(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, None)
    rows: list[dict[str, Any]] = [
        {"frames": 1, "loss": 0.1 + 0.2, "phase": "line\nbreak \u2028", "clip": None},
        {"frames": 2, "loss": math.inf, "kl": -math.inf, "gradient": 1e-320},
    ]
    for row in rows:
        recorder.metrics(row)
    recorder.metrics({"loss": math.nan})
    recorder.timing({"seconds": 0.5})
    recorder.close()
    found = read_rows(tmp_path / "metrics.jsonl")
    assert found[:2] == rows
    assert math.isnan(found[2]["loss"])
    assert read_rows(tmp_path / "timing.jsonl") == [{"seconds": 0.5}]


def test_the_file_is_strict_json_with_nonfinite_values_named(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, None)
    recorder.metrics({"loss": math.nan, "kl": 1.0, "x": -math.inf})
    recorder.close()
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    strict = json.loads(line, parse_constant=pytest.fail)
    assert strict == {"loss": None, "kl": 1.0, "x": None, "nonfinite": {"loss": "nan", "x": "-inf"}}


def test_a_value_that_is_no_plain_value_is_refused_at_once(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, None)
    with pytest.raises(TypeError):
        recorder.metrics({"loss": np.float32(1)})  # type: ignore[dict-item]
    recorder.close()
    assert read_rows(tmp_path / "metrics.jsonl") == []


def test_episodes_come_back_exactly(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, None)
    returns = [1 / 3, -1e300, float(np.float32(0.1)), math.nan]
    for index, value in enumerate(returns):
        recorder.episode(10 * index, value, index + 1)
        recorder.flush()
    recorder.episode(2**53, np.float64(2.5), 7)
    recorder.close()
    episodes = read_episodes(tmp_path)
    assert episodes["return"].tobytes() == np.array([*returns, 2.5]).tobytes()
    np.testing.assert_array_equal(episodes["frames"], [0, 10, 20, 30, 2**53])
    np.testing.assert_array_equal(episodes["length"], [1, 2, 3, 4, 7])
    assert [episodes[name].dtype for name in ("frames", "return", "length")] == [np.int64, np.float64, np.int64]
    lines = (tmp_path / "episodes.csv").read_text().splitlines()
    assert lines[0] == "episode,frames,return,length"
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3", "4", "5"]
    assert lines[5] == "5,9007199254740992,2.5,7"


def test_nothing_reaches_the_disk_before_a_flush_and_then_in_one_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tmp_path, None)
    before = contents(tmp_path)
    record(recorder, range(50))
    assert contents(tmp_path) == before
    writes: list[int] = []
    write = os.write

    def counted(descriptor: int, data: bytes) -> int:
        writes.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", counted)
    recorder.flush()
    recorder.flush()
    assert len(writes) == 3
    assert len(read_episodes(tmp_path)["frames"]) == 50
    recorder.close()


def test_files_are_private(tmp_path: Path) -> None:
    Recorder(tmp_path, None).close()
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in FILES] == [0o600] * 3


def test_a_resumed_recording_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    recorder = Recorder(whole, None)
    record(recorder, range(30))
    recorder.close()
    recorder = Recorder(parts, None)
    offsets = recorder.sync()
    for start in (0, 10, 20):
        recorder = Recorder(parts, offsets)
        record(recorder, range(start, start + 10))
        offsets = recorder.sync()
        record(recorder, range(900, 905))  # after the checkpoint, so lost with the process
        recorder.flush()
    Recorder(parts, offsets).close()
    assert contents(parts) == contents(whole)
    assert offsets == {name: (whole / name).stat().st_size for name in FILES} | {"episode_count": 30}
    assert json.loads(json.dumps(offsets)) == offsets


def test_starting_afresh_drops_what_a_run_without_checkpoint_left(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, None)
    record(recorder, range(3))
    recorder.close()
    Recorder(tmp_path, None).close()
    assert contents(tmp_path) == [b"", b"", b"episode,frames,return,length\n"]


def test_a_file_shorter_than_its_offset_is_refused_and_nothing_cut(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, None)
    record(recorder, range(5))
    offsets = recorder.sync()
    record(recorder, range(5))
    recorder.close()
    (tmp_path / "timing.jsonl").write_bytes(b"{}\n")
    before = contents(tmp_path)
    with pytest.raises(ResumeError, match=r"timing.jsonl has 3 bytes, but its checkpoint counts on \d+"):
        Recorder(tmp_path, offsets)
    assert contents(tmp_path) == before
    (tmp_path / "episodes.csv").unlink()
    (tmp_path / "episodes.csv").symlink_to(tmp_path / "metrics.jsonl")
    with pytest.raises(ResumeError, match=r"episodes.csv is no regular file"):
        Recorder(tmp_path, offsets | {"timing.jsonl": 0})


@pytest.mark.parametrize("value", [None, -1, 1.0, "1", True])
def test_malformed_offsets_are_refused(tmp_path: Path, value: Any) -> None:
    recorder = Recorder(tmp_path, None)
    offsets = recorder.sync()
    recorder.close()
    for key in offsets:
        with pytest.raises(ResumeError, match=key):
            Recorder(tmp_path, offsets | {key: value})
    with pytest.raises(ResumeError):
        Recorder(tmp_path, {})


@pytest.mark.parametrize("call", ["flush", "sync", "close"])
def test_a_full_disk_is_one_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    recorder = Recorder(tmp_path, None)
    record(recorder, range(5))

    def fail(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(StorageError, match=r"timing.jsonl: No space left on device"):
        getattr(recorder, call)()


def test_a_failed_fsync_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(tmp_path, None)

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match="Input/output error"):
        recorder.sync()


def test_an_unwritable_directory_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"metrics.jsonl: No such file"):
        Recorder(tmp_path / "gone", None)


def test_readers_leave_out_a_torn_last_line_and_take_a_missing_file(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "metrics.jsonl") == []
    assert read_episodes(tmp_path)["return"].shape == (0,)
    recorder = Recorder(tmp_path, None)
    record(recorder, range(2))
    recorder.close()
    for name in FILES:
        with (tmp_path / name).open("ab") as file:
            file.write(b'{"frames": 3' if name != "episodes.csv" else b"3,30,1")
    assert [row["frames"] for row in read_rows(tmp_path / "metrics.jsonl")] == [0, 1]
    np.testing.assert_array_equal(read_episodes(tmp_path)["frames"], [0, 1])


@pytest.mark.parametrize("line", [b"[]", b"nonsense", b'{"nonfinite": 3}', b'{"nonfinite": {"x": []}}', b"\xff", b""])
def test_a_line_that_is_no_row_is_refused(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b"{}\n" + line + b"\n{}\n")
    with pytest.raises(ResumeError, match=r"line 2|not UTF-8"):
        read_rows(tmp_path / "metrics.jsonl")


@pytest.mark.parametrize(
    "text", ["a,b\n", "{header}1,2,3\n", "{header}1,2,x,4\n", "{header}1,2,3,4,5\n", "{header}1,9e9,1,1\n"]
)
def test_an_episodes_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "episodes.csv").write_text(text.replace("{header}", "episode,frames,return,length\n"))
    with pytest.raises(ResumeError, match=r"episodes.csv"):
        read_episodes(tmp_path)


def test_last_returns(tmp_path: Path) -> None:
    assert last_returns(tmp_path, 3) == []
    lines = [f"{number},{number},{number}.5,1\n" for number in range(1, 10_001)]
    path = tmp_path / "episodes.csv"
    path.write_text("episode,frames,return,length\n" + "".join(lines[:2]) + "3,3")
    assert last_returns(tmp_path, 3) == [1.5, 2.5]
    path.write_bytes(b"\xff" * 100_000 + b"\n" + "".join(lines).encode())  # whose beginning is not read
    assert last_returns(tmp_path, 3) == [9998.5, 9999.5, 10000.5]
    path.write_text("episode,frames,return,length\n1,1,x,1\n")
    with pytest.raises(ResumeError, match="damaged"):
        last_returns(tmp_path, 3)


@pytest.mark.parametrize("reader", [read_episodes, lambda directory: last_returns(directory, 3)])
def test_what_is_no_file_is_not_read(reader: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "episodes.csv"
    os.mkfifo(path)
    with pytest.raises(ResumeError, match="not a regular file"):
        reader(tmp_path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ResumeError, match="can't read"):
        reader(tmp_path)


def test_a_file_larger_than_a_run_s_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, reader in (("metrics.jsonl", read_rows), ("episodes.csv", lambda path: read_episodes(path.parent))):
        path = tmp_path / name
        path.touch()
        os.truncate(path, 2**40)  # takes no room on the disk
        with pytest.raises(ResumeError, match=f"{name} is larger than 256 MiB"):
            reader(path)
    path = tmp_path / "metrics.jsonl"
    path.write_text("{}\n" * 11)
    monkeypatch.setattr(metrics, "_MOST_ROWS", 11)
    assert len(read_rows(path)) == 11
    monkeypatch.setattr(metrics, "_MOST_ROWS", 10)
    with pytest.raises(ResumeError, match="has more than 10 rows"):
        read_rows(path)


@pytest.mark.parametrize("name", ["timing.jsonl", "run.lock"])
def test_a_file_that_has_another_name_is_not_written_to(name: str, tmp_path: Path) -> None:
    other, run = tmp_path / "other", tmp_path / "run"
    other.write_text("precious")
    run.mkdir()
    os.link(other, run / name)
    with pytest.raises(StorageError, match=rf"can't (write|lock) .*{name}: it has another name"), lock(run):
        Recorder(run, None)
    assert other.read_text() == "precious"


def test_whoever_follows_the_files_gets_each_whole_row_once_and_its_time(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, None)
    recorder.metrics({"frames": 10, "loss": math.inf})
    recorder.timing({"frames": 10})
    recorder.flush()
    rows, offset = read_rows_from(tmp_path / "metrics.jsonl", 0)
    assert rows == [{"frames": 10, "loss": math.inf}] and offset == (tmp_path / "metrics.jsonl").stat().st_size
    assert read_rows_from(tmp_path / "metrics.jsonl", offset) == ([], offset)
    assert read_rows_from(tmp_path / "none.jsonl", 5) == ([], 5)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"frames": 20}\n{"frames"')
    assert read_rows_from(tmp_path / "metrics.jsonl", offset) == ([{"frames": 20}], offset + 15)
    recorder.close()


def test_the_time_of_a_row_is_written_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(tmp_path, None)
    recorder.metrics({"frames": 10})
    recorder.timing({"seconds": 1.0})
    written: list[bytes] = []
    monkeypatch.setattr("rlrun.metrics.write_all", lambda descriptor, data: written.append(data))
    recorder.flush()
    assert written == [b'{"seconds": 1.0}\n', b'{"frames": 10}\n']
    recorder.close()


@pytest.mark.parametrize("value", ["[]", "{}", '[{"a": 1}]'])
def test_values_that_are_not_plain_are_no_row(value: str, tmp_path: Path) -> None:
    """Empty lists take 3 bytes of the file, and 64 of memory."""
    (tmp_path / "rows.jsonl").write_text(f'{{"frames": 1}}\n{{"frames": {value}}}\n')
    with pytest.raises(ResumeError, match="line 2: not a row of metrics"):
        read_rows(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("end", ["\n", ""])
def test_no_line_is_read_that_no_run_writes(end: str, tmp_path: Path) -> None:
    text = '{"x": "' + "y" * 10**7 + '"}' + end
    (tmp_path / "rows.jsonl").write_text(text)
    tracemalloc.start()
    try:
        with pytest.raises(ResumeError, match="a line above 64 KiB"):
            read_rows(tmp_path / "rows.jsonl")
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()

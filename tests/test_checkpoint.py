"""The container file: exact, verified, never executed."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from rlrun import checkpoint, container
from rlrun.checkpoint import find_damage, load, read, read_header, save
from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.errors import ResumeError, StorageError

DTYPES = ("float64", "float32", "float16", "int64", "int8", "uint8", "bool", "uint16", "uint32", "uint64", "complex64")


def identical(first: Any, second: Any) -> bool:
    """Same types and same bits, nan included."""
    if type(first) is not type(second):
        return False
    if isinstance(first, np.ndarray):
        same_form = first.dtype == second.dtype and first.shape == second.shape
        return bool(same_form and first.tobytes() == second.tobytes())
    if isinstance(first, dict):
        return list(first) == list(second) and all(identical(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(identical, first, second))
    if isinstance(first, float):
        return struct.pack("d", first) == struct.pack("d", second)
    return bool(first == second)


def example_state() -> dict[str, Any]:
    generator = np.random.default_rng(3)
    generator.random(5)
    return {
        "weights": generator.normal(size=(3, 4)).astype(np.float32),
        "random": generator.bit_generator.state,
        "returns": [1.5, math.nan, -math.inf, -0.0, 1e-320],
        "done": True,
        "count": 2**127 + 1,
        "nothing": None,
        "text": "naïve \n \ud800 text",
        "nested": {"empty": {}, "list": [], "steps": [np.arange(3), {"x": np.zeros(0)}]},
    }


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_state_comes_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    header = {"frames": 12, "kind": "step", "return": math.inf}
    save(path, header, example_state())
    assert path.stat().st_mode & 0o777 == 0o600
    loaded_header, state = load(path)
    assert identical(loaded_header, header)
    assert identical(state, example_state())
    generator = np.random.default_rng()
    generator.bit_generator.state = state["random"]
    expected = np.random.default_rng(3)
    expected.random(5)
    expected.normal(size=12)
    assert generator.random() == expected.random()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_shape_comes_back_writable(tmp_path: Path, dtype: str) -> None:
    values = np.arange(-3, 9).astype(dtype)
    arrays = {
        "flat": values,
        "scalar": values[4:5].reshape(()),
        "empty": values[:0].reshape(0, 3),
        "transposed": values.reshape(3, 4).T,
        "strided": values[::-2],
        "big_endian": values.astype(np.dtype(dtype).newbyteorder(">")),
    }
    save(tmp_path / "a", {}, {"arrays": arrays})
    _, state = load(tmp_path / "a")
    for name, array in arrays.items():
        found = state["arrays"][name]
        assert found.dtype == np.dtype(dtype)
        assert found.shape == array.shape
        np.testing.assert_array_equal(found, array)
        assert found.flags.writeable
        assert found.flags.c_contiguous


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text()
keys = st.text().filter(lambda key: not key.startswith("$"))
trees = st.dictionaries(
    keys, st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4))
)


@settings(max_examples=100, deadline=None)
@given(tree=trees)
def test_any_plain_tree_comes_back_exactly(tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "tree.ckpt"
    save(path, {}, tree)
    found = load(path)[1]
    assert repr(found) == repr(tree)  # repr, because nan differs from itself


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1, 2},
        np.float64(1.0),
        np.int64(1),
        np.bool_(True),
        b"bytes",
        Path("x"),
        {1: "integer key"},
        {"$array": "tag"},
        object(),
        np.array([None]),
        np.array(["text"]),
        np.zeros(2, np.complex128),
        np.ma.masked_array([1.0]),
    ],
)
def test_what_would_not_come_back_is_refused_when_saving(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError, match=r"state\.agent\.0"):
        save(tmp_path / "a", {}, {"agent": [value]})
    with pytest.raises(TypeError, match=r"header\.x"):
        save(tmp_path / "a", {"x": value}, {})
    assert names(tmp_path) == []


def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="'.' out of the keys"):
        save(tmp_path / "a", {}, {"a.b": np.zeros(1), "a": {"b": np.ones(1)}})


def test_the_arrays_open_with_plain_safetensors(tmp_path: Path) -> None:
    save(tmp_path / "a", {"frames": 1}, {"policy": {"weight": np.arange(3.0)}})
    content = (tmp_path / "a").read_bytes()
    (length,) = struct.unpack("<I", content[7:11])
    sections = json.loads(content[11 : 11 + length])
    start = 11 + length + sections["state_bytes"]
    arrays = safetensors.numpy.load(content[start : start + sections["tensor_bytes"]])
    np.testing.assert_array_equal(arrays["state.policy.weight"], np.arange(3.0))


def test_every_single_damaged_byte_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    save(path, {"frames": 1}, {"x": np.arange(3), "y": [1.0, None]})
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(ResumeError, match=r"damaged|not an rlrun checkpoint"):
            load(path)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ResumeError, match="damaged"):
            load(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(ResumeError, match="damaged"):
        load(path)


class Bomb:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


def zipped(*entries: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def test_foreign_files_are_named_and_not_executed(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    bomb = pickle.dumps(Bomb(canary))
    foreign = {
        "a Stable-Baselines3 zip": zipped(("data", b"{}"), ("pytorch_variables.pth", bomb), ("policy.pth", bomb)),
        "a torch.save file": zipped(("model/data.pkl", bomb)),
        "a zip": zipped(("readme", b"")),
        "a pickle; refused": bomb,
        "a safetensors file": safetensors.numpy.save({"x": np.zeros(3)}),
        "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "a text file": b"seed: 1\n",
        "something unknown": bytes(64),
    }
    path = tmp_path / "foreign"
    for kind, content in foreign.items():
        path.write_bytes(content)
        with pytest.raises(ResumeError) as raised:
            load(path)
        assert f"not an rlrun checkpoint (looks like {kind})" in str(raised.value)
        assert "\n" not in str(raised.value)
    path.write_bytes(b"")
    with pytest.raises(ResumeError, match=r"damaged \(0 bytes\)"):
        load(path)
    assert not canary.exists()


def signed(preamble: Any, state: bytes = b"{}", tensors: bytes = b"\x02\0\0\0\0\0\0\0{}") -> bytes:
    """A container with a right digest around content that rlrun would not write."""
    header = json.dumps(preamble).encode()
    body = checkpoint.MAGIC + struct.pack("<I", len(header)) + header + state + tensors
    return body + hashlib.sha256(body).digest()


def preamble(**changes: Any) -> dict[str, Any]:
    return {"schema": 1, "state_bytes": 2, "tensor_bytes": 10, "fields": {}} | changes


def test_forged_content_with_a_right_digest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "forged"
    path.write_bytes(signed(preamble()))
    assert load(path) == ({}, {})
    deep = b"[" * 100_000
    forged = [
        signed([]),
        signed(preamble(schema="1")),
        signed(preamble(state_bytes=-2)),
        signed(preamble(state_bytes=10**18)),
        signed(preamble(tensor_bytes=9)),
        signed(preamble(fields=[])),
        signed(preamble(fields={"x": {"$array": "y"}})),
        signed(preamble(), state=b"[]"),
        signed(preamble(state_bytes=len(deep)), state=deep),
        signed(preamble(state_bytes=14), state=b'{"$array":"x"}'),
        signed(preamble(state_bytes=13), state=b'{"$array":[]}'),
        signed(preamble(state_bytes=14), state=b'{"$float":"1"}'),
        signed(preamble(), tensors=b"\xff" * 10),
        signed(preamble(), tensors=b"\x02\0\0\0\0\0\0\0{}and more"),
        checkpoint.MAGIC + struct.pack("<I", 2**31) + bytes(100),
    ]
    for content in forged:
        path.write_bytes(content)
        with pytest.raises(ResumeError) as raised:
            load(path)
        assert "\n" not in str(raised.value)


def test_plain_data_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    with pytest.raises(ValueError, match="put large values into the state"):
        save(path, {"x": "y" * 2**20}, {})
    save(path, {}, {"x": [1] * 100})
    monkeypatch.setattr(container, "MAX_JSON_BYTES", 200)
    with pytest.raises(ResumeError, match="malformed"):
        load(path)
    with pytest.raises(StorageError, match="plain data of the checkpoint"):
        save(path, {}, {"x": [1] * 100})


@pytest.mark.parametrize("size", [60 * 10**9, 400])
def test_a_file_whose_sections_do_not_add_up_is_not_hashed(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be full of holes: a few bytes on the disk, and minutes to read."""
    path = tmp_path / "a"
    save(path, {}, {"x": np.zeros(100)})
    os.truncate(path, size)
    monkeypatch.setattr(checkpoint, "_BLOCK_BYTES", None)
    assert find_damage(path) == "damaged (sha256 mismatch)"


@pytest.mark.parametrize(
    "entries",
    [
        {"x": [0, 8], "y": [0, 8]},
        {"x": [0, 8], "y": [4, 8]},
        {"x": [8, 16]},
        {"x": [0, 4]},
        {"x": [0, 8]},
        {"x": [0, 8], "y": [8, 24]},
        {"x": {}},
        {"x": ["0", 8]},
    ],
)
def test_arrays_that_share_bytes_or_leave_some_are_refused(entries: dict[str, Any], tmp_path: Path) -> None:
    listed = {name: {"dtype": "F32", "shape": [2], "data_offsets": place} for name, place in entries.items()}
    tensors = json.dumps(listed).encode()
    tensors = struct.pack("<Q", len(tensors)) + tensors + bytes(16)
    path = tmp_path / "a"
    path.write_bytes(signed(preamble(tensor_bytes=len(tensors)), tensors=tensors))
    with pytest.raises(ResumeError, match="malformed"):
        load(path)


def test_only_the_arrays_that_are_wanted_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    save(path, {}, {"small": np.ones(2), "large": np.zeros(10**6), "other": np.zeros(10**6), "n": 1})
    tracemalloc.start()
    try:
        tree = read(path, {"small": 16})[1]
        with pytest.raises(ResumeError, match=r"large: expected 1000 bytes, found 8000000"):
            read(path, {"large": 1000})
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()
    assert tree.pop("small").tolist() == [1, 1] and tree == {"large": None, "other": None, "n": 1}


def test_more_arrays_than_memory_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    save(path, {}, {"x": np.zeros(10**6)})
    monkeypatch.setattr(checkpoint, "free_memory", lambda: 10**6)
    with pytest.raises(ResumeError, match=r"needs 0\.0 GB, 0\.0 GB free"):
        load(path)


def test_plain_data_of_very_many_parts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty list takes 3 bytes of a file, and 64 of memory."""
    path = tmp_path / "a"
    save(path, {}, {"x": [[]] * 1000})
    monkeypatch.setattr(container, "MAX_CONTAINERS", 900)
    with pytest.raises(ResumeError, match="malformed"):
        load(path)
    with pytest.raises(StorageError, match="plain data of the checkpoint"):
        save(path, {}, {"x": [[]] * 1000})


def test_a_header_is_read_from_our_own_files_alone(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"XXXXXX\n" + signed(preamble())[len(checkpoint.MAGIC) :])
    with pytest.raises(ResumeError, match="malformed"):
        read_header(path)


def test_missing_and_odd_paths_are_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "pipe", Path("nul\0byte")):
        with pytest.raises(ResumeError) as raised:
            load(path)
        assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    "header", [preamble(schema=4), {"schema": 4, "sections": [12]}], ids=["laid out as ours", "otherwise"]
)
def test_a_newer_schema_is_refused_and_the_file_kept(header: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "step_000000000001.ckpt"
    path.write_bytes(signed(header))
    with pytest.raises(ResumeError, match=r"written by rlrun \? \(schema 4\), this one reads 2"):
        CheckpointFolder(tmp_path, keep=2).newest(pytest.fail)
    assert path.exists()


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    save(tmp_path / "a", {}, example_state())
    assert identical(load(tmp_path / "a")[1], example_state())

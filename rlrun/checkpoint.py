"""The checkpoint: one container file without pickle, written atomically and verified before use.

    magic "RLRUN1\\n" | u32 header length | JSON header | JSON state | safetensors | sha256 of everything before

The state is a tree: dicts with text keys and lists, whose leaves are arrays, None, bool, int, float and str. Its arrays
are in the safetensors section, under the name of their place in the tree; the JSON state refers to them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import safetensors.numpy

from rlrun import __version__
from rlrun.arrays import free_memory, whole
from rlrun.container import DTYPES, MALFORMED, MAX_CONTAINERS, MAX_JSON_BYTES, blocks_of, is_small, parse
from rlrun.errors import ResumeError, StorageError
from rlrun.plain import open_regular, printable, reason_of, write_atomically

Tree: TypeAlias = dict[str, Any]
Take: TypeAlias = Callable[[str], np.ndarray | None]

MAGIC = b"RLRUN1\n"
SCHEMA = 2  # 1: without memories in pieces

_LENGTH = struct.Struct("<I")
_DIGEST_BYTES = hashlib.sha256().digest_size
_MAX_HEADER_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 20
_DAMAGED = "damaged (sha256 mismatch)"


# --- one file --------------------------------------------------------------------------------------------------------


def save(path: Path, header: Tree, state: Tree) -> None:
    """Write a checkpoint to ``path`` in one atomic step.

    ``header`` is for small facts: frames, config.

    Raises:
        TypeError: a value that could not come back exactly as it is (a tuple, a NumPy scalar, an object, ...).
        StorageError: no space, no permission, the folder is gone, ...
    """
    write_atomically(path, *packed(header, state))


def packed(header: Tree, state: Tree) -> tuple[bytes, ...]:
    """The content of a checkpoint in chunks, the last of which is its digest. Raises TypeError, StorageError: as ``save``."""
    arrays: dict[str, np.ndarray] = {}
    state_json = _to_json(_pack(state, "state", arrays))
    tensors = safetensors.numpy.save(arrays)
    sizes = {"state_bytes": len(state_json), "tensor_bytes": len(tensors)}
    header_json = _to_json({"schema": SCHEMA, "rlrun": __version__, **sizes, "fields": _pack(header, "header", None)})
    if len(header_json) > _MAX_HEADER_BYTES:
        raise ValueError(f"a checkpoint header of {len(header_json)} bytes; put large values into the state")
    listed = 8 + int.from_bytes(tensors[:8], "little")
    for what, plain in (("plain data", state_json), ("list of arrays", tensors[8:listed])):
        if not is_small(plain):
            most = f"at most {MAX_JSON_BYTES}, and {MAX_CONTAINERS} dicts and lists, are read"
            raise StorageError(f"the {what} of the checkpoint has {len(plain)} bytes; {most}")
    chunks = (MAGIC + _LENGTH.pack(len(header_json)) + header_json, state_json, tensors)
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return *chunks, digest.digest()


def load(path: Path) -> tuple[Tree, Tree]:
    """The verified header and state of a checkpoint; its arrays are fresh, writable and contiguous.

    Raises:
        ResumeError: missing, damaged, written by a newer rlrun, or another tool's file. Nothing in it is executed.
    """
    require_undamaged(path)
    return read(path)


def require_undamaged(path: Path) -> None:
    """Raises ResumeError with what is wrong with the file, if something is."""
    reason = find_damage(path)
    if reason is not None:
        raise ResumeError(f"{printable(path)} is {reason}")


def config_of(path: Path, header: Mapping[str, Any]) -> Tree:
    """The settings in a checkpoint's header. Raises ResumeError: there are none."""
    config = header.get("config")
    if not isinstance(config, dict):
        raise ResumeError(f"{printable(path)} does not say which config it is of")
    return config


def frames_of(path: Path, header: Mapping[str, Any]) -> int:
    """The frames after which a checkpoint was saved. Raises ResumeError: its header does not say."""
    try:
        return whole(header.get("frames"))
    except ValueError as error:
        raise ResumeError(f"{printable(path)} does not say after how many frames it was saved ({error})") from error


def find_damage(path: Path) -> str | None:
    """What is wrong with the file ("damaged (sha256 mismatch)", "not an rlrun checkpoint (...)"), None if nothing is.

    Reads the whole file in constant memory, if its header adds up to its size. Raises ResumeError if it can't be read at all.
    """
    digest = hashlib.sha256()
    with _open(path) as file:
        beginning = file.read(512)
        if not beginning.startswith(MAGIC):
            return _foreign(beginning)
        try:
            file.seek(len(MAGIC))
            header = _json_header(file)
            if whole(header["schema"]) <= SCHEMA:  # a newer rlrun may lay it out otherwise
                _sections(file, header)
        except MALFORMED:  # it was cut, or lengthened, perhaps by a hole that takes minutes to hash
            return _DAMAGED
        file.seek(0)
        rest = os.fstat(file.fileno()).st_size - _DIGEST_BYTES
        while rest > 0 and (block := file.read(min(rest, _BLOCK_BYTES))):
            digest.update(block)
            rest -= len(block)
        return None if file.read() == digest.digest() else _DAMAGED


@contextlib.contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """The file to read. Raises ResumeError if it can't be opened, or read while it is open."""
    try:
        with open_regular(path) as file:
            yield file
    except OSError as error:
        raise ResumeError(f"can't read {printable(path)}: {reason_of(error)}") from error


def _foreign(beginning: bytes) -> str:
    """Words for a file that does not begin with our magic, from its first bytes alone."""
    if MAGIC.startswith(beginning):
        return f"damaged ({len(beginning)} bytes)"
    kind = "something unknown"
    if beginning.startswith(b"PK"):
        name = beginning[30 : 30 + int.from_bytes(beginning[26:28], "little")]
        stable_baselines = name in (b"data", b"pytorch_variables.pth", b"policy.pth")
        torch_save = name.endswith(b"/data.pkl")
        kind = "a Stable-Baselines3 zip" if stable_baselines else "a torch.save file" if torch_save else "a zip"
    elif beginning.startswith(b"\x89HDF"):
        kind = "an HDF5 file"
    elif beginning[:1] == b"\x80" and beginning[1:2] <= b"\x05":
        kind = "a pickle; refused"
    elif beginning[8:9] == b"{" and beginning[4:8] == bytes(4):
        kind = "a safetensors file"
    elif not re.search(rb"[\x00-\x08\x0e-\x1f\x7f]", beginning):
        kind = "a text file"
    return f"not an rlrun checkpoint (looks like {kind})"


def read_header(path: Path) -> Tree:
    """The header alone, unverified. Raises ResumeError for what is none."""
    with _open(path) as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise _malformed(path)
        header: Tree = _read_preamble(path, file)["fields"]
        return header


def digest_of(path: Path) -> str:
    """The digest that a checkpoint ends with. Raises ResumeError if it can't be read."""
    with _open(path) as file:
        file.seek(-_DIGEST_BYTES, os.SEEK_END)
        return file.read().hex()


def read(path: Path, limits: Mapping[str, int] | None = None) -> tuple[Tree, Tree]:
    """The content of a file whose digest is right. A digest is no signature, so nothing in it is taken for granted.

    ``limits``: the most bytes of each array that is wanted, by its place in the state; the others are not read, but None.

    Raises:
        ResumeError: it is malformed, or larger than what is wanted or free.
    """
    with _open(path) as file:
        file.seek(len(MAGIC))
        preamble = _read_preamble(path, file)
        try:
            state_bytes, tensor_bytes = _sections(file, preamble)
            if limits is None and tensor_bytes > (free := free_memory()):
                raise ResumeError(f"{printable(path)} needs {tensor_bytes / 1e9:,.1f} GB, {free / 1e9:,.1f} GB free")
            state = parse(file.read(state_bytes))
            blocks = blocks_of(file, tensor_bytes)

            def take(name: str) -> np.ndarray | None:
                block = blocks.pop(name)  # each array once: two places must not share memory
                place = name.removeprefix("state.")
                if limits is not None and place not in limits:
                    return None
                if limits is not None and block.nbytes > limits[place]:
                    raise ResumeError(
                        f"{path.name} does not fit the config of its run "
                        f"({place}: expected {limits[place]} bytes, found {block.nbytes})"
                    )
                return block.read(file)

            return preamble["fields"], _unpack_tree(state, take)
        except MALFORMED as error:
            raise _malformed(path) from error


def bytes_of_arrays(path: Path) -> int:
    """What the arrays of a checkpoint take together, unverified. Raises ResumeError for what is none."""
    with _open(path) as file:
        try:
            file.seek(len(MAGIC))
            return _sections(file, _json_header(file))[1]
        except MALFORMED as error:
            raise _malformed(path) from error


def _read_preamble(path: Path, file: BinaryIO) -> Tree:
    """The JSON header, from just behind the magic, its ``fields`` unpacked."""
    try:
        preamble = _json_header(file)
        schema = whole(preamble["schema"])
        if schema <= SCHEMA:
            return {**preamble, "fields": _unpack_tree(preamble["fields"], dict[str, np.ndarray]().__getitem__)}
    except MALFORMED as error:
        raise _malformed(path) from error
    writer = printable(f"rlrun {preamble.get('rlrun', '?')}")[:40]
    raise ResumeError(
        f"{printable(path)} was written by {writer} (schema {schema}), this one reads {SCHEMA}; upgrade rlrun"
    )


def _json_header(file: BinaryIO) -> Tree:
    """The JSON header as it stands, from just behind the magic. Raises one of MALFORMED."""
    (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
    if length > _MAX_HEADER_BYTES:
        raise ValueError("a header out of proportion")
    header: Tree = parse(file.read(length))
    return header


def _sections(file: BinaryIO, preamble: Tree) -> tuple[int, int]:
    """The bytes of the JSON state, which begins here, and of the arrays. Raises one of MALFORMED: they can't be."""
    state_bytes, tensor_bytes = whole(preamble["state_bytes"]), whole(preamble["tensor_bytes"])
    if file.tell() + state_bytes + tensor_bytes + _DIGEST_BYTES != os.fstat(file.fileno()).st_size:
        raise ValueError("sections that don't add up to the file")
    if state_bytes > MAX_JSON_BYTES:
        raise ValueError("plain data out of proportion")
    return state_bytes, tensor_bytes


def _malformed(path: Path) -> ResumeError:
    return ResumeError(f"{printable(path)} is malformed: not written by rlrun")


# --- the tree --------------------------------------------------------------------------------------------------------


def _to_json(value: object) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _pack(value: Any, place: str, arrays: dict[str, np.ndarray] | None) -> Any:
    """``value`` as strict JSON, its arrays moved into ``arrays``. Exact types only: a subclass would not come back."""
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind is list:
        return [_pack(item, f"{place}.{index}", arrays) for index, item in enumerate(value)]
    if kind is dict:
        for key in value:
            if type(key) is not str or key.startswith("$"):
                raise TypeError(f"{place}: a checkpoint's keys are text that does not begin with '$', not {key!r}")
        return {key: _pack(item, f"{place}.{key}", arrays) for key, item in value.items()}
    if kind is np.ndarray and arrays is not None and value.dtype.name in DTYPES.values():
        if place in arrays:
            raise TypeError(f"{place}: two arrays at places of this name; keep '.' out of the keys")
        arrays[place] = np.asarray(value, dtype=value.dtype.newbyteorder("="), order="C")
        return {"$array": place}
    raise TypeError(f"{place}: can't save {kind.__name__}{f' of {value.dtype}' if kind is np.ndarray else ''} exactly")


def _unpack_tree(value: Any, take: Take) -> Tree:
    if not isinstance(value, dict):
        raise TypeError("a tree must be a dict")
    tree = _unpack(value, take)
    if not isinstance(tree, dict):  # an array or a number can stand in place of any dict
        raise TypeError("a tree must be a dict")
    return tree


def _unpack(value: Any, take: Take) -> Any:
    """What ``_pack`` has packed, in its place: of a large state there are not to be two."""
    if isinstance(value, list):
        value[:] = [_unpack(item, take) for item in value]
    elif isinstance(value, dict):
        if "$array" in value:
            return take(value["$array"])
        if "$float" in value:
            return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[value["$float"]]
        for key, item in value.items():
            value[key] = _unpack(item, take)
    return value

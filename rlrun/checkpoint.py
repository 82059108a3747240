"""The checkpoint: one container file without pickle, written atomically, verified before use, kept in a folder.

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
from safetensors import SafetensorError

from rlrun.errors import ResumeError, StorageError
from rlrun.plain import printable, reason_of, remove_stale, sync_directory, write_atomically

Tree: TypeAlias = dict[str, Any]

MAGIC = b"RLRUN1\n"
SCHEMA = 1

_LENGTH = struct.Struct("<I")
_DIGEST_BYTES = hashlib.sha256().digest_size
_MAX_HEADER_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 20
_STEP_FILE = re.compile(r"step_([0-9]{12,})\.ckpt")
_BEST_FILE = "best.ckpt"
# What safetensors can hold.
_DTYPES = {"bool", "float16", "float32", "float64", "complex64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


# --- one file --------------------------------------------------------------------------------------------------------


def save(path: Path, header: Tree, state: Tree) -> int:
    """Write a checkpoint to ``path`` in one atomic step; returns its size in bytes.

    ``header`` is for small facts: frames, config.

    Raises:
        TypeError: a value that could not come back exactly as it is (a tuple, a NumPy scalar, an object, ...).
        StorageError: no space, no permission, the folder is gone, ...
    """
    arrays: dict[str, np.ndarray] = {}
    state_json = _to_json(_pack(state, "state", arrays))
    tensors = safetensors.numpy.save(arrays)
    sizes = {"state_bytes": len(state_json), "tensor_bytes": len(tensors)}
    header_json = _to_json({"schema": SCHEMA, **sizes, "fields": _pack(header, "header", None)})
    if len(header_json) > _MAX_HEADER_BYTES:
        raise ValueError(f"a checkpoint header of {len(header_json)} bytes; put large values into the state")
    chunks = (MAGIC + _LENGTH.pack(len(header_json)) + header_json, state_json, tensors)
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return write_atomically(path, *chunks, digest.digest())


def load(path: Path) -> tuple[Tree, Tree]:
    """The verified header and state of a checkpoint; its arrays are fresh, writable and contiguous.

    Raises:
        ResumeError: missing, damaged, written by a newer rlrun, or another tool's file. Nothing in it is executed.
    """
    reason = find_damage(path)
    if reason is not None:
        raise ResumeError(f"{printable(path)} is {reason}")
    return _read(path)


def config_of(path: Path, header: Mapping[str, Any]) -> Tree:
    """The settings in a checkpoint's header. Raises ResumeError: there are none."""
    config = header.get("config")
    if not isinstance(config, dict):
        raise ResumeError(f"{printable(path)} does not say which config it is of")
    return config


def find_damage(path: Path) -> str | None:
    """What is wrong with the file ("damaged (sha256 mismatch)", "not an rlrun checkpoint (...)"), None if nothing is.

    Reads the whole file in constant memory. Raises ResumeError if it can't be read at all.
    """
    digest = hashlib.sha256()
    with _open(path) as file:
        beginning = file.read(512)
        if not beginning.startswith(MAGIC):
            return _foreign(beginning)
        file.seek(0)
        rest = os.fstat(file.fileno()).st_size - _DIGEST_BYTES
        while rest > 0 and (block := file.read(min(rest, _BLOCK_BYTES))):
            digest.update(block)
            rest -= len(block)
        return None if file.read() == digest.digest() else "damaged (sha256 mismatch)"


def _open(path: Path) -> BinaryIO:
    try:
        if not path.is_file():  # also keeps us from blocking on a pipe
            raise ResumeError(f"{printable(path)} is no file, so no checkpoint")
        return path.open("rb")
    except (OSError, ValueError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise ResumeError(f"can't read {printable(path)}: {reason}") from error


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


def _read(path: Path) -> tuple[Tree, Tree]:
    """The content of a file whose digest is right. A digest is no signature, so nothing in it is taken for granted."""
    with _open(path) as file:
        file.seek(len(MAGIC))
        preamble = _read_preamble(path, file)
        try:
            state_bytes, tensor_bytes = _size(preamble["state_bytes"]), _size(preamble["tensor_bytes"])
            if file.tell() + state_bytes + tensor_bytes + _DIGEST_BYTES != os.fstat(file.fileno()).st_size:
                raise ValueError("sections that don't add up to the file")
            state = json.loads(file.read(state_bytes))
            return preamble["fields"], _unpack_tree(state, safetensors.numpy.load(file.read(tensor_bytes)))
        except (KeyError, TypeError, ValueError, RecursionError, SafetensorError) as error:
            raise _malformed(path) from error


def _read_preamble(path: Path, file: BinaryIO) -> Tree:
    """The JSON header, from just behind the magic, its ``fields`` unpacked."""
    try:
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        if length > _MAX_HEADER_BYTES:
            raise ValueError("a header out of proportion")
        preamble = json.loads(file.read(length))
        schema = _size(preamble["schema"])
        if schema <= SCHEMA:
            return {**preamble, "fields": _unpack_tree(preamble["fields"], {})}
    except (KeyError, TypeError, ValueError, RecursionError, struct.error) as error:
        raise _malformed(path) from error
    raise ResumeError(
        f"{printable(path)} was written by a newer rlrun (schema {schema}, this one reads {SCHEMA}); upgrade rlrun"
    )


def _malformed(path: Path) -> ResumeError:
    return ResumeError(f"{printable(path)} is malformed: not written by rlrun")


def _size(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a size must be a whole number")
    return value


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
    if kind is np.ndarray and arrays is not None and value.dtype.name in _DTYPES:
        if place in arrays:
            raise TypeError(f"{place}: two arrays at places of this name; keep '.' out of the keys")
        arrays[place] = np.asarray(value, dtype=value.dtype.newbyteorder("="), order="C")
        return {"$array": place}
    raise TypeError(f"{place}: can't save {kind.__name__}{f' of {value.dtype}' if kind is np.ndarray else ''} exactly")


def _unpack_tree(value: Any, arrays: dict[str, np.ndarray]) -> Tree:
    if not isinstance(value, dict):
        raise TypeError("a tree must be a dict")
    tree = _unpack(value, arrays)
    if not isinstance(tree, dict):  # an array or a number can stand in place of any dict
        raise TypeError("a tree must be a dict")
    return tree


def _unpack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if "$array" in value:
        return arrays.pop(value["$array"])  # each array once: two places must not share memory
    if "$float" in value:
        return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[value["$float"]]
    return {key: _unpack(item, arrays) for key, item in value.items()}


# --- the folder ------------------------------------------------------------------------------------------------------


class CheckpointFolder:
    """The checkpoints of one run: ``step_<frames>.ckpt``, of which the newest ``keep`` (>= 1) stay, and ``best.ckpt``.

    Making one touches nothing, so that readers may; saving is for the holder of the run's lock.
    """

    def __init__(self, directory: Path, keep: int) -> None:
        self.directory = directory
        self._keep = keep
        self._tidied = False

    def save(self, frames: int, header: Tree, state: Tree) -> Path:
        """Save the state reached after ``frames`` frames, then delete older ones beyond the newest ``keep``.

        Raises:
            TypeError, StorageError: as the function ``save``; the checkpoints that were there still are.
        """
        path = self.directory / f"step_{frames:012d}.ckpt"
        self._write(path, header, state)
        older = [name for number, name in self._steps() if number <= frames]
        for name in older[: -self._keep]:
            with contextlib.suppress(OSError):  # one file too many is no reason to end a run
                (self.directory / name).unlink()
        return path

    def save_best(self, header: Tree, state: Tree) -> Path:
        """Replace ``best.ckpt``; raises as ``save``."""
        path = self.directory / _BEST_FILE
        self._write(path, header, state)
        return path

    def best_evaluation(self) -> dict[str, Any] | None:
        """The evaluation that ``best.ckpt`` won by, from its header; None if there is no such file or it is damaged."""
        path = self.directory / _BEST_FILE
        if not path.is_file() or find_damage(path) is not None:
            return None
        evaluation = _read(path)[0].get("evaluation")
        return evaluation if isinstance(evaluation, dict) and isinstance(evaluation.get("return_mean"), float) else None

    def newest(self, notice: Callable[[str], None]) -> tuple[Path, Tree, Tree]:
        """Path, header and state of the newest undamaged checkpoint.

        Raises:
            ResumeError: there is none, or the newest one is of a newer rlrun.
        """
        found = bool(self._steps())
        for _, path in self.undamaged(notice):
            return (path, *_read(path))
        if found:
            raise ResumeError(f"every checkpoint in {printable(self.directory)} is damaged")
        raise self._missing("no checkpoint to continue from (stopped before the first one?)")

    def at(self, frames: int) -> tuple[Path, Tree, Tree]:
        """Path, header and state of the checkpoint of ``frames``. Raises ResumeError: there is none, or it is damaged."""
        path = self.resolve(str(frames))
        return (path, *load(path))

    def undamaged(self, notice: Callable[[str], None]) -> Iterator[tuple[int, Path]]:
        """Frames and path of every undamaged checkpoint, newest first, each checked when it is asked for.

        Damaged ones are renamed to ``*.bad`` and reported with one line to ``notice``. Raises ResumeError if one can't be read.
        """
        candidates = [(frames, self.directory / name) for frames, name in reversed(self._steps())]
        for position, (frames, path) in enumerate(candidates):
            reason = find_damage(path)
            if reason is None:
                yield frames, path
                continue
            renamed = ""
            with contextlib.suppress(OSError):  # of a read-only run: skipped all the same
                path.rename(path.with_name(path.name + ".bad"))
                renamed = f", renamed to {path.name}.bad"
            older = candidates[position + 1 :]
            notice(
                f"{path.name} is {reason}{renamed}; {f'using {older[0][1].name}' if older else 'no older one is left'}"
            )

    def delete_after(self, frames: int) -> None:
        """Delete checkpoints of more than ``frames`` frames: a run that goes on from there will save them again.

        Raises:
            StorageError: one is still there.
        """
        newer = [name for number, name in self._steps() if number > frames]
        try:
            for name in newer:
                (self.directory / name).unlink()
            if newer:
                sync_directory(self.directory)
        except OSError as error:
            raise StorageError(f"can't delete from {printable(self.directory)}: {reason_of(error)}") from error

    def resolve(self, selector: str) -> Path:
        """The path of ``best``, ``last`` or a number of frames.

        Raises:
            ResumeError: no such checkpoint; names those that exist.
        """
        steps = self._steps()
        if selector == "best" and (self.directory / _BEST_FILE).is_file():
            return self.directory / _BEST_FILE
        if selector == "last" and steps:
            return self.directory / steps[-1][1]
        for frames, name in steps:
            if selector == str(frames):
                return self.directory / name
        raise self._missing(f"no checkpoint '{printable(selector)}'")

    def _missing(self, what: str) -> ResumeError:
        names = [str(frames) for frames, _ in self._steps()]
        if (self.directory / _BEST_FILE).is_file():
            names.insert(0, "best")
        return ResumeError(f"{what} in {printable(self.directory)}; there is: {', '.join(names) or 'nothing'}")

    def _steps(self) -> list[tuple[int, str]]:
        """Frames and name of every step file, oldest first: regular files of our own pattern, nothing else."""
        try:
            with os.scandir(self.directory) as entries:
                names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        except OSError:
            return []
        return sorted((int(match[1]), name) for name in names if (match := _STEP_FILE.fullmatch(name)))

    def _write(self, path: Path, header: Tree, state: Tree) -> None:
        if self.directory.is_symlink():  # a planted link would let us prune another run's folder
            raise StorageError(f"{printable(self.directory)} is a symbolic link; checkpoints need a real folder")
        if not self._tidied:
            remove_stale(self.directory)
            self._tidied = True
        save(path, header, state)

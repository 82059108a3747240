"""Metric rows to disk and back: three files that only grow, and that a resume cuts back to its checkpoint.

``metrics.jsonl`` holds what training computes and repeats exactly; ``timing.jsonl`` what the clock says and never repeats;
``episodes.csv`` one line an episode.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from rlrun.errors import LostFileError, ResumeError, StorageError
from rlrun.plain import open_regular, printable, reason_of, refuse_other_names, write_all

Value: TypeAlias = float | int | str | None

METRICS, TIMING, EPISODES = FILES = ("metrics.jsonl", "timing.jsonl", "episodes.csv")

_EPISODES_HEADER = "episode,frames,return,length\n"
_LONGEST_EPISODE_BYTES = 128  # of a line: three whole numbers and the digits of a float
_EPISODE_COUNT = "episode_count"
_EPISODE = np.dtype([("frames", np.int64), ("return", np.float64), ("length", np.int64)])
_MOST_BYTES = 1 << 28  # read of a file, which may be anyone's: half a billion frames at the default cadence
_MOST_ROWS = 1 << 22
_LONGEST_LINE_BYTES = 1 << 16
_NONFINITE = "nonfinite"


class Recorder:
    """Writes the rows of one run. Rows wait in memory until ``flush``, so that recording costs about a microsecond.

    ``offsets`` is what ``sync`` gave when the checkpoint to continue from was saved; everything written after it is cut
    off, so that no row appears twice. None starts the files afresh.

    Raises:
        ResumeError: a file is missing or shorter than its offset, or ``offsets`` is malformed.
        StorageError: from every method that touches the disk: no space, no permission, ...
    """

    def __init__(self, directory: Path, offsets: dict[str, int] | None) -> None:
        self._directory = directory
        self._offsets = dict.fromkeys((*FILES, _EPISODE_COUNT), 0) if offsets is None else _checked(offsets, directory)
        self._descriptors: dict[str, int] = {}
        self._waiting: dict[str, list[str]] = {TIMING: [], METRICS: []}  # who reads a row finds its time
        self._episodes: list[tuple[int, float, int]] = []
        try:
            for name in FILES:
                self._descriptors[name] = _open_at(directory / name, self._offsets[name])
        except OSError as error:
            self._close_files()
            raise StorageError(f"can't write {printable(directory / name)}: {reason_of(error)}") from error
        if self._offsets[EPISODES] == 0:
            self._write(EPISODES, _EPISODES_HEADER)

    def metrics(self, row: Mapping[str, Value]) -> None:
        """Record a deterministic row; equal training gives equal bytes."""
        self._waiting[METRICS].append(_line(row))

    def timing(self, row: Mapping[str, Value]) -> None:
        """Record a row of wall-clock facts."""
        self._waiting[TIMING].append(_line(row))

    def episode(self, frames: int, return_: float, length: int) -> None:
        """Record an episode that ended at ``frames``; ``length`` is in steps of the agent. Numbered from 1."""
        self._episodes.append((frames, return_, length))

    def flush(self) -> None:
        """Hand the waiting rows to the operating system, one write a file."""
        for name, lines in self._waiting.items():
            if lines:
                self._waiting[name] = []  # first, so that a failed write is not repeated by close
                self._write(name, "".join(lines))
        if self._episodes:
            episodes, self._episodes = self._episodes, []
            first = self._offsets[_EPISODE_COUNT] + 1
            self._offsets[_EPISODE_COUNT] += len(episodes)
            self._write(
                EPISODES,
                "".join(
                    f"{number},{frames},{float(return_)!r},{length}\n"
                    for number, (frames, return_, length) in enumerate(episodes, first)
                ),
            )

    def sync(self) -> dict[str, int]:
        """Flush, wait for the disk, and return the size of every file and the count of episodes, for a checkpoint.

        Raises:
            LostFileError: a file, or the directory, is not where it was.
        """
        self.flush()
        try:
            for name, descriptor in self._descriptors.items():
                path = self._directory / name
                os.lstat(path)
                if os.fstat(descriptor).st_nlink == 0:
                    raise FileNotFoundError
                os.fsync(descriptor)
        except FileNotFoundError as error:
            raise LostFileError(f"{printable(path)} was moved or deleted while the run was writing to it") from error
        except OSError as error:
            raise StorageError(f"can't write to {printable(self._directory)}: {reason_of(error)}") from error
        return dict(self._offsets)

    def close(self) -> None:
        """Flush and close the files."""
        try:
            self.flush()
        finally:
            self._close_files()

    def _write(self, name: str, text: str) -> None:
        data = text.encode()
        try:
            write_all(self._descriptors[name], data)
        except OSError as error:
            path = printable(self._directory / name)
            raise StorageError(f"can't write {path}: {reason_of(error)}") from error
        self._offsets[name] += len(data)

    def _close_files(self) -> None:
        while self._descriptors:
            with contextlib.suppress(OSError):
                os.close(self._descriptors.popitem()[1])


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``.jsonl`` file as they were recorded, nan and inf included.

    A file that does not exist yet has no rows; a last line cut off by a kill is left out.

    Raises:
        ResumeError: unreadable, larger than a run's, or a line that is no row.
    """
    return read_rows_from(path, 0)[0]


def read_rows_from(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """The rows after byte ``offset``, where one ends, and the byte at which the last of them does.

    Raises:
        ResumeError: as ``read_rows``.
    """
    rows: list[dict[str, Any]] = []
    for line in _complete_lines(path, offset):
        if len(rows) == _MOST_ROWS:
            raise ResumeError(f"{printable(path)} has more than {_MOST_ROWS} rows, which rlrun does not read")
        rows.append(_row(path, len(rows) + 1, line))
        offset += len(line)
    return rows, offset


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row: dict[str, Any] = json.loads(line.decode())
        nonfinite = row.pop(_NONFINITE, {})
        if any(isinstance(value, list | dict) for value in row.values()):
            raise ValueError("a value that is not plain")
        return row | {name: float(text) for name, text in nonfinite.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ResumeError(f"{printable(path)}, line {number}: not a row of metrics") from error


def read_episodes(directory: Path) -> dict[str, np.ndarray]:
    """The episodes of a run, E of them: ``frames`` [E] int64, ``return`` [E] float64, ``length`` [E] int64.

    Raises:
        ResumeError: unreadable, or not the file a run writes.
    """
    path = directory / EPISODES
    lines = _complete_lines(path)
    if next(lines, _EPISODES_HEADER.encode()) != _EPISODES_HEADER.encode():
        raise ResumeError(f"{printable(path)} does not begin with '{_EPISODES_HEADER.strip()}'")
    try:
        rows = (line.split(b",") for line in lines)
        episodes = np.fromiter(
            ((int(frames), float(return_), int(length)) for _, frames, return_, length in rows), _EPISODE
        )
    except (ValueError, OverflowError) as error:
        raise ResumeError(f"{printable(path)} is damaged: {printable(error)}") from error
    return {name: np.ascontiguousarray(episodes[name]) for name in _EPISODE.names or ()}


def last_returns(directory: Path, count: int) -> list[float]:
    """The returns of at most the last ``count`` episodes of a run, without reading all of them.

    Raises:
        ResumeError: as ``read_episodes``.
    """
    path = directory / EPISODES
    lines = [*_complete_lines(path, -count * _LONGEST_EPISODE_BYTES)][1:]  # the first one is the header, or cut
    try:
        return [float(return_) for _, _, return_, _ in (line.split(b",") for line in lines[-count:])]
    except ValueError as error:
        raise ResumeError(f"{printable(path)} is damaged: {printable(error)}") from error


def _line(row: Mapping[str, Value]) -> str:
    """One line of strict JSON; nan and inf become null, and ``nonfinite`` says which they were."""
    values = dict(row)
    nonfinite = {name: repr(float(v)) for name, v in values.items() if isinstance(v, float) and not math.isfinite(v)}
    if nonfinite:
        values |= dict.fromkeys(nonfinite)
        return json.dumps({**values, _NONFINITE: nonfinite}, allow_nan=False) + "\n"
    return json.dumps(values, allow_nan=False) + "\n"


def _checked(offsets: Mapping[str, Any], directory: Path) -> dict[str, int]:
    """``offsets`` from a checkpoint, known to fit the files before the first of them is cut."""
    if not isinstance(offsets, dict):
        raise ResumeError(f"the checkpoint holds no offsets, so {printable(directory)} can't go on")
    for key in (*FILES, _EPISODE_COUNT):
        if not isinstance(offsets, dict) or type(offsets.get(key)) is not int or offsets[key] < 0:
            raise ResumeError(f"the checkpoint holds no offset of {key}, so {printable(directory)} can't go on")
    for name in FILES:
        path = directory / name
        try:
            status = os.lstat(path)
            size = status.st_size if stat.S_ISREG(status.st_mode) else -1
        except FileNotFoundError:
            size = 0
        except OSError as error:
            raise ResumeError(f"can't read {printable(path)}: {reason_of(error)}") from error
        if size < offsets[name]:
            found = f"has {size} bytes" if size >= 0 else "is no regular file"
            raise ResumeError(
                f"{printable(path)} {found}, but its checkpoint counts on {offsets[name]} bytes; "
                "put the file back as it was, or start a new run (rlrun eval needs no such file)"
            )
        if not _ends_a_line(path, offsets[name]):
            raise ResumeError(
                f"{printable(path)} has no row that ends at byte {offsets[name]}, where its checkpoint counts on one; "
                "put the file back as it was, or start a new run (rlrun eval needs no such file)"
            )
    if offsets[_EPISODE_COUNT] > offsets[EPISODES]:
        raise ResumeError(f"the checkpoint counts more episodes than {EPISODES} can hold")
    return {key: offsets[key] for key in (*FILES, _EPISODE_COUNT)}


def _ends_a_line(path: Path, offset: int) -> bool:
    """Whether a line ends just before ``offset``; cut elsewhere, the file would hold half a row for ever."""
    if offset == 0:
        return True
    try:
        with open_regular(path) as file:
            file.seek(offset - 1)
            return file.read(1) == b"\n"
    except OSError as error:
        raise ResumeError(f"can't read {printable(path)}: {reason_of(error)}") from error


def _open_at(path: Path, offset: int) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        refuse_other_names(descriptor)
        os.ftruncate(descriptor, offset)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _complete_lines(path: Path, start: int = 0) -> Iterator[bytes]:
    """The lines of a file from byte ``start``, counted from the end if negative, but for a last one that has no end."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = start if start >= 0 else max(0, size + start)
            if size - start > _MOST_BYTES:
                raise ResumeError(
                    f"{printable(path)} is larger than {_MOST_BYTES >> 20} MiB, which rlrun does not read; a run keeps it small "
                    "with a larger logging.every_frames"
                )
            file.seek(start)
            while line := file.readline(_LONGEST_LINE_BYTES):
                if line.endswith(b"\n"):
                    yield line
                elif len(line) == _LONGEST_LINE_BYTES:
                    raise ResumeError(
                        f"{printable(path)} has a line above {_LONGEST_LINE_BYTES >> 10} KiB; not of a run"
                    )
    except FileNotFoundError:
        return
    except OSError as error:
        raise ResumeError(f"can't read {printable(path)}: {reason_of(error)}") from error

"""Whether a run that was trained again has the same rows, bit for bit, and what differs first if it has not."""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlrun.errors import ResumeError
from rlrun.metrics import EPISODES, METRICS
from rlrun.plain import open_regular, printable, reason_of
from rlrun.provenance import differences

_LONGEST_LINE = 1 << 20
_MOST_KEYS = 4
_COLUMNS = ("episode", "frames", "return", "length")


@dataclass(frozen=True)
class Difference:
    """The first line of a file that is not the same. ``frames``: None if it does not tell its frame."""

    file: str
    line: int
    frames: int | None
    what: str


@dataclass(frozen=True)
class Comparison:
    """Lines compared in each file, and the first difference of each, the one of the earliest frame first."""

    lines: dict[str, int]
    differences: list[Difference]


def compare(then: Path, now: Path, whole: bool) -> Comparison:
    """Hold the rows of two runs against each other, byte by byte.

    Not ``whole``: the run ``then`` was cut short, so that only what it has is compared. Raises ResumeError.
    """
    lines, found = {}, []
    for name in (METRICS, EPISODES):
        count, difference = _compare_file(then / name, now / name, whole)
        lines[name] = count
        found += [difference] if difference else []
    return Comparison(lines, sorted(found, key=lambda difference: (difference.frames is None, difference.frames or 0)))


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between the circumstances of two runs, ``what: then -> now``: versions, processor, code, device, git, population."""
    numerics = now.get("numerics")
    found = differences(then, numerics if isinstance(numerics, dict) else {})
    for name in ("device", "implementation", "git", "population"):
        before, after = _circumstance(then, name), _circumstance(now, name)
        if before != after:
            found.append(f"{name}: {before} -> {after}")
    return found


def _circumstance(run: Mapping[str, Any], name: str) -> Any:
    value = run.get(name)
    if name == "git" and isinstance(value, dict):
        return f"{value.get('sha')}{' with changes' if value.get('dirty') is True else ''}"
    if name == "population":
        return value.get("size") if isinstance(value, dict) else 1
    return value


def last_frame(directory: Path) -> int:
    """The frame of the last complete row in the files of a run; 0 for none. Raises ResumeError."""
    last = 0
    for name in (METRICS, EPISODES):
        newest = collections.deque(_lines(directory / name), maxlen=1)
        last = max(last, _frames_of(name, newest[0]) or 0) if newest else last
    return last


def _compare_file(then: Path, now: Path, whole: bool) -> tuple[int, Difference | None]:
    number = 0
    for number, (before, after) in enumerate(itertools.zip_longest(_lines(then), _lines(now)), 1):
        if before == after:
            continue
        if before is None and not whole:
            return number - 1, None
        frames = _frames_of(then.name, before or after)
        return number - 1, Difference(then.name, number, frames, _what(then.name, before, after))
    return number, None


def _lines(path: Path) -> Iterator[bytes]:
    """The complete lines of a file, which may be anyone's; none if it does not exist. Raises ResumeError."""
    try:
        with open_regular(path) as file:
            while line := file.readline(_LONGEST_LINE):
                if line.endswith(b"\n"):
                    yield line
                elif len(line) == _LONGEST_LINE:
                    raise ResumeError(f"{printable(path)} has a line of more than {_LONGEST_LINE} bytes: not a run's")
    except FileNotFoundError:
        return
    except OSError as error:
        raise ResumeError(f"can't read {printable(path)}: {reason_of(error)}") from error


def _values(name: str, line: bytes | None) -> dict[str, Any]:
    """What a line says; nothing if it is no row."""
    with contextlib.suppress(ValueError, RecursionError):
        if line is not None and name == METRICS:
            row = json.loads(line)
            return row if isinstance(row, dict) else {}
        if line is not None:
            cells = line.decode().strip().split(",")
            return dict(zip(_COLUMNS, map(json.loads, cells), strict=True))
    return {}


def _frames_of(name: str, line: bytes | None) -> int | None:
    frames = _values(name, line).get("frames")
    return frames if isinstance(frames, int) and not isinstance(frames, bool) else None


def _what(name: str, before: bytes | None, after: bytes | None) -> str:
    if before is None or after is None:
        return "only in the run" if after is None else "only in the reproduction"
    then, now = _values(name, before), _values(name, after)
    keys = [key for key in dict.fromkeys([*then, *now]) if repr(then.get(key)) != repr(now.get(key))]
    if not keys or not then or not now:
        return "other bytes of the same values" if then and now else "not a row"
    shown = [f"{key}: {_shown(then.get(key))} -> {_shown(now.get(key))}" for key in keys[:_MOST_KEYS]]
    more = [f"and {len(keys) - _MOST_KEYS} more"] if len(keys) > _MOST_KEYS else []
    return printable("; ".join([*shown, *more]))


def _shown(value: Any) -> str:
    return f"{value!r:.40}"

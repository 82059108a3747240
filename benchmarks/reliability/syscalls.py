"""A kill at every file-system call of a run, an error from every one that writes, and the order of what a power loss keeps.

With ``strace``, which counts the calls first and then strikes at one after another.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.reliability.cases import tiny
from benchmarks.reliability.contract import (
    Baseline,
    Case,
    Ended,
    continuation,
    has_checkpoint,
    rlrun,
    uninterrupted,
    verdict,
)
from benchmarks.reliability.report import Row
from rlrun.checkpoint import find_damage

RUNS = 1000  # more than there are points: all of them
CALLS = (
    "write", "pwrite64", "writev", "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink", "unlinkat", "openat",
    "ftruncate", "close", "mkdir",
)  # fmt: skip
ERRORS = {
    "ENOSPC": ("write", "fsync", "openat", "rename", "mkdir"),
    "EDQUOT": ("write", "openat", "rename", "mkdir"),
    "EIO": ("write", "fsync", "openat", "rename", "mkdir", "ftruncate", "unlink", "close"),
    "EROFS": ("openat", "rename", "mkdir", "unlink"),
    "EMFILE": ("openat",),
    "EINTR": ("write", "fsync", "openat", "ftruncate"),
}
GOES_ON = ("unlink", "close")  # one file too many, or an error after the bytes are safe, is no reason to end a run
_LINE = re.compile(r"^(\d+) +(\w+)\((.*)$")
_PATH_OF_DESCRIPTOR = re.compile(r"^\d+<([^>]*)>")
_OUTPUTS = re.compile(r"(^|/)outputs(/|$)")
# To open a folder is part of synchronising it, but for O_NONBLOCK, which lists it.
_READS = re.compile(r"O_RDONLY(?!.*O_DIRECTORY)|O_NONBLOCK")
_NAMES = re.compile(r'"((?:[^"\\]|\\.)*)"')
Point_ = TypeVar("Point_")


@dataclass(frozen=True)
class Call:
    """One call that touches the run, as strace counts them."""

    name: str
    number: int
    """Counted from 1 over all calls of this name by the process."""
    paths: tuple[str, ...]
    writes: bool
    """Whether it changes something."""


def is_available() -> bool:
    """Whether strace is here and may trace."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True).returncode == 0


@dataclass(frozen=True)
class Stage:
    """Where calls are struck: in a run from its start, or in the resume of one that was killed."""

    name: str
    baseline: Baseline
    source: Path
    """A folder with what is there before."""
    calls: list[Call]


def storm(runs: int, seed: int) -> list[Row]:
    """At most ``runs`` points of each kind, chosen by chance where there are more."""
    if not is_available():
        raise SystemExit("syscalls: strace is missing or may not trace here")
    chance, rows, order = random.Random(seed), [], Row("order of calls, for a power loss")
    with tempfile.TemporaryDirectory(prefix="rlrun-storm-") as place:
        for stage in stages(Path(place)):
            order.add(*misordered(stage.calls))
            kills = Row(f"kill at a file-system call of {stage.name}")
            for call in some(stage.calls, runs, chance):
                kills.add(*struck(stage, Path(place, "struck"), call, "signal=KILL", check_killed))
            rows.append(kills)
            for error, names in ERRORS.items():
                row = Row(f"{error} from a call of {stage.name} that writes")
                points = [call for call in stage.calls if call.name in names and call.writes and not _holds_lock(call)]
                for call in some(points, -(-runs // len(ERRORS)), chance):
                    check = _check_unharmed if error == "EINTR" else check_storage_error
                    row.add(*struck(stage, Path(place, "struck"), call, f"error={error}", check))
                rows.append(row)
    return [*rows, order]


def stages(place: Path) -> Iterator[Stage]:
    """A short run, and the resume of one that was killed when two thirds of its calls were done."""
    baseline, empty, killed = uninterrupted(tiny(), place / "whole"), place / "empty", place / "killed"
    empty.mkdir()
    first = Stage("a run", baseline, empty, traced(baseline.case, empty, place / "traced"))
    yield first
    call = first.calls[len(first.calls) * 2 // 3]
    _run_into(first, killed, call, "signal=KILL")
    yield Stage("a resume", baseline, killed, traced(baseline.case, killed, place / "traced"))


def some(points: Sequence[Point_], most: int, chance: random.Random) -> list[Point_]:
    """At most so many of the points, in their order."""
    chosen = sorted(chance.sample(range(len(points)), min(most, len(points))))
    return [points[index] for index in chosen]


def traced(case: Case, source: Path, folder: Path) -> list[Call]:
    """The calls, of a case that goes on from a copy of ``source``, that touch its run."""
    shutil.copytree(source, folder)
    log = folder / "log"
    under = ("strace", "-f", "-y", "-o", str(log), "-e", f"trace={','.join(CALLS)}")
    ended = rlrun(continuation(case, folder), folder, under=under)
    if ended.code != 0:
        raise SystemExit(f"strace ended with {ended.code}: {ended.err}")
    calls = parse(log.read_text(errors="replace"))
    shutil.rmtree(folder)
    return calls


def parse(log: str) -> list[Call]:
    """The calls of the first process in an strace log that touch what is below ``outputs``."""
    counts: Counter[str] = Counter()
    calls = []
    read: set[str] = set()
    first = ""
    for line in log.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        process, name, rest = match.groups()
        first = first or process
        if process != first:
            continue
        counts[name] += 1
        descriptor = _PATH_OF_DESCRIPTOR.match(rest)
        paths = (descriptor[1],) if descriptor else tuple(_NAMES.findall(rest))
        if any(_OUTPUTS.search(path) for path in paths):
            if name == "openat":
                (read.add if _READS.search(rest) else read.discard)(rest.rpartition("<")[2].rstrip(">"))
            writes = not (_READS.search(rest) if name == "openat" else read.intersection(paths))
            calls.append(Call(name, counts[name], paths, writes))
    return calls


# --- one point -------------------------------------------------------------------------------------------------------


def struck(
    stage: Stage, folder: Path, call: Call, what: str, check: Callable[[Ended, Path, bool], list[str]]
) -> list[str]:
    """Strike at a call of a stage, look at what that left, and go on to the end."""
    try:
        ended = _run_into(stage, folder, call, what)
        problems = [*check_visible(folder), *check(ended, folder, has_checkpoint(stage.source))]
        if "error" in what and ended.code == 0 and may_go_on(call):
            problems = check_visible(folder)
        problems = problems or verdict(stage.baseline, folder)
        return [f"{call.name} {call.number} ({what}, {_below_outputs(call.paths[0])}): {line}" for line in problems]
    except subprocess.TimeoutExpired:
        return [f"{call.name} {call.number} ({what}): hangs"]
    finally:
        shutil.rmtree(folder)


def _holds_lock(call: Call) -> bool:
    """Whether it is the close of a lock: strace leaves out the call that it lets fail, and the lock would be held for ever."""
    return call.name == "close" and call.paths[0].endswith(".lock")


def may_go_on(call: Call) -> bool:
    """Whether a run need not end because a call failed once: a save is tried again, and that the name of a new run is on the
    disk can't be asked of every file system."""
    of_parents = call.name in ("fsync", "openat") and re.fullmatch(r"outputs(/[0-9-]+)?", _below_outputs(call.paths[0]))
    return call.name in GOES_ON or "/checkpoints" in call.paths[0] or of_parents is not None


def _run_into(stage: Stage, folder: Path, call: Call, what: str) -> Ended:
    """Run a stage in a copy of its source, where ``what`` happens at a call."""
    shutil.copytree(stage.source, folder)
    inject = f"inject={call.name}:{what}:when={call.number}"
    under = ("strace", "-f", "-qq", "-o", str(folder / "log"), "-e", f"trace={call.name}", "-e", inject)
    return rlrun(continuation(stage.baseline.case, folder), folder, under=under)


def check_visible(folder: Path) -> list[str]:
    """Whether every checkpoint that can be seen is whole."""
    seen = folder.glob("outputs/**/*.ckpt")
    return [f"{path.name} is {reason}" for path in seen if (reason := find_damage(path)) is not None]


def check_killed(ended: Ended, folder: Path, resumed: bool) -> list[str]:
    return [] if ended.code == 137 else [f"exit {ended.code} instead of a kill"]


def _check_unharmed(ended: Ended, folder: Path, resumed: bool) -> list[str]:
    return [] if ended.code == 0 else [f"exit {ended.code}: {ended.err}"]


def check_storage_error(ended: Ended, folder: Path, resumed: bool) -> list[str]:
    """Whether a command ended as a disk that takes nothing makes it end: exit 5, one line, and how to go on.

    Where it was a resume, to go on is to type it again; that need not be said.
    """
    problems = []
    if ended.code != 5:
        problems.append(f"exit {ended.code} instead of 5: {ended.err}")
    if len(ended.errors) != 1 or not ended.errors[0].startswith("rlrun: error: "):
        problems.append(f"not one line: {ended.err}")
    if has_checkpoint(folder) and not resumed and "rlrun resume " not in ended.err:
        problems.append(f"does not say how to go on: {ended.err}")
    return problems


# --- order -----------------------------------------------------------------------------------------------------------


def misordered(calls: Sequence[Call]) -> list[str]:
    """What a power loss could undo out of turn, over all saves of checkpoints: nothing if each went

    rows on disk -> file on disk -> rename -> directory on disk -> older ones deleted.
    """
    problems, saves = [], 0
    dirty: set[str] = set()  # paths with bytes, or names, that may not be on the disk
    for call in calls:
        path = _below_outputs(call.paths[0])
        folder = path.rpartition("/")[0]
        if call.name in ("write", "pwrite64", "writev"):
            dirty.add(path)
        elif call.name in ("fsync", "fdatasync"):
            dirty.discard(path)
        elif call.name.startswith("rename"):
            if "/step_" in call.paths[1]:  # best.ckpt counts on no rows
                saves += 1
                late = sorted({path, *(name for name in dirty if name.endswith((".jsonl", ".csv")))} & dirty)
                problems += [f"{name} is not on the disk before {call.paths[1]} can be seen" for name in late]
            dirty.add(folder)
        elif call.name.startswith("unlink") and folder in dirty:
            problems.append(f"{path} is deleted before its successor's name is on the disk")
    return problems if saves else ["no save was seen"]


def _below_outputs(path: str) -> str:
    return path[path.index("outputs") :] if "outputs" in path else path

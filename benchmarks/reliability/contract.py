"""What "the same run" means, and how a run is started, ended and finished from outside, as a user would.

Two runs are the same if their last checkpoints hold the same bits (weights, optimizer, normalisers, random streams,
environments, counts), without what the clock put into them, and if their ``metrics.jsonl`` and ``episodes.csv`` are equal.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.children import ONE_THREAD, ROOT
from rlrun.checkpoint import load
from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.errors import ResumeError

_numbers = itertools.count()
LIMIT = 120.0  # seconds after which a command counts as hanging


@dataclass(frozen=True)
class Case:
    """A command line, and the number of runs it makes."""

    name: str
    arguments: tuple[str, ...]
    members: int = 1


@dataclass(frozen=True)
class Ended:
    """What a command left: its exit code as a shell shows it, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines on stderr that are no notes."""
        return [line for line in self.err.splitlines() if not line.startswith("rlrun: note: ")]


@dataclass(frozen=True)
class Command:
    """A command at work, with all the processes it starts: the workers of a sweep lead sessions of their own."""

    process: subprocess.Popen[str]
    mark: str
    """What all of them have in their environment."""

    def pids(self) -> list[int]:
        """The processes that live, in no order."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    marked = self.mark in (entry / "environ").read_text(errors="replace").split("\0")
                    if marked and (entry / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                        found.append(int(entry.name))
        return found

    def kill(self) -> None:
        """Kill them all; a process that one of them has started meanwhile too."""
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def wait(self, limit: float = LIMIT) -> Ended:
        """Wait until all have ended: the orphans of a killed parent save before they go.

        Raises:
            subprocess.TimeoutExpired: something hangs; it is killed.
        """
        deadline = time.monotonic() + limit
        try:
            out, err = self.process.communicate(timeout=limit)
            while self.pids():
                if time.monotonic() > deadline:
                    raise subprocess.TimeoutExpired(str(self.process.args), limit)
                time.sleep(0.02)
        except subprocess.TimeoutExpired:
            self.kill()
            self.process.communicate()
            raise
        code = self.process.returncode
        return Ended(code if code >= 0 else 128 - code, out or "", err or "")


def start(
    arguments: Sequence[str], folder: Path, under: Sequence[str] = (), site: Path | None = None, **options: Any
) -> Command:
    """``rlrun ARGUMENTS`` in ``folder``, ``under`` another command if need be; ``site`` has packages of its own."""
    path = os.pathsep.join([str(ROOT), *([str(site)] if site else [])])
    mark = f"RLRUN_STORM={os.getpid()}-{next(_numbers)}"
    environment = os.environ | ONE_THREAD | {"PYTHONPATH": path} | dict([mark.split("=")])
    command = [*under, sys.executable, "-m", "rlrun", *arguments]
    settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return Command(subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **settings), mark)


def rlrun(arguments: Sequence[str], folder: Path, **options: Any) -> Ended:
    """Run a command to its end."""
    return start(arguments, folder, **options).wait()


# --- the contract ----------------------------------------------------------------------------------------------------


def runs_in(folder: Path) -> list[Path]:
    """The run directories below a working folder, in the order of their seeds."""
    found = {directory.parent: _manifest(directory.parent) for directory in folder.glob("outputs/**/run.json")}
    return sorted(found, key=lambda directory: (found[directory].get("seed", 0), directory.name))


def _manifest(directory: Path) -> dict[str, Any]:
    manifest = json.loads((directory / "run.json").read_text())
    assert isinstance(manifest, dict)
    return manifest


def fingerprint(directory: Path) -> dict[str, str]:
    """What equal runs have in common: a hash of the last checkpoint, of the best one, and of each file of rows."""
    _, _, tree = CheckpointFolder(directory / "checkpoints", 1).newest(lambda line: None)
    without_clock(tree)
    result = {"last checkpoint": digest_of(tree)}
    if (directory / "checkpoints" / "best.ckpt").exists():
        result["best checkpoint"] = digest_of(load(directory / "checkpoints" / "best.ckpt")[1])
    for name in ("metrics.jsonl", "episodes.csv"):
        result[name] = hashlib.sha256((directory / name).read_bytes()).hexdigest()
    return result


def without_clock(tree: dict[str, Any]) -> None:
    """Take out of a checkpoint's tree what the clock put into it."""
    for section, key in (("loop", "seconds"), ("loop", "wall_seconds"), ("offsets", "timing.jsonl")):
        tree[section].pop(key, None)


def digest_of(value: Any) -> str:
    """SHA-256 over a tree of plain data and arrays: keys, types, shapes and every bit."""
    digest = hashlib.sha256()
    for part in _parts(value):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, Mapping):
        yield f"dict {len(value)}".encode()
        for key in sorted(value):
            yield key.encode()
            yield from _parts(value[key])
    elif isinstance(value, list):
        yield f"list {len(value)}".encode()
        for item in value:
            yield from _parts(item)
    elif isinstance(value, np.ndarray):
        yield f"array {value.dtype} {value.shape}".encode()
        yield value.tobytes()
    else:
        yield f"{type(value).__name__} {value!r}".encode()


def problems_of(folder: Path, expected: Sequence[Mapping[str, str]]) -> list[str]:
    """What is wrong with the finished runs in a folder, beside runs that nothing interrupted; nothing if they are the same."""
    found = runs_in(folder)
    if len(found) != len(expected):
        return [f"{len(found)} runs instead of {len(expected)}"]
    problems = []
    for directory, wanted in zip(found, expected, strict=True):
        manifest = _manifest(directory)
        if manifest["status"] != "finished" or manifest["exact"] is not True:
            problems.append(f"{directory.name}: status {manifest['status']}, exact {manifest['exact']}")
            continue
        had = fingerprint(directory)
        differing = sorted(name for name in wanted.keys() | had.keys() if wanted.get(name) != had.get(name))
        if differing:
            problems.append(f"{directory.name}: {', '.join(differing)} differ")
        problems += [f"{directory.name}: {line}" for line in [*_leftovers(directory), *_rows_amiss(directory)]]
    return problems


def _leftovers(directory: Path) -> list[str]:
    """Files of killed processes that nobody has cleared away."""
    return [f"left {path.name}" for path in [*directory.rglob(".tmp-*"), *directory.rglob("*.bad")]]


def _rows_amiss(directory: Path) -> list[str]:
    """Rows that are there twice or not at all, whatever the uninterrupted run has."""
    episodes = [int(line.split(",")[0]) for line in (directory / "episodes.csv").read_text().splitlines()[1:]]
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    kinds = [(row["type"], row["frames"]) for row in rows]
    amiss = [] if episodes == list(range(1, len(episodes) + 1)) else ["episodes are not numbered 1, 2, ..."]
    return amiss if len(kinds) == len({*kinds}) else [*amiss, "a row of metrics is there twice"]


# --- to the end ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Baseline:
    """A case that nothing interrupted: its runs' fingerprints and how long it took."""

    case: Case
    fingerprints: list[dict[str, str]]
    seconds: float


def uninterrupted(case: Case, folder: Path) -> Baseline:
    """Run a case from start to end in ``folder``."""
    folder.mkdir(parents=True)
    began = time.monotonic()
    ended = rlrun(case.arguments, folder)
    if ended.code != 0:
        raise SystemExit(f"{case.name}: rlrun {' '.join(case.arguments)} ended with {ended.code}: {ended.err}")
    seconds = time.monotonic() - began
    prints = [fingerprint(directory) for directory in runs_in(folder)]
    assert len(prints) == case.members
    return Baseline(case, prints, seconds)


def continuation(case: Case, folder: Path) -> list[str]:
    """The command line that goes on with what is in ``folder``: a resume, or the case anew where nothing can be resumed.

    A run killed before its first checkpoint has nothing to lose, and `rlrun resume` says to start it over.
    """
    if case.members > 1:
        sweeps = [path.parent for path in folder.glob("outputs/sweeps/*/sweep.json")]
        complete = len(sweeps) == 1 and len(runs_in(folder)) == case.members
        if complete:
            return ["resume", "-q", str(sweeps[0])]
        assert not has_checkpoint(folder), "a sweep that was still being made has a checkpoint"
    elif has_checkpoint(folder):
        return ["resume", "-q", str(runs_in(folder)[0])]
    shutil.rmtree(folder / "outputs", ignore_errors=True)
    return list(case.arguments)


def has_checkpoint(folder: Path) -> bool:
    return any(folder.glob("outputs/**/checkpoints/step_*.ckpt"))


def finish(case: Case, folder: Path) -> list[str]:
    """Go on until everything is done; returns what went wrong on the way."""
    ended = rlrun(continuation(case, folder), folder)
    problems = [] if ended.code == 0 else [f"exit {ended.code}: {ended.err.strip() or ended.out.strip()}"]
    if "Traceback" in ended.err:
        problems.append("a traceback")
    return problems


def verdict(baseline: Baseline, folder: Path) -> list[str]:
    """Finish what is in ``folder`` and hold it against the baseline; returns what is wrong."""
    try:
        return finish(baseline.case, folder) or problems_of(folder, baseline.fingerprints)
    except subprocess.TimeoutExpired:
        return ["hangs"]
    except (ResumeError, OSError, ValueError, KeyError, AssertionError) as error:
        return [f"{type(error).__name__}: {error}"]

"""Long runs: memory, open files and files of checkpoints stay level; killed every minute or so, they end with the same bits."""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.reliability.contract import Case, Command, continuation, fingerprint, problems_of, runs_in, start
from benchmarks.reliability.report import Row

RUNS = 5000
"""Thousands of frames of each run."""
EVERYWHERE = ("-q", "plot.figures=none", "checkpoint.every_frames=50000", "checkpoint.keep=2", "env.step_timeout=60")
CASES = (
    Case("DQN on CartPole", (*EVERYWHERE, "algo=dqn", "env=cartpole")),
    Case("PPO on HalfCheetah", (*EVERYWHERE, "algo=ppo", "env=halfcheetah")),
    Case(
        "population of 4 PPO on CartPole", (*EVERYWHERE, "-m", "algo=ppo", "env=cartpole", "seed=range(4)"), members=4
    ),
)
KILLED_AFTER = (5.0, 90.0)  # seconds
WATCHED_EVERY = 0.5  # seconds
MOST_GROWTH = 0.03  # of the memory, from the second fifth of a run to its last
MOST_FILES = 2 + 2  # checkpoints kept, the best, and one being written


@dataclass
class Watched:
    """What a command used: bytes of memory and open files of all its processes, at most so many files of checkpoints."""

    memory: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    checkpoints: int = 0

    def look(self, command: Command, folder: Path) -> None:
        places = [Path("/proc", str(pid)) for pid in command.pids()]
        with contextlib.suppress(OSError):  # one has ended meanwhile
            pages = sum(int((place / "statm").read_text().split()[1]) for place in places)
            self.memory.append(pages * os.sysconf("SC_PAGE_SIZE"))
            self.descriptors.append(sum(len(os.listdir(place / "fd")) for place in places))
        for checkpoints in folder.glob("outputs/**/checkpoints"):
            files = [path for path in checkpoints.iterdir() if path.suffix != ".piece"]
            self.checkpoints = max(self.checkpoints, len(files))

    def problems(self) -> list[str]:
        return [
            *([f"memory grew by {self.growth:.1%}"] if self.growth > MOST_GROWTH else []),
            *([f"{self.checkpoints} files of checkpoints"] if self.checkpoints > MOST_FILES else []),
            *(["open files grew"] if min(_fifth(self.descriptors, 4)) > max(_fifth(self.descriptors, 1)) else []),
        ]

    @property
    def growth(self) -> float:
        early, late = (statistics.median(_fifth(self.memory, part)) for part in (1, 4))
        return late / early - 1


def storm(runs: int, seed: int, cases: Sequence[Case] = CASES) -> list[Row]:
    """Each case for ``runs`` thousand frames, twice: left alone, and killed again and again."""
    chance, rows = random.Random(seed), []
    for case in cases:
        case = Case(case.name, (*case.arguments, f"total_frames={1000 * runs}"), case.members)
        level, equal = (
            Row(f"{case.name}, {runs:,} thousand frames: memory and files level"),
            Row(f"{case.name}, killed"),
        )
        with tempfile.TemporaryDirectory(prefix="rlrun-storm-") as place:
            alone, struck = Path(place, "alone"), Path(place, "struck")
            alone.mkdir()
            struck.mkdir()
            watched = _watch(case, alone)
            level.add(*watched.problems())
            level.note = f"{statistics.median(_fifth(watched.memory, 4)) / 2**20:.0f} MB, {watched.growth:+.1%}"
            kills = _kill_again_and_again(case, struck, chance)
            equal.add(*problems_of(struck, [fingerprint(run) for run in runs_in(alone)]))
            equal.note = f"{kills} times"
        rows += [level, equal]
    return rows


def _watch(case: Case, folder: Path) -> Watched:
    command, watched = start(case.arguments, folder), Watched()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = command.process.wait(WATCHED_EVERY)
            break
        watched.look(command, folder)
    if code != 0:
        raise SystemExit(f"{case.name} ended with {code}: {command.wait().err}")
    return watched


def _kill_again_and_again(case: Case, folder: Path, chance: random.Random) -> int:
    """Until it ends by itself. Returns the number of kills."""
    kills = 0
    while True:
        command = start(continuation(case, folder), folder)
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.process.wait(chance.uniform(*KILLED_AFTER))
            return kills
        command.kill()
        command.wait()
        kills += 1


def _fifth(values: Sequence[int], part: int) -> Sequence[int]:
    return values[len(values) * part // 5 : len(values) * (part + 1) // 5]

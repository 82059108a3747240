"""``kill -9`` at random instants, of everything or of one process, and resumes, until the run is done.

It must end as the run that nothing interrupted.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.reliability.cases import DQN, POPULATION, PPO, SWEEP
from benchmarks.reliability.contract import Baseline, Case, Command, continuation, start, uninterrupted, verdict
from benchmarks.reliability.report import Row

RUNS = 200
KINDS = {
    "kills of a DQN": DQN,
    "kills of a PPO": PPO,
    "kills of a population of 8": POPULATION,
    "kills of a sweep with 2 workers": SWEEP,
}
MOST_KILLS = 5


def storm(runs: int, seed: int, kinds: Mapping[str, Sequence[Case]] = KINDS) -> list[Row]:
    """Kill ``runs`` runs, as many of each kind."""
    return upon_cases(runs, seed, kinds, killed)


def upon_cases(
    runs: int,
    seed: int,
    kinds: Mapping[str, Sequence[Case]],
    disturbed: Callable[[Baseline, Path, random.Random], tuple[int, list[str]]],
) -> list[Row]:
    """``disturbed(baseline, folder, chance)`` for ``runs`` runs of these kinds in turn; it says how often it disturbed and
    what went wrong. Each is then resumed to its end and held against the uninterrupted one."""
    chance = random.Random(seed)
    rows = {kind: Row(kind) for kind in kinds}
    counts = dict.fromkeys(kinds, 0)
    baselines: dict[str, Baseline] = {}
    with tempfile.TemporaryDirectory(prefix="rlrun-storm-") as place:
        for number in range(runs):
            kind = list(kinds)[number % len(kinds)]
            case = chance.choice(kinds[kind])
            if case.name not in baselines:
                baselines[case.name] = uninterrupted(case, Path(place, case.name))
            folder = Path(place, f"{number}")
            folder.mkdir()
            count, problems = disturbed(baselines[case.name], folder, chance)
            counts[kind] += count
            found = [f"{case.name} ({count} times, number {number}): {line}" for line in problems]
            found += [
                f"{case.name} ({count} times, number {number}): {line}"
                for line in verdict(baselines[case.name], folder)
            ]
            rows[kind].add(*found)
            shutil.rmtree(folder)
    for kind, row in rows.items():
        row.note = f"{counts[kind]} times in all"
    return list(rows.values())


def killed(baseline: Baseline, folder: Path, chance: random.Random) -> tuple[int, list[str]]:
    """Kill a run up to five times at random instants. Returns the number of kills that hit something living."""
    hits = 0
    for _ in range(chance.randint(1, MOST_KILLS)):
        command = start(continuation(baseline.case, folder), folder)
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.process.wait(chance.uniform(0, baseline.seconds))
            break  # done before the kill
        hits += 1
        kill_some(command, chance)
        command.wait()
    return hits, []


def kill_some(command: Command, chance: random.Random) -> None:
    """Kill all its processes at once, or one after another, or one alone."""
    how = chance.choice(("all", "one by one", "one"))
    if how == "all":
        command.kill()
        return
    victims = command.pids()
    chance.shuffle(victims)
    for victim in victims[:1] if how == "one" else victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        time.sleep(chance.uniform(0, 0.05))

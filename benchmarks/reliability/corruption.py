"""Damage to the newest checkpoint: bits flipped, bytes zeroed, cut off, appended, anywhere in the file.

All of it must be found out, the checkpoint before it used, and the resumed run end as the uninterrupted one.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.reliability.cases import DQN, PPO
from benchmarks.reliability.contract import (
    Baseline,
    Case,
    problems_of,
    rlrun,
    runs_in,
    start,
    uninterrupted,
)
from benchmarks.reliability.report import Row
from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.errors import ResumeError

RUNS = 1000
RESUMED_ONE_IN = 20  # of the damaged files; the others are held against the choice of a checkpoint alone
MOST_ZEROED = 4096


def _flip(data: bytearray, chance: random.Random) -> str:
    place = chance.randrange(len(data))
    data[place] ^= 1 << chance.randrange(8)
    return f"a bit of byte {place}"


def _zero(data: bytearray, chance: random.Random) -> str:
    while True:  # zeroing zeros is no damage
        start, count = chance.randrange(len(data)), chance.randint(1, MOST_ZEROED)
        if any(data[start : start + count]):
            size = len(data[start : start + count])
            data[start : start + count] = bytes(size)
            return f"{size} zeros at byte {start}"


def _truncate(data: bytearray, chance: random.Random) -> str:
    size = chance.randrange(len(data))
    del data[size:]
    return f"cut to {size} bytes"


def _append(data: bytearray, chance: random.Random) -> str:
    more = chance.randbytes(chance.choice((1, 32, chance.randint(1, MOST_ZEROED))))
    data.extend(more)
    return f"{len(more)} bytes more"


DAMAGES: dict[str, Callable[[bytearray, random.Random], str]] = {
    "a flipped bit": _flip,
    "1 to 4096 zeroed bytes": _zero,
    "a cut": _truncate,
    "bytes more": _append,
}


def storm(runs: int, seed: int, resumed_one_in: int = RESUMED_ONE_IN) -> list[Row]:
    """Damage ``runs`` checkpoints, in each way alike; a few of them are resumed to the end."""
    chance = random.Random(seed)
    rows = {name: Row(f"{name} in the newest checkpoint") for name in DAMAGES}
    resumed = Row("resumed from the checkpoint before, to the end")
    with tempfile.TemporaryDirectory(prefix="rlrun-storm-") as place:
        stopped = {case.name: _stopped(case, Path(place, case.name)) for case in (DQN[1], PPO[1])}
        for number in range(runs):
            name = list(DAMAGES)[number % len(DAMAGES)]
            baseline, source = stopped[chance.choice(list(stopped))]
            folder = Path(place, "damaged")
            shutil.copytree(source, folder)
            newest = sorted(runs_in(folder)[0].glob("checkpoints/step_*.ckpt"))[-1]
            data = bytearray(newest.read_bytes())
            what = DAMAGES[name](data, chance)
            newest.write_bytes(data)
            if number % resumed_one_in == 0:
                resumed.add(*[f"{baseline.case.name}, {what}: {line}" for line in resume(baseline, folder)])
            else:
                rows[name].add(*[f"{baseline.case.name}, {what}: {line}" for line in choose(newest)])
            shutil.rmtree(folder)
    return [*rows.values(), resumed]


def _stopped(case: Case, folder: Path) -> tuple[Baseline, Path]:
    """A case from start to end, and a copy of its folder as it was when it had two checkpoints: it is killed then."""
    baseline = uninterrupted(case, folder / "whole")
    cut = folder / "cut"
    cut.mkdir()
    command = start(case.arguments, cut)
    while len(list(cut.glob("outputs/**/checkpoints/step_*.ckpt"))) < 2 and command.process.poll() is None:
        pass
    command.kill()
    command.wait()
    assert len(list(cut.glob("outputs/**/checkpoints/step_*.ckpt"))) == 2
    return baseline, cut


def choose(newest: Path) -> list[str]:
    """Whether the checkpoint before the damaged one is chosen, with one line about that, and the damaged one kept."""
    older = sorted(newest.parent.glob("step_*.ckpt"))[-2]
    notices: list[str] = []
    try:
        chosen = CheckpointFolder(newest.parent, 2).newest(notices.append)[0]
    except ResumeError as error:
        return [str(error)]
    problems = [] if chosen == older else [f"{chosen.name} is used"]
    if len(notices) != 1 or newest.name not in notices[0] or older.name not in notices[0]:
        problems.append(f"said: {notices}")
    return problems if newest.with_name(f"{newest.name}.bad").exists() else [*problems, "the damaged file is gone"]


def resume(baseline: Baseline, folder: Path) -> list[str]:
    (directory,) = runs_in(folder)
    newest = sorted(directory.glob("checkpoints/step_*.ckpt"))[-1]
    ended = rlrun(["resume", str(directory)], folder)
    if ended.code != 0 or (f"{newest.name} is damaged" not in ended.err and f"{newest.name} is not" not in ended.err):
        return [f"exit {ended.code}: {ended.out.strip()} {ended.err.strip()}"]
    for bad in directory.glob("checkpoints/*.bad"):  # as it should be, but a leftover to the comparison
        bad.unlink()
    return problems_of(folder, baseline.fingerprints)

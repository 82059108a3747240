"""Damage to the newest checkpoint: bits flipped, bytes zeroed, cut off, appended, anywhere in the file or in a piece that it needs.

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
from rlrun.checkpoint import read_header
from rlrun.pieces import names_of

RUNS = 1000
CASES = (DQN[1], DQN[3], PPO[1])  # the second in pieces
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


def storm(runs: int, seed: int) -> list[Row]:
    """Damage ``runs`` checkpoints, in each way alike, and resume each run to the end."""
    chance = random.Random(seed)
    rows = {name: Row(f"{name} in the newest checkpoint: found, resumed from the one before") for name in DAMAGES}
    with tempfile.TemporaryDirectory(prefix="rlrun-storm-") as place:
        places = [stopped(case, Path(place, case.name)) for case in CASES]
        for number in range(runs):
            name = list(DAMAGES)[number % len(DAMAGES)]
            baseline, source = places[number // len(DAMAGES) % len(CASES)]
            folder = Path(place, "damaged")
            shutil.copytree(source, folder)
            newest = newest_in(folder)
            file = newest.with_name(
                chance.choice([newest.name, *sorted(names_of(read_header(newest).get("pieces", [])))])
            )
            data = bytearray(file.read_bytes())
            what = DAMAGES[name](data, chance)
            file.write_bytes(data)
            rows[name].add(*[f"{baseline.case.name}, {file.name}, {what}: {line}" for line in resume(baseline, folder)])
            shutil.rmtree(folder)
    return list(rows.values())


def stopped(case: Case, folder: Path) -> tuple[Baseline, Path]:
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


def newest_in(folder: Path) -> Path:
    return max(runs_in(folder)[0].glob("checkpoints/step_*.ckpt"))


def resume(baseline: Baseline, folder: Path) -> list[str]:
    """What is wrong with a run whose newest checkpoint is damaged, once it was resumed."""
    newest = newest_in(folder)
    older = sorted(newest.parent.glob("step_*.ckpt"))[-2]
    ended = rlrun(["resume", str(newest.parents[1])], folder)
    said = ended.err.splitlines()
    if ended.code != 0 or len(said) != 1 or f"{newest.name} is " not in said[0] or f"using {older.name}" not in said[0]:
        return [f"exit {ended.code}: {ended.out.strip()} {ended.err.strip()}"]
    bad = newest.with_name(f"{newest.name}.bad")
    if f"renamed to {bad.name}" in said[0]:  # as it should be, but a leftover to the comparison
        bad.unlink()
    return problems_of(folder, baseline.fingerprints)

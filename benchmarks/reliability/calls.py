"""A kill at every call that rlrun makes to the disk, and errors from each that changes something, in forks of one process.

Quicker than ``syscalls``, so that every point of a run can be tried: with a replay memory that is saved whole, and in pieces.
"""

from __future__ import annotations

import errno
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from benchmarks.reliability.cases import tiny
from benchmarks.reliability.contract import Baseline, continuation, fingerprint, problems_of, runs_in
from benchmarks.reliability.forked import Strike, rlrun_forked
from benchmarks.reliability.report import Row
from benchmarks.reliability.syscalls import GOES_ON, check_storage_error, check_visible, some
from rlrun import checkpoint_folder

RUNS = 1000  # more than there are points: all of them
ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EMFILE)


def storm(runs: int, seed: int) -> list[Row]:
    """At most ``runs`` points of each kind, chosen by chance where there are more."""
    chance, rows = random.Random(seed), []
    for what, smallest in (("whole", checkpoint_folder.SMALLEST), ("in pieces", 0)):
        with mock.patch.object(checkpoint_folder, "SMALLEST", smallest), tempfile.TemporaryDirectory() as place:
            baseline, calls = undisturbed(Path(place, "undisturbed"))
            kills = Row(f"kill at a call to the disk, memory saved {what}")
            once = Row(f"an error from a call to the disk, memory saved {what}")
            lasting = Row(f"errors from a call to the disk on, memory saved {what}")
            for number in some(range(len(calls)), runs, chance):
                kills.add(*tried(baseline, Path(place, f"kill-{number}"), Strike(number)))
            points = [number for number, name in enumerate(calls) if name not in GOES_ON]
            for number in some(points, runs, chance):
                for row, lasts in ((once, False), (lasting, True)):
                    strike = Strike(number, chance.choice(ERRORS), lasts)
                    row.add(*tried(baseline, Path(place, f"error-{number}-{lasts}"), strike))
            rows += [kills, once, lasting]
    return rows


def undisturbed(folder: Path) -> tuple[Baseline, list[str]]:
    """A short run that nothing disturbed, and its calls to the disk."""
    folder.mkdir()
    ended, calls = rlrun_forked(tiny().arguments, folder)
    assert ended.code == 0, ended.err
    return Baseline(tiny(), [fingerprint(directory) for directory in runs_in(folder)], 0.0), calls


def tried(baseline: Baseline, folder: Path, strike: Strike) -> Iterator[str]:
    """Strike at a run, go on to its end, and say what was wrong."""
    folder.mkdir()
    ended, calls = rlrun_forked(baseline.case.arguments, folder, strike)
    where = f"call {strike.number} ({calls[-1] if calls else '?'}), {errno.errorcode.get(strike.error or 0, 'kill')}"
    if strike.error is None:
        problems = [] if ended.code == 137 else [f"exit {ended.code} instead of a kill"]
    elif strike.lasting or ended.code != 0:  # a save that fails once is tried again
        problems = check_storage_error(ended, folder, resumed=False)
    else:
        problems = []
    problems += check_visible(folder)
    ended, _ = rlrun_forked(continuation(baseline.case, folder), folder)
    if ended.code != 0:
        problems.append(f"exit {ended.code} in the end: {ended.err}")
    else:
        problems += problems_of(folder, baseline.fingerprints)
    return (f"{where}: {problem}" for problem in problems)

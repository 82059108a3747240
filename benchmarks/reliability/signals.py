"""Signals at random instants: during imports, resets, evaluations and saves, twice, before a kill, or ignored from the start.

The exit code must be right, nothing may hang or print a traceback, and the resumed run must end as the uninterrupted one.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import subprocess
import time
from pathlib import Path

from benchmarks.children import ROOT
from benchmarks.reliability.cases import DQN, POPULATION, PPO
from benchmarks.reliability.contract import Baseline, Command, continuation, start
from benchmarks.reliability.kills import upon_cases
from benchmarks.reliability.report import Row

RUNS = 200
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KINDS = {"signals to a DQN": DQN, "signals to a PPO": PPO, "signals to a population of 8": POPULATION}
MANNERS = ("once", "twice", "twice, later", "then killed", "ignored")


def storm(runs: int, seed: int) -> list[Row]:
    """Signals to ``runs`` runs."""
    seconds: list[float] = []

    def signalled(baseline: Baseline, folder: Path, chance: random.Random) -> tuple[int, list[str]]:
        count, problems, took = disturb(baseline, folder, chance)
        seconds.extend(took)
        return count, problems

    rows = upon_cases(runs, seed, KINDS, signalled)
    if len(seconds) > 1:
        slowest = f"from signal to end {statistics.median(seconds):.2f} s, at most {max(seconds):.2f} s"
        rows[-1].note += f"; of all kinds, {slowest}"
    return rows


def disturb(baseline: Baseline, folder: Path, chance: random.Random) -> tuple[int, list[str], list[float]]:
    """Signal a run once or twice over, resuming it between. Returns how often, what went wrong, and the seconds it took to end."""
    problems: list[str] = []
    seconds: list[float] = []
    count = 0
    for _ in range(chance.randint(1, 2)):
        manner = chance.choice(MANNERS)
        number = signal.SIGINT if manner == "ignored" else chance.choice(SIGNALS)
        instant = chance.uniform(0, baseline.seconds)
        ignoring = {"preexec_fn": _ignore_interrupt} if manner == "ignored" else {}
        command = start(continuation(baseline.case, folder), folder, **ignoring)
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.process.wait(instant)
        if command.process.poll() is not None:
            ended = command.wait()
            problems += [] if ended.code == 0 else [f"exit {ended.code} before any signal: {ended.err}"]
            break
        count += 1
        began = time.monotonic()
        expected = _send_all(command, number, manner, chance)
        ended = command.wait()
        if manner not in ("then killed", "ignored"):
            seconds.append(time.monotonic() - began)
        if (ended.code not in expected or "Traceback" in ended.err) and not _is_before_us(ended.err):
            where = f"{signal.Signals(number).name} {manner} after {instant:.2f} s"
            problems.append(f"{where}: exit {ended.code}: {ended.err.strip()[-300:]}")
        if ended.code == 0:
            break
    return count, problems, seconds


def _is_before_us(text: str) -> bool:
    """Whether Python was interrupted while it made itself ready: no line of ours had run."""
    return "Traceback" in text and str(ROOT / "rlrun") not in text


def _send_all(command: Command, number: int, manner: str, chance: random.Random) -> set[int]:
    """Send a signal, and what follows it in this manner; returns the exit codes that are right then."""
    _send(command, number)
    ended_first = {0, 128 + number}  # 0: it had just finished
    match manner:
        case "twice":
            time.sleep(chance.uniform(0, 0.9))
            _send(command, chance.choice(SIGNALS))  # counts as one with the first
            return {0, *(128 + each for each in SIGNALS)}  # whose handlers may not have been there for the first
        case "twice, later":
            time.sleep(chance.uniform(1.0, 1.3))
            _send(command, number)
        case "then killed":
            time.sleep(chance.uniform(0, 0.2))
            command.kill()
            return {*ended_first, 128 + signal.SIGKILL}
        case "ignored":
            return {0}
    return ended_first


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _send(command: Command, number: int) -> None:
    """To the command alone, as a scheduler does; its workers are its own affair."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(command.process.pid, number)

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
    rounds = chance.randint(1, 2)
    for _ in range(rounds):
        manner = chance.choice(MANNERS)
        instant = chance.uniform(0, baseline.seconds)
        number = signal.SIGINT if manner == "ignored" else chance.choice(SIGNALS)
        ignoring = {"preexec_fn": _ignore_interrupt} if manner == "ignored" else {}
        command = start(continuation(baseline.case, folder), folder, **ignoring)
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.process.wait(instant)
        if command.process.poll() is not None:
            ended = command.wait()
            problems += [] if ended.code == 0 else [f"exit {ended.code} before any signal: {ended.err}"]
            break
        expected = {0, 128 + number}  # 0: it had just finished
        began = time.monotonic()
        _send(command, number)
        if manner == "twice":
            time.sleep(chance.uniform(0, 0.9))
            _send(command, chance.choice(SIGNALS))  # counts as one with the first
            expected |= {128 + each for each in SIGNALS}  # but for those that come before, or after, they are caught
        elif manner == "twice, later":
            time.sleep(chance.uniform(1.0, 1.3))
            _send(command, number)
        elif manner == "then killed":
            time.sleep(chance.uniform(0, 0.2))
            command.kill()
            expected |= {128 + signal.SIGKILL}
        elif manner == "ignored":
            expected = {0}
        ended = command.wait()
        if manner not in ("then killed", "ignored"):
            seconds.append(time.monotonic() - began)
        where = f"{signal.Signals(number).name} {manner} after {instant:.2f} s"
        if ended.code not in expected:
            problems.append(f"{where}: exit {ended.code}: {ended.err.strip()[-300:]}")
        elif "Traceback" in ended.err:
            problems.append(f"{where}: a traceback: {ended.err.strip()[-300:]}")
        if ended.code == 0:
            break
    return rounds, problems, seconds


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _send(command: Command, number: int) -> None:
    """To the command alone, as a scheduler does; its workers are its own affair."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(command.process.pid, number)

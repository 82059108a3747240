"""What every peer does alike: arguments, settings, and the clock that ends in one JSON line."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.children import SETTINGS, STARTED

Settings = Mapping[str, Any]
Train = Callable[[Settings, int, int, "Clock"], int]
"""Trains with these settings for so many frames with this seed, tells the clock of its first step, returns the frames done."""


class Clock:
    """From the start of the process to the first step of training, and from there to the end."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._first_unix = 0.0

    def first_step(self) -> None:
        """Training begins: the next thing that happens is a step of an environment."""
        if self._first is None:
            self._first, self._first_unix = time.perf_counter(), time.time()

    def watch(self, environment_class: type[Any]) -> None:
        """Call ``first_step`` when an environment of this class is stepped next; costs nothing after that."""
        original = environment_class.step

        def step(environment: Any, action: Any) -> Any:
            environment_class.step = original
            self.first_step()
            return original(environment, action)

        environment_class.step = step

    def report(self, frames: int) -> None:
        """Print what was measured."""
        assert self._first is not None
        started = os.environ.get(STARTED)
        answer = {
            "frames": frames,
            "frames_per_second": frames / (time.perf_counter() - self._first),
            "seconds_to_first_step": None if started is None else self._first_unix - float(started),
        }
        print(json.dumps(answer), flush=True)


def run(algorithms: Mapping[str, Train]) -> None:
    """The command line of a peer: ``CASE FRAMES SEED``. ``algorithms`` maps a preset's name to what trains it."""
    if len(sys.argv) != 4:
        raise SystemExit(f"usage: python -m benchmarks.peers.NAME CASE FRAMES SEED; cases: {', '.join(algorithms)}")
    name, frames, seed = sys.argv[1].removeprefix("sweep_"), int(sys.argv[2]), int(sys.argv[3])
    if name not in algorithms:
        raise SystemExit(f"this peer has no case {name}; it has {', '.join(algorithms)}")
    clock = Clock()
    clock.report(algorithms[name](_settings(sys.argv[1], frames), frames, seed, clock))


def _settings(case: str, frames: int) -> Settings:
    """Those the benchmark composed; typed by hand, the peer asks rlrun."""
    if SETTINGS in os.environ:
        settings: Settings = json.loads(os.environ[SETTINGS])
        return settings
    from benchmarks.cases import settings_of

    return settings_of(case, frames)


def epsilon(algo: Settings, frames: float) -> float:
    """Chance of a random action after ``frames``, as the settings say."""
    spread = algo["epsilon_start"] - algo["epsilon_end"]
    if algo["epsilon_schedule"] == "linear":
        share = max(0.0, 1.0 - frames / algo["epsilon_frames"])
    else:
        share = math.exp(-frames / algo["epsilon_frames"])
    return float(algo["epsilon_end"] + spread * share)


def learning_rate(algo: Settings, done: float) -> float:
    """The step size after a share ``done`` of all frames."""
    factor = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}
    return float(algo["learning_rate"] * factor[algo["learning_rate_schedule"]])

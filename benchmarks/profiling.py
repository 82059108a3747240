"""Where the time of a case goes: its functions, timed by name, each for itself without what it calls of the others.

Two runs in this process: with nothing but the training loop timed, and with all of it. The difference is what the timing costs.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from benchmarks.cases import PRESETS, composed
from benchmarks.growth import train_population

ROOT = "training loop"
FUNCTIONS: dict[str, tuple[str, ...]] = {
    "environment": ("rlrun.rollout:Environments.step",),
    "acting": ("rlrun.trainers.dqn:DQNTrainer._collect", "rlrun.trainers.ppo:PPOTrainer._collect"),
    "storing": ("rlrun.replay:Replay.add", "rlrun.trainers.rollouts:Rollout.columns"),
    "sampling": ("rlrun.replay:Replay.sample", "rlrun.trainers.rollouts:Columns.shuffled"),
    "normalising": (
        "rlrun.normalization:ObservationNormalizer.__call__",
        "rlrun.normalization:ObservationNormalizer.update",
        "rlrun.normalization:RewardNormalizer.__call__",
    ),
    "forward": ("rlrun.kernels.mlp:MLPKernel.forward",),
    "targets and losses": (
        "rlrun.trainers.dqn:DQNTrainer._update",
        "rlrun.trainers.ppo:PPOTrainer._finish_rollout",
        "rlrun.trainers.ppo:PPOTrainer._update",
    ),
    "backward": ("rlrun.kernels.mlp:MLPKernel.backward",),
    "optimizer": ("rlrun.optim:Descent.__call__", "rlrun.optim:move_towards"),
    "metrics": (
        "rlrun.trainers.base:Means.add",
        "rlrun.trainers.rollouts:Measures.add",
        "rlrun.trainers.ppo:PPOTrainer._measured",
        "rlrun.trainers.dqn:note_divergence",
        "rlrun.trainers.ppo:note_divergence",
        "rlrun.bookkeeping:Books.log",
        "rlrun.training:Loop._record_episodes",
    ),
    "disk": ("rlrun.metrics:Recorder.flush", "rlrun.checkpoint_folder:CheckpointFolder.save", "rlrun.run:Run.update"),
    ROOT: ("rlrun.training:Loop.run",),
}
"""Each category and its functions, ``module:name``. A function imported by name is timed where it is looked up."""
ABSORBED = {("acting", "forward")}
"""(caller's category, own category) of calls that count as the caller's: to act is to run the network."""


class Stopwatch:
    """Time of each category for itself, in nanoseconds, within ``Loop.run``."""

    def __init__(self) -> None:
        self.own: dict[str, int] = dict.fromkeys(FUNCTIONS, 0)
        self._stack: list[str] = []
        self._since = 0

    def enter(self, category: str) -> None:
        """What has passed since the last change was the caller's."""
        now = time.perf_counter_ns()
        if self._stack:
            caller = self._stack[-1]
            self.own[caller] += now - self._since
            category = caller if (caller, category) in ABSORBED else category
        self._stack.append(category)
        self._since = time.perf_counter_ns()

    def leave(self) -> None:
        """What has passed since the last change was the callee's."""
        self.own[self._stack.pop()] += time.perf_counter_ns() - self._since
        self._since = time.perf_counter_ns()

    def timed(self, category: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with its time taken; outside the training loop it is left alone."""

        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            if not self._stack and category != ROOT:
                return function(*arguments, **named)
            self.enter(category)
            try:
                return function(*arguments, **named)
            finally:
                self.leave()

        return call


@contextmanager
def watching(stopwatch: Stopwatch, categories: tuple[str, ...]) -> Iterator[None]:
    """Time the functions of these categories, and put them back as they were."""
    found = [(category, *_find(name)) for category in categories for name in FUNCTIONS[category]]
    originals = [(owner, name, getattr(owner, name)) for _, owner, name in found]
    try:
        for category, owner, name in found:
            setattr(owner, name, stopwatch.timed(category, getattr(owner, name)))
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def _find(place: str) -> tuple[Any, str]:
    """The module or class that has a function, and the function's name in it."""
    module, _, path = place.partition(":")
    *classes, name = path.split(".")
    try:
        owner = importlib.import_module(module)
        for part in classes:
            owner = getattr(owner, part)
        getattr(owner, name)
    except (ImportError, AttributeError) as error:
        raise SystemExit(f"{place} does not exist ({error}): correct FUNCTIONS in benchmarks/profiling.py") from error
    return owner, name


def run(name: str, frames: int | None, agents: int) -> None:
    """Print a table of where the time of a preset goes."""
    preset = PRESETS[name]
    settings = composed(preset.overrides, frames or preset.frames)
    bare, full = Stopwatch(), Stopwatch()
    with watching(bare, (ROOT,)):
        done = train_population(settings, agents)["frames"]
    with watching(full, tuple(FUNCTIONS)):
        train_population(settings, agents)
    print(report(name, full.own, bare.own[ROOT], int(done * agents)))


def report(name: str, own: dict[str, int], bare: int, steps: int) -> str:
    """The table; ``own`` and ``bare`` in nanoseconds, ``steps`` of all agents."""
    total = sum(own.values())
    lines = [f"| {name} | µs per step | % |", "|---|---:|---:|"]
    for category, nanoseconds in sorted(own.items(), key=lambda item: -item[1]):
        lines.append(f"| {category} | {nanoseconds / steps / 1000:.2f} | {100 * nanoseconds / total:.1f} |")
    lines.append(f"| all | {total / steps / 1000:.2f} | 100.0 |")
    lines.append("")
    lines.append(
        f"{steps:,} steps; without the timing {bare / steps / 1000:.2f} µs per step: the timing adds "
        f"{100 * (total / bare - 1):.0f} %, most of it to what is called most often."
    )
    return "\n".join(lines)

"""Environments that hide some of their state, and one that breaks, offered to rlrun as an installed package offers its own."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

HIDDEN = ("global", "closure", "iterator", "slots", "file")
FAULTS = ("nan_reward", "infinite_reward", "nan_observation", "raise", "exit", "shape", "reset", "memory", "abort")

Result = tuple[np.ndarray, float, bool, bool, dict[str, Any]]

_moment = [0.0]  # state of the module, which no instance holds


class _Slots:
    """An object without attributes that could be listed, as one written in C."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


def _counter() -> Any:
    count = 0.0

    def add(number: float) -> float:
        nonlocal count
        count += number
        return count

    return add


class Hidden(gymnasium.Env[np.ndarray, int]):
    """A walk whose observation depends on a number that is kept where no attribute shows it."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Discrete(2)

    def __init__(self, where: str) -> None:
        self.where = where
        self.path = Path(f"hidden-{os.getpid()}-{id(self)}") if where == "file" else None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.position = 0, float(self.np_random.normal())
        if self.where == "closure":
            self.add = _counter()
        if self.where == "iterator":
            self.numbers: Iterator[int] = itertools.count()
        if self.where == "slots":
            self.slots = _Slots()
        if self.path is not None:
            self.path.write_text("0")
        return self._observation(0.0), {}

    def step(self, action: int) -> Result:
        self.steps += 1
        self.position += float(action) - 0.5
        hidden = self._advance(float(action) + 1)
        return self._observation(hidden), hidden, self.steps >= 37, False, {}

    def _advance(self, number: float) -> float:
        match self.where:
            case "global":
                _moment[0] += number
                return _moment[0] % 7
            case "closure":
                return float(self.add(number)) % 7
            case "iterator":
                return float(next(self.numbers))
            case "slots":
                self.slots.value += number
                return self.slots.value % 7
        assert self.path is not None
        value = float(self.path.read_text()) + number
        self.path.write_text(repr(value))
        return value % 7

    def _observation(self, hidden: float) -> np.ndarray:
        return np.array([self.position, hidden], np.float32)

    def close(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class Faulty(gymnasium.Env[np.ndarray, int]):
    """Breaks at step ``at`` of its life, in the way ``how``."""

    observation_space = Box(-1, 1, (3,), np.float32)
    action_space = Discrete(2)

    def __init__(self, how: str = "", at: int = 0) -> None:
        self.how, self.at, self.count = how, at, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if self.how == "reset" and self.count >= self.at:
            raise RuntimeError("the simulator does not start again")
        self.length = 0
        return self._observation(), {}

    def step(self, action: int) -> Result:
        self.count, self.length = self.count + 1, self.length + 1
        observation, reward = self._observation(), float(action)
        if self.count >= self.at:
            match self.how:
                case "nan_reward":
                    reward = float("nan")
                case "infinite_reward":
                    reward = float("inf")
                case "nan_observation":
                    observation[1] = np.nan
                case "shape":
                    observation = np.zeros(4, np.float32)
                case "exit":
                    sys.exit(0)
                case "raise":
                    raise RuntimeError("the simulator is on fire")
                case "memory":
                    raise MemoryError("the simulator is too large")
                case "abort":
                    os.abort()
        return observation, reward, self.length >= 30, False, {}

    def _observation(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


def register() -> None:
    gymnasium.register("Hidden-v0", entry_point=Hidden)
    gymnasium.register("Faulty-v0", entry_point=Faulty)


def install(site: Path) -> None:
    """Let rlrun find these as a package's, in processes that have ``site`` on their path."""
    information = site / "storm_probes-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: storm-probes\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[rlrun.envs]\nprobes = benchmarks.reliability.probes:register\n")

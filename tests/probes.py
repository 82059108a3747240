"""Probe environments: five that each need one ability of a learner, and some that break in one way each.

``register()`` makes them available as ``Probe<What>-v0`` (two actions) and ``Probe<What>Box-v0`` (one number in [-1, 1]).
What a perfect learner finds, with discount gamma:

- ``Constant``: one step, reward 1. The value of the observation is 1.
- ``Observation``: one step, reward = observation, which is -1 or 1. The value is the observation.
- ``Delayed``: two steps, observations 0 then 1, reward 1 at the second. The values are gamma and 1.
- ``Action``: one step, reward 1 for the right action (1, or the number 0.5), less for others. The best action is the right one.
- ``ActionObservation``: one step, observation -1 or 1, reward 1 if the action agrees with it: 1 for 1, 0 for -1 (the number
  0.5 * observation), less otherwise.

The broken ones (two actions, observations [0, 0, 0], no end of their own) do it at their fifth step unless ``at`` says otherwise:
``ProbeNaN-v0`` (a NaN reward), ``ProbeRaise-v0``, ``ProbeExit-v0``, ``ProbeShape-v0`` and ``ProbeNaNObservation-v0``.
"""

from __future__ import annotations

import sys
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

LEARNING = ("Constant", "Observation", "Delayed", "Action", "ActionObservation")
BROKEN = ("NaN", "Raise", "Exit", "Shape", "NaNObservation")

Result = tuple[np.ndarray, float, bool, bool, dict[str, Any]]


class Probe(gymnasium.Env[np.ndarray, Any]):
    """One of the learning probes: observation [1], one step or two."""

    def __init__(self, what: str, box: bool) -> None:
        self.what = what
        self.observation_space = Box(-1, 1, (1,), np.float32)
        self.action_space = Box(-1, 1, (1,), np.float32) if box else Discrete(2)
        self.box = box
        self.seen = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        random = self.what in ("Observation", "ActionObservation")
        self.seen = float(self.np_random.choice([-1.0, 1.0])) if random else 0.0
        return self._observation(), {}

    def step(self, action: Any) -> Result:
        if self.what == "Delayed" and self.seen == 0.0:
            self.seen = 1.0
            return self._observation(), 0.0, False, False, {}
        return self._observation(), self._reward(action), True, False, {}

    def _reward(self, action: Any) -> float:
        if self.what == "Observation":
            return self.seen
        if self.what in ("Constant", "Delayed"):
            return 1.0
        wanted = self.seen if self.what == "ActionObservation" else 1.0
        if self.box:
            return 1.0 - (float(action[0]) - 0.5 * wanted) ** 2
        return 1.0 if action == (wanted > 0) else 0.0

    def _observation(self) -> np.ndarray:
        return np.array([self.seen], np.float32)


class Broken(gymnasium.Env[np.ndarray, Any]):
    """Breaks its contract at step ``at``, in every episode, in the way its name says."""

    observation_space = Box(-1, 1, (3,), np.float32)
    action_space = Discrete(2)

    def __init__(self, how: str, at: int = 5) -> None:
        self.how, self.at, self.count = how, at, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(3, np.float32), {}

    def step(self, action: int) -> Result:
        self.count += 1
        observation, reward = np.zeros(3, np.float32), 1.0
        if self.count >= self.at:
            match self.how:
                case "NaN":
                    reward = float("nan")
                case "NaNObservation":
                    observation[1] = np.nan
                case "Shape":
                    observation = np.zeros(4, np.float32)
                case "Exit":
                    sys.exit(0)
                case "Raise":
                    raise RuntimeError("the simulator is on fire")
        return observation, reward, False, False, {}


def register() -> None:
    """Register every probe with Gymnasium; calling it again changes nothing."""
    for what in LEARNING:
        for suffix, box in (("", False), ("Box", True)):
            _register(f"Probe{what}{suffix}-v0", Probe, {"what": what, "box": box})
    for how in BROKEN:
        _register(f"Probe{how}-v0", Broken, {"how": how})


def _register(identifier: str, entry_point: Any, kwargs: dict[str, Any]) -> None:
    if identifier not in gymnasium.registry:
        gymnasium.register(identifier, entry_point, kwargs=kwargs)

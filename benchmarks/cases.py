"""What is measured: for each case rlrun's overrides, the frames, the peers, and the ratios to reach.

A case's settings are typed once, in rlrun's config groups. Peers take the composed settings, so that the sides cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from benchmarks.children import child, module

FIXED = ("device=cpu", "evaluation.episodes=0", "plot.figures=none")
"""What every rlrun command gets: neither side evaluates or draws. Logging and checkpoints stay as they are by default."""


@dataclass(frozen=True)
class Measure:
    """A number of one side, and what the ratio of two of them means."""

    name: str
    unit: str
    more_is_better: bool
    advantage: bool
    """The ratio says how many times better rlrun is, to be at least the target; else which share of the peer's it needs."""


RATE = Measure("frames_per_second", "steps/s", more_is_better=True, advantage=True)
WALL = Measure("wall_seconds", "s", more_is_better=False, advantage=True)
STARTUP = Measure("seconds_to_first_step", "s", more_is_better=False, advantage=False)
MEMORY = Measure("peak_mb", "MB", more_is_better=False, advantage=False)


@dataclass(frozen=True)
class Target:
    """The ratio of ``ours`` to ``peer`` to reach in a measure: at least, where it is an advantage, else at most."""

    peer: str
    ratio: float
    measure: Measure = RATE
    ours: str = "rlrun"


@dataclass(frozen=True)
class Case:
    """One piece of work, done by several sides with the same settings for the same number of frames."""

    overrides: tuple[str, ...]
    frames: int
    targets: tuple[Target, ...]
    kind: str = "run"
    """run: one run of each side, and the bare environment; sweep: 16 seeds on two cores; memory: one run, and a population."""


@dataclass(frozen=True)
class Preset:
    """Settings that cases share, and the frames that show them at work."""

    overrides: tuple[str, ...]
    frames: int


PRESETS = {
    "dqn_tutorial": Preset(("experiment=tutorial_dqn", "stop.episodes=null"), 10_000),
    "dqn_cleanrl": Preset(("experiment=cleanrl_dqn",), 60_000),  # it learns from frame 10,000 on
    "ppo_cartpole": Preset(("experiment=cleanrl_ppo",), 102_400),
    "ppo_halfcheetah": Preset(("experiment=cleanrl_ppo_continuous",), 20_480),
    "ppo_pendulum": Preset(("experiment=tutorial_ppo",), 20_000),
}


def _case(preset: str, *targets: Target, kind: str = "run", frames: int | None = None) -> Case:
    chosen = PRESETS[preset]
    return Case(chosen.overrides, frames or chosen.frames, targets, kind)


def _sweep(preset: str, frames: int, ratio: float) -> Case:
    return _case(preset, Target("sb3", ratio, WALL), kind="sweep", frames=frames)


SEEDS = 16
AT_ONCE = 2
CASES = {
    "dqn_tutorial": _case("dqn_tutorial", Target("sb3", 4), Target("plain", 4), Target("torchrl", 6)),
    "dqn_cleanrl": _case("dqn_cleanrl", Target("sb3", 6), Target("plain", 5)),
    "ppo_cartpole": _case("ppo_cartpole", Target("sb3", 4), Target("plain", 4)),
    "ppo_halfcheetah": _case("ppo_halfcheetah", Target("sb3", 5), Target("plain", 5), Target("torchrl", 15)),
    "ppo_pendulum": _case("ppo_pendulum", Target("plain", 2.5), Target("torchrl", 6)),
    "sweep_dqn_tutorial": _sweep("dqn_tutorial", 20_000, 6),
    "sweep_dqn_cleanrl": _sweep("dqn_cleanrl", 100_000, 7),
    "sweep_ppo_cartpole": _sweep("ppo_cartpole", 102_400, 10),
    "sweep_ppo_halfcheetah": _sweep("ppo_halfcheetah", 40_960, 9),
    "startup": _case("dqn_tutorial", Target("sb3", 0.5, STARTUP), frames=1000),
    "memory": _case(
        "dqn_tutorial",
        Target("sb3", 1, MEMORY),
        Target("sb3", 2, MEMORY, ours="population"),
        kind="memory",
        frames=10_000,
    ),
}
GROWTH = "growth"
"""The case that has no peer; see ``growth.py``."""
LONG_RUN = "ppo_cartpole"
"""The preset whose time per frame is followed over a million frames."""


def composed(overrides: tuple[str, ...], frames: int) -> dict[str, Any]:
    """The settings of these overrides as plain values, as rlrun itself composes and checks them."""
    return {**_composed((*overrides, *FIXED, f"total_frames={frames}"))}


@cache
def _composed(overrides: tuple[str, ...]) -> Mapping[str, Any]:
    settings = yaml.safe_load(child(module("rlrun", "--cfg", "job", *overrides)).output)
    assert isinstance(settings, dict)
    return settings


def settings_of(name: str, frames: int | None = None) -> dict[str, Any]:
    """The settings of a case."""
    case = CASES[name]
    return composed(case.overrides, frames or case.frames)

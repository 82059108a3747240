"""How long runs take until an evaluation is good enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlrun.errors import ResumeError
from rlrun.reports.records import Record

REWARDS = ("env.kwargs.", "env.frame_skip", "env.time_limit")
"""Settings that change what an episode can return: the registered threshold is not of such an environment."""


@dataclass(frozen=True)
class Reached:
    """Where a run's evaluations first reached the threshold; infinity if they never did, nan if nobody knows."""

    frames: float
    seconds: float
    """Of training, without evaluations and checkpoints."""


def registered(env_id: str, records: Sequence[Record]) -> float | None:
    """The return at which Gymnasium calls ``env_id`` solved, if these runs trained in it as it is registered."""
    from gymnasium.envs.registration import registry

    # A look at what is there: an id in somebody's config must not import anything.
    spec = registry.get(env_id)
    usual = {"env.frame_skip": 1, "env.time_limit": None}
    changed = any(
        key.startswith(REWARDS) and value != usual.get(key)
        for record in records
        for key, value in record.settings.items()
    )
    threshold = None if spec is None or changed else spec.reward_threshold
    return None if threshold is None else float(threshold)


def reached(record: Record, threshold: float, at: int | None = None) -> Reached:
    """The frames of the run's first evaluation, not later than ``at``, whose mean return was at least ``threshold``. Raises ResumeError."""
    frames, values = record.curve("evaluation", "return_mean")
    enough = np.flatnonzero((values >= threshold) & (frames <= (math.inf if at is None else at)))
    if not len(enough):
        return Reached(math.inf, math.inf)
    first = frames[enough[:1]]
    try:
        seconds = float(record.seconds_at(first)[0])
    except ResumeError:  # its frames are known all the same
        seconds = math.nan
    return Reached(float(first[0]), seconds)


def median_of(values: Sequence[float]) -> float | None:
    """Of seeds of which some never arrived (infinity): they count as later than all others. None if it can't be known, infinity if
    half of them never did."""
    known = [value for value in values if not math.isnan(value)]
    if not known or len(known) < len(values):
        return None
    ordered = sorted(known)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2

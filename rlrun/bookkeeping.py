"""What members of a population get at a frame: evaluations, rows of metrics, checkpoints. What fails one spares the others."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rlrun import video
from rlrun.arrays import as_array
from rlrun.config import RunConfig, to_mapping
from rlrun.errors import DivergedError, EnvironmentFailure, StorageError, in_users_terms
from rlrun.evaluation import evaluate
from rlrun.interrupts import Interrupts
from rlrun.member import Member, population_note
from rlrun.provenance import clean
from rlrun.run import own_folder
from rlrun.seeding import Stream, derive
from rlrun.trainers.base import Trainer, capture
from rlrun.video import Order
from rlrun.view import View

_SECONDS_FILMED = 10.0  # of the environment's time, at most: training waits


class Books:
    """Keeps the books of a population. A member that can't be evaluated or saved is put into the trainer's ``failures``."""

    def __init__(
        self, trainer: Trainer, members: Sequence[Member], config: RunConfig, view: View, interrupts: Interrupts
    ) -> None:
        self.trainer, self.members, self.config = trainer, members, config
        self.view, self.interrupts = view, interrupts
        self.save_by = self._next_save()
        self.filming = config.evaluation.video

    def check_filming(self) -> None:
        """Say at the start, and once, if no video can be made here."""
        if self.filming:
            with self._filming():
                video.check(self.config.env, self.view.note)

    def evaluate(self, agents: Sequence[int]) -> bool:
        """Evaluate members and keep the best of each. False if interrupted."""
        frames, config, policy = self.trainer.frames, self.config, self.trainer.policy
        agents = [agent for agent in agents if config.evaluation.episodes and not self._has_diverged(agent)]
        if not agents:
            return True
        own = [member.run.config.seed for member in self.members]
        seeds = [derive(seed, Stream.EVALUATION, frames) for seed in own]
        whose = [f"the evaluation at frame {frames} of the agent with seed {seed}" for seed in own]
        skip = {*range(len(self.members))} - {*agents}
        episodes, interrupted = config.evaluation.episodes, self.interrupts
        results = evaluate(policy, config.env, seeds, episodes, skip=skip, whose=whose, interrupted=interrupted)
        if results is None:
            return False
        for agent in agents:
            member, result = self.members[agent], results[agent]
            if isinstance(result, EnvironmentFailure):
                self.trainer.failures[agent] = result
                continue
            with self._sparing_others(agent):
                best = member.evaluated(frames, result)
                if best:
                    member.save_best(frames, self._policy_tree(agent))
                member.describe(frames)
                self.view.evaluated(agent, frames, result, best)
        self._film([agent for agent in agents if agent not in self.trainer.failures], seeds)
        return True

    def _film(self, agents: Sequence[int], seeds: Sequence[int]) -> None:
        """An episode of each, if that is wanted. What an interruption or a failure leaves out is not made up for."""
        frames = self.trainer.frames
        for agent in agents:
            if not self.filming or self.interrupts():
                return
            run = self.members[agent].run
            weights = (
                {"frames": frames, "config": clean(to_mapping(run.config))},
                {"training": self._policy_tree(agent)},
            )
            config = dataclasses.replace(run.config, device="cpu")
            order = Order(config, weights, seeds[agent], formats=("mp4",), seconds=_SECONDS_FILMED)
            with self._filming():
                folder = own_folder(run.directory, "videos")
                video.film(order, folder, f"frames_{frames:012d}", interrupted=self.interrupts)

    @contextlib.contextmanager
    def _filming(self) -> Iterator[None]:
        """Whatever goes wrong here ends the filming, not the training."""
        try:
            yield
        except Exception as error:
            self.filming = False
            self.view.note(f"no video: {in_users_terms(error)}; training goes on without")

    def _has_diverged(self, agent: int) -> bool:
        """Whether a member's weights are not finite: it fails, and nothing of it is evaluated or saved."""
        policy = self.trainer.policy
        broken = np.flatnonzero(~np.isfinite(as_array(policy.rows_AP[agent])))
        if broken.size:
            place = policy.layout.place_of(int(broken[0]))
            error = DivergedError(
                f"diverged by frame {self.trainer.frames}: weights of {place} are not finite; lower algo.learning_rate"
            )
            self.trainer.failures.setdefault(agent, error)
        return bool(broken.size)

    @contextlib.contextmanager
    def _sparing_others(self, agent: int) -> Iterator[None]:
        """An environment of one member that can't be saved, or files that can't be written, fail that member alone."""
        try:
            yield
        except (EnvironmentFailure, StorageError) as error:
            self.trainer.failures.setdefault(agent, error)

    def doubt(self, agents: Sequence[int], reason: str) -> None:
        """Say and record that an environment has shown what the tries before training had not."""
        note = population_note(self.config, len(self.members), reason)
        for agent in agents:
            with self._sparing_others(agent):
                self.members[agent].doubt(reason, note)
        self.view.note(f"from now on a resume is not exact: {reason}")

    def log(self, agents: Sequence[int]) -> None:
        """One row of metrics and one of timing for each member."""
        if not agents:
            return
        started = time.monotonic()
        latest = []
        for agent in agents:
            with self._sparing_others(agent):
                latest.append(self.members[agent].log(self.trainer.frames, self.trainer.metrics(agent)))
        seconds = max(self.members[agents[0]].seconds, 1e-9)
        self.view.progress(self.trainer.frames, self.config.total_frames, self.trainer.frames / seconds, latest)
        for agent in agents:
            self.members[agent].seconds += time.monotonic() - started

    def save(self, agents: Sequence[int]) -> None:
        """A checkpoint of each member, unless there is one of this frame. What is broken is not saved: it fails."""
        if not agents:
            return
        frames = self.trainer.frames
        for member, agent in ((self.members[agent], agent) for agent in agents):
            if member.saved == frames or agent in self.trainer.failures or self._has_diverged(agent):
                continue  # one whose rows could not be written must not count on them
            with self._sparing_others(agent):
                member.save(frames, capture(self.trainer.state, agent))
        self.save_by, self.interrupts.save_wanted = self._next_save(), False

    def _next_save(self) -> float:
        """The moment by which there is to be another checkpoint."""
        seconds = self.config.checkpoint.every_seconds
        return math.inf if seconds is None else time.monotonic() + seconds

    def _policy_tree(self, agent: int) -> dict[str, Any]:
        """What it takes to act: weights and normaliser."""
        policy = self.trainer.policy
        return {
            "parameters_AP": as_array(policy.rows_AP[agent]),
            "normalizer": policy.normalizer.capture(agent),
        }

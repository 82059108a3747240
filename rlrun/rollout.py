"""Stepping environments: the only file that knows about autoreset, final observations and frame stack.

Shape legend: A agents, N environments of each, O numbers of an observation (all stacked frames, oldest first).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlrun import envstate
from rlrun.arrays import finite, fitting, real, whole
from rlrun.config import EnvConfig
from rlrun.envs import NUMBERS, Step, action_converter, make, repeated, step_limit, wrong_kind
from rlrun.errors import PASSING, EnvironmentFailure, ResumeError, one_line
from rlrun.manners import close
from rlrun.seeding import Stream
from rlrun.shared_state import Snapshot, snapshot


@dataclass(frozen=True, slots=True)
class Episode:
    """A finished episode of one environment of one agent."""

    agent: int
    env: int
    return_: float
    """Sum of the rewards as the environment gave them, before scaling and clipping."""
    length: int
    """In steps of the agent: each is ``frame_skip`` simulator steps."""


class Environments:
    """N environments of each of A agents, stepped one after another; each is reset at once when its episode ends.

    The arrays are made once and overwritten by every ``step``, so copy what must last:

    - ``observation`` float32 [A, N, O]: what the agents see now;
    - ``next_observation`` float32 [A, N, O]: what the last step led to; the final observation where the episode ended;
    - ``reward`` float32 [A, N]: scaled and clipped;
    - ``terminated``, ``truncated`` bool [A, N]: as the environment said; our time limit sets ``truncated`` only.

    ``finished`` lists the episodes that the last step ended; ``before_reset`` is called with the place of each one's environment while
    it still stands where the episode ended. ``failures`` maps an agent to what its environment did wrong:
    that agent's rows are zero from then on, and its environments are left alone; no other agent notices.
    """

    def __init__(
        self, config: EnvConfig, num_envs: int, seeds: Sequence[int], exact: bool = True, whose: Sequence[str] = ()
    ) -> None:
        """Make and reset the environments; ``seeds`` has one number an agent.

        ``exact``: whether ``envstate.exactness`` found that their state can be captured. ``whose``: what failures call the
        steps of each agent's; without it they name its seed. Raises what ``envs.make`` raises.
        """
        self._whose = whose or [f"the agent with seed {seed}" for seed in seeds]
        self.finished: list[Episode] = []
        self.failures: dict[int, EnvironmentFailure] = {}
        self._retired: set[int] = set()
        self._config, self._num_envs, self._seeds, self._exact = config, num_envs, list(seeds), exact
        count = len(self._seeds) * num_envs
        self._envs = [make(config) for _ in range(count)]
        self._steps: list[Step] = [repeated(env.step, config.frame_skip) for env in self._envs]
        self._to_actions = action_converter(self._envs[0].action_space, count)
        self._live = list(range(count))
        self._stacked, self._scale = config.frame_stack > 1, config.reward_scale
        # With reward_norm the clip comes after the normaliser, which applies it.
        self._clip = None if config.reward_norm else config.reward_clip
        self._newly_failed = False
        self._sound: set[tuple[type, ...]] = set()
        self.before_reset: Callable[[int], object] = lambda index: None
        self._limit = step_limit(config) or sys.maxsize
        self._returns, self._lengths = [0.0] * count, [0] * count
        self._step_count, self._steps_before = 0, [0] * len(self._seeds)
        self._allocate()
        for agent in range(len(self._seeds)):
            self._reset_agent(agent, np.random.SeedSequence([self._seeds[agent], Stream.ENVIRONMENT]))

    def _allocate(self) -> None:
        agents, count = len(self._seeds), len(self._envs)
        space = self._envs[0].observation_space
        assert space.shape is not None
        self._shape = tuple(space.shape)
        frames_shape = (count, self._config.frame_stack, *self._shape)
        size = math.prod(frames_shape)
        # Successors and rewards lie in one piece of memory: one product with zeros tells whether all are finite.
        self._checked, self._zeros = np.zeros(size + count, np.float32), np.zeros(size + count, np.float32)
        self._frames = np.zeros(frames_shape, np.float32)
        self._next_frames = self._checked[:size].reshape(frames_shape)
        self._newest = [self._next_frames[index, -1, ...] for index in range(count)]
        self._reward = self._checked[size:]
        self._terminated, self._truncated = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        self.observation = self._frames.reshape(agents, self._num_envs, -1)
        self.next_observation = self._next_frames.reshape(agents, self._num_envs, -1)
        self.reward = self._reward.reshape(agents, self._num_envs)
        self.terminated = self._terminated.reshape(agents, self._num_envs)
        self.truncated = self._truncated.reshape(agents, self._num_envs)

    def step(self, action: NDArray[Any]) -> None:
        """Step every environment once and fill the public arrays.

        ``action``: int64 [A, N] for Discrete, int64 [A, N, K] for MultiDiscrete, float32 [A, N, K] within bounds for Box.
        """
        self._step_count += 1
        if self.finished:
            self.finished = []
            self._terminated.fill(False)
            self._truncated.fill(False)
        if self._stacked:
            self._next_frames[:, :-1] = self._frames[:, 1:]
        ended = self._step_all(self._to_actions(action))
        if self._scale != 1.0:
            self._reward *= self._scale
        # vdot, unlike dot, says nothing on the terminal about the NaN that it is here to find.
        if not math.isfinite(np.vdot(self._checked, self._zeros)):
            self._fail_non_finite()
        self._frames[...] = self._next_frames
        for index in ended:
            if index // self._num_envs not in self.failures:
                self.before_reset(index)
                self._reset(index, None)
        if self._newly_failed:
            self._silence_failed()
        if self._clip is not None:
            np.clip(self._reward, -self._clip, self._clip, out=self._reward)

    def _step_all(self, actions: Sequence[Any] | NDArray[Any]) -> list[int]:
        """The hot loop: step the live environments and return those whose episode ended."""
        steps, newest, rewards, shape = self._steps, self._newest, self._reward, self._shape
        returns, lengths, limit, sound = self._returns, self._lengths, self._limit, self._sound
        ended = []
        for index in self._live:
            try:
                observation, reward, terminated, truncated, _ = steps[index](actions[index])
                kinds = type(observation), type(reward), type(terminated), type(truncated)
                if kinds not in sound:
                    self._check_kinds(observation, reward, terminated, truncated)
                if observation.shape != shape or observation.dtype.kind not in NUMBERS:
                    raise EnvironmentFailure(_unlike(observation, shape))
                newest[index][...] = observation
                rewards[index] = reward = float(reward)
                over = bool(terminated or truncated)
            except PASSING:
                raise
            # One that calls sys.exit(), or raises what no Exception is, must not end the other agents' training either.
            except BaseException as error:
                self._fail(index // self._num_envs, f"{_said(error)} (action {actions[index]})", error)
                continue
            returns[index] += reward
            lengths[index] = length = lengths[index] + 1
            if over or length >= limit:
                self._terminated[index] = terminated
                self._truncated[index] = truncated or length >= limit
                self.finished.append(Episode(*divmod(index, self._num_envs), returns[index], length))
                ended.append(index)
        return ended

    def _check_kinds(self, *given: Any) -> None:
        """Types that are seen for the first time: one look at each combination is enough. Raises EnvironmentFailure."""
        wrong = wrong_kind(*given)
        if wrong is not None:
            raise EnvironmentFailure(wrong)
        self._sound.add(tuple(map(type, given)))

    def _reset(self, index: int, seed: int | None) -> None:
        """Begin an episode: every stacked frame is the first observation."""
        self._returns[index], self._lengths[index] = 0.0, 0
        try:
            observation, _ = self._envs[index].reset(seed=seed)
            self._check_kinds(observation, 0.0, False, False)
            if observation.shape != self._shape or not np.isfinite(observation).all():
                raise ValueError(
                    f"observation of shape {observation.shape} or not finite, its space says {self._shape}"
                )
            self._frames[index] = observation
        except PASSING:
            raise
        except BaseException as error:
            self._fail(index // self._num_envs, f"{_said(error)} (in reset)", error)

    def _reset_agent(self, agent: int, sequence: np.random.SeedSequence) -> None:
        for index, seed in zip(self._of(agent), sequence.generate_state(self._num_envs), strict=True):
            self._reset(index, int(seed))
        if self._newly_failed:
            self._silence_failed()

    def picture(self, index: int) -> NDArray[np.uint8]:
        """What an environment made with ``render_mode=rgb_array`` looks like now: uint8 [H, W, 3]. Raises EnvironmentFailure."""
        try:
            picture: Any = self._envs[index].render()
        except PASSING:
            raise
        except BaseException as error:
            raise EnvironmentFailure(f"env {self._config.id} can't be drawn: {one_line(error)}") from error
        if not (isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.shape[2:] == (3,)):
            shape = f" {picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else ""
            raise EnvironmentFailure(
                f"env {self._config.id} can't be drawn: render() gave {type(picture).__name__}{shape}, "
                "expected pictures as uint8 [height, width, 3]"
            )
        return picture

    def whereabouts(self, index: int) -> tuple[int, int, str]:
        """The agent of an environment, its step, and both in words."""
        agent = index // self._num_envs
        step = self._steps_before[agent] + self._step_count
        return agent, step, f"step {step} of {self._whose[agent]}"

    def _of(self, agent: int) -> range:
        """The places of an agent's environments in the flat lists."""
        return range(agent * self._num_envs, (agent + 1) * self._num_envs)

    def _fail(self, agent: int, what: str, error: BaseException | None = None) -> None:
        if agent not in self.failures:
            who = self.whereabouts(agent * self._num_envs)[2]
            failure = EnvironmentFailure(f"env {self._config.id} failed at {who}: {what}")
            failure.__cause__ = error
            self.failures[agent] = failure
            self._newly_failed = True

    def _fail_non_finite(self) -> None:
        for agent in range(len(self._seeds)):
            for reward in self.reward[agent]:
                if not math.isfinite(reward):
                    scaled = f", multiplied by env.reward_scale={self._scale:g}" if self._scale != 1.0 else ""
                    self._fail(agent, f"reward {reward}{scaled}")
            if not np.isfinite(self.next_observation[agent]).all():
                self._fail(agent, "observation is not finite")

    def _silence_failed(self) -> None:
        """Take the failed agents' environments out of the loop, and whatever they delivered out of the arrays."""
        self._newly_failed = False
        gone = self._retired | self.failures.keys()
        for agent in gone:
            for array in (self.observation, self.next_observation, self.reward, self.terminated, self.truncated):
                array[agent] = 0
        self._live = [index for index in self._live if index // self._num_envs not in gone]
        self.finished = [episode for episode in self.finished if episode.agent not in gone]

    def retire(self, agent: int) -> None:
        """Stop stepping an agent's environments for good; its rows are zero from now on."""
        self._retired.add(agent)
        self._silence_failed()

    def capture(self, agent: int) -> envstate.Tree:
        """All that ``restore`` needs to go on with this agent: environments, observations and running totals.

        Without an exact capture, or after a failure, it holds no environments: ``restore`` then begins new episodes.
        Raises EnvironmentFailure if an environment does not give its state.
        """
        indices = self._of(agent)
        exact = self._exact and agent not in self.failures
        return {
            "step": self._steps_before[agent] + self._step_count,
            "observation": self.observation[agent].copy(),
            "returns": [self._returns[index] for index in indices],
            "lengths": [self._lengths[index] for index in indices],
            "envs": [envstate.capture(self._envs[index]) for index in indices] if exact else None,
        }

    def restore(self, agent: int, tree: envstate.Tree) -> bool:
        """Go on where ``capture`` was. The arrays other than ``observation`` are those of the last step, not restored.

        Returns False if the episodes could not be continued: new ones have begun, with seeds drawn from the agent's seed and
        step, the partial ones count nowhere, and the caller must join no transition across the cut.
        Raises ResumeError if the tree does not fit.
        """
        observation = tree["observation"]
        if observation.shape != self.observation[agent].shape:
            raise ResumeError(
                f"the checkpoint has observations {observation.shape}, this run {self.observation[agent].shape}: "
                "environment, num_envs and frame_stack can not change in a resume"
            )
        finite(fitting(observation, self.observation[agent]))
        self._steps_before[agent] = whole(tree["step"]) - self._step_count
        if tree["envs"] is None:
            self._reset_agent(agent, np.random.SeedSequence([self._seeds[agent], Stream.ENVIRONMENT, tree["step"]]))
            return False
        self.observation[agent] = observation
        saved = zip(self._of(agent), tree["envs"], tree["returns"], tree["lengths"], strict=True)
        for index, env, return_, length in saved:
            envstate.restore(self._envs[index], env)
            self._returns[index], self._lengths[index] = real(return_), whole(length)
        return True

    def shared(self) -> Snapshot:
        """What the environments have in common, in their modules and classes."""
        return snapshot(envstate.layers_of(self._envs[0]))

    def close(self) -> None:
        """Close every environment."""
        for _number, env in enumerate(self._envs):  # which tells the watchdog that one has come back
            close(env, self._config.id)


def _said(error: BaseException) -> str:
    """One line for a failure: our own findings as they are, what the environment raised with its type."""
    return str(error) if isinstance(error, EnvironmentFailure) else one_line(error)


def _unlike(observation: Any, shape: tuple[int, ...]) -> str:
    if observation.shape != shape:
        return f"observation of shape {observation.shape}, its space says {shape}"
    return f"observation of dtype {observation.dtype}, which is no number"

"""Making Gymnasium environments, and what their spaces mean for an agent. Wrong spaces end here, in one line."""

from __future__ import annotations

import copy
import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Space
from numpy.typing import NDArray

from rlrun.config import EnvConfig
from rlrun.env_ids import missing_package, quiet, registered
from rlrun.errors import PASSING, EnvironmentFailure, UnavailableError, UsageError, one_line
from rlrun.manners import close

_TEXT = (str, bytes, bytearray)
Environment = gymnasium.Env[Any, Any]
Step = Callable[[Any], tuple[Any, Any, Any, Any, Any]]
NUMBERS = "biuf"
"""Kinds of dtype that become float32 as they are."""


@dataclass(frozen=True)
class DiscreteActions:
    """One choice out of ``n``, numbered from 0."""

    n: int


@dataclass(frozen=True)
class MultiDiscreteActions:
    """``len(nvec)`` independent choices, choice k out of ``nvec[k]``, numbered from 0."""

    nvec: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class BoxActions:
    """A vector of K numbers within finite bounds: ``low`` and ``high`` are float32 [K]."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]


Actions = DiscreteActions | MultiDiscreteActions | BoxActions


@dataclass(frozen=True, eq=False)
class Spaces:
    """What an agent must know of its environment to be built."""

    observation_size: int
    """Numbers the agent sees each step: the flattened Box times ``frame_stack``."""
    action: Actions


def make(config: EnvConfig) -> Environment:
    """Make the environment with its registered wrappers, but without Gymnasium's checker, order and time-limit wrappers.

    The checks of ``probe`` and the time limit of ``rollout`` stand in for them at no cost per step.

    Raises UsageError (a wrong id or ``env.kwargs``), UnavailableError (a package is missing), EnvironmentFailure.
    """
    if config.kwargs.get("render_mode") == "human" and not _has_display():
        raise UnavailableError(
            "env.kwargs.render_mode=human needs a display, and there is none here; leave it out, or use rgb_array"
        )
    with quiet():
        spec = copy.copy(registered(config.id))
        spec.order_enforce, spec.disable_env_checker, spec.max_episode_steps = False, True, None
        # Through the spec and not as arguments of gymnasium.make, which has parameters of its own.
        spec.kwargs = {**spec.kwargs, **config.kwargs}
        try:
            if isinstance(spec.entry_point, str):
                load_env_creator(spec.entry_point)
            _log_mujoco_warnings()
            env = gymnasium.make(spec)
        except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
            raise UnavailableError(missing_package(spec, error)) from error
        except PASSING:
            raise
        except BaseException as error:
            reason = one_line(error.__cause__ or error)
            if config.kwargs:
                raise UsageError(f"env.kwargs={config.kwargs}: {config.id} does not accept them: {reason}") from error
            raise EnvironmentFailure(f"env {config.id} can not be made: {reason}") from error
    modes = env.metadata.get("render_modes") or []
    if config.kwargs.get("render_mode") not in (None, *modes):
        close(env, config.id)
        raise UsageError(
            f"env.kwargs.render_mode={config.kwargs['render_mode']}: choices: {', '.join(modes) or 'none'}"
        )
    _trust_actions(env.unwrapped)
    return env


def _has_display() -> bool:
    """MuJoCo's window library aborts the process where there is none; the other systems always have one."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _trust_actions(env: Environment) -> None:
    """Classic control asks its space whether each action is valid, for a quarter of a step's time. Ours are."""
    if type(env).__module__.startswith("gymnasium.envs.classic_control."):
        env.action_space.contains = lambda x: True  # type: ignore[method-assign]


def spaces(config: EnvConfig) -> Spaces:
    """Sizes of observations and actions, read from a freshly made environment.

    Raises UsageError for spaces that no agent here can use, and what ``make`` raises.
    """
    env = make(config)
    try:
        size = _observation_size(config.id, env.observation_space)
        action = _actions(config.id, env.action_space)
    finally:
        close(env, config.id)
    return Spaces(size * config.frame_stack, action)


def step_limit(config: EnvConfig) -> int | None:
    """Steps of the agent after which an episode is truncated: ``time_limit``, or the registered one over ``frame_skip``."""
    if config.time_limit is not None:
        return config.time_limit
    steps = registered(config.id).max_episode_steps
    return None if steps is None else math.ceil(steps / config.frame_skip)


def repeated(step: Step, times: int) -> Step:
    """``step`` taken ``times`` times with one action: rewards summed, cut short by the end of the episode."""
    if times == 1:
        return step

    def repeated(action: Any) -> tuple[Any, Any, Any, Any, Any]:
        total = 0.0
        for _ in range(times):
            observation, reward, terminated, truncated, info = step(action)
            if isinstance(reward, _TEXT):  # which float() would take
                raise EnvironmentFailure(f"reward {reward!r:.60}, expected a number")
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info

    return repeated


def action_converter(space: Space[Any], count: int) -> Callable[[NDArray[Any]], Sequence[Any] | NDArray[Any]]:
    """A function from the action array of all environments to a sequence of what each one's ``step`` takes."""
    if isinstance(space, Discrete):
        start = int(space.start)
        if start == 0:
            return lambda action: action.ravel().tolist()
        return lambda action: (action.ravel() + start).tolist()
    assert isinstance(space, (Box, MultiDiscrete))
    shape, dtype = (count, *space.shape), space.dtype
    if isinstance(space, MultiDiscrete):
        first = space.start
        return lambda action: (action.reshape(shape) + first).astype(dtype)
    # np.array copies: an environment may keep its action, and the caller's array is reused.
    return lambda action: np.array(action, dtype).reshape(shape)


def probe(config: EnvConfig, seed: int) -> None:
    """Take ten random steps and hold what comes back against the environment's own spaces.

    Raises EnvironmentFailure with the first disagreement, and what ``make`` raises.
    """
    env = make(config)
    actions = copy.deepcopy(env.action_space)  # sampling leaves the environment's own generator alone
    actions.seed(seed)
    try:
        _check_observation(config.id, env.observation_space, env.reset(seed=seed)[0])
        for _ in range(10):
            observation, reward, terminated, truncated, info = env.step(actions.sample())
            _check_observation(config.id, env.observation_space, observation, (reward, terminated, truncated))
            _check_step(config.id, reward, info)
            if terminated or truncated:
                _check_observation(config.id, env.observation_space, env.reset()[0])
    except (EnvironmentFailure, *PASSING):
        raise
    except BaseException as error:
        raise EnvironmentFailure(
            f"env {config.id} raised {one_line(error)} in its first steps (seed {seed})"
        ) from error
    finally:
        close(env, config.id)


def _log_mujoco_warnings() -> None:
    """MuJoCo would print its warnings on the terminal and append them to a file in the working directory."""
    mujoco = sys.modules.get("mujoco")
    if mujoco is not None and mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(logging.getLogger("rlrun.mujoco").info)


def _observation_size(identifier: str, space: Space[Any]) -> int:
    if not isinstance(space, Box) or space.dtype.kind not in NUMBERS:
        raise UsageError(
            f"env.id={identifier}: observation space {space} is not supported; rlrun needs a Box of numbers"
        )
    return math.prod(space.shape)


def _actions(identifier: str, space: Space[Any]) -> Actions:
    if isinstance(space, Discrete):
        return DiscreteActions(int(space.n))
    if isinstance(space, MultiDiscrete):
        return MultiDiscreteActions(tuple(int(n) for n in space.nvec.ravel()))
    if not isinstance(space, Box) or space.dtype.kind != "f":
        supported = "Discrete, MultiDiscrete and Box of floats"
        raise UsageError(f"env.id={identifier}: action space {space} is not supported; rlrun knows {supported}")
    low, high = space.low.astype(np.float32).ravel(), space.high.astype(np.float32).ravel()
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise UsageError(
            f"env.id={identifier}: action space {space} has no finite bounds; rlrun needs them to scale actions"
        )
    return BoxActions(low, high)


def wrong_kind(observation: object, reward: object, terminated: object, truncated: object) -> str | None:
    """What a step gave that can't be what it is to be, by its type alone; None if all may be."""
    if not isinstance(observation, (np.ndarray, np.generic)) or isinstance(observation, np.ma.MaskedArray):
        return f"an observation of type {type(observation).__name__}, expected a NumPy array"
    if isinstance(reward, _TEXT):
        return f"reward {reward!r:.60}, expected a finite number"
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(flag, (bool, np.bool_)):
            return f"{name}={flag!r:.60}, expected a boolean"
    return None


def _check_observation(
    identifier: str, space: Space[Any], observation: Any, others: tuple[object, object, object] = (0.0, False, False)
) -> None:
    """``others``: what came with it, of which the kinds are checked."""
    wrong = wrong_kind(observation, *others)
    if wrong is not None:
        raise EnvironmentFailure(f"env {identifier} returned {wrong}")
    failure = f"env {identifier} returned an observation of"
    if observation.shape != space.shape:
        raise EnvironmentFailure(f"{failure} shape {observation.shape}, its space says {space.shape}")
    whole = "biu"  # an environment may give another width of the kind its space has, but not another kind
    if observation.dtype.kind not in (whole if np.dtype(space.dtype).kind in whole else "f"):
        raise EnvironmentFailure(f"{failure} dtype {observation.dtype}, its space says {space.dtype}")
    if not np.isfinite(observation).all():
        raise EnvironmentFailure(f"env {identifier} returned an observation that is not finite")


def _check_step(identifier: str, reward: Any, info: object) -> None:
    try:
        finite = math.isfinite(float(reward))
    except (TypeError, ValueError, OverflowError):
        finite = False
    if not finite:
        raise EnvironmentFailure(f"env {identifier} returned reward {reward!r}, expected a finite number")
    if not isinstance(info, dict):
        raise EnvironmentFailure(f"env {identifier} returned info of type {type(info).__name__}, expected a dict")

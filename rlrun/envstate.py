"""Capturing an environment in the middle of an episode and restoring it, bit for bit, without pickle.

``copy.deepcopy`` and ``pickle`` of Gymnasium's MuJoCo environments silently give a fresh environment, so the state is
read out explicitly: every attribute of the environment and its wrappers that is plain data, every random generator, and
MuJoCo's simulation. Whether that is the whole state of a given environment is never guessed: ``exactness`` tries it.

A checkpoint may come from anyone. So a state is only ever put into what a fresh environment has: plain data in place of plain
data of the same kind, never a method, a class, or an index that MuJoCo's native code would follow.

A captured state is a tree of dicts with string keys, lists, NumPy arrays, None, bool, int, float and str; any
other plain type is a dict with its name under ``"type"``.
"""

from __future__ import annotations

import copy
from collections import deque
from typing import Any

import numpy as np
from gymnasium.spaces import Space
from numpy.random import MT19937, PCG64, PCG64DXSM, SFC64, Generator, Philox

from rlrun.config import EnvConfig
from rlrun.envs import Environment, make
from rlrun.errors import PASSING, EnvironmentFailure, ResumeError, one_line
from rlrun.manners import close
from rlrun.provenance import mentions, secrets
from rlrun.seeding import set_state
from rlrun.shared_state import changed, snapshot
from rlrun.simulation import capture_simulation, is_simulation, restore_simulation

Tree = dict[str, Any]

_NOT_STATE = {"env", "spec", "metadata", "render_mode", "fullpath", "_ezpickle_args", "_ezpickle_kwargs"}
"""Attributes that say how an environment was made; they belong to the one restored into, not to the captured one."""

_BIT_GENERATORS = {kind.__name__: kind for kind in (MT19937, PCG64, PCG64DXSM, Philox, SFC64)}


class _NotPlainError(Exception):
    """A value that is not plain data."""


def capture(env: Environment) -> Tree:
    """The state of an environment that ``make`` made, as a tree that shares no memory with it.

    Raises EnvironmentFailure if the environment's own ``get_state()`` raises or returns something that is not plain data.
    """
    own = None
    if _has_own_state(env):
        try:
            own = {"state": _encode(env.unwrapped.get_state())}  # type: ignore[attr-defined]
        except PASSING:
            raise
        except BaseException as error:
            raise EnvironmentFailure(
                f"get_state() of {type(env.unwrapped).__name__} failed: {one_line(error)}"
            ) from error
    layers = [{"class": type(layer).__qualname__, "attributes": _capture_attributes(layer)} for layer in layers_of(env)]
    return {"layers": layers, "own": own}


def restore(env: Environment, state: Tree) -> None:
    """Put a captured state into another environment that ``make`` made from the same config.

    Raises ResumeError if the state does not fit this environment.
    """
    # What an environment makes in reset() must exist before it can be filled in. The seed is overwritten below.
    env.reset(seed=0)
    try:
        layers = layers_of(env)
        names = [type(layer).__qualname__ for layer in layers]
        saved = [layer["class"] for layer in state["layers"]]
        if names != saved:
            raise ResumeError(f"the checkpoint holds the state of environment {saved}, this one is {names}")
        for layer, tree in zip(layers, state["layers"], strict=True):
            _restore_attributes(layer, tree["attributes"])
        if (state["own"] is not None) != _has_own_state(env):
            raise ResumeError(f"the checkpoint's environment state is not of {type(env.unwrapped).__name__}")
        if state["own"] is not None:
            _restore_own(env, _decode(state["own"]["state"]))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise ResumeError(f"the environment state in the checkpoint does not fit {env}: {one_line(error)}") from error


def _restore_own(env: Environment, state: Any) -> None:
    """Hand the environment its own state. Whatever it raises is about the state: what it makes of it is its own business."""
    try:
        env.unwrapped.set_state(state)  # type: ignore[attr-defined]
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ValueError(f"set_state() failed: {one_line(error)}") from error


def exactness(config: EnvConfig, seed: int) -> str | None:
    """Try capture and restore on two fresh instances: None if they go on alike for 64 steps, else what went wrong.

    Nor may these steps change what their modules and classes hold.
    """
    first, second = make(config), make(config)
    actions = copy.deepcopy(first.action_space)
    actions.seed(seed)
    try:
        # Neither may have the seed 0 of restore(), or a generator that was not restored could go unnoticed.
        first.reset(seed=seed + 1)
        second.reset(seed=seed + 2)
        for _ in range(24):
            _step_or_reset(first, actions.sample())
        shared = snapshot(layers_of(first))  # now: what is only filled at the first use is no state
        restore(second, capture(first))
        ended = False
        for step in range(64):
            action = actions.sample()
            expected, ended_now = _step_or_reset(first, action)
            if _step_or_reset(second, action)[0] != expected:
                return f"a restored environment differs after {step + 1} steps"
            ended = ended or ended_now
            if step == 32 and not ended and _fingerprint(first.reset()[0]) != _fingerprint(second.reset()[0]):
                return "a restored environment differs after a reset"
        return changed(shared, snapshot(layers_of(first)))
    except PASSING:
        raise
    except BaseException as error:
        return one_line(error)
    finally:
        for env in (first, second):
            close(env, config.id)


def _step_or_reset(env: Environment, action: Any) -> tuple[list[Any], bool]:
    """One step, then a reset if the episode ended: the bytes of all that came back, and whether it ended."""
    observation, reward, terminated, truncated, _ = env.step(action)
    ended = bool(terminated or truncated)
    seen = [_fingerprint(observation), _fingerprint(reward), bool(terminated), bool(truncated)]
    if ended:
        seen.append(_fingerprint(env.reset()[0]))
    return seen, ended


def _fingerprint(value: Any) -> tuple[str, bytes]:
    array = np.asarray(value)
    return str(array.dtype), array.tobytes()


def layers_of(env: Environment) -> list[Environment]:
    """The environment with its wrappers, outermost first."""
    layers = [env]
    while layers[-1] is not env.unwrapped:
        layers.append(layers[-1].env)  # type: ignore[attr-defined]
    return layers


def _has_own_state(env: Environment) -> bool:
    # MuJoCo environments have a set_state(qpos, qvel), but no get_state.
    return all(callable(getattr(env.unwrapped, name, None)) for name in ("get_state", "set_state"))


def _capture_attributes(layer: Environment) -> Tree:
    captured, hidden = {}, secrets()
    for name, value in vars(layer).items():
        if name not in _NOT_STATE:
            try:
                tree = _capture_attribute(value)
            except _NotPlainError:
                continue  # exactness() tells whether it mattered
            if not mentions(tree, hidden):  # what the environment was given when it was made, and is given again
                captured[name] = tree
    return captured


def _capture_attribute(value: Any) -> Any:
    """Encode plain data, or an object that is restored in place: a space's generator, a simulation, a plain object."""
    if isinstance(value, Space):
        return {"type": "space", "generator": _encode(value._np_random)}
    if is_simulation(value):
        return capture_simulation(value)
    try:
        return _encode(value)
    except _NotPlainError:
        attributes = getattr(value, "__dict__", None)
        if not isinstance(attributes, dict) or not attributes:
            raise
        return {"type": "object", "attributes": {name: _encode(item) for name, item in attributes.items()}}


def _restore_attributes(layer: Any, captured: Tree) -> None:
    """Put plain data into the attributes of an environment or of a plain object in it.

    What is no plain data in the fresh one, or in its class, stays as it is: a forged state could bring a method, or
    ``__class__``. An attribute that is not there yet may be new plain data, made in a step.
    """
    attributes = vars(layer)
    for name, tree in captured.items():
        if name in _NOT_STATE:
            continue
        try:
            inherited = getattr(type(layer), name, None)  # a class may hold the value that an attribute begins with
            fresh = _capture_attribute(attributes[name]) if name in attributes else _encode(inherited)
            _check_kind(tree, fresh)
            attributes[name] = _restore_attribute(tree, attributes.get(name))
        except (_NotPlainError, ValueError, TypeError) as error:
            raise ValueError(f"attribute '{name:.60}' of {type(layer).__name__}: {error}") from error


def _restore_attribute(tree: Any, current: Any) -> Any:
    match tree:
        case {"type": "space", "generator": None | {"type": "generator"} as generator}:
            current._np_random = _restore_attribute(generator, current._np_random)
        case {"type": "simulation"}:
            restore_simulation(current, tree)
        case {"type": "object", "attributes": attributes}:
            _restore_attributes(current, attributes)
        case {"type": "generator", "state": state} if isinstance(current, Generator):
            set_state(current, _decode(state))  # in place, because another attribute may be the same generator
        case _:
            return _decode(tree)
    return current


_IN_PLACE = ("space", "simulation", "object", "generator")
"""Kinds that are restored into what is there."""


def _check_kind(tree: Any, fresh: Any) -> None:
    """Raises ValueError if a captured attribute is of another kind than that of a fresh environment, or newly NaN.

    Kinds are wide: a position may be a tuple after a step and an array after a reset, and None before there is any.
    """
    kind, expected = _kind(tree), _kind(fresh)
    if kind != expected and ("nothing" not in (kind, expected) or kind in _IN_PLACE or expected in _IN_PLACE):
        raise ValueError(f"expected {expected}, found {kind}")
    if expected not in ("nothing", *_IN_PLACE) and _has_nan(tree) and not _has_nan(fresh):
        raise ValueError("is not a number")


def _kind(tree: Any) -> str:
    match tree:
        case None:
            return "nothing"
        case str():
            return "text"
        case bool() | int() | float() | {"type": "scalar"}:
            return "number"
        case np.ndarray(ndim=0):
            return "number"
        case np.ndarray() | list() | {"type": "tuple" | "deque"}:
            return "sequence"
        case {"type": str() as kind}:
            return kind
    raise ValueError("of no known kind")


def _has_nan(tree: Any) -> bool:
    match tree:
        case np.ndarray() | float():
            return bool(np.isnan(tree).any())
        case list():
            return any(map(_has_nan, tree))
        case dict():
            return any(map(_has_nan, tree.values()))
    return False


def _encode(value: Any) -> Any:
    """A tree for plain data, with its exact types. Raises _NotPlainError for anything else."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is list:
        return [_encode(item) for item in value]
    if kind is np.ndarray and value.dtype.kind in "biuf" and value.dtype.itemsize <= 8:
        return value.copy()
    if isinstance(value, np.generic) and value.dtype.kind in "biuf" and value.dtype.itemsize <= 8:
        return {"type": "scalar", "value": np.array([value])}
    if kind is tuple:
        return {"type": "tuple", "items": [_encode(item) for item in value]}
    if kind is deque:
        return {"type": "deque", "items": [_encode(item) for item in value], "maxlen": value.maxlen}
    if kind is dict:
        return {"type": "dict", "keys": [_encode(key) for key in value], "values": [_encode(v) for v in value.values()]}
    if kind is Generator and type(value.bit_generator).__name__ in _BIT_GENERATORS:
        return {"type": "generator", "state": _encode(value.bit_generator.state)}
    raise _NotPlainError(f"{kind.__name__} is not plain data")


def _decode(tree: Any) -> Any:
    """The value that ``_encode`` made a tree of. Raises ValueError and the like for a tree it did not make."""
    match tree:
        case None | bool() | int() | float() | str():
            return tree
        case np.ndarray():
            return tree.copy()
        case list():
            return [_decode(item) for item in tree]
        case {"type": "scalar", "value": np.ndarray(shape=(1,)) as value}:
            return value[0]
        case {"type": "tuple", "items": items}:
            return tuple(_decode(item) for item in items)
        case {"type": "deque", "items": items, "maxlen": maxlen}:
            return deque((_decode(item) for item in items), maxlen=maxlen)
        case {"type": "dict", "keys": keys, "values": values}:
            return {_decode(key): _decode(value) for key, value in zip(keys, values, strict=True)}
        case {"type": "generator", "state": state}:
            decoded = _decode(state)
            generator = Generator(_BIT_GENERATORS[decoded["bit_generator"]]())
            set_state(generator, decoded)
            return generator
    raise ValueError(f"unknown kind of value: {type(tree).__name__}")

"""State that an environment keeps in its module or its class: no instance has it, so that no checkpoint holds it.

``envstate.exactness`` compares what instances do. A counter that only matters after a thousand episodes is not seen there, but that
it counts is seen here: plain data of modules and classes is compared before and after steps.
"""

from __future__ import annotations

import itertools
import random
import sys
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import numpy as np

_NOT_THEIRS = {"gymnasium", "numpy", "mujoco", "rlrun", *sys.stdlib_module_names}
"""Packages whose modules are not looked at."""
_DEEPEST, _MOST = 8, 10_000  # levels of a container, and items in all of them together, that are looked at
_MOST_BYTES = 1 << 20  # of an array
_STATES: dict[type, Callable[[Any], Any]] = {
    np.random.Generator: lambda generator: generator.bit_generator.state,
    np.random.RandomState: lambda generator: generator.get_state(),
    random.Random: lambda generator: generator.getstate(),
    itertools.count: repr,
}

_CONTAINERS = (list, tuple, dict, set, frozenset, deque)
_UNSET = ("NoneType", None)
Snapshot = dict[tuple[str, str], Hashable]


def snapshot(layers: Sequence[object]) -> Snapshot:
    """The plain data in the modules and classes of an environment and its wrappers, by place and name."""
    places: dict[str, dict[str, Any]] = {}
    for cls in {cls for layer in layers for cls in type(layer).__mro__}:
        module = cls.__module__
        if module.partition(".")[0] not in _NOT_THEIRS:
            places[f"{module}.{cls.__qualname__}"] = dict(vars(cls))
            places[module] = dict(vars(sys.modules[module])) if module in sys.modules else {}
    names = ((place, name, value) for place in places for name, value in _own(places[place]))
    looked = itertools.count()
    # The small ones first: a large table, which takes long to look at, must not hide a counter.
    return {
        (place, name): _seen(value, 0, looked) for place, name, value in sorted(names, key=lambda each: _size(each[2]))
    }


def changed(before: Snapshot, after: Snapshot) -> str | None:
    """Why what was stepped in between is not all in environments, by the first difference; None: there is none."""
    for place, name in sorted(before.keys() | after.keys()):
        then = before.get((place, name))
        if then not in (None, _UNSET, after.get((place, name))):  # what is made when it is first needed is no state
            return f"{place}.{name} is changed by stepping; it is in no environment"
    return None


def _own(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in values.items() if not (name.startswith("__") and name.endswith("__")))


def _size(value: Any) -> int:
    return len(value) if isinstance(value, _CONTAINERS) else 0


def _seen(value: Any, depth: int, looked: Iterator[int]) -> Hashable:
    """Something equal for equal plain data; what is no plain data is equal to anything else that is none."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str, bytes):
        return repr(value) if kind is float else (kind.__name__, value)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc" and value.nbytes <= _MOST_BYTES:
        return value.dtype.str, value.shape, value.tobytes()
    if kind in _STATES:
        return _seen(_STATES[kind](value), depth, looked)
    if isinstance(value, _CONTAINERS) and depth < _DEEPEST:
        items = itertools.takewhile(lambda _: next(looked) < _MOST, value.items() if isinstance(value, dict) else value)
        seen = [_seen(item, depth + 1, looked) for item in items]
        return kind.__name__, len(value), frozenset(seen) if isinstance(value, set | frozenset) else tuple(seen)
    return None

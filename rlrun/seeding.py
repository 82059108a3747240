"""Random streams: each agent has one seed, and every use of chance its own stream of numbers spawned from it.

Nothing draws from a global generator, so an agent's numbers do not depend on who is trained beside it.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import numpy as np


class Stream(enum.IntEnum):
    """The second word of a stream's seed."""

    ENVIRONMENT = 0
    WEIGHTS = 1
    ACTIONS = 2
    MINIBATCHES = 3
    NORMALIZER = 4
    EVALUATION = 5


def generator(seed: int, *words: int) -> np.random.Generator:
    """The generator of one stream."""
    return np.random.default_rng([seed, *words])


def derive(seed: int, *words: int) -> int:
    """A 32-bit seed for something that seeds itself."""
    return int(np.random.SeedSequence([seed, *words]).generate_state(1)[0])


def set_state(generator: np.random.Generator, state: Any) -> None:
    """Put a generator where a captured one was.

    Raises:
        ValueError, TypeError, KeyError, OverflowError: the state is of another kind, or none a generator comes to by itself: with
            some it would repeat one number for ever, or make NumPy read past its memory.
    """
    bits = generator.bit_generator
    kind, inner = type(bits).__name__, state["state"]
    if state["bit_generator"] != kind:
        raise ValueError(f"expected the state of a {kind}, found {state['bit_generator']!r:.40}")
    if kind.startswith("PCG64") and inner["inc"] % 2 == 0:
        raise ValueError("an increment that is even")
    if kind == "MT19937" and not (0 <= inner["pos"] <= 624 and np.any(inner["key"])):
        raise ValueError("a position outside the state, or a state of zeros")
    if kind == "Philox" and not 0 <= state["buffer_pos"] <= 4:
        raise ValueError("a position outside the buffer")
    bits.state = state


class Generators(list[np.random.Generator]):
    """One generator an agent."""

    def __init__(self, seeds: Sequence[int], stream: Stream) -> None:
        super().__init__(generator(seed, stream) for seed in seeds)

    def capture(self, agent: int) -> dict[str, Any]:
        return dict(self[agent].bit_generator.state)

    def restore(self, agent: int, tree: dict[str, Any]) -> None:
        set_state(self[agent], tree)

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


class Generators(list[np.random.Generator]):
    """One generator an agent."""

    def __init__(self, seeds: Sequence[int], stream: Stream) -> None:
        super().__init__(generator(seed, stream) for seed in seeds)

    def capture(self, agent: int) -> dict[str, Any]:
        return dict(self[agent].bit_generator.state)

    def restore(self, agent: int, tree: dict[str, Any]) -> None:
        self[agent].bit_generator.state = tree

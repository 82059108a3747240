"""What every algorithm has in common: a state that a checkpoint can hold, a policy to evaluate, and the names of its numbers.

A agents are trained together; ``agent`` is an index into them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rlrun.arrays import as_array, fill, finite, real, whole
from rlrun.config import RunConfig
from rlrun.envs import BoxActions, DiscreteActions, MultiDiscreteActions, Spaces
from rlrun.errors import DivergedError, ResumeError, RlrunError, one_line
from rlrun.hardware import Graphed, Hardware
from rlrun.kernels.mlp import MLPKernel
from rlrun.lazy import torch
from rlrun.networks import MLP, Layout, leaves
from rlrun.normalization import ObservationNormalizer, RewardNormalizer
from rlrun.replay import Replay
from rlrun.rollout import Environments, Episode
from rlrun.seeding import Generators, Stream, derive

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]
MOST_WAITING = 1024  # numbers kept before they are summed up


class Trainer(Protocol):
    """An algorithm as the training loop sees it. ``step`` is the only thing that changes ``state``."""

    state: Any
    episodes: list[tuple[int, Episode]]  # (frames, episode) that ended since the loop last took them
    failures: dict[int, RlrunError]  # agents that cannot go on

    @property
    def policy(self) -> Policy:
        """The greedy policy of the newest weights."""
        ...

    @property
    def frames(self) -> int:
        """Frames each agent has trained for."""
        ...

    def step(self) -> None:
        """The smallest piece of training after which everything can be saved."""
        ...

    def metrics(self, agent: int) -> dict[str, float | None]:
        """Numbers of one agent since they were last asked for."""
        ...

    def counts(self, frames: int) -> dict[str, int]:
        """What the state of an agent counts after ``frames``, by its place in a checkpoint: the agents share these numbers."""
        ...

    def retire(self, agent: int) -> None:
        """Freeze an agent that has ended: it is not stepped and does not learn any more."""
        ...

    def close(self) -> None: ...


class Policy(Protocol):
    """A greedy policy for A agents, frozen while it is evaluated."""

    normalizer: ObservationNormalizer
    rows_AP: Any  # an array or a tensor
    layout: Layout  # what is where in a row

    def act(self, observation_ANO: Array) -> Array:
        """Actions, as the environments take them, for raw observations [A, N, O]."""
        ...


class Stack:
    """One network of the layout for each agent. The one place that chooses between NumPy kernels and PyTorch."""

    def __init__(self, layout: Layout, name: str, rows_AP: Any, gradients_AP: Any, hardware: Hardware) -> None:
        """``rows_AP``, ``gradients_AP``: arrays or tensors, as ``hardware`` has them; no gradients: it is not trained."""
        self.network, self.device = layout.networks[name], hardware.device
        self.views = layout.views(name, rows_AP)
        gradients = layout.views(name, gradients_AP) if gradients_AP is not None else None
        self.kernel: MLPKernel | None = None
        if hardware.kernels:
            assert isinstance(self.network, MLP)
            self.kernel = MLPKernel(self.network, self.views, gradients, hardware.native)
        else:
            self.leaves = leaves(self.views, gradients) if gradients is not None else self.views
            self._replayed = Graphed(self.infer, hardware.device)

    def __call__(self, x_ABI: Any) -> Any:
        """Outputs [A, B, O] without gradients: an array for an array, a tensor for a tensor."""
        if self.kernel is not None:
            return self.kernel.infer(x_ABI)
        if not isinstance(x_ABI, np.ndarray):
            return self.infer(x_ABI)
        return self._replayed(torch.from_numpy(x_ABI).to(self.device)).numpy(force=True)

    def infer(self, x_ABI: Tensor) -> Tensor:
        """Outputs [A, B, O] without gradients, on the plain path."""
        with torch.no_grad():
            return self.network.forward(self.views, x_ABI)

    def forward(self, x_ABI: Tensor) -> Tensor:
        """Outputs [A, B, O] with gradients, on the plain path."""
        return self.network.forward(self.leaves, x_ABI)


class Means:
    """Means of named numbers of each agent since they were last taken."""

    def __init__(self, agents: int, names: Sequence[str]) -> None:
        """``names``: all there may be, in the order of a row of metrics, whoever was measured first."""
        self.agents, self.names = agents, names
        self.sums: dict[str, Array] = {}
        self.counts: dict[str, Array] = {}
        self._waiting: dict[str, list[Array | Tensor]] = {}

    def add(self, name: str, values_A: Array | Tensor) -> None:
        """Count a number of each agent. It is kept until the sums are needed, so that this costs nothing, nor waits for a GPU."""
        waiting = self._waiting.setdefault(name, [])
        waiting.append(values_A)
        if len(waiting) >= MOST_WAITING:
            self._sum_up()

    def _sum_up(self) -> None:
        """Add what waits, one after another: the bits of a sum must not depend on when somebody asks for it."""
        for name, waiting in self._waiting.items():
            before = self.sums.get(name, np.zeros(self.agents))
            tensors = [value for value in waiting if not isinstance(value, np.ndarray)]
            values = torch.stack(tensors).numpy(force=True) if tensors else waiting
            self.sums[name] = np.cumsum([before, *values], axis=0)[-1]
            self.counts[name] = self.counts.get(name, np.zeros(self.agents)) + len(waiting)
        self._waiting = {}

    def take(self, agent: int) -> dict[str, float | None]:
        """The means of one agent, who starts afresh."""
        self._sum_up()
        row: dict[str, float | None] = {}
        for name, sums in self._in_order():
            if self.counts[name][agent]:
                row[name] = float(sums[agent] / self.counts[name][agent])
            sums[agent] = self.counts[name][agent] = 0
        return row

    def capture(self, agent: int) -> dict[str, Any]:
        self._sum_up()
        return {name: [float(sums[agent]), float(self.counts[name][agent])] for name, sums in self._in_order()}

    def restore(self, agent: int, tree: dict[str, Any]) -> None:
        for name, (total, count) in tree.items():
            if name not in self.names or type(total) is not float:
                raise ValueError(f"no mean of this run: {name!r:.40}: {total!r:.40}")
            self.sums.setdefault(name, np.zeros(self.agents))[agent] = total
            self.counts.setdefault(name, np.zeros(self.agents))[agent] = real(count, low=0)

    def _in_order(self) -> list[tuple[str, Array]]:
        return [(name, self.sums[name]) for name in self.names if name in self.sums]


def per_agent(configs: Sequence[RunConfig], name: str) -> list[Any]:
    """The values of an algorithm's per-agent setting."""
    return [getattr(config.algo, name) for config in configs]


def column(values: Sequence[float]) -> Array:
    """Per-agent numbers as float32 [A, 1], to broadcast over a batch."""
    return np.array(values, np.float32)[:, None]


def capture(state: Any, agent: int) -> dict[str, Any]:
    """One agent's slice of a state, as plain data and arrays: everything a checkpoint must hold of it."""
    tree: dict[str, Any] = {}
    for field in fields(state):
        value = getattr(state, field.name)
        if isinstance(value, int):
            tree[field.name] = value
        elif field.name.endswith("_AP"):
            tree[field.name] = as_array(value[agent])
        else:
            tree[field.name] = value.capture(agent)
    return tree


def check_counts(tree: Mapping[str, Any], counts: Mapping[str, int]) -> None:
    """Hold what a captured slice counts against what it must, before any of it is put back: the other agents share it.

    Raises:
        ResumeError: it differs.
    """
    for place, expected in counts.items():
        found: Any = tree
        for name in place.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        if type(found) is not int or found != expected:
            raise ResumeError(
                f"the checkpoint does not fit this config ({place}: expected {expected} at its frame, found {found!r:.40})"
            )


def restore(state: Any, agent: int, tree: Mapping[str, Any]) -> bool:
    """Put a captured slice back. False if the environments could not continue their episodes and began new ones.

    Everything in it is held against the fresh state: kind, shape, and the range that training could have left it in.

    Raises:
        ResumeError: the slice does not fit the state.
    """
    continued = True
    for field in fields(state):
        value = getattr(state, field.name)
        try:
            if isinstance(value, int):
                setattr(state, field.name, whole(tree[field.name]))
            elif field.name.endswith("_AP"):
                fill(value[agent], tree[field.name])
                finite(tree[field.name])
            elif isinstance(value, Environments):
                continued = value.restore(agent, tree[field.name])
            else:
                value.restore(agent, tree[field.name])
        except (ResumeError, KeyboardInterrupt):
            raise
        except BaseException as error:  # whatever a slice that is not ours makes NumPy or an environment raise
            raise ResumeError(f"the checkpoint does not fit this config ({field.name}: {one_line(error)})") from error
    if not continued:
        for field in fields(state):
            value = getattr(state, field.name)
            if isinstance(value, Replay | RewardNormalizer):
                value.cut(agent)
    return continued


def note_divergence(losses_A: Array, frames: int, failures: dict[int, RlrunError], what: str) -> None:
    """Record every agent whose loss is no longer finite."""
    for agent, loss in enumerate(losses_A.tolist()):
        if not math.isfinite(loss):
            failures.setdefault(
                agent, DivergedError(f"diverged at frame {frames}: the {what} is not finite; lower algo.learning_rate")
            )


def observe_random_steps(
    normalizer: ObservationNormalizer,
    config: RunConfig,
    spaces: Spaces,
    seeds: Sequence[int],
    failures: dict[int, RlrunError],
) -> None:
    """Begin the observation statistics with ``env.observation_norm_steps`` random steps in an environment of their own.

    An agent whose environment fails is added to ``failures``.
    """
    steps = config.env.observation_norm_steps
    if not normalizer.enabled or steps == 0:
        return
    own = [derive(seed, Stream.NORMALIZER) for seed in seeds]
    whose = [f"the first observation statistics of the agent with seed {seed}" for seed in seeds]
    environments = Environments(config.env, 1, own, exact=False, whose=whose)
    generators = Generators(seeds, Stream.NORMALIZER)
    seen = np.empty((len(seeds), steps, spaces.observation_size), np.float32)
    for step in range(steps):
        environments.step(np.stack([random_action(spaces, random) for random in generators]))
        seen[:, step] = environments.next_observation[:, 0]
    environments.close()
    failures.update(environments.failures)
    normalizer.update(seen)


def random_action(spaces: Spaces, random: np.random.Generator) -> Array:
    """A uniform action for one environment [1, ...]."""
    match spaces.action:
        case DiscreteActions(n):
            return random.integers(n, size=1)
        case MultiDiscreteActions(nvec):
            return random.integers(nvec, size=(1, len(nvec)))
        case BoxActions(low, high):
            return random.uniform(low, high, (1, len(low))).astype(np.float32)

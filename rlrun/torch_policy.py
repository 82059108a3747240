"""The greedy policy of one agent as a plain PyTorch module, for other people's code and for files that other programs read.

Shapes: B batch, O observation (all stacked frames, oldest first), U choices or values, K action components.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Space
from torch import Tensor, nn

from rlrun.arrays import as_array
from rlrun.config import DQNConfig, PPOConfig, RunConfig
from rlrun.errors import UnavailableError
from rlrun.networks import MLP
from rlrun.trainers.base import Policy

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}


@dataclass(frozen=True)
class Form:
    """All that a ``GreedyPolicy`` is besides its numbers: plain values, so that a file can hold them."""

    inputs: int
    """Numbers of an observation."""
    hidden: tuple[int, ...]
    """Widths of the hidden layers."""
    activation: str
    layer_norm: bool
    heads: tuple[int, ...]
    """Widths of the last layer: one, or those of value and advantages of dueling streams."""
    normalized: bool
    clip: float | None
    """Normalised observations are clipped to [-clip, clip]."""
    values: str
    """What the second output is: ``q_values``, ``logits`` or ``mean``."""
    action: str
    """``choice``, ``choices`` (several at once), ``clipped`` to the bounds, or ``squashed`` into them by tanh."""
    choices: tuple[int, ...]
    """Options of each choice."""
    start: tuple[int, ...]
    """Number of the first option of each choice."""
    shape: tuple[int, ...]
    """Of one action; empty for a single choice."""


class GreedyPolicy(nn.Module):
    """Raw observations float32 [B, O] -> (actions [B, *shape] as the environment takes them, values [B, U or K]).

    Actions are int64 for choices, else float32 within the bounds.
    """

    low: Tensor
    high: Tensor

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form
        if form.normalized:
            self.normalizer = Normalizer(form.inputs, form.clip)
        self.network = _network(form)
        if form.action in ("clipped", "squashed"):
            size = int(np.prod(form.shape))
            self.register_buffer("low", torch.zeros(size))
            self.register_buffer("high", torch.zeros(size))

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        if self.form.normalized:
            observation = self.normalizer(observation)
        values = self.network(observation)
        if self.form.values == "mean":
            values = values[..., : self.low.shape[0]]  # what follows are standard deviations
        return self.action_of(values), values

    def action_of(self, values: Tensor) -> Tensor:
        """Actions [B, *shape] of values [B, U or K]."""
        form = self.form
        if form.action == "clipped":
            return torch.minimum(torch.maximum(values, self.low), self.high).reshape(-1, *form.shape)
        if form.action == "squashed":
            squashed = self.low + (torch.tanh(values) + 1) * (0.5 * (self.high - self.low))
            return squashed.reshape(-1, *form.shape)
        chosen = self.choices_of(values)
        if form.action == "choice":
            return chosen[0] + form.start[0] if form.start[0] else chosen[0]
        return torch.stack([c + s for c, s in zip(chosen, form.start, strict=True)], -1).reshape(-1, *form.shape)

    def choices_of(self, values: Tensor) -> list[Tensor]:
        """For each choice the option [B] that it falls on, numbered from 0."""
        return [part.argmax(-1) for part in torch.split(values, list(self.form.choices), -1)]


class Normalizer(nn.Module):
    """(observation - mean) * scale, clipped; ``scale`` is 1 / standard deviation."""

    mean: Tensor
    scale: Tensor

    def __init__(self, size: int, clip: float | None) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def forward(self, observation: Tensor) -> Tensor:
        scaled: Tensor = (observation - self.mean) * self.scale
        return scaled if self.clip is None else scaled.clamp(-self.clip, self.clip)


class Dueling(nn.Module):
    """Value and advantages, each from its half of the last hidden layer: V + A - mean of A."""

    def __init__(self, width: int, value: int, advantage: int) -> None:
        super().__init__()
        self.value, self.advantage = nn.Linear(width, value), nn.Linear(width, advantage)

    def forward(self, hidden: Tensor) -> Tensor:
        left, right = hidden.chunk(2, -1)
        advantage = self.advantage(right)
        values: Tensor = self.value(left) + advantage - advantage.mean(-1, keepdim=True)
        return values


def _network(form: Form) -> nn.Sequential:
    layers: list[nn.Module] = []
    width = form.inputs
    for hidden in form.hidden:
        layers.append(nn.Linear(width, hidden))
        if form.layer_norm:
            layers.append(nn.LayerNorm(hidden))
        layers.append(ACTIVATIONS[form.activation]())
        width = hidden
    layers.append(nn.Linear(width, form.heads[0]) if len(form.heads) == 1 else Dueling(width // 2, *form.heads))
    return nn.Sequential(*layers)


def torch_policy(policy: Policy, config: RunConfig, action_space: Space[Any]) -> GreedyPolicy:
    """The first agent of ``policy``, which was made from ``config``, as a module of its own on the CPU.

    Raises:
        UnavailableError: its network is of a kind that has no such form.
    """
    name = _network_name(config)
    network = policy.layout.networks[name]
    if not isinstance(network, MLP):
        raise UnavailableError(f"network={config.network.name} has no form as a torch.nn.Module yet; only mlp has")
    module = GreedyPolicy(_form(policy, config, network, action_space))
    views = policy.layout.views(name, as_array(policy.rows_AP)[:1])
    state = _state(network, {block: view[0] for block, view in views.items()})
    if module.form.normalized:
        mean, scale = policy.normalizer.moments.mean[0], policy.normalizer.moments.scale()[0]
        state |= {"normalizer.mean": mean.astype(np.float32), "normalizer.scale": scale.astype(np.float32)}
    if isinstance(action_space, Box):
        bounds = {"low": action_space.low, "high": action_space.high}
        state |= {bound: array.astype(np.float32).ravel() for bound, array in bounds.items()}
    module.load_state_dict({key: torch.from_numpy(array.copy()) for key, array in state.items()})
    return module.eval()


def _network_name(config: RunConfig) -> str:
    """The network, among those of an agent, that chooses its actions."""
    match config.algo:
        case DQNConfig():
            return "q"
        case PPOConfig():
            return "actor"


def _form(policy: Policy, config: RunConfig, network: MLP, space: Space[Any]) -> Form:
    action, values = "choice", "logits"
    choices: tuple[int, ...] = ()
    start: tuple[int, ...] = ()
    shape: Sequence[int] = ()
    if isinstance(space, Discrete):
        choices, start = (int(space.n),), (int(space.start),)
        values = "q_values" if isinstance(config.algo, DQNConfig) else "logits"
    elif isinstance(space, MultiDiscrete):
        action, shape = "choices", space.shape
        choices, start = tuple(map(int, space.nvec.ravel())), tuple(map(int, space.start.ravel()))
    else:
        assert isinstance(space, Box) and isinstance(config.algo, PPOConfig)
        action = "squashed" if config.algo.distribution == "tanh_normal" else "clipped"
        values, shape = "mean", space.shape
    normalizer = policy.normalizer
    return Form(
        inputs=network.inputs,
        hidden=network.hidden,
        activation=config.network.activation,
        layer_norm=config.network.layer_norm,
        heads=tuple(head.width for head in network.heads),
        normalized=normalizer.enabled,
        clip=normalizer.clip if normalizer.enabled else None,
        values=values,
        action=action,
        choices=choices,
        start=start,
        shape=tuple(shape),
    )


def _state(network: MLP, blocks: Mapping[str, Any]) -> dict[str, Any]:
    """The blocks of one agent by the names and in the layout of ``torch.nn``, whose weights are [out, in]."""
    state: dict[str, Any] = {}
    place = 0
    for layer in range(len(network.hidden)):
        state |= _linear(f"network.{place}", blocks, str(layer))
        place += 1
        if network.config.layer_norm:
            norm = {kind: blocks[f"{layer}.norm.{kind}"] for kind in ("weight", "bias")}
            state |= {f"network.{place}.{kind}": array for kind, array in norm.items()}
            place += 1
        place += 1  # the activation
    for head in network.heads:
        name = f"network.{place}" if len(network.heads) == 1 else f"network.{place}.{head.name}"
        state |= _linear(name, blocks, head.name)
    return state


def _linear(name: str, blocks: Mapping[str, Any], block: str) -> dict[str, Any]:
    return {f"{name}.weight": blocks[f"{block}.weight"].T, f"{name}.bias": blocks[f"{block}.bias"]}


def form_to_plain(form: Form) -> dict[str, Any]:
    """The form as JSON holds it."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(form).items()}


def form_from_plain(values: Mapping[str, Any]) -> Form:
    """What ``form_to_plain`` gave."""
    parts: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Form(**parts)


class ForTorchRL(nn.Module):
    """A policy as TorchRL calls it: observations [*, ...] with any dimensions before those of one observation -> actions [*, ...].

    ``categorical``: choices are numbers, as from environments made with ``categorical_action_encoding=True``; else one-hot.
    """

    def __init__(self, policy: GreedyPolicy, observation_dims: int, dtype: Any, categorical: bool) -> None:
        super().__init__()
        self.policy, self.observation_dims, self.categorical = policy, observation_dims, categorical
        self.dtype: torch.dtype = torch.from_numpy(np.zeros(1, dtype)).dtype

    def forward(self, observation: Tensor) -> Tensor:
        form = self.policy.form
        flat = observation.shape[-1] == form.inputs  # frames may have been put one after another already
        batch = observation.shape[: -1 if flat else observation.dim() - self.observation_dims]
        numbers = next(self.policy.parameters()).dtype
        action, values = self.policy(observation.reshape(-1, form.inputs).to(numbers))
        if form.choices and not self.categorical:
            pairs = zip(self.policy.choices_of(values), form.choices, strict=True)
            one_hot = [nn.functional.one_hot(chosen, options) for chosen, options in pairs]
            # TorchRL keeps choices of equally many options in rows, and others one after another.
            in_rows = form.action == "choices" and len(set(form.choices)) == 1
            action = torch.stack(one_hot, -2) if in_rows else torch.cat(one_hot, -1)
            return action.reshape((*batch, *action.shape[1:]))
        acted: Tensor = action.reshape((*batch, *form.shape)).to(self.dtype)
        return acted

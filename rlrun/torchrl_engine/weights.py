"""PyTorch's modules and optimizer over the row of parameters that every rlrun run has, so that its commands can use what was trained.

Shapes: P parameters of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchrl.modules import MLP

from rlrun import networks
from rlrun.arrays import as_array, fill, finite, real
from rlrun.config import NetworkConfig

MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
"""What PyTorch's Adam keeps of each parameter besides its steps."""


def make_mlp(config: NetworkConfig, places: networks.Layout, name: str, rows_AP: Tensor) -> MLP:
    """TorchRL's MLP for a network of the layout. Its weights are views into the row: who changes the one changes the other."""
    network = places.networks[name]
    assert isinstance(network, networks.MLP)
    module = MLP(
        in_features=network.inputs,
        out_features=network.output_size,
        num_cells=list(network.hidden),
        activation_class=nn.Tanh if config.activation == "tanh" else nn.ReLU,
        norm_class=nn.LayerNorm if config.layer_norm else None,
        norm_kwargs=[{"normalized_shape": width} for width in network.hidden] if config.layer_norm else None,
    )
    views = {block: view[0] for block, view in places.views(name, rows_AP).items()}
    linear = [layer for layer in module if isinstance(layer, nn.Linear)]
    for block, layer in zip([*map(str, range(len(network.hidden))), "head"], linear, strict=True):
        layer.weight = nn.Parameter(views[f"{block}.weight"].T)  # ours is [in, out]
        layer.bias = nn.Parameter(views[f"{block}.bias"])
    norms = [layer for layer in module if isinstance(layer, nn.LayerNorm)]
    for number, norm in enumerate(norms):
        norm.weight = nn.Parameter(views[f"{number}.norm.weight"])
        norm.bias = nn.Parameter(views[f"{number}.norm.bias"])
    return module


class Descent:
    """An optimizer of PyTorch with clipping, as a checkpoint can hold it."""

    def __init__(self, optimizer: torch.optim.Optimizer, clip_value: float | None, clip_norm: float | None) -> None:
        self.optimizer, self.clip_value, self.clip_norm = optimizer, clip_value, clip_norm
        self.steps = 0
        self.parameters: list[nn.Parameter] = optimizer.param_groups[0]["params"]

    def step(self, loss: Tensor, learning_rate: float) -> Tensor | None:
        """Go against the gradient of ``loss``. Returns its norm where it is limited."""
        self.optimizer.param_groups[0]["lr"] = learning_rate
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = None
        if self.clip_value is not None:
            nn.utils.clip_grad_value_(self.parameters, self.clip_value)
        if self.clip_norm is not None:
            norm = nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.optimizer.step()
        self.steps += 1
        return norm

    def capture(self, agent: int) -> dict[str, Any]:
        tree: dict[str, Any] = {"steps": self.steps}
        for number, parameter in enumerate(self.parameters):
            kept = self.optimizer.state.get(parameter, {})
            tree[str(number)] = {name: as_array(kept[name]) for name in MOMENTS if name in kept}
        return tree

    def restore(self, agent: int, tree: Mapping[str, Any]) -> None:
        """Raises ValueError, KeyError: it does not fit, or is none that an optimizer comes to."""
        steps = int(real(tree["steps"], low=0))
        names = MOMENTS if self.optimizer.param_groups[0]["amsgrad"] else MOMENTS[:2]
        for number, parameter in enumerate(self.parameters if steps else []):
            kept: dict[str, Tensor] = {"step": torch.tensor(float(steps))}
            for name in names:
                kept[name] = torch.zeros_like(parameter)
                fill(kept[name], finite(tree[str(number)][name]))
                if name != "exp_avg" and (kept[name] < 0).any():
                    raise ValueError(f"'{name}' can't be a mean of squares")
            self.optimizer.state[parameter] = kept
        self.steps = steps


class Target:
    """The weights of a loss module's target network, as a checkpoint can hold them."""

    def __init__(self, parameters: Any) -> None:
        """``parameters``: a TensorDict of tensors."""
        self.parameters = parameters

    def capture(self, agent: int) -> dict[str, Any]:
        return {".".join(key): as_array(value) for key, value in self.parameters.items(True, True)}

    def restore(self, agent: int, tree: Mapping[str, Any]) -> None:
        """Raises ValueError, KeyError: it does not fit."""
        for key, value in self.parameters.items(True, True):
            fill(value, finite(tree[".".join(key)]))

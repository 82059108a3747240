"""TorchRL's replay buffer for DQN, with n-step returns, as a checkpoint can hold it.

Shapes: N environments, T steps, B batch, C capacity, O observation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import MultiStepTransform

from rlrun.arrays import Ring, finite, whole
from rlrun.config import DQNConfig

KEPT = ("observation", "action", ("next", "observation"), *(("next", key) for key in ("reward", "terminated", "done")))
STEPS = "steps_to_next_obs"


class Memory:
    """The newest C transitions."""

    def __init__(self, algo: DQNConfig, observation_size: int, actions: int, device: str) -> None:
        self.capacity, self.n_step, self.actions, self.written = algo.buffer_size, algo.n_step, actions, 0
        self._observation_size, self._device = observation_size, device
        self.buffer = TensorDictReplayBuffer(
            storage=LazyTensorStorage(algo.buffer_size, device=device), batch_size=algo.batch_size
        )
        # done_keys: it would leave `terminated` as it was at the first of the n steps, and the loss would bootstrap beyond the end.
        self._sum_rewards = MultiStepTransform(algo.n_step, algo.gamma, done_keys=[]) if algo.n_step > 1 else None

    def __len__(self) -> int:
        return len(self.buffer)

    def extend(self, data: Any) -> None:
        """Store collected steps, a TensorDict [N, T]. With n-step returns, the newest n of each environment wait for their rewards."""
        data, kept = data.select(*KEPT), KEPT
        if self._sum_rewards is not None:
            data, kept = self._sum_rewards.inv(data), (*KEPT, STEPS)
        if data is not None:
            self._store(data.select(*kept).transpose(0, 1).reshape(-1))  # as time goes

    def _store(self, transitions: Any) -> None:
        self.buffer.extend(transitions)
        self.written += len(transitions)

    def sample(self) -> Any:
        """Transitions, a TensorDict [B], uniformly with replacement."""
        return self.buffer.sample()

    def capture(self, agent: int) -> Ring:
        stored = self.buffer[:] if len(self) else self._empty()
        arrays = {_name(key): stored[key].numpy(force=True) for key in self._keys()}
        return Ring(self.written, arrays)

    def restore(self, agent: int, tree: Mapping[str, Any]) -> None:
        """Raises ValueError, KeyError: it holds what no collector gave."""
        written = whole(tree["written"])
        rows, expected = min(written, self.capacity), self._empty()
        for key in self._keys():
            array, like = tree[_name(key)], expected[key].numpy(force=True)
            if not isinstance(array, np.ndarray) or array.dtype != like.dtype or array.shape != (rows, *like.shape[1:]):
                raise ValueError(f"expected {rows} rows of {like.dtype} {like.shape[1:]} in {_name(key)}")
            finite(array)
        for name, high in (("action", self.actions), (STEPS, self.n_step + 1)):
            if name in tree and not ((tree[name] >= 0) & (tree[name] < high)).all():
                raise ValueError(f"an {name} that does not exist")
        if rows:
            stored = {key: torch.from_numpy(tree[_name(key)].copy()).to(self._device) for key in self._keys()}
            self.buffer.extend(TensorDict(stored, batch_size=[rows]))
            self.buffer.writer.load_state_dict({"_cursor": written % self.capacity})
        self.written = written

    def _keys(self) -> tuple[Any, ...]:
        return KEPT if self._sum_rewards is None else (*KEPT, STEPS)

    def _empty(self) -> TensorDict:
        """No transitions, of the right kinds."""
        observation, flag = torch.zeros(0, self._observation_size), torch.zeros(0, 1, dtype=torch.bool)
        following = {"observation": observation, "reward": torch.zeros(0, 1), "terminated": flag, "done": flag}
        action = torch.zeros(0, dtype=torch.int64)
        steps = torch.zeros(0, dtype=torch.int64)
        kept = {"observation": observation, "action": action, STEPS: steps, "next": following}
        return TensorDict(kept, batch_size=[0])


def _name(key: str | tuple[str, ...]) -> str:
    return key if isinstance(key, str) else "_".join(key)

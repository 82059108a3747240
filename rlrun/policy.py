"""A trained agent to play with from Python.

Shapes: B batch, O numbers of an observation (all stacked frames, oldest first).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from numpy.typing import ArrayLike

from rlrun.checkpoint import frames_of, read_header
from rlrun.config import RunConfig
from rlrun.envs import NUMBERS, action_converter
from rlrun.errors import UnavailableError, UsageError
from rlrun.evaluation import evaluate_policy, load_policy
from rlrun.hardware import configure, threads_put_back
from rlrun.manners import close
from rlrun.run import Run
from rlrun.trainers.base import Policy
from rlrun.watchdog import watching
from rlrun.wrapped import make_wrapped

if TYPE_CHECKING:
    from tensordict.nn import TensorDictModule

    from rlrun.torch_policy import GreedyPolicy


class TrainedPolicy:
    """The greedy policy of a run: raw observations in, actions as its environment takes them out.

    It is what ``rlrun eval`` plays with: the observation normaliser is part of it, and the same batch gives the same bits.
    """

    def __init__(self, run: Run, checkpoint: str) -> None:
        """``checkpoint``: ``best``, ``last`` or a number of frames.

        Raises:
            ResumeError: as ``load_policy``; and what making the environment raises.
        """
        with threads_put_back(), watching(run.config.env.id, run.config.env.step_timeout):
            population, self.checkpoint = load_policy(run, checkpoint)
            env = make_wrapped(run.config.env)
            close(env, run.config.env.id)
        self.population: Policy = population
        """The policy as training and evaluation have it: of one agent."""
        self.config: RunConfig = run.config
        self.directory = run.directory
        path = run.checkpoints / self.checkpoint
        self.frames = frames_of(path, read_header(path))
        """Frames it was trained for."""
        self.observation_space: gymnasium.Space[Any] = env.observation_space
        """Of one observation; [frames, ...] with ``env.frame_stack``, the oldest first."""
        self.action_space: gymnasium.Space[Any] = env.action_space
        assert env.observation_space.shape is not None
        self._shape = tuple(env.observation_space.shape)
        self._size = math.prod(self._shape)

    def __call__(self, observation: ArrayLike) -> Any:
        """The action for one observation, or an array of actions [B, ...] for observations [B, ...]; flat ones [O], [B, O] will do.

        Raises:
            UsageError: no numbers, not finite as float32, or of another shape.
        """
        array = np.asarray(observation)
        single = array.shape in (self._shape, (self._size,))
        if not single and array.shape[1:] not in (self._shape, (self._size,)):
            raise UsageError(
                f"an observation of shape {array.shape}; {self.config.env.id} has {self._shape}, "
                f"a batch of them (B, {', '.join(map(str, self._shape))})"
            )
        with np.errstate(over="ignore"):  # what is too large becomes inf
            batch = array.astype(np.float32) if array.dtype.kind in NUMBERS else None
        if batch is None or not np.isfinite(batch).all():
            raise UsageError(
                f"an observation of {self.config.env.id} has to be finite numbers of float32, below 3.4e38"
            )
        batch = batch.reshape(1, -1, self._size)
        taken = action_converter(self.action_space, batch.shape[1])(self.population.act(batch))
        actions: Any = np.asarray(taken, self.action_space.dtype)
        return actions[0] if single else actions

    def make_env(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """The environment the agent was trained for, as Gymnasium has it, with its frame skip, time limit and frame stack."""
        return make_wrapped(self.config.env, render_mode)

    def evaluate(self, episodes: int = 100, seed: int = 0) -> dict[str, Any]:
        """Play episodes, as ``rlrun eval`` does: ``return_mean``, ``return_iqm``, ..., ``returns``, ``lengths``.

        Raises:
            EnvironmentFailure: the environment failed.
        """
        if episodes < 1:
            raise UsageError(f"episodes={episodes}: at least 1 is needed")
        with threads_put_back():
            configure(self.config)
            return evaluate_policy(self.population, self.config.env, episodes, seed)

    def to_torch(self) -> GreedyPolicy:
        """A ``torch.nn.Module`` of its own on the CPU: float32 [B, O] -> (actions [B, ...], q_values, logits or mean [B, ...]).

        Raises:
            UnavailableError: the network is of a kind that has no such form.
        """
        from rlrun.torch_policy import torch_policy

        return torch_policy(self.population, self.config, self.action_space)

    def to_torchrl(self, categorical_action_encoding: bool = False) -> TensorDictModule:
        """A ``TensorDictModule`` that reads ``observation`` and writes ``action``, to drive TorchRL's environments.

        ``categorical_action_encoding``: as the environment was made; False, TorchRL's default, means one-hot choices.

        Raises:
            UnavailableError: as ``to_torch``; or TorchRL has no such action space.
        """
        from tensordict.nn import TensorDictModule

        from rlrun.torch_policy import ForTorchRL

        policy = self.to_torch()
        form = policy.form
        if any(form.start) or (form.choices and len(form.shape) > 1):
            raise UnavailableError(
                f"TorchRL numbers choices from 0, in one row; {self.config.env.id} has {self.action_space}. "
                "to_torch() gives a module for a wrapper of your own"
            )
        module = ForTorchRL(policy, len(self._shape), self.action_space.dtype, categorical_action_encoding)
        return TensorDictModule(module, in_keys=["observation"], out_keys=["action"])

    def __repr__(self) -> str:
        algo, env = self.config.algo.name, self.config.env.id
        return f"<{algo} on {env}, {self.checkpoint} of {self.directory.name}, {self.frames:,} frames>"

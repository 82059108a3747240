"""The algorithms. ``make_trainer`` and ``make_policy`` are the one place that maps a config to its trainer."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from rlrun import envstate
from rlrun.config import DQNConfig, PPOConfig, RunConfig
from rlrun.envs import Spaces
from rlrun.errors import UnavailableError, one_line
from rlrun.hardware import Hardware, choose_device
from rlrun.lazy import torch
from rlrun.networks import Layout
from rlrun.trainers import dqn, dqn_policy, ppo, ppo_policy
from rlrun.trainers.base import Policy, Trainer


@contextlib.contextmanager
def process_set_for(config: RunConfig) -> Iterator[None]:
    """Set for this process what the engine's trainers need, and put it back in the end: who trains from Python has other plans.

    Raises:
        UnavailableError: the device does not exist here.
    """
    if config.engine != "torchrl":
        yield
        return
    on_cuda = choose_device(config.device, max(config.network.hidden)) != "cpu"
    on_cuda = on_cuda or torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    method = multiprocessing.get_start_method(allow_none=True)
    # TorchRL would choose "spawn", under which a lock has a name in the system: a worker, which ends at once, would leave it there.
    if sys.platform == "linux" and method is None:
        multiprocessing.set_start_method("fork")
    generators = range(torch.cuda.device_count() if on_cuda else 0)  # TorchRL seeds all of PyTorch's
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(generators):
            warnings.filterwarnings(
                "ignore", module=r"torchrl\.|tensordict\."
            )  # of what is to change in its next versions
            yield
    finally:
        multiprocessing.set_start_method(method, force=True)


def make_trainer(configs: Sequence[RunConfig], spaces: Spaces, hardware: Hardware, exact: bool) -> Trainer:
    """A trainer of one agent for each config, to be used within ``process_set_for``. The configs share a signature."""
    if configs[0].engine == "torchrl":
        return _make_torchrl_trainer(configs, spaces, hardware)
    match configs[0].algo:
        case DQNConfig():
            return dqn.DQNTrainer(configs, spaces, hardware, exact)
        case PPOConfig():
            return ppo.PPOTrainer(configs, spaces, hardware, exact)


def _make_torchrl_trainer(configs: Sequence[RunConfig], spaces: Spaces, hardware: Hardware) -> Trainer:
    """Imports TorchRL, which takes seconds. Raises UnavailableError: it can't be imported."""
    try:
        from rlrun.torchrl_engine import dqn as torchrl_dqn
        from rlrun.torchrl_engine import ppo as torchrl_ppo
    except ImportError as error:
        reason = f"TorchRL can't be imported: {one_line(error)}"
        raise UnavailableError(f"engine=torchrl: {reason}; pip install torchrl tensordict") from error
    match configs[0].algo:
        case DQNConfig():
            return torchrl_dqn.DQNTrainer(configs, spaces, hardware)
        case PPOConfig():
            return torchrl_ppo.PPOTrainer(configs, spaces, hardware)


def inexactness(config: RunConfig) -> str | None:
    """Why a run can't be resumed bit for bit, which for ``engine=rlrun`` is tried out; None if it can."""
    if config.engine == "torchrl":
        return "engine=torchrl: TorchRL's collectors and environments can't be captured"
    return envstate.exactness(config.env, config.seed)


def layout_of(config: RunConfig, spaces: Spaces) -> Layout:
    """What is where in a row of an agent's parameters."""
    match config.algo:
        case DQNConfig():
            return dqn_policy.layout(config, spaces)
        case PPOConfig():
            return ppo_policy.layout(config, spaces)


def make_policy(config: RunConfig, spaces: Spaces, agents: int, hardware: Hardware) -> Policy:
    """A greedy policy of ``agents`` agents whose weights are 0, to load others into."""
    rows = hardware.place(np.zeros((agents, layout_of(config, spaces).size), np.float32))
    match config.algo:
        case DQNConfig():
            return dqn_policy.QPolicy(config, spaces, rows, hardware)
        case PPOConfig():
            return ppo_policy.PPOPolicy(config, spaces, rows, hardware)

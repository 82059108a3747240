"""What this machine has for a sweep: workers, memory, and the size of a population that is fastest."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence

from rlrun import envs
from rlrun.arrays import free_memory
from rlrun.config import DQNConfig, PPOConfig, RunConfig
from rlrun.errors import StorageError
from rlrun.watchdog import watching

FASTEST = {"dqn": 8, "ppo": 16}
"""Members of a population from which on a larger one trains no more frames a second on a core."""
FASTEST_ON_CUDA = 256
PROCESS_BYTES = 250_000_000  # of a worker, before the arrays of its members

_GRAPHICS_DRIVERS = ("/dev/nvidiactl", "/dev/nvmap", "/dev/kfd", "/dev/dxg")  # NVIDIA, its Jetson, AMD, Windows' WSL


def has_graphics_driver() -> bool:
    """False if there can be no CUDA device, which is known without importing torch."""
    return any(map(os.path.exists, _GRAPHICS_DRIVERS))


def uses_cuda(config: RunConfig) -> bool:
    """Whether the config trains on a graphics card. Imports torch only where there may be one."""
    if config.device != "auto" or not has_graphics_driver():
        return config.device.startswith("cuda")
    from rlrun.hardware import choose_device

    return choose_device(config.device, max(config.network.hidden)) != "cpu"


def workers_for(configs: Sequence[RunConfig]) -> int:
    """``sweep.workers``, or as many as have the cores they want; one if a graphics card would have to be shared."""
    wanted = configs[0].sweep.workers
    if wanted is not None:
        return wanted
    if any(uses_cuda(config) for config in {(c.device, c.network.hidden): c for c in configs}.values()):
        return 1
    return max(1, _cores() // max(config.hardware.threads for config in configs))


def most_workers() -> int:
    """As many as have a core and memory each: how many processes start is not for a sweep from elsewhere to say."""
    return max(1, min(_cores(), free_memory() // PROCESS_BYTES))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def largest_batch(config: RunConfig, spaces: envs.Spaces, workers: int) -> int:
    """The most members of one population: ``sweep.batch``, or what is fastest and fits into memory ``workers`` times.

    Raises:
        StorageError: what was typed does not fit.
    """
    key, needed = bytes_of(config, spaces)
    free = free_memory()
    fits = int((free / workers - PROCESS_BYTES) // max(needed, 1))
    if config.engine == "torchrl":
        return 1
    wanted = config.sweep.batch
    if wanted is None:
        return max(1, min(FASTEST_ON_CUDA if uses_cuda(config) else FASTEST[config.algo.name], fits))
    if wanted > max(1, fits):
        total = workers * wanted * needed
        raise StorageError(
            f"sweep.batch={wanted} in {workers} workers, each member with {key}, needs {total / 1e9:,.1f} GB, "
            f"{free / 1e9:,.1f} GB free; lower sweep.batch or sweep.workers"
        )
    return wanted


def check_batches(configs: Sequence[RunConfig], spaces: Mapping[str, envs.Spaces]) -> None:
    """Raises StorageError if the batches that were asked for do not fit into memory."""
    workers = workers_for(configs)
    for config in {repr((config.algo, config.env)): config for config in configs}.values():
        largest_batch(config, spaces[repr(config.env)], workers)


def check_memory(config: RunConfig, spaces: envs.Spaces) -> None:
    """Raises StorageError if the arrays whose size is typed are alone more than what is free."""
    key, needed = bytes_of(config, spaces)
    free = free_memory()
    if needed > free:
        raise StorageError(f"{key} needs {needed / 1e9:,.1f} GB, {free / 1e9:,.1f} GB free; make it smaller")


def bytes_of(config: RunConfig, spaces: envs.Spaces) -> tuple[str, int]:
    """The settings that size one agent's largest arrays, and the bytes of all that are sized by settings."""
    memory, network = memory_of(config, spaces), network_of(config, spaces)
    return max(memory, network, key=lambda part: part[1])[0], memory[1] + network[1]


def network_of(config: RunConfig, spaces: envs.Spaces) -> tuple[str, int]:
    """As ``bytes_of``, of the weights with their gradients, moments and copies."""
    match config.algo:
        case DQNConfig(amsgrad=amsgrad):
            copies = 5 + amsgrad  # the target is one
        case PPOConfig():
            copies = 4
    return f"network.hidden={list(config.network.hidden)}", 4 * copies * weights_of(config, spaces)


def weights_of(config: RunConfig, spaces: envs.Spaces) -> int:
    """About how many weights an agent has."""
    widths = [spaces.observation_size, *config.network.hidden, action_size(spaces.action)]
    networks = 2 if isinstance(config.algo, PPOConfig) else 1  # actor and critic
    return networks * sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(widths))


def memory_of(config: RunConfig, spaces: envs.Spaces) -> tuple[str, int]:
    """As ``bytes_of``, of the replay memory or the rollout."""
    match config.algo:
        case DQNConfig(buffer_size=rows):
            key, floats = f"algo.buffer_size={rows}", 2 * spaces.observation_size + 4
        case PPOConfig(rollout_steps=steps, num_envs=num_envs):
            # The observation before and after each step, and once more in the shuffled batch, as the action is.
            key, rows = f"algo.rollout_steps={steps} with algo.num_envs={num_envs}", steps * num_envs
            floats = 3 * spaces.observation_size + 2 * action_size(spaces.action) + 6
    return key, 4 * rows * floats


def spaces_of(configs: Sequence[RunConfig]) -> Mapping[str, envs.Spaces]:
    """The spaces of every environment, by ``repr`` of its config. Raises what ``envs.spaces`` raises."""
    found = {}
    for key, env in {repr(config.env): config.env for config in configs}.items():
        with watching(env.id, env.step_timeout):
            found[key] = envs.spaces(env)
    return found


def action_size(actions: envs.Actions) -> int:
    """Numbers in an action."""
    match actions:
        case envs.BoxActions(low=low):
            return len(low)
        case envs.MultiDiscreteActions(nvec=nvec):
            return len(nvec)
        case envs.DiscreteActions():
            return 1

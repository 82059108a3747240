"""DQN as two well-known scripts write it: the PyTorch tutorial, with a deque of tensors, and CleanRL, with arrays."""

from __future__ import annotations

import random
from collections import deque
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics
from torch import Tensor, nn

from benchmarks.peers.common import Clock, Settings, epsilon
from benchmarks.peers.plain_networks import mlp

LOSSES = {"huber": nn.SmoothL1Loss, "mse": nn.MSELoss}


class Transition(NamedTuple):
    """One step, as tensors with a batch axis of one."""

    observation: Tensor
    action: Tensor
    following: Tensor | None
    """None after a termination."""
    reward: Tensor


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _optimizer(algo: Settings, network: nn.Module) -> torch.optim.Optimizer:
    kind: Any = torch.optim.AdamW if algo["optimizer"] == "adamw" else torch.optim.Adam
    decay = algo["weight_decay"] if algo["optimizer"] == "adamw" else 0.0
    return kind(  # type: ignore[no-any-return]
        network.parameters(),
        lr=algo["learning_rate"],
        eps=algo["adam_epsilon"],
        amsgrad=algo["amsgrad"],
        weight_decay=decay,
    )


def tutorial_dqn(settings: Settings, frames: int, seed: int, clock: Clock) -> int:
    """The tutorial: a tensor a step, batches by concatenation, a soft update through state dicts."""
    _seed(seed)
    algo, environment = settings["algo"], gymnasium.make(settings["env"]["id"])
    memory: deque[Transition] = deque(maxlen=algo["buffer_size"])
    inputs, actions = environment.observation_space.shape[0], environment.action_space.n
    online, target = mlp(inputs, settings["network"], actions), mlp(inputs, settings["network"], actions)
    target.load_state_dict(online.state_dict())
    optimizer, memory = _optimizer(algo, online), deque(maxlen=algo["buffer_size"])
    start, _ = environment.reset(seed=seed)
    observation = torch.tensor(start, dtype=torch.float32).unsqueeze(0)
    clock.first_step()
    for frame in range(frames):
        if random.random() > epsilon(algo, frame):
            with torch.no_grad():
                action = online(observation).max(1).indices.view(1, 1)
        else:
            action = torch.tensor([[environment.action_space.sample()]], dtype=torch.long)
        seen, reward, terminated, truncated, _ = environment.step(action.item())
        following = None if terminated else torch.tensor(seen, dtype=torch.float32).unsqueeze(0)
        memory.append(Transition(observation, action, following, torch.tensor([reward], dtype=torch.float32)))
        if len(memory) >= algo["batch_size"]:
            _tutorial_update(algo, memory, online, target, optimizer)
            target_state, online_state = target.state_dict(), online.state_dict()
            for key in online_state:
                target_state[key] = online_state[key] * algo["tau"] + target_state[key] * (1 - algo["tau"])
            target.load_state_dict(target_state)
        if terminated or truncated:
            start, _ = environment.reset()
            following = torch.tensor(start, dtype=torch.float32).unsqueeze(0)
        assert following is not None
        observation = following
    return frames


def _tutorial_update(
    algo: Settings, memory: deque[Transition], online: nn.Module, target: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    batch = Transition(*zip(*random.sample(memory, algo["batch_size"]), strict=True))
    continues = torch.tensor([following is not None for following in batch.following], dtype=torch.bool)
    following = torch.cat([following for following in batch.following if following is not None])
    observation, action, reward = torch.cat(batch.observation), torch.cat(batch.action), torch.cat(batch.reward)
    chosen = online(observation).gather(1, action)
    next_value = torch.zeros(algo["batch_size"])
    with torch.no_grad():
        next_value[continues] = target(following).max(1).values
    expected = next_value * algo["gamma"] + reward
    loss = LOSSES[algo["loss"]]()(chosen, expected.unsqueeze(1))
    optimizer.zero_grad()
    loss.backward()
    if algo["clip_gradient_value"] is not None:
        torch.nn.utils.clip_grad_value_(online.parameters(), algo["clip_gradient_value"])
    optimizer.step()


class ArrayReplay:
    """Transitions in NumPy arrays, as Stable-Baselines3 keeps them and CleanRL borrows them."""

    def __init__(self, capacity: int, num_envs: int, observation_size: int) -> None:
        rows = max(capacity // num_envs, 1)
        self.observations = np.zeros((rows, num_envs, observation_size), np.float32)
        self.following = np.zeros_like(self.observations)
        self.actions = np.zeros((rows, num_envs, 1), np.int64)
        self.rewards, self.terminated = np.zeros((rows, num_envs), np.float32), np.zeros((rows, num_envs), np.float32)
        self.position, self.full = 0, False

    def add(self, observation: Any, following: Any, action: Any, reward: Any, terminated: Any) -> None:
        """Store one step of every environment."""
        at = self.position
        self.observations[at], self.following[at] = np.array(observation), np.array(following)
        self.actions[at] = np.array(action).reshape(-1, 1)
        self.rewards[at], self.terminated[at] = np.array(reward), np.array(terminated)
        self.position = (at + 1) % len(self.rewards)
        self.full = self.full or self.position == 0

    def sample(self, batch_size: int) -> tuple[Tensor, ...]:
        """Observations, following observations, actions, rewards and terminations of a batch."""
        rows = np.random.randint(0, len(self.rewards) if self.full else self.position, size=batch_size)
        envs = np.random.randint(0, self.rewards.shape[1], size=batch_size)
        arrays = self.observations, self.following, self.actions, self.rewards, self.terminated
        return tuple(torch.tensor(array[rows, envs]) for array in arrays)


def cleanrl_dqn(settings: Settings, frames: int, seed: int, clock: Clock) -> int:
    """CleanRL: a vector environment, replay in arrays, an update every few steps, a hard target update."""
    _seed(seed)
    algo, network = settings["algo"], settings["network"]
    environments = SyncVectorEnv(
        [lambda: RecordEpisodeStatistics(gymnasium.make(settings["env"]["id"]))] * algo["num_envs"],
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    inputs, actions = environments.single_observation_space.shape[0], environments.single_action_space.n
    online, target = mlp(inputs, network, actions), mlp(inputs, network, actions)
    target.load_state_dict(online.state_dict())
    optimizer = _optimizer(algo, online)
    replay = ArrayReplay(algo["buffer_size"], algo["num_envs"], inputs)
    observation, _ = environments.reset(seed=seed)
    clock.first_step()
    for frame in range(0, frames, algo["num_envs"]):
        if random.random() < epsilon(algo, frame):
            action = np.array([environments.single_action_space.sample() for _ in range(algo["num_envs"])])
        else:
            action = torch.argmax(online(torch.Tensor(observation)), dim=1).cpu().numpy()
        seen, reward, terminated, truncated, infos = environments.step(action)
        following = seen.copy()
        for index in np.flatnonzero(terminated | truncated):
            following[index] = infos["final_obs"][index]
        replay.add(observation, following, action, reward, terminated)
        observation = seen
        if frame > algo["learning_starts"] and frame % algo["train_every"] == 0:
            for _ in range(algo["updates_per_train"]):
                _cleanrl_update(algo, replay, online, target, optimizer)
        if frame > algo["learning_starts"] and frame % (algo["target_every"] * algo["train_every"]) == 0:
            for moved, kept in zip(target.parameters(), online.parameters(), strict=True):
                moved.data.copy_(algo["tau"] * kept.data + (1.0 - algo["tau"]) * moved.data)
    environments.close()
    return frames


def _cleanrl_update(
    algo: Settings, replay: ArrayReplay, online: nn.Module, target: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    observation, following, action, reward, terminated = replay.sample(algo["batch_size"])
    with torch.no_grad():
        best, _ = target(following).max(dim=1)
        expected = reward + algo["gamma"] * best * (1 - terminated)
    chosen = online(observation).gather(1, action).squeeze()
    loss = LOSSES[algo["loss"]]()(expected, chosen)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

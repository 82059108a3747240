"""What several tests need: small configs, trainers and runs, a silent view, bit-for-bit comparison, and a signal at a chosen frame."""

from __future__ import annotations

import contextlib
import functools
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from rlrun import envs, hardware, training
from rlrun.arrays import Ring
from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.config import RunConfig, from_mapping, to_mapping
from rlrun.policy import TrainedPolicy
from rlrun.run import Run
from rlrun.trainers import make_trainer
from rlrun.trainers.base import Trainer, capture
from rlrun.training import Outcome, train

DQN: dict[str, Any] = {
    "algo": {
        "name": "dqn", "batch_size": 32, "buffer_size": 200, "learning_starts": 40, "learning_rate": 1e-3,
        "epsilon_frames": 200,
    },
    "network": {"hidden": [32, 32], "activation": "relu", "init": "torch"},
}  # fmt: skip
PPO: dict[str, Any] = {
    "algo": {"name": "ppo", "num_envs": 2, "rollout_steps": 32, "minibatch_size": 16, "epochs": 2},
    "network": {"hidden": [32, 32]},
}
RUNNING_NORMS: dict[str, Any] = {"observation_norm": "running", "reward_norm": True, "reward_clip": 5.0}


def merged(*trees: Mapping[str, Any]) -> dict[str, Any]:
    """One tree of settings, later ones winning."""
    result: dict[str, Any] = {}
    for tree in trees:
        for key, value in tree.items():
            nested = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if nested else value
    return result


def config_of(*trees: Mapping[str, Any]) -> RunConfig:
    """The checked config of merged settings."""
    return from_mapping(merged({"device": "cpu"}, *trees))


def as_tensor(rows: Any) -> torch.Tensor:
    """The rows of a trainer, arrays or tensors, as a tensor of the same memory."""
    return torch.as_tensor(rows)


def trainer_of(*configs: RunConfig) -> Any:
    """A trainer of one agent for each config."""
    return make_trainer(configs, envs.spaces(configs[0].env), hardware.configure(configs[0]), exact=True)


CARTPOLE: dict[str, Any] = merged(
    DQN,
    {
        "total_frames": 400, "evaluation": {"every_frames": 150, "episodes": 2}, "logging": {"every_frames": 90},
        "checkpoint": {"every_frames": 130, "keep": 2},
    },
)  # fmt: skip
HALFCHEETAH = merged(
    PPO,
    {
        "env": {"id": "HalfCheetah-v5", "time_limit": 50}, "total_frames": 320, "logging": {"every_frames": 64},
        "evaluation": {"every_frames": 128, "episodes": 1}, "checkpoint": {"every_frames": 128},
    },
)  # fmt: skip
HOPPER = merged(HALFCHEETAH, {"env": {"id": "Hopper-v5", **RUNNING_NORMS}})
STACKED = merged(CARTPOLE, {"env": {"frame_stack": 3, "frame_skip": 2}, "algo": {"n_step": 3, "num_envs": 2}})


class Silent:
    """A view that keeps what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.evaluations: list[tuple[int, int, bool]] = []  # member, frames, best

    def start(self, runs: Sequence[Run], header: Mapping[str, str]) -> None: ...

    def progress(
        self, frames: int, total_frames: int, frames_per_second: float, latest: Sequence[Mapping[str, Any]]
    ) -> None: ...

    def evaluated(self, member: int, frames: int, result: Mapping[str, Any], best: bool) -> None:
        self.evaluations.append((member, frames, best))

    def note(self, line: str) -> None:
        self.notes.append(line)

    def ended(self, member: int, status: str, error: Any) -> None: ...

    def finish(self) -> None: ...


class Folder:
    """Where a test's runs go."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *trees: Mapping[str, Any]) -> Run:
        """A new run."""
        return Run.create(config_of(*trees, {"outputs": str(self.path)}), {})

    def trained(self, *trees: Mapping[str, Any]) -> Run:
        """A new run, trained to its end."""
        run = self.run(*trees)
        assert [outcome.status for outcome in train([run], Silent())] == ["finished"]
        return run

    def stopped_and_resumed(self, at: int, *trees: Mapping[str, Any]) -> Run:
        """A new run that got SIGTERM once it reached ``at`` frames, and was resumed to its end."""
        run = self.run(*trees)
        with signal_at(at):
            outcome = train([run], Silent())[0]
        assert (outcome.status, outcome.signal) == ("stopped", signal.SIGTERM)
        assert resumed(run).status == "finished"
        return run


def trained_policies(folder: Folder, settings: Mapping[str, Mapping[str, Any]]) -> Callable[[str], TrainedPolicy]:
    """The policies of short runs with these settings, by name; each is trained when it is first asked for."""

    @functools.cache
    def policy(name: str) -> TrainedPolicy:
        return TrainedPolicy(folder.trained(settings[name]), "last")

    return policy


def resumed(run: Run, **changes: Any) -> Outcome:
    """Continue a run from its directory, with root settings changed."""
    opened = Run.open(run.directory)
    opened.config = from_mapping(merged(to_mapping(opened.config), changes))
    return train([opened], Silent(), resume=True)[0]


@contextlib.contextmanager
def signal_at(frames: int, number: int = signal.SIGTERM) -> Iterator[None]:
    """Deliver a signal to this process after the training step that reaches ``frames``."""

    def patched(*arguments: Any) -> Trainer:
        trainer = make_trainer(*arguments)
        step = trainer.step

        def stepping() -> None:
            before = trainer.frames
            step()
            if before < frames <= trainer.frames:
                signal.raise_signal(number)

        trainer.step = stepping  # type: ignore[method-assign]
        return trainer

    with mock.patch.object(training, "make_trainer", patched):
        yield


def last_tree(run: Run) -> dict[str, Any]:
    """What the newest checkpoint holds, without what the clock put into it, and without the note of what best.ckpt holds."""
    _, _, tree = CheckpointFolder(run.checkpoints, 1).newest(lambda line: None)
    del tree["loop"]["seconds"], tree["loop"]["wall_seconds"], tree["loop"]["best"], tree["offsets"]["timing.jsonl"]
    return tree


def recorded(run: Run) -> tuple[bytes, bytes]:
    """The files that equal training makes equal: metrics and episodes."""
    return (run.directory / "metrics.jsonl").read_bytes(), (run.directory / "episodes.csv").read_bytes()


def captured(state: Any, agent: int) -> dict[str, Any]:
    """One agent's slice of a trainer's state as a checkpoint gives it back: copies, the replay memory whole."""
    return {key: value.whole() if isinstance(value, Ring) else value for key, value in capture(state, agent).items()}


def assert_same_bits(left: Any, right: Any, where: str = "") -> None:
    """Compare trees of plain data and arrays bit by bit; names the first place that differs."""
    assert type(left) is type(right), f"{where}: {type(left)} and {type(right)}"
    if isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_same_bits(left[key], right[key], f"{where}.{key}")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), where
        for index, pair in enumerate(zip(left, right, strict=True)):
            assert_same_bits(*pair, f"{where}[{index}]")
    elif isinstance(left, np.ndarray):
        assert (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes()), where
    else:
        assert not isinstance(left, Ring), "compare what captured() gives"
        assert repr(left) == repr(right), where


def assert_same_run(left: Run, right: Run) -> None:
    assert recorded(left) == recorded(right)
    assert_same_bits(last_tree(left), last_tree(right))


VALUES: dict[str, dict[float, float]] = {
    "Constant": {0.0: 1.0},
    "Observation": {-1.0: -1.0, 1.0: 1.0},
    "Delayed": {0.0: 0.5, 1.0: 1.0},
    "Action": {0.0: 1.0},
    "ActionObservation": {-1.0: 1.0, 1.0: 1.0},
}
"""What each observation of a probe is worth to a perfect learner with gamma 1/2."""

CHOICES: dict[str, dict[float, int]] = {"Action": {0.0: 1}, "ActionObservation": {-1.0: 0, 1.0: 1}}
"""The best of two actions for each observation, where it matters."""


def probe_observations(what: str) -> np.ndarray:
    """The observations of a probe as one agent's batch [1, B, 1]."""
    return np.array(list(VALUES[what]), np.float32)[None, :, None]

"""Combinations of settings that cannot work. What needs an environment is checked in ``sweeps.jobs``."""

from __future__ import annotations

import re
from collections.abc import Callable

from rlrun.config.schema import DQNConfig, PPOConfig, RunConfig
from rlrun.plain import printable
from rlrun.provenance import HIDDEN

DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
NAME_RULE = "may only contain A-Z a-z 0-9 . _ - and must start with a letter or digit"
LONGEST_NAME = 64
PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,127}")
PROJECT_RULE = "may only contain A-Z a-z 0-9 . _ - and spaces, 128 at most, and must start with a letter or digit"


def name_of_id(identifier: str) -> str:
    """An ``env.name`` that is as near to the environment's id as the rules for names let it be; of a long one the end."""
    plain = re.sub(r"[^a-z0-9._-]+", "_", identifier.lower())
    return plain[-LONGEST_NAME:].lstrip("._-") or "env"


def check(config: RunConfig) -> list[str]:
    """One line for each impossible combination."""
    problems = [*_check_names(config), *_check_root(config), *_check_engine(config)]
    match config.algo:
        case DQNConfig():
            problems += _check_dqn(config, config.algo)
        case PPOConfig():
            problems += _check_ppo(config, config.algo)
    return problems


def _check_names(config: RunConfig) -> list[str]:
    problems = []
    for key, value in (("name", config.name), ("env.name", config.env.name)):
        if value and not NAME.fullmatch(value.replace(HIDDEN, "x")):  # a stored one may hide a secret
            problems.append(f"{key}={value!r:.80} {NAME_RULE}")
        elif len(value) > LONGEST_NAME:
            problems.append(f"{key} is longer than {LONGEST_NAME} characters; shorten it")
    if not DEVICE.fullmatch(config.device):
        problems.append(f"device={config.device!r:.40} is not known; choices: auto, cpu, cuda, cuda:N")
    if config.outputs.startswith("~"):
        problems.append(f"outputs={config.outputs!r:.60}: ~ has not been expanded by your shell; write $HOME instead")
    if len(set(config.logger)) < len(config.logger):
        problems.append(f"logger=[{','.join(config.logger)}] names one twice; keep one")
    if config.logging.project is not None and not PROJECT.fullmatch(config.logging.project.replace(HIDDEN, "x")):
        problems.append(f"logging.project={config.logging.project!r:.80} {PROJECT_RULE}")
    if not config.outputs:
        problems.append(f"outputs={config.outputs!r} is not a folder")
    if printable(config.outputs) != config.outputs:  # it would be shown as another one
        problems.append(f"outputs={config.outputs!r:.60} has characters that can't be printed; choose another name")
    return problems


def _check_root(config: RunConfig) -> list[str]:
    env, problems = config.env, []
    if not config.network.hidden:
        problems.append("network.hidden=[] has no layer; give at least one width, as in network.hidden=[64,64]")
    if config.stop.return_ is not None and config.evaluation.episodes == 0:
        problems.append("stop.return needs evaluations, but evaluation.episodes=0; set evaluation.episodes=10")
    if config.stop.return_ is not None and config.evaluation.every_frames == 0:
        problems.append(
            "stop.return needs evaluations, but evaluation.every_frames=0; set evaluation.every_frames=10000"
        )
    if config.evaluation.video and config.evaluation.episodes == 0:
        problems.append(
            "evaluation.video=true films evaluations, but evaluation.episodes=0; set evaluation.episodes=10"
        )
    if env.observation_norm == "initial" and env.observation_norm_steps < 2:
        problems.append(
            "env.observation_norm=initial needs env.observation_norm_steps >= 2, as in env.observation_norm_steps=1000"
        )
    if env.observation_norm == "none" and env.observation_norm_steps > 0:
        problems.append(
            "env.observation_norm_steps has no effect with env.observation_norm=none; set env.observation_norm=initial"
        )
    if config.plot.figures == "ppo" and not isinstance(config.algo, PPOConfig):
        problems.append(f"plot.figures=ppo shows what {config.algo.name} does not record; set plot.figures=dqn or none")
    return problems


def _check_engine(config: RunConfig) -> list[str]:
    """What TorchRL's parts can't do."""
    if config.engine == "rlrun":
        return []
    algo, env, kernels, problems = config.algo, config.env, config.hardware.kernels, []
    if isinstance(algo, DQNConfig) and algo.dueling:
        problems.append("algo.dueling=true needs engine=rlrun; engine=torchrl has one stream only")
    if isinstance(algo, PPOConfig) and algo.clip_range >= 1:
        problems.append(f"algo.clip_range={algo.clip_range:g} needs engine=rlrun; engine=torchrl clips below 1 only")
    if env.frame_stack > 1:
        problems.append(f"env.frame_stack={env.frame_stack} needs engine=rlrun; engine=torchrl sees one observation")
    if kernels != "auto":
        problems.append(f"hardware.kernels={kernels} needs engine=rlrun; engine=torchrl computes with PyTorch always")
    return problems


def _in_frames(transitions: int, config: RunConfig) -> str:
    """`` x env.frame_skip (4) = 512 frames``, where frames are not transitions."""
    skip = config.env.frame_skip
    return f" x env.frame_skip ({skip}) = {transitions * skip} frames" if skip > 1 else ""


def _check_dqn(config: RunConfig, algo: DQNConfig) -> list[str]:
    waits = {key: getattr(algo, key) for key in ("learning_starts", "batch_size", "train_every")}
    longest = max(waits, key=lambda key: waits[key])
    rules: list[tuple[Callable[[], bool], str]] = [
        (
            lambda: algo.batch_size > algo.buffer_size,
            f"algo.batch_size ({algo.batch_size}) > algo.buffer_size ({algo.buffer_size}); "
            "a batch must fit into the replay memory",
        ),
        (
            lambda: algo.epsilon_start < algo.epsilon_end,
            f"algo.epsilon_start ({algo.epsilon_start}) < algo.epsilon_end ({algo.epsilon_end}); epsilon can only fall",
        ),
        (
            lambda: waits[longest] * config.env.frame_skip >= config.total_frames,
            f"algo.{longest} ({waits[longest]}){_in_frames(waits[longest], config)} leaves no update before "
            f"total_frames ({config.total_frames}); raise total_frames or lower algo.{longest}",
        ),
        (
            lambda: algo.buffer_size % algo.num_envs != 0,
            f"algo.buffer_size ({algo.buffer_size}) is not a multiple of algo.num_envs ({algo.num_envs})",
        ),
        (
            lambda: algo.n_step * algo.num_envs > algo.buffer_size,
            f"algo.n_step ({algo.n_step}) does not fit into algo.buffer_size ({algo.buffer_size}) "
            f"with {algo.num_envs} environments",
        ),
        (
            lambda: config.env.reward_norm,
            "env.reward_norm=true needs whole rollouts, which dqn does not have; use env.reward_scale",
        ),
    ]
    return [line for broken, line in rules if broken()]


def _check_ppo(config: RunConfig, algo: PPOConfig) -> list[str]:
    batch = algo.num_envs * algo.rollout_steps
    rollout = f"{algo.rollout_steps} steps x {algo.num_envs} environment{'s' * (algo.num_envs != 1)} = {batch}"
    rules: list[tuple[Callable[[], bool], str]] = [
        (lambda: algo.minibatch_size > batch, f"algo.minibatch_size ({algo.minibatch_size}) > the rollout ({rollout})"),
        (
            lambda: algo.minibatch_size <= batch and batch % algo.minibatch_size != 0 and not algo.drop_last,
            f"the rollout ({rollout}) is not divisible by algo.minibatch_size ({algo.minibatch_size}); "
            "change one, or set algo.drop_last=true",
        ),
        (
            lambda: batch * config.env.frame_skip > config.total_frames,
            f"total_frames ({config.total_frames}) is less than one rollout "
            f"({rollout} transitions{_in_frames(batch, config)}); raise total_frames or lower algo.rollout_steps",
        ),
        (
            lambda: algo.normalize_advantage == "minibatch" and algo.minibatch_size < 2,
            "algo.normalize_advantage=minibatch needs algo.minibatch_size >= 2",
        ),
    ]
    return [line for broken, line in rules if broken()]

"""Environments and collector, as TorchRL's tutorial wires them.

Shapes: N environments, T steps, O observation.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.wrappers import ClipAction, DtypeObservation, FlattenObservation
from torchrl.collectors import Collector
from torchrl.envs import (
    ClipTransform,
    Compose,
    DoubleToFloat,
    GymWrapper,
    ObservationNorm,
    RewardClipping,
    RewardScaling,
    RewardSum,
    SerialEnv,
    StepCounter,
    Transform,
    TransformedEnv,
    VecNormV2,
    check_env_specs,
)

from rlrun.config import EnvConfig, RunConfig
from rlrun.envs import step_limit
from rlrun.errors import EnvironmentFailure, one_line
from rlrun.normalization import Moments, ObservationNormalizer
from rlrun.rollout import Episode
from rlrun.seeding import Stream, derive
from rlrun.torchrl_engine.guard import Guarded

logging.getLogger("torchrl").setLevel(logging.ERROR)  # it reports each success


class Experience:
    """What one agent sees: environments, their statistics, and the collector that steps them."""

    def __init__(self, config: RunConfig, normalizer: ObservationNormalizer, device: str, clip_actions: bool) -> None:
        """``clip_actions``: the policy's actions may lie outside of the bounds. Raises what making and checking environments does."""
        self.config, self.normalizer, self.device = config, normalizer, device
        self.num_envs = config.algo.num_envs
        self.collector: Any = None
        _observe_random_steps(config, normalizer)
        self.environment = make_environment(config, self.num_envs, clip_actions)
        try:
            check_env_specs(self.environment)
        except AssertionError as error:
            raise EnvironmentFailure(f"env {config.env.id} does not keep to its spaces: {one_line(error)}") from error
        self.statistics = _statistics_of(self.environment)
        self.action_spec = self.environment.action_spec_unbatched  # of one environment

    def collect(self, policy: Any, steps: int, done: int) -> Any:
        """The next T = ``steps`` steps of every environment, a TensorDict [N, T], after ``done`` steps of each.

        The first call seeds everything: not before is it known where a run goes on. Raises EnvironmentFailure.
        """
        if self.collector is None:
            write(self.statistics, self.normalizer.moments)
            self.environment.set_seed(derive(self.config.seed, Stream.ENVIRONMENT, done))
            torch.manual_seed(derive(self.config.seed, Stream.ACTIONS, done))
            self.collector = Collector(
                self.environment,
                policy,
                frames_per_batch=steps * self.num_envs,
                total_frames=-1,
                env_device="cpu",
                policy_device=self.device,
                storing_device=self.device,
                auto_register_policy_transforms=False,  # none of our policies has a memory
            )
            self._batches = iter(self.collector)
        data = next(self._batches)
        if self.normalizer.running:  # what is evaluated and saved follows what acts
            read(self.statistics, self.normalizer)
        return data.reshape(self.num_envs, steps)

    def ended(self, data: Any, before: int) -> list[tuple[int, Episode]]:
        """The episodes that ended in ``data`` [N, T], each with the frames at its end; ``before``: those at its beginning."""
        following, frames_a_step = data["next"], self.num_envs * self.config.env.frame_skip
        done_TN = following["done"][..., 0].T
        places = done_TN.nonzero().tolist()
        returns, lengths = (following[key][..., 0].T[done_TN].tolist() for key in ("episode_reward", "step_count"))
        return [
            (before + (step + 1) * frames_a_step, Episode(0, env, return_, length))
            for (step, env), return_, length in zip(places, returns, lengths, strict=True)
        ]

    def close(self) -> None:
        if self.collector is not None:
            self.collector.shutdown()
        elif not self.environment.is_closed:
            self.environment.close()


def make_environment(config: RunConfig, num_envs: int, clip_actions: bool) -> TransformedEnv:
    """``num_envs`` environments, stepped in turn, with what the config wraps around them."""
    makers = [functools.partial(_make_one, config, index, clip_actions) for index in range(num_envs)]
    base = makers[0]() if num_envs == 1 else SerialEnv(num_envs, makers)
    return TransformedEnv(base, Compose(*_transforms(config.env, num_envs)))


def _make_one(config: RunConfig, index: int, clip_actions: bool) -> GymWrapper:
    env: Any = Guarded(config.env, config.seed, index)
    assert isinstance(env.observation_space, Box)
    if len(env.observation_space.shape) != 1:
        env = FlattenObservation(env)
    if env.observation_space.dtype.kind != "f":
        env = DtypeObservation(env, np.float32)
    if clip_actions:
        env = ClipAction(env)
    return GymWrapper(env, categorical_action_encoding=True, frame_skip=config.env.frame_skip)


def _transforms(env: EnvConfig, num_envs: int) -> list[Transform]:
    transforms: list[Transform] = [RewardSum()]  # first: a return is of rewards as the environment gave them
    if env.observation_norm == "initial":
        transforms.append(ObservationNorm(0.0, 1.0, in_keys=["observation"], standard_normal=True))
    if env.observation_norm == "running":
        transforms.append(VecNormV2(in_keys=["observation"], decay=1.0, reduce_batch_dims=num_envs > 1))
    if env.observation_norm != "none" and env.observation_clip is not None:
        transforms.append(ClipTransform(in_keys=["observation"], low=-env.observation_clip, high=env.observation_clip))
    if env.reward_scale != 1.0:
        transforms.append(RewardScaling(loc=0.0, scale=env.reward_scale))
    if env.reward_clip is not None and not env.reward_norm:  # else it comes after the normaliser
        transforms.append(RewardClipping(-env.reward_clip, env.reward_clip))
    return [*transforms, DoubleToFloat(), StepCounter(max_steps=step_limit(env))]


def _statistics_of(environment: TransformedEnv) -> ObservationNorm | VecNormV2 | None:
    kinds = (ObservationNorm, VecNormV2)
    return next((transform for transform in environment.transform if isinstance(transform, kinds)), None)


def _observe_random_steps(config: RunConfig, normalizer: ObservationNormalizer) -> None:
    """Begin the statistics with ``env.observation_norm_steps`` random steps in an environment of their own."""
    steps = config.env.observation_norm_steps
    if not normalizer.enabled or steps == 0:
        return
    environment = make_environment(config, 1, clip_actions=False)  # random actions lie within the bounds
    statistics = _statistics_of(environment)
    seed = derive(config.seed, Stream.NORMALIZER)
    environment.set_seed(seed)
    torch.manual_seed(seed)
    if normalizer.running:
        write(statistics, Moments(1, normalizer.moments.mean.shape[1]))
        environment.rollout(steps, break_when_any_done=False)
        read(statistics, normalizer)
    else:
        fresh = ObservationNorm(in_keys=["observation"], standard_normal=True)
        environment = TransformedEnv(environment.base_env, Compose(fresh))
        fresh.init_stats(num_iter=steps, reduce_dim=0, cat_dim=0)
        put(normalizer, steps, fresh.loc, fresh.scale**2)
    environment.close()


def read(statistics: VecNormV2, normalizer: ObservationNormalizer) -> None:
    """TorchRL's running statistics -> ours. It keeps means of the observations and of their squares."""
    mean, square = statistics._loc["observation"], statistics._var["observation"]
    count = int(statistics._count["observation"])
    put(normalizer, count, mean, square - mean**2)


def put(normalizer: ObservationNormalizer, count: int, mean: Any, variance: Any) -> None:
    moments = normalizer.moments
    moments.count[0] = count
    moments.mean[0] = mean.numpy(force=True)
    moments.squares[0] = np.maximum(variance.numpy(force=True), 0) * count
    normalizer.restore(0, moments.capture(0))


def write(statistics: ObservationNorm | VecNormV2 | None, moments: Moments) -> None:
    """Our statistics -> TorchRL's: of random steps, or of the checkpoint that a run goes on from."""
    if statistics is None:
        return
    mean, scale = torch.from_numpy(moments.mean[0]), torch.from_numpy(moments.scale()[0])
    if isinstance(statistics, ObservationNorm):
        statistics.loc, statistics.scale = mean.float(), 1 / scale.float()
        return
    variance = torch.from_numpy(moments.squares[0] / max(moments.count[0], 1))
    statistics._loc["observation"].copy_(mean)
    statistics._var["observation"].copy_(variance + mean**2)
    statistics._count["observation"].fill_(int(moments.count[0]))

"""Running statistics against NumPy over everything seen, and the normalisers by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rlrun.config import EnvConfig
from rlrun.normalization import Moments, ObservationNormalizer, RewardNormalizer


def batches(seed: int = 0) -> list[np.ndarray]:
    """Samples [2 agents, B, 3], far from zero, so that a sum of squares would lose its digits."""
    random = np.random.default_rng(seed)
    scale = np.array([1.0, 10.0, 0.01])
    return [(1000 + scale * random.standard_normal((2, size, 3))).astype(np.float32) for size in (1, 7, 1, 300)]


def test_moments_equal_numpy_over_everything_seen() -> None:
    moments = Moments(agents=2, size=3)
    for batch in batches():
        moments.update(batch)
    seen = np.concatenate(batches(), axis=1).astype(np.float64)
    np.testing.assert_allclose(moments.mean, seen.mean(1), rtol=1e-12)
    np.testing.assert_allclose(moments.scale(), 1 / seen.std(1), rtol=1e-6)
    assert moments.count.tolist() == [309, 309]


def test_scale_is_one_where_nothing_varies_or_nothing_was_seen() -> None:
    moments = Moments(agents=1, size=2)
    assert moments.scale().tolist() == [[1, 1]]
    moments.update(np.array([[[5.0, 0.0], [5.0, 4.0]]]))
    assert moments.scale().tolist() == [[1, 0.5]]


@pytest.mark.parametrize("mode", ["none", "initial", "running"])
def test_observation_normaliser(mode: str) -> None:
    normalizer = ObservationNormalizer(EnvConfig(observation_norm=mode, observation_clip=1.5), agents=2, size=1)
    observation = np.array([[[7.0], [1.0]], [[20.0], [30.0]]], np.float32)
    assert normalizer.running == (mode == "running")
    assert normalizer(observation).tolist() == (
        observation.tolist() if mode == "none" else [[[1.5], [1.0]], [[1.5], [1.5]]]
    )  # before any statistics: mean 0, scale 1
    normalizer.update(np.array([[[1.0], [5.0]], [[10.0], [20.0]]], np.float32))  # means 3 and 15, deviations 2 and 5
    result = normalizer(observation)
    assert result.dtype == np.float32
    assert result.tolist() == (
        observation.tolist() if mode == "none" else [[[1.5], [-1.0]], [[1.0], [1.5]]]
    )  # (7 - 3) / 2 = 2 and (30 - 15) / 5 = 3 are clipped
    assert observation[0, 0, 0] == 7  # the input is not touched


def test_observation_normaliser_without_a_clip() -> None:
    normalizer = ObservationNormalizer(EnvConfig(observation_norm="running", observation_clip=None), agents=1, size=1)
    normalizer.update(np.array([[[1.0], [5.0]]], np.float32))
    assert normalizer(np.array([[[103.0]]], np.float32)).tolist() == [[[50.0]]]


def test_reward_normaliser_by_hand() -> None:
    """gamma 1/2, one environment, episode ends after the second step.

    Rewards 4 2 8 -> discounted returns 4, 4/2 + 2 = 4, 8 (begun anew). Variance of 4 4 8: 32/9, deviation 1.885618.
    Then 0 -> 8/2 + 0 = 4. Variance of 4 4 8 4: 3.
    """
    normalizer = RewardNormalizer(agents=1, num_envs=1)
    rewards = np.array([[[4.0], [2.0], [8.0]]], np.float32)
    done = np.array([[[False], [True], [False]]])
    np.testing.assert_allclose(normalizer(rewards, done, [0.5]).ravel(), np.array([4, 2, 8]) / 1.8856181, rtol=1e-6)
    assert rewards[0, 0, 0] == 4
    assert normalizer(np.zeros((1, 1, 1), np.float32), np.zeros((1, 1, 1), bool), [0.5]).tolist() == [[[0.0]]]
    assert normalizer.returns.tolist() == [[4.0]]
    np.testing.assert_allclose(normalizer.moments.scale(), [[1 / np.sqrt(3)]])


def test_reward_normaliser_keeps_agents_and_environments_apart() -> None:
    random = np.random.default_rng(0)
    rewards, done = random.standard_normal((2, 20, 3)).astype(np.float32), random.random((2, 20, 3)) < 0.1
    together = RewardNormalizer(agents=2, num_envs=3)
    both = together(rewards, done, [0.9, 0.5])
    for agent, gamma in enumerate((0.9, 0.5)):
        alone = RewardNormalizer(agents=1, num_envs=3)
        assert alone(rewards[agent : agent + 1], done[agent : agent + 1], [gamma]).tobytes() == both[agent].tobytes()
        totals = np.zeros(3)
        for reward, end in zip(rewards[agent], done[agent], strict=True):
            totals = totals * gamma + reward
            totals[end] = 0
        np.testing.assert_allclose(together.returns[agent], totals, rtol=1e-5)


def test_a_restored_observation_normaliser_goes_on_with_the_same_bits() -> None:
    config = EnvConfig(observation_norm="running")
    whole, part = ObservationNormalizer(config, 2, 3), ObservationNormalizer(config, 1, 3)
    for batch in batches()[:2]:
        whole.update(batch)
    tree = whole.capture(1)
    part.restore(0, tree)
    for batch in batches(1):
        assert part(batch[1:]).tobytes() == whole(batch)[1].tobytes()
        whole.update(batch)
        part.update(batch[1:])
    assert repr(part.capture(0)) == repr(whole.capture(1)) != repr(tree)


def test_a_restored_reward_normaliser_goes_on_with_the_same_bits() -> None:
    random = np.random.default_rng(0)
    rewards, done = random.standard_normal((2, 10, 3)).astype(np.float32), np.zeros((2, 10, 3), bool)
    whole, part = RewardNormalizer(2, 3), RewardNormalizer(1, 3)
    whole(rewards, done, [0.9, 0.8])
    part.restore(0, whole.capture(1))
    assert part(rewards[1:], done[1:], [0.8]).tobytes() == whole(rewards, done, [0.9, 0.8])[1].tobytes()

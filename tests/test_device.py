"""The path of a GPU: its code on the CPU against the usual path, and on CUDA where there is one."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from support import DQN, PPO, assert_same_bits, captured, config_of, merged

from rlrun import envs, hardware
from rlrun.config import RunConfig
from rlrun.hardware import Graphed, Hardware
from rlrun.trainers import make_trainer
from rlrun.trainers.base import restore

PENDULUM = {"env": {"id": "Pendulum-v1", "observation_norm": "running"}}
CASES: dict[str, tuple[dict[str, Any], int]] = {
    "dqn": (merged(DQN, {"algo": {"max_gradient_norm": 0.5}}), 60),
    "dqn_double_dueling_n_step": (merged(DQN, {"algo": {"double": True, "dueling": True, "n_step": 3}}), 60),
    "ppo": (merged(PPO, {"algo": {"target_kl": 0.001}}), 3),
    "ppo_gaussian": (merged(PPO, PENDULUM, {"algo": {"value_clip_range": 0.1}}), 3),
    "ppo_tanh": (merged(PPO, PENDULUM, {"algo": {"distribution": "tanh_normal", "state_dependent_std": True}}), 3),
}
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def configs_of(case: str, device: str, agents: int = 3) -> tuple[list[RunConfig], int]:
    settings, steps = CASES[case]
    plain = {"hardware": {"kernels": "plain"}, "device": device}
    rates = [{"seed": seed, "algo": {"learning_rate": 1e-3 * (1 + seed)}} for seed in range(agents)]
    return [config_of(settings, plain, rate) for rate in rates], steps


def trained(case: str, device: str = "cpu", agents: int = 3) -> Any:
    """A trainer after some steps, one of whose agents has retired on the way."""
    configs, steps = configs_of(case, device, agents)
    trainer: Any = make_trainer(configs, envs.spaces(configs[0].env), hardware.configure(configs[0]), exact=True)
    for step in range(steps):
        trainer.step()
        if step == steps // 2 and agents > 1:
            trainer.retire(1)
    return trainer


@pytest.mark.parametrize("case", CASES)
def test_the_path_of_a_gpu_does_what_the_usual_one_does(case: str) -> None:
    usual = trained(case)
    with mock.patch.object(Hardware, "memory", property(lambda self: "cpu")):
        ours = trained(case)
    if hasattr(ours.state, "replay"):
        assert isinstance(ours.state.replay.rows, torch.Tensor)
    torch.testing.assert_close(ours.state.parameters_AP, usual.state.parameters_AP, rtol=1e-3, atol=1e-4)
    assert ours.state.optimizer.steps_A.tolist() == usual.state.optimizer.steps_A.tolist()
    for agent in (0, 2):
        measured, expected = ours.metrics(agent), usual.metrics(agent)
        assert measured.keys() == expected.keys()
        for name, value in measured.items():
            assert value == pytest.approx(expected[name], rel=1e-2, abs=1e-3), name


@pytest.mark.parametrize("case", CASES)
def test_what_a_gpu_saved_continues_on_the_cpu(case: str) -> None:
    with mock.patch.object(Hardware, "memory", property(lambda self: "cpu")):
        saved = trained(case, agents=1)
    configs, _ = configs_of(case, "cpu", agents=1)
    fresh: Any = make_trainer(configs, envs.spaces(configs[0].env), hardware.configure(configs[0]), exact=True)
    assert restore(fresh.state, 0, captured(saved.state, 0))
    assert_same_bits(captured(fresh.state, 0), captured(saved.state, 0))
    fresh.step()


def test_a_function_is_just_called_on_the_cpu() -> None:
    graphed = Graphed(lambda x, y: (x + y, x * y), "cpu")
    total, product = graphed(torch.tensor(2.0), torch.tensor(3.0))
    assert (float(total), float(product)) == (5.0, 6.0)


@cuda
def test_a_recorded_function_changes_what_it_should_and_no_more() -> None:
    device = "cuda"
    count = torch.zeros(3, device=device)

    def add(x: torch.Tensor) -> torch.Tensor:
        count.add_(x)
        return count * 2

    graphed = Graphed(add, device, [count])
    results = [graphed(torch.full((3,), float(value), device=device)) for value in (1, 2, 3)]
    assert count.tolist() == [6.0] * 3  # warming up left no trace
    assert [result[0].item() for result in results] == [2.0, 6.0, 12.0]


@cuda
@pytest.mark.parametrize("case", CASES)
def test_cuda_agrees_with_the_cpu_and_repeats_its_bits(case: str) -> None:
    first, second = trained(case, "cuda"), trained(case, "cuda")
    assert torch.equal(first.state.parameters_AP, second.state.parameters_AP)
    usual = trained(case)
    torch.testing.assert_close(first.state.parameters_AP.cpu(), usual.state.parameters_AP, rtol=0.1, atol=0.02)


@cuda
@pytest.mark.parametrize("case", CASES)
def test_a_cuda_checkpoint_continues_on_the_cpu(case: str) -> None:
    saved = trained(case, "cuda", agents=1)
    configs, _ = configs_of(case, "cpu", agents=1)
    fresh: Any = make_trainer(configs, envs.spaces(configs[0].env), hardware.configure(configs[0]), exact=True)
    assert restore(fresh.state, 0, captured(saved.state, 0))
    fresh.step()

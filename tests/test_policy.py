"""A trained policy from Python: the numbers of ``rlrun eval``, any space, and the same from PyTorch and TorchRL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Space
from gymnasium.utils.env_checker import check_env
from support import CARTPOLE, HALFCHEETAH, PPO, RUNNING_NORMS, STACKED, Folder, merged, trained_policies

from rlrun.errors import UnavailableError, UsageError
from rlrun.evaluation import evaluate_run
from rlrun.policy import TrainedPolicy
from rlrun.seeding import Stream, derive
from rlrun.torch_policy import Form, GreedyPolicy, form_from_plain, form_to_plain

SPACES: dict[str, Space[Any]] = {
    "box": Box(np.array([[-1, -2, 0]] * 2, np.float32), np.array([[1, 0, 0.5]] * 2, np.float32)),
    "double": Box(-0.3, 0.2, (2,), np.float64),
    "choices": MultiDiscrete([[3, 2], [4, 5]], start=[[1, 0], [-2, 7]]),
    "from_five": Discrete(4, start=5),
    "unequal": MultiDiscrete([3, 2]),
    "equal": MultiDiscrete([3, 3]),
}


class Wild(gymnasium.Env[np.ndarray, Any]):
    """Observations [2, 3] at random; episodes of 20 steps; refuses an action that is not of its space."""

    observation_space = Box(-np.inf, np.inf, (2, 3), np.float64)

    def __init__(self, actions: str) -> None:
        self.action_space = SPACES[actions]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return self.np_random.normal(3, 2, (2, 3)), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.count += 1
        reward = float(np.sum(action)) * self.np_random.normal()  # every action counts, none is the best
        return self.np_random.normal(3, 2, (2, 3)), reward, self.count == 20, False, {}


if "Wild-v0" not in gymnasium.registry:
    gymnasium.register("Wild-v0", Wild)

SHORT: dict[str, Any] = {"total_frames": 64, "evaluation": {"episodes": 1}}
WILD = {
    "box": {"env": {"id": "Wild-v0", "kwargs": {"actions": "box"}}},
    "squashed": {"env": {"id": "Wild-v0", "kwargs": {"actions": "box"}}, "algo": {"distribution": "tanh_normal"}},
    "both": {
        "env": {"id": "Wild-v0", "kwargs": {"actions": "double"}, **RUNNING_NORMS, "observation_clip": None},
        "algo": {"distribution": "tanh_normal", "state_dependent_std": True},
    },
    "choices": {"env": {"id": "Wild-v0", "kwargs": {"actions": "choices"}, **RUNNING_NORMS, "observation_clip": 1.0}},
    "unequal": {"env": {"id": "Wild-v0", "kwargs": {"actions": "unequal"}}},
    "equal": {"env": {"id": "Wild-v0", "kwargs": {"actions": "equal"}}},
    "from_five": {
        "env": {"id": "Wild-v0", "kwargs": {"actions": "from_five"}, "frame_stack": 2},
        "network": {"layer_norm": True, "activation": "relu"},
    },
}
SETTINGS: dict[str, dict[str, Any]] = {name: merged(PPO, SHORT, settings) for name, settings in WILD.items()} | {
    "dqn": CARTPOLE,
    "dueling": merged(CARTPOLE, {"algo": {"dueling": True}, "network": {"layer_norm": True}}),
    "stacked": merged(STACKED, {"algo": {"learning_rate": 1e-5}}),  # as it began: not one action for all
    "halfcheetah": merged(HALFCHEETAH, {"env": RUNNING_NORMS}),
}


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """``policies(name)``: the policy of a short run with these settings, trained once."""
    return trained_policies(Folder(tmp_path_factory.mktemp("runs")), SETTINGS)


def observations_of(policy: TrainedPolicy, count: int) -> np.ndarray:
    shape = policy.observation_space.shape
    assert shape is not None
    return np.random.default_rng(1).normal(0, 3, (count, *shape)).astype(np.float32)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_loop_of_ones_own_returns_what_eval_returns(name: str, policies: Any, tmp_path: Path) -> None:
    """One environment plays one episode in both: to the last bit, through every wrapper."""
    policy = policies(name)
    env = policy.make_env()
    seed = np.random.SeedSequence([derive(3, Stream.EVALUATION), Stream.ENVIRONMENT]).generate_state(1)[0]
    observation, _ = env.reset(seed=int(seed))
    total, over, steps = 0.0, False, 0
    while not over:
        assert env.observation_space.shape == np.shape(observation)
        observation, reward, terminated, truncated, _ = env.step(policy(observation))
        total, over, steps = total + float(reward), terminated or truncated, steps + 1
    result = policy.evaluate(episodes=1, seed=3)
    assert result["returns"] == [total] and result["lengths"] == [steps]


@pytest.mark.parametrize("name", SETTINGS)
def test_actions_are_of_the_space_alone_and_together(name: str, policies: Any) -> None:
    policy = policies(name)
    observations = observations_of(policy, 50)
    together = policy(observations)
    assert len(np.unique(together.reshape(50, -1), axis=0)) > 1, "a constant policy shows nothing"
    assert len(together) == 50 and all(policy.action_space.contains(action) for action in together)
    assert np.asarray(policy(observations[0])).dtype == policy.action_space.dtype
    for observation, action in zip(observations, together, strict=True):
        np.testing.assert_allclose(policy(observation), action, atol=1e-5)
    np.testing.assert_array_equal(policy(observations.reshape(50, -1)), together)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_torch_module_is_the_same_policy(name: str, policies: Any) -> None:
    policy = policies(name)
    module, observations = policy.to_torch(), observations_of(policy, 500)
    with torch.no_grad():
        action, values = module(torch.from_numpy(observations.reshape(500, -1)))
        alone, _ = module(torch.from_numpy(observations[:1].reshape(1, -1)))
    wanted = policy(observations)
    assert action.dtype == (torch.int64 if wanted.dtype.kind == "i" else torch.float32)
    np.testing.assert_allclose(action.numpy(), wanted, atol=1e-5)
    assert alone.shape == (1, *wanted.shape[1:]) and len(values) == 500
    again = GreedyPolicy(form_from_plain(form_to_plain(module.form)))
    again.load_state_dict(module.state_dict())
    torch.testing.assert_close(again(torch.ones(3, module.form.inputs)), module(torch.ones(3, module.form.inputs)))


def test_dueling_values_are_those_that_are_learned(policies: Any) -> None:
    """V + A - mean of A: the mean over the actions is the value."""
    module = policies("dueling").to_torch()
    hidden = module.network[:-1](torch.ones(2, 4))
    _, values = module(torch.ones(2, 4))
    torch.testing.assert_close(values.mean(-1, keepdim=True), module.network[-1].value(hidden[:, :32]))


def test_a_policy_worked_by_hand() -> None:
    """(3 - 1) / 2 clipped to 0.5; 2 * 0.5 + 1 = 2 and -2 become 2 and 0; 2 - 0 - 1 = 1 and 3 * 2 = 6, clipped to 4."""
    form = Form(1, (2,), "relu", False, (2,), True, 0.5, "mean", "clipped", (), (), (2,))
    module = GreedyPolicy(form)
    tensors = {
        "normalizer.mean": [1.0], "normalizer.scale": [0.5], "network.0.weight": [[2.0], [-2.0]], "network.0.bias": [1.0, -1.0],
        "network.2.weight": [[1.0, -1.0], [3.0, 5.0]], "network.2.bias": [-1.0, 0.0], "low": [-1.0, -1.0], "high": [1.5, 4.0],
    }  # fmt: skip
    module.load_state_dict({name: torch.tensor(value) for name, value in tensors.items()})
    action, mean = module(torch.tensor([[3.0]]))
    assert mean.tolist() == [[1.0, 6.0]] and action.tolist() == [[1.0, 4.0]]


def test_squashed_actions_worked_by_hand() -> None:
    """-1 + (tanh(0) + 1) * (3 - -1) / 2 = 1."""
    module = GreedyPolicy(Form(1, (1,), "tanh", False, (1,), False, None, "mean", "squashed", (), (), (1,)))
    for tensor in module.parameters():
        tensor.data.zero_()
    module.load_state_dict({"low": torch.tensor([-1.0]), "high": torch.tensor([3.0])}, strict=False)
    assert module(torch.tensor([[7.0]]))[0].tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (np.zeros(5), r"shape \(5,\); CartPole-v1 has \(4,\)"),
        (np.zeros((2, 2, 4)), "shape"),
        (0.0, "shape"),
        ([0, 0, 0, np.nan], "finite"),
        ([0, 0, 0, 1e300], "finite numbers of float32"),
        (np.array([[0, 0, 0, 0], [0, 0, -1e39, 0]]), "finite numbers of float32"),
        (["a", "b", "c", "d"], "numbers"),
    ],
)
def test_what_is_no_observation_is_refused(observation: Any, message: str, policies: Any) -> None:
    with pytest.raises(UsageError, match=message):
        policies("dqn")(observation)


def test_evaluate_is_eval(policies: Any, tmp_path: Path) -> None:
    run = Folder(tmp_path).trained(CARTPOLE)
    policy = TrainedPolicy(run, "best")
    result = evaluate_run(run, 7, 2, "best")
    assert policy.evaluate(7, 2) == {key: value for key, value in result.items() if key != "checkpoint"}
    assert (policy.checkpoint, policy.frames) == ("best.ckpt", run.manifest["best"]["frames"])
    with pytest.raises(UsageError, match="episodes=0"):
        policy.evaluate(0)


@pytest.mark.filterwarnings("ignore::UserWarning:gymnasium")
def test_the_environment_is_one_of_gymnasiums(policies: Any) -> None:
    env = policies("stacked").make_env("rgb_array")
    assert env.observation_space == policies("stacked").observation_space and env.observation_space.shape == (3, 4)
    check_env(env, skip_render_check=True)
    env.reset(seed=0)
    assert env.render().ndim == 3


def returns_through_torchrl(policy: TrainedPolicy, module: Any, make: Any) -> list[float]:
    """Ten episodes as ``rlrun eval`` plays them with seed 0: five environments, two episodes each."""
    returns = []
    for seed in np.random.SeedSequence([derive(0, Stream.EVALUATION), Stream.ENVIRONMENT]).generate_state(5):
        env = make()
        for start in ({"seed": int(seed)}, {}):
            with torch.no_grad():
                episode = env.rollout(1000, module, auto_reset=False, tensordict=env.reset(**start))
            assert episode["next", "done"][-1].item()
            returns.append(episode["next", "reward"].double().sum().item())
        env.close()
    return returns


@pytest.mark.parametrize("categorical", [False, True])
def test_torchrl_returns_what_eval_returns_with_choices(categorical: bool, policies: Any) -> None:
    from torchrl.envs import GymEnv

    policy = policies("dqn")
    module = policy.to_torchrl(categorical_action_encoding=categorical)
    assert (module.in_keys, module.out_keys) == (["observation"], ["action"])
    returns = returns_through_torchrl(
        policy, module, lambda: GymEnv("CartPole-v1", categorical_action_encoding=categorical)
    )
    assert returns == policy.evaluate(10)["returns"]


def test_torchrl_returns_what_eval_returns_with_numbers(policies: Any) -> None:
    """The module rounds otherwise than the kernels; 50 steps are too few for the simulator to make much of that."""
    from torchrl.envs import GymEnv

    policy = policies("halfcheetah")
    assert policy.to_torch().form.normalized
    returns = returns_through_torchrl(
        policy, policy.to_torchrl(), lambda: GymEnv("HalfCheetah-v5", max_episode_steps=50)
    )
    np.testing.assert_allclose(returns, policy.evaluate(10)["returns"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("categorical", [False, True])
@pytest.mark.parametrize("name", ["stacked", "unequal", "equal", "box"])
def test_torchrl_takes_the_wrapped_environment(name: str, categorical: bool, policies: Any) -> None:
    from torchrl.envs import GymWrapper

    policy = policies(name)
    env = GymWrapper(policy.make_env(), categorical_action_encoding=categorical)
    module = policy.to_torchrl(categorical)
    with torch.no_grad():
        episode = env.rollout(7, module)
        batch = module(episode.select("observation").clone())
    assert env.action_spec.is_in(episode["action"][0])
    torch.testing.assert_close(batch["action"], episode["action"])


@pytest.mark.parametrize("name", ["from_five", "choices"])
def test_torchrl_has_no_choices_that_begin_elsewhere(name: str, policies: Any) -> None:
    with pytest.raises(UnavailableError, match="numbers choices from 0"):
        policies(name).to_torchrl()

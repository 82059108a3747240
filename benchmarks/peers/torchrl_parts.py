"""TorchRL's own components, put together as its PPO tutorial and its DQN example for CartPole do, at rlrun's settings.

Where they differ: DQN collects a batch of frames, then does as many updates as rlrun does in those frames, so that its policy acts with
older weights, which is in its favour; its epsilon falls linearly; of running statistics, that of the reward is of the reward itself, not
of the discounted return; continuous actions reach HalfCheetah unclipped.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from tensordict.nn import AddStateIndependentNormalScale, NormalParamExtractor, TensorDictModule, TensorDictSequential
from torchrl.collectors import Collector
from torchrl.data import Composite, LazyTensorStorage, ReplayBuffer, SamplerWithoutReplacement, TensorDictReplayBuffer
from torchrl.envs import (
    ClipTransform,
    Compose,
    DoubleToFloat,
    GymEnv,
    ObservationNorm,
    RewardClipping,
    RewardSum,
    StepCounter,
    TransformedEnv,
    VecNormV2,
)
from torchrl.modules import (
    EGreedyModule,
    IndependentNormal,
    ProbabilisticActor,
    QValueActor,
    TanhNormal,
    ValueOperator,
)
from torchrl.objectives import ClipPPOLoss, DQNLoss, HardUpdate, SoftUpdate
from torchrl.objectives.value import GAE

from benchmarks.peers.common import Clock, Settings, learning_rate, run
from benchmarks.peers.plain_networks import mlp

FRAMES_PER_BATCH = 100
"""Of DQN's collector: what a TorchRL user would choose; its example takes 1000."""
CRITIC_LOSSES = {"mse": "l2", "smooth_l1": "smooth_l1"}
DQN_LOSSES = {"mse": "l2", "huber": "smooth_l1"}


def _raw_environment(environment: Any) -> type[Any]:
    """The class of the Gymnasium environment at the bottom."""
    return type(environment.base_env._env.unwrapped)


def dqn(settings: Settings, frames: int, seed: int, clock: Clock) -> int:
    """The components of the example ``dqn_cartpole.py``."""
    torch.manual_seed(seed)
    algo = settings["algo"]
    environment, model, greedy = _dqn_modules(settings)
    collector = Collector(
        environment,
        TensorDictSequential(model, greedy),
        frames_per_batch=FRAMES_PER_BATCH,
        total_frames=-(-frames // FRAMES_PER_BATCH) * FRAMES_PER_BATCH,
        device="cpu",
        init_random_frames=algo["learning_starts"],
    )
    memory = TensorDictReplayBuffer(
        storage=LazyTensorStorage(algo["buffer_size"], device="cpu"), batch_size=algo["batch_size"]
    )
    loss_module = DQNLoss(model, loss_function=DQN_LOSSES[algo["loss"]], delay_value=True)
    loss_module.make_value_estimator(gamma=algo["gamma"])
    target = (
        HardUpdate(loss_module, value_network_update_interval=algo["target_every"])
        if algo["tau"] == 1.0
        else SoftUpdate(loss_module, tau=algo["tau"])
    )
    optimizer = _optimizer(algo, loss_module)
    clock.watch(_raw_environment(environment))
    done = 0
    for data in collector:
        data = data.reshape(-1)
        memory.extend(data)
        done += data.numel()
        greedy.step(data.numel())
        if done >= algo["learning_starts"]:
            for _ in range(data.numel() // algo["train_every"] * algo["updates_per_train"]):
                loss = loss_module(memory.sample())["loss"]
                optimizer.zero_grad()
                loss.backward()
                if algo["clip_gradient_value"] is not None:
                    torch.nn.utils.clip_grad_value_(loss_module.parameters(), algo["clip_gradient_value"])
                optimizer.step()
                target.step()
        collector.update_policy_weights_()
    collector.shutdown()
    return done


def _dqn_modules(settings: Settings) -> tuple[TransformedEnv, QValueActor, EGreedyModule]:
    algo = settings["algo"]
    environment = TransformedEnv(GymEnv(settings["env"]["id"], device="cpu"), Compose(RewardSum(), StepCounter()))
    spec = environment.action_spec
    network = mlp(environment.observation_spec["observation"].shape[-1], settings["network"], spec.space.n)
    model = QValueActor(network, spec=Composite(action=spec), in_keys=["observation"])
    greedy = EGreedyModule(
        annealing_num_steps=algo["epsilon_frames"],
        eps_init=algo["epsilon_start"],
        eps_end=algo["epsilon_end"],
        spec=model.spec,
    )
    return environment, model, greedy


def _optimizer(algo: Settings, loss_module: DQNLoss) -> torch.optim.Optimizer:
    common = {"lr": algo["learning_rate"], "eps": algo["adam_epsilon"], "amsgrad": algo["amsgrad"]}
    if algo["optimizer"] == "adamw":
        return torch.optim.AdamW(loss_module.parameters(), weight_decay=algo["weight_decay"], **common)
    return torch.optim.Adam(loss_module.parameters(), **common)


def ppo(settings: Settings, frames: int, seed: int, clock: Clock) -> int:
    """The components of the PPO tutorial."""
    torch.manual_seed(seed)
    algo = settings["algo"]
    environment = _ppo_environment(settings)
    environment.set_seed(seed)
    policy, critic = _ppo_modules(settings, environment)
    steps = algo["rollout_steps"] * algo["num_envs"]
    iterations = -(-frames // steps)
    collector = Collector(
        environment, policy, frames_per_batch=steps, total_frames=iterations * steps, split_trajs=False, device="cpu"
    )
    memory = ReplayBuffer(storage=LazyTensorStorage(steps), sampler=SamplerWithoutReplacement())
    over_rollout = algo["normalize_advantage"] == "rollout"
    advantage = GAE(
        gamma=algo["gamma"], lmbda=algo["gae_lambda"], value_network=critic, average_gae=over_rollout, device="cpu"
    )
    loss_module = ClipPPOLoss(
        actor_network=policy,
        critic_network=critic,
        clip_epsilon=algo["clip_range"],
        entropy_bonus=bool(algo["entropy_coef"]),
        entropy_coeff=algo["entropy_coef"],
        critic_coeff=algo["critic_coef"],
        loss_critic_type=CRITIC_LOSSES[algo["critic_loss"]],
        normalize_advantage=algo["normalize_advantage"] == "minibatch",
        clip_value=algo["value_clip_range"],
    )
    optimizer = torch.optim.Adam(loss_module.parameters(), lr=algo["learning_rate"], eps=algo["adam_epsilon"])
    clock.watch(_raw_environment(environment))
    for iteration, data in enumerate(collector):
        optimizer.param_groups[0]["lr"] = learning_rate(algo, iteration / iterations)
        _ppo_epochs(algo, data, advantage, memory, loss_module, optimizer)
        collector.update_policy_weights_()
    collector.shutdown()
    return iterations * steps


def _ppo_epochs(
    algo: Settings,
    data: Any,
    advantage: GAE,
    memory: ReplayBuffer,
    loss_module: ClipPPOLoss,
    optimizer: torch.optim.Optimizer,
) -> None:
    for epoch in range(algo["epochs"]):
        if epoch == 0 or algo["recompute_advantage"]:
            advantage(data)
        memory.extend(data.reshape(-1))
        for _ in range(data.numel() // algo["minibatch_size"]):
            losses = loss_module(memory.sample(algo["minibatch_size"]))
            loss = losses["loss_objective"] + losses["loss_critic"]
            if loss_module.entropy_bonus:
                loss = loss + losses["loss_entropy"]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(loss_module.parameters(), algo["max_gradient_norm"])
            optimizer.step()
            optimizer.zero_grad()


def _ppo_environment(settings: Settings) -> TransformedEnv:
    env, transforms = settings["env"], []
    if env["observation_norm"] == "initial":
        transforms.append(ObservationNorm(in_keys=["observation"]))
    if env["observation_norm"] == "running":
        keys = ["observation", "reward"] if env["reward_norm"] else ["observation"]
        transforms.append(VecNormV2(in_keys=keys, decay=1.0))
        transforms.append(
            ClipTransform(in_keys=["observation"], low=-env["observation_clip"], high=env["observation_clip"])
        )
    if env["reward_norm"]:
        transforms.append(RewardClipping(-env["reward_clip"], env["reward_clip"]))
    transforms += [DoubleToFloat(), StepCounter(max_steps=env["time_limit"])]
    environment = TransformedEnv(GymEnv(env["id"], device="cpu"), Compose(*transforms))
    if env["observation_norm"] == "initial":
        environment.transform[0].init_stats(num_iter=env["observation_norm_steps"], reduce_dim=0, cat_dim=0)
    return environment


def _ppo_modules(settings: Settings, environment: TransformedEnv) -> tuple[ProbabilisticActor, ValueOperator]:
    algo, network, spec = settings["algo"], settings["network"], environment.action_spec
    inputs, actions = environment.observation_spec["observation"].shape[-1], spec.shape[-1]
    if algo["state_dependent_std"]:
        layers = [mlp(inputs, network, 2 * actions, gain=0.01), NormalParamExtractor()]
    else:
        layers = [mlp(inputs, network, actions, gain=0.01), AddStateIndependentNormalScale(actions)]
    squash = algo["distribution"] == "tanh_normal"
    actor = ProbabilisticActor(
        TensorDictModule(torch.nn.Sequential(*layers), in_keys=["observation"], out_keys=["loc", "scale"]),
        spec=spec,
        in_keys=["loc", "scale"],
        distribution_class=TanhNormal if squash else IndependentNormal,
        distribution_kwargs={"low": spec.space.low, "high": spec.space.high} if squash else {},
        return_log_prob=True,
    )
    return actor, ValueOperator(mlp(inputs, network, 1), in_keys=["observation"])


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    run({"dqn_tutorial": dqn, "dqn_cleanrl": dqn, "ppo_halfcheetah": ppo, "ppo_pendulum": ppo})

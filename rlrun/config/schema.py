"""Every setting of a run, once: name, type, default, meaning, limits. ``rlrun configs GROUP`` prints this page.

Settings marked ``per_agent`` may differ between the members of one population; all others are its signature.
Frames are steps of the simulator: with ``env.frame_skip=4`` one step of the agent is 4 frames.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rlrun.config.settings import setting

SCHEDULES = ("constant", "linear", "cosine")
LOGGERS = ("tensorboard", "wandb", "mlflow")


@dataclass(frozen=True)
class DQNConfig:
    """Deep Q-network (Mnih et al. 2015) with Double, Dueling and n-step as switches."""

    name: str = setting("dqn", "Algorithm.", choices=("dqn",))
    num_envs: int = setting(1, "Environments an agent steps in turn.", low=1, high=4096)
    learning_rate: float = setting(1e-4, "Step size of the optimizer.", above=0, high=10, per_agent=True)
    learning_rate_schedule: str = setting(
        "constant", "Course of the learning rate over total_frames.", choices=SCHEDULES
    )
    optimizer: str = setting("adamw", "Optimizer.", choices=("adam", "adamw"))
    amsgrad: bool = setting(True, "Use the AMSGrad variant of the optimizer.")
    adam_epsilon: float = setting(1e-8, "Term added to the optimizer's denominator.", above=0, high=1)
    weight_decay: float = setting(0.01, "Decoupled weight decay; only adamw uses it.", low=0, high=10, per_agent=True)
    gamma: float = setting(0.99, "Discount factor.", low=0, high=1, per_agent=True)
    batch_size: int = setting(128, "Transitions in one update.", low=1, unit="transitions")
    buffer_size: int = setting(10_000, "Capacity of the replay memory.", low=1, unit="transitions")
    learning_starts: int = setting(128, "Transitions collected before the first update.", low=0, unit="transitions")
    train_every: int = setting(1, "Transitions collected between two updates.", low=1, unit="transitions")
    updates_per_train: int = setting(1, "Gradient updates each time it trains.", low=1, unit="updates")
    tau: float = setting(
        0.005, "Share of the online network in a target update; 1 copies it.", above=0, high=1, per_agent=True
    )
    target_every: int = setting(1, "Gradient updates between two target updates.", low=1, unit="updates")
    epsilon_start: float = setting(0.9, "Chance of a random action at the start.", low=0, high=1, per_agent=True)
    epsilon_end: float = setting(0.05, "Chance of a random action at the end.", low=0, high=1, per_agent=True)
    epsilon_schedule: str = setting("exponential", "Course of epsilon.", choices=("exponential", "linear"))
    epsilon_frames: int = setting(
        1000,
        "Exponential: frames in which epsilon's excess falls to 1/e. Linear: frames until the end.",
        low=1,
        unit="frames",
        per_agent=True,
    )
    loss: str = setting("huber", "Loss of the temporal-difference error.", choices=("huber", "mse"))
    clip_gradient_value: float | None = setting(100.0, "Clip every gradient to [-x, x].", above=0, per_agent=True)
    max_gradient_norm: float | None = setting(None, "Scale the gradient down to this norm.", above=0, per_agent=True)
    double: bool = setting(
        False, "Double DQN: the online network chooses, the target network values (van Hasselt et al. 2016)."
    )
    dueling: bool = setting(False, "Dueling streams for value and advantage (Wang et al. 2016).")
    n_step: int = setting(1, "Rewards summed before bootstrapping.", low=1, high=1000, unit="steps")


@dataclass(frozen=True)
class PPOConfig:
    """Proximal policy optimisation with a clipped objective (Schulman et al. 2017)."""

    name: str = setting("ppo", "Algorithm.", choices=("ppo",))
    num_envs: int = setting(1, "Environments an agent steps in turn.", low=1, high=4096)
    rollout_steps: int = setting(2048, "Steps in each environment between two updates.", low=1, unit="steps")
    minibatch_size: int = setting(64, "Transitions in one gradient step.", low=1, unit="transitions")
    drop_last: bool = setting(False, "Leave out the transitions of an epoch that do not fill a minibatch.")
    epochs: int = setting(10, "Passes over a rollout.", low=1)
    learning_rate: float = setting(3e-4, "Step size of Adam.", above=0, high=10, per_agent=True)
    learning_rate_schedule: str = setting("linear", "Course of the learning rate over total_frames.", choices=SCHEDULES)
    adam_epsilon: float = setting(1e-5, "Term added to Adam's denominator.", above=0, high=1)
    gamma: float = setting(0.99, "Discount factor.", low=0, high=1, per_agent=True)
    gae_lambda: float = setting(0.95, "Trace decay of generalised advantage estimation.", low=0, high=1, per_agent=True)
    clip_range: float = setting(
        0.2, "Furthest the probability ratio may move from 1.", above=0, high=10, per_agent=True
    )
    clip_range_schedule: str = setting("constant", "Course of clip_range over total_frames.", choices=SCHEDULES)
    value_clip_range: float | None = setting(
        None, "Furthest a value may move from the old one in the loss.", above=0, per_agent=True
    )
    normalize_advantage: str = setting(
        "minibatch", "Over what advantages are normalised.", choices=("none", "minibatch", "rollout")
    )
    recompute_advantage: bool = setting(False, "Compute advantages anew before each epoch.")
    entropy_coef: float = setting(0.0, "Weight of the entropy bonus.", low=0, high=100, per_agent=True)
    critic_coef: float = setting(0.5, "Weight of the critic's loss.", low=0, high=100, per_agent=True)
    critic_loss: str = setting("mse", "Loss of the critic.", choices=("mse", "smooth_l1"))
    max_gradient_norm: float | None = setting(0.5, "Scale the gradient down to this norm.", above=0, per_agent=True)
    target_kl: float | None = setting(
        None, "End the epochs once the policy has moved this far (KL).", above=0, per_agent=True
    )
    distribution: str = setting(
        "gaussian",
        "Policy for continuous actions: clipped to the bounds, or squashed into them.",
        choices=("gaussian", "tanh_normal"),
    )
    state_dependent_std: bool = setting(False, "The network gives the standard deviation; else it is a free parameter.")
    initial_log_std: float = setting(0.0, "Start of the free log standard deviation.", low=-20, high=2)


@dataclass(frozen=True)
class EnvConfig:
    """A Gymnasium environment and what is wrapped around it."""

    name: str = setting("", "Short name, used for run directories and to find tuned settings.")
    id: str = setting("CartPole-v1", "Gymnasium id, with its version.")
    kwargs: dict[str, Any] = setting({}, "Keyword arguments of the environment.")
    frame_skip: int = setting(1, "Simulator steps an action is repeated for.", low=1, high=1000, unit="frames")
    frame_stack: int = setting(1, "Newest observations seen together.", low=1, high=1000)
    time_limit: int | None = setting(
        None, "Steps of the agent before an episode is truncated; null: as registered.", low=1, unit="steps"
    )
    step_timeout: float | None = setting(
        60.0,
        "The longest that a step or reset may take before the run ends; null: wait for ever.",
        above=0,
        high=10**9,
        unit="seconds",
    )
    observation_norm: str = setting(
        "none",
        "Normalise observations: never, by statistics of random steps at the start, or by running statistics.",
        choices=("none", "initial", "running"),
    )
    observation_norm_steps: int = setting(
        0, "Random steps at the start that the statistics begin with.", low=0, unit="steps"
    )
    observation_clip: float | None = setting(10.0, "Clip normalised observations to [-x, x].", above=0)
    reward_norm: bool = setting(False, "Divide rewards by the running standard deviation of the discounted return.")
    reward_scale: float = setting(1.0, "Factor on the reward.", above=0)
    reward_clip: float | None = setting(None, "Clip rewards to [-x, x], after scaling and normalising.", above=0)


@dataclass(frozen=True)
class NetworkConfig:
    """The network of every Q-function, policy and critic."""

    name: str = setting("mlp", "Kind of network.", choices=("mlp",))
    hidden: tuple[int, ...] = setting((64, 64), "Width of each hidden layer.", low=1, high=65536)
    activation: str = setting("tanh", "Activation between layers.", choices=("tanh", "relu"))
    init: str = setting(
        "orthogonal",
        "Initial weights: orthogonal with PPO's gains, or as torch.nn.Linear.",
        choices=("orthogonal", "torch"),
    )
    layer_norm: bool = setting(
        False, "Normalise each hidden layer before its activation (trains on the plain PyTorch path)."
    )


@dataclass(frozen=True)
class HardwareConfig:
    """Where and how it computes."""

    device: str = setting("auto", "cpu, cuda, cuda:N, or auto: cuda for wide networks where there is one, else cpu.")
    threads: int = setting(1, "Threads of one run; 1 is fastest for small networks.", low=1, high=1024)
    deterministic: bool = setting(True, "On CUDA, use only kernels that give the same bits again.")
    kernels: str = setting(
        "auto",
        "auto: NumPy kernels for MLPs on the CPU, helped by C where there is a compiler, and PyTorch elsewhere; "
        "numpy: without the help, with the same bits; plain: PyTorch always.",
        choices=("auto", "numpy", "plain"),
    )


@dataclass(frozen=True)
class CheckpointConfig:
    """What is saved."""

    every_frames: int = setting(100_000, "Frames between two checkpoints; 0: not by frames.", low=0, unit="frames")
    every_seconds: float | None = setting(
        300.0,
        "Seconds after which there is one in any case: the most a kill can cost; null: never.",
        above=0,
        unit="seconds",
    )
    keep: int = setting(
        2, "Newest checkpoints kept besides the best; with 1 there is none to fall back to.", low=1, high=1000
    )


@dataclass(frozen=True)
class EvaluationConfig:
    """Greedy episodes in fresh environments during training."""

    every_frames: int = setting(10_000, "Frames between two evaluations; 0: only at the end.", low=0, unit="frames")
    episodes: int = setting(10, "Episodes of an evaluation; 0: never evaluate.", low=0, high=100_000)
    video: bool = setting(
        False,
        "At each evaluation film up to ten seconds of an episode into the run's videos/, of every run of a population. "
        "Training waits for it, and is the same to the bit.",
    )


@dataclass(frozen=True)
class LoggingConfig:
    """Metric rows."""

    every_frames: int = setting(1000, "Frames between two rows of metrics.jsonl.", low=1, unit="frames")
    project: str | None = setting(
        None, "W&B project and MLflow experiment; null: as those tools' variables say, else rlrun."
    )


@dataclass(frozen=True)
class StopConfig:
    """Reasons to stop before total_frames."""

    return_: float | None = setting(None, "Stop once an evaluation's mean return reaches this.")
    episodes: int | None = setting(None, "Stop after this many training episodes.", low=1)
    seconds: float | None = setting(None, "Stop after this much wall-clock time.", above=0, unit="seconds")


@dataclass(frozen=True)
class PlotConfig:
    """Pictures drawn when the run, or the sweep it is in, has finished. ``rlrun plot`` draws them at any time."""

    figures: str = setting(
        "auto",
        "Which figures to draw: all that there is data for, none, or the one of the DQN or of the PPO tutorial alone.",
        choices=("auto", "none", "dqn", "ppo"),
    )


@dataclass(frozen=True)
class SweepConfig:
    """How the jobs of a sweep (-m) share this machine. Changes no result where the NumPy kernels train; on the plain PyTorch
    path and on CUDA ``batch`` may change bits. Means nothing to a single run."""

    batch: int | None = setting(
        None, "Most runs trained together in one process; null: as many as is fastest and fits.", low=1, high=100_000
    )
    workers: int | None = setting(
        None, "Processes at a time; null: one for every hardware.threads cores, one on CUDA.", low=1, high=1024
    )
    max_jobs: int = setting(
        10_000, "Most jobs a sweep may have, so that a typing error does not start millions.", low=1
    )


AlgoConfig = DQNConfig | PPOConfig
ALGORITHMS: dict[str, type[DQNConfig] | type[PPOConfig]] = {"dqn": DQNConfig, "ppo": PPOConfig}


@dataclass(frozen=True)
class RunConfig:
    """One run of one agent."""

    engine: str = setting(
        "rlrun",
        "What trains: rlrun's own engine, or TorchRL's parts as a reference for it.",
        choices=("rlrun", "torchrl"),
    )
    seed: int = setting(0, "Seed of everything random in the run.", low=0, high=2**32 - 1, per_agent=True)
    device: str = setting("auto", "cpu, cuda, cuda:N or auto; typed, it wins over the hardware group.")
    name: str = setting("", "Name of the run, used in its directory.", per_agent=True)
    total_frames: int = setting(50_000, "Frames to train for.", low=1, high=10**15, unit="frames")
    outputs: str = setting("outputs", "Folder that runs go to.")
    logger: tuple[str, ...] = setting(
        (), "Tools that get the metrics as well: one, or several as in [tensorboard,wandb].", choices=LOGGERS
    )
    algo: AlgoConfig = field(default_factory=DQNConfig)
    env: EnvConfig = field(default_factory=EnvConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    stop: StopConfig = field(default_factory=StopConfig)
    plot: PlotConfig = field(default_factory=PlotConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)

"""The runs that storms fall upon: short, and unlike each other, so that every part of a run's state matters in one of them."""

from __future__ import annotations

from benchmarks.reliability.contract import Case

EVERYWHERE = ("-q", "plot.figures=none", "tuned=none", "evaluation.episodes=1", "network.hidden=[32,32]")
SHORT_DQN = (
    "algo=dqn",
    "algo.buffer_size=400",
    "algo.batch_size=32",
    "algo.learning_starts=60",
    "algo.epsilon_frames=300",
)
SHORT_PPO = ("algo=ppo", "algo.minibatch_size=32", "algo.epochs=3")
NORMS = ("env.observation_norm=running", "env.reward_norm=true", "env.reward_clip=5")


def _case(name: str, frames: int, saved_every: int, *settings: str, members: int = 1) -> Case:
    """Evaluations and rows fall on other frames than checkpoints, which are close together: kills must fall into saves."""
    cadence = (
        f"total_frames={frames}",
        f"checkpoint.every_frames={saved_every}",
        f"evaluation.every_frames={frames // 3}",
        f"logging.every_frames={saved_every * 3 // 2}",
    )
    return Case(name, (*EVERYWHERE, *settings, *cadence), members)


DQN = (
    _case("dqn_cartpole", 4000, 100, *SHORT_DQN, "env=cartpole"),
    _case("dqn_n_step", 3000, 100, *SHORT_DQN, "env=cartpole", "algo.n_step=3", "algo.num_envs=2", "env.frame_stack=3"),
    _case(
        "dqn_dueling", 3000, 130, *SHORT_DQN, "env=acrobot", "algo.double=true", "algo.dueling=true", "env.frame_skip=2"
    ),
    # So large that each save writes only what is new.
    _case(
        "dqn_pieces",
        3000,
        100,
        *SHORT_DQN[:1],
        "algo.buffer_size=100000",
        *SHORT_DQN[2:],
        "env=cartpole",
        "algo.n_step=2",
    ),
    _case("dqn_norm", 2500, 90, *SHORT_DQN, "env=mountaincar", "env.observation_norm=running", "env.time_limit=120"),
)
PPO = (
    _case("ppo_cartpole", 12800, 256, *SHORT_PPO, "env=cartpole", "algo.num_envs=4", "algo.rollout_steps=32"),
    _case("ppo_pendulum", 6400, 128, *SHORT_PPO, "env=pendulum", "algo.rollout_steps=64", *NORMS),
    _case("ppo_mountaincar", 6400, 128, *SHORT_PPO, "env=mountaincar", "algo.rollout_steps=128", "env.frame_stack=2"),
    _case("ppo_double_pendulum", 6400, 128, *SHORT_PPO, "env=inverted_double_pendulum", "algo.rollout_steps=64", *NORMS),
    _case(
        "ppo_halfcheetah", 3200, 128, *SHORT_PPO, "env=halfcheetah", "algo.rollout_steps=64", "env.time_limit=90",
        "env.frame_skip=2",
    ),
    _case("ppo_ant", 1920, 128, *SHORT_PPO, "env=ant", "algo.num_envs=2", "algo.rollout_steps=32", "env.time_limit=70", *NORMS),
)  # fmt: skip
POPULATION = (
    _case(
        "population_dqn", 1500, 100, "-m", *SHORT_DQN, "env=cartpole", "seed=range(8)", "sweep.batch=8", "sweep.workers=1",
        members=8,
    ),
    _case(
        "population_ppo", 3200, 256, "-m", *SHORT_PPO, "env=pendulum", "algo.rollout_steps=64", *NORMS, "seed=range(8)",
        "sweep.batch=8", "sweep.workers=1", members=8,
    ),
)  # fmt: skip
SWEEP = (
    _case(
        "sweep_dqn", 1500, 100, "-m", *SHORT_DQN, "env=cartpole", "algo.n_step=2", "seed=range(6)", "sweep.batch=2",
        "sweep.workers=2", members=6,
    ),
    _case(
        "sweep_ppo", 3200, 256, "-m", *SHORT_PPO, "env=hopper", "algo.rollout_steps=64", "env.time_limit=80", "seed=range(4)",
        "sweep.batch=2", "sweep.workers=2", members=4,
    ),
)  # fmt: skip
ABLATED = (
    _case(
        "dqn", 400, 50, *SHORT_DQN, "env=cartpole", "algo.n_step=3", "algo.num_envs=2", "env.frame_stack=2",
        "env.observation_norm=running", "checkpoint.keep=1000",
    ),
    _case(
        "ppo", 512, 64, *SHORT_PPO, "env=pendulum", "env.time_limit=60", "algo.num_envs=2", "algo.rollout_steps=16",
        "env.frame_stack=2", *NORMS, "checkpoint.keep=1000",
    ),
    _case("ppo_ant", 256, 32, *SHORT_PPO, "env=ant", "algo.rollout_steps=32", "checkpoint.keep=1000"),
)  # fmt: skip


def tiny() -> Case:
    """A run of three saves, for storms that try each of its calls to the disk."""
    return _case("tiny", 300, 100, *SHORT_DQN, "env=cartpole", "checkpoint.keep=2")

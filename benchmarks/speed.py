"""Environment steps per second of rlrun and Stable-Baselines3 at the same settings, interleaved, one thread each.

rlrun runs as users run it, through its command line with logging and checkpoints on; both sides train without evaluation. The figure of
a repetition is frames / seconds of the training loop (rlrun's without the time of saving checkpoints: one, at the end); the ratio is the
median over repetitions of rlrun's figure / the peer's beside it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Case:
    """One piece of work: overrides for rlrun, and the name of the same settings in ``peers.py``."""

    overrides: tuple[str, ...]
    peer: str
    frames: int


HALFCHEETAH = (
    "algo=ppo env=halfcheetah algo.num_envs=1 algo.rollout_steps=2048 algo.minibatch_size=64 algo.epochs=10 algo.learning_rate=3e-4 "
    "algo.learning_rate_schedule=linear algo.gamma=0.99 algo.gae_lambda=0.95 algo.clip_range=0.2 algo.critic_coef=0.5 "
    "algo.entropy_coef=0.0 algo.max_gradient_norm=0.5 algo.value_clip_range=null algo.recompute_advantage=false "
    "algo.normalize_advantage=minibatch network.hidden=[64,64] network.activation=tanh env.observation_norm=running env.reward_norm=true"
)
CASES = {
    "dqn_tutorial": Case(("experiment=tutorial_dqn", "stop.episodes=null"), "dqn_tutorial", 15_000),
    "dqn_tutorial_plain": Case(
        ("experiment=tutorial_dqn", "stop.episodes=null", "hardware.kernels=plain"), "dqn_tutorial", 8_000
    ),
    "ppo_halfcheetah": Case(tuple(HALFCHEETAH.split()), "ppo_halfcheetah", 40_960),
}


@dataclass(frozen=True)
class Sample:
    """One run of one side."""

    frames_per_second: float
    wall_seconds: float
    peak_mb: float


def run(names: list[str], repeats: int) -> None:
    """Measure the cases, print a table, and store it in ``benchmarks/results/speed.{json,md}``."""
    stored = {}
    lines = [
        "| case | rlrun steps/s | SB3 steps/s | ratio (median, range) | whole command, s | peak MB |",
        "|---|---|---|---|---|---|",
    ]
    for name in names:
        case = CASES[name]
        pairs = []
        for repeat in range(repeats):
            pairs.append((measure_rlrun(case, repeat), measure_peer(case, repeat)))
            ours, theirs = pairs[-1]
            print(
                f"{name} {repeat + 1}/{repeats}: {ours.frames_per_second:.0f} against {theirs.frames_per_second:.0f}",
                flush=True,
            )
        stored[name] = {"case": asdict(case), "pairs": [[asdict(ours), asdict(theirs)] for ours, theirs in pairs]}
        lines.append(row(name, pairs))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "speed.json").write_text(json.dumps(stored, indent=1) + "\n")
    (RESULTS / "speed.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def row(name: str, pairs: list[tuple[Sample, Sample]]) -> str:
    """One line of the table."""
    ratios = [ours.frames_per_second / theirs.frames_per_second for ours, theirs in pairs]

    def median(side: int, field: str) -> float:
        return statistics.median(getattr(pair[side], field) for pair in pairs)

    return (
        f"| {name} | {median(0, 'frames_per_second'):,.0f} | {median(1, 'frames_per_second'):,.0f} "
        f"| **{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f}) "
        f"| {median(0, 'wall_seconds'):.1f} / {median(1, 'wall_seconds'):.1f} | {median(0, 'peak_mb'):.0f} / {median(1, 'peak_mb'):.0f} |"
    )


def measure_rlrun(case: Case, seed: int) -> Sample:
    """One run of the command line; the figure comes from its run.json."""
    with tempfile.TemporaryDirectory() as outputs:
        common = [
            f"total_frames={case.frames}",
            f"seed={seed}",
            f"outputs={outputs}",
            "evaluation.episodes=0",
            "plot.figures=none",
        ]
        command = [sys.executable, "-m", "rlrun", "-q", *case.overrides, *common, "device=cpu"]
        _, seconds, peak = child(command)
        manifest = json.loads(next(Path(outputs).glob("*/*/run.json")).read_text())
    return Sample(manifest["frames_per_second"], seconds, peak)


def measure_peer(case: Case, seed: int) -> Sample:
    """One run of Stable-Baselines3 in a child process."""
    output, seconds, peak = child([sys.executable, "-m", "benchmarks.peers", case.peer, str(case.frames), str(seed)])
    return Sample(json.loads(output)["frames_per_second"], seconds, peak)


def child(command: list[str]) -> tuple[str, float, float]:
    """Output, wall-clock seconds and peak resident memory in MB of a child process."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | ONE_THREAD, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with exit code {process.returncode}")
    return output, time.perf_counter() - started, usage.ru_maxrss / 1024

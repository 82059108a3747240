"""What rlrun's settings learn: many seeds each, greedy evaluation of the last weights over 100 fresh episodes, IQM and interval.

Runs go through the command line, as users start them; the interval is a 95 % percentile bootstrap over seeds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
EPISODES = 100
EVALUATION_SEED = 20_001


@dataclass(frozen=True)
class Case:
    """Overrides of a run and the number of seeds, starting from ``first_seed`` so that they are not those a setting was tuned on."""

    overrides: tuple[str, ...]
    seeds: int
    first_seed: int = 1000


CASES = {
    "dqn_cartpole": Case(("algo=dqn", "env=cartpole"), 10),
    "ppo_cartpole": Case(("algo=ppo", "env=cartpole"), 10),
    "ppo_inverted_double_pendulum": Case(("algo=ppo", "env=inverted_double_pendulum"), 5),
    "tutorial_dqn": Case(("experiment=tutorial_dqn",), 5),
    "tutorial_ppo": Case(("experiment=tutorial_ppo",), 5),
}


def run(names: list[str]) -> None:
    """Train and evaluate the cases, print a table, and store each in ``benchmarks/results/learning_<case>.json``."""
    print(
        "| case | seeds | last weights: IQM [95 % interval] | of each seed | best weights: IQM | last 100 training episodes |"
    )
    print("|---|---|---|---|---|---|")
    RESULTS.mkdir(exist_ok=True)
    for name in names:
        result = measure(CASES[name])
        (RESULTS / f"learning_{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(row(name, result), flush=True)


def row(name: str, result: dict[str, Any]) -> str:
    """One line of the table."""
    last, best = result["last"], result["best"]
    of_seeds, tails = (
        " ".join(f"{value:.0f}" for value in values) for values in (last["returns"], result["training_tail"])
    )
    low, high = last["interval"]
    return (
        f"| {name} | {len(result['seeds'])} | **{last['iqm']:.1f}** [{low:.1f}, {high:.1f}] | {of_seeds} "
        f"| {best['iqm']:.1f} | {tails} |"
    )


def measure(case: Case) -> dict[str, Any]:
    """Train one run a seed and evaluate its last and its best weights."""
    with tempfile.TemporaryDirectory() as outputs:
        seeds = range(case.first_seed, case.first_seed + case.seeds)
        rlrun("-q", "-m", *case.overrides, f"seed={','.join(map(str, seeds))}", f"outputs={outputs}")
        directories = sorted(path.parent for path in Path(outputs).glob("sweeps/*/*/run.json"))
        runs = [json.loads((directory / "run.json").read_text()) for directory in directories]
        return {
            "overrides": case.overrides,
            "seeds": [run["seed"] for run in runs],
            "frames": [run["frames"] for run in runs],
            "frames_per_second": [run["frames_per_second"] for run in runs],
            "last": evaluated(directories, "last"),
            "best": evaluated(directories, "best"),
            "training_tail": [last_training_returns(directory) for directory in directories],
            "versions": runs[0]["versions"],
        }


def evaluated(directories: list[Path], checkpoint: str) -> dict[str, Any]:
    """Mean return of each run over fresh episodes, with IQM and interval over the runs."""
    fixed = [f"--episodes={EPISODES}", f"--seed={EVALUATION_SEED}", f"--checkpoint={checkpoint}", "--json"]
    returns = np.array([json.loads(rlrun("eval", str(directory), *fixed))["return_mean"] for directory in directories])
    return {"returns": returns.tolist(), "iqm": iqm(returns), "interval": interval(returns)}


def last_training_returns(directory: Path) -> float:
    """Mean return of the last 100 training episodes."""
    rows = (directory / "episodes.csv").read_text().splitlines()[1:]
    return float(np.mean([float(row.split(",")[2]) for row in rows[-100:]]))


def iqm(values: np.ndarray[Any, Any]) -> float:
    """Interquartile mean (Agarwal et al. 2021)."""
    quarter = len(values) // 4
    return float(np.sort(values)[quarter : len(values) - quarter].mean())


def interval(values: np.ndarray[Any, Any], resamples: int = 10_000) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the IQM."""
    random = np.random.default_rng(0)
    means = [iqm(random.choice(values, len(values))) for _ in range(resamples)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def rlrun(*arguments: str) -> str:
    """Run the command line and return what it prints."""
    return subprocess.run(
        [sys.executable, "-m", "rlrun", *arguments], check=True, stdout=subprocess.PIPE, text=True
    ).stdout

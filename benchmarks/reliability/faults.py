"""Runs that break at a random step: environments that fail in each way, divergence, and sweeps in which some jobs die.

The exit code and the one line must be right, the newest checkpoint finite, and all others what they would have been.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reliability.cases import EVERYWHERE, SHORT_DQN, SHORT_PPO
from benchmarks.reliability.contract import fingerprint, rlrun, runs_in
from benchmarks.reliability.probes import FAULTS, install
from benchmarks.reliability.report import Row
from rlrun.checkpoint import load
from rlrun.run import Run

RUNS = 100
ONE_SWEEP_IN = 10
_CADENCE = (
    "checkpoint.every_frames=64",
    "evaluation.every_frames=150",
    "logging.every_frames=100",
    "total_frames=2000",
)
_ALGORITHMS = {"dqn": SHORT_DQN, "ppo": (*SHORT_PPO, "algo.rollout_steps=64")}
_SWEPT = ("none", "nan_reward", "raise", "abort")
_SEEDS = (1, 2, 3)


def storm(runs: int, seed: int) -> list[Row]:
    """``runs`` single runs that break, and a tenth as many sweeps of twelve jobs, nine of which do."""
    chance = random.Random(seed)
    environment, diverged, sweeps = Row("environment fails"), Row("diverges"), Row("sweep of 12 jobs, 9 of which fail")
    with tempfile.TemporaryDirectory(prefix="rlrun-storm-") as place:
        site, folder = Path(place, "site"), Path(place, "run")
        install(site)
        for number in range(runs):
            folder.mkdir()
            algo = chance.choice(list(_ALGORITHMS))
            if number % 4 == 3:
                diverged.add(*broken([*settings_of(algo), *_diverging(algo, chance)], 6, folder, site))
            else:
                how, at = chance.choice([fault for fault in FAULTS if fault != "abort"]), chance.randint(100, 600)
                fault = ["env.id=Faulty-v0", f"env.kwargs.how={how}", f"env.kwargs.at={at}"]
                environment.add(*broken([*settings_of(algo), *fault], 5 if how == "memory" else 7, folder, site))
            shutil.rmtree(folder)
        for _ in range(-(-runs // ONE_SWEEP_IN)):
            folder.mkdir()
            sweeps.add(*swept(chance.choice(list(_ALGORITHMS)), chance.randint(100, 600), folder, site))
            shutil.rmtree(folder)
    return [environment, diverged, sweeps]


def settings_of(algo: str) -> list[str]:
    return [*EVERYWHERE, *_ALGORITHMS[algo], *_CADENCE]


def _diverging(algo: str, chance: random.Random) -> list[str]:
    """Settings that leave the finite numbers, sooner or later."""
    if algo == "ppo":
        return ["env=cartpole", f"env.reward_scale=1e{chance.randint(20, 30)}"]
    # AdamW multiplies every weight by 1 - learning rate x decay.
    return [
        "env=cartpole",
        f"algo.learning_rate={chance.uniform(0.25, 10):.3f}",
        "algo.weight_decay=10",
        "algo.loss=mse",
    ]


def broken(settings: list[str], code: int, folder: Path, site: Path) -> list[str]:
    """Train until it breaks; returns what is wrong with how it did."""
    ended = rlrun(settings, folder, site=site)
    problems = []
    if ended.code != code or len(ended.errors) != 1 or not ended.errors[0].startswith("rlrun: error: "):
        problems.append(f"{' '.join(settings[-3:])}: exit {ended.code} instead of {code}: {ended.err}")
    (directory,) = runs_in(folder)
    run = Run.open(directory)
    if run.manifest["status"] != "failed" or not run.manifest["failure"]:
        problems.append(f"run.json: {run.manifest['status']}, {run.manifest['failure']}")
    return problems + infinities(directory)


def infinities(directory: Path) -> list[str]:
    """Numbers of a run's checkpoints that are not finite: weights, moments, normalisers."""
    found = []
    for path in sorted(directory.glob("checkpoints/*.ckpt")):
        training = load(path)[1]["training"]
        parts = {
            name: training[name] for name in training if name.endswith("_AP") or "norm" in name or name == "optimizer"
        }
        if not all(np.isfinite(array).all() for array in _arrays(parts)):
            found.append(f"{path.name} is not finite")
    return found


def _arrays(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _arrays(item)


def swept(algo: str, at: int, folder: Path, site: Path) -> list[str]:
    """A sweep of four environments, three of which fail, by three seeds; then what a resume makes of it."""
    kwargs = f"env.kwargs.how={','.join(_SWEPT)}"
    seeds = f"seed={','.join(map(str, _SEEDS))}"
    settings = [*settings_of(algo), "env.id=Faulty-v0", f"env.kwargs.at={at}"]
    ended = rlrun(["-m", *settings, kwargs, seeds, "sweep.batch=3", "sweep.workers=2"], folder, site=site)
    problems = [] if ended.code == 9 and "Traceback" not in ended.err else [f"exit {ended.code}: {ended.err}"]
    alone = folder / "alone"
    alone.mkdir()
    for seed in _SEEDS:
        rlrun([*settings, "env.kwargs.how=none", f"seed={seed}"], alone, site=site)
    expected = [fingerprint(directory) for directory in runs_in(alone)]
    problems += _compared(folder, expected)
    (sweep,) = (path.parent for path in folder.glob("outputs/sweeps/*/sweep.json"))
    again = rlrun(["resume", "-q", str(sweep)], folder, site=site)
    if again.code != 9:
        problems.append(f"resumed: exit {again.code}: {again.err}")
    return problems + [f"resumed: {line}" for line in _compared(folder, expected)]


def _compared(folder: Path, expected: list[dict[str, str]]) -> list[str]:
    """What is wrong with the twelve: whom nothing ails must be finished, and as if alone."""
    runs = [Run.open(directory) for directory in runs_in(folder) if "alone" not in directory.parts]
    sound = [run for run in runs if run.config.env.kwargs["how"] == "none"]
    problems = [] if len(runs) == len(_SWEPT) * len(_SEEDS) else [f"{len(runs)} runs"]
    for run in runs:
        wanted = "finished" if run in sound else "failed"
        if run.manifest["status"] != wanted:
            problems.append(f"{run.directory.name} ({run.config.env.kwargs['how']}): {run.manifest['status']}")
        problems += infinities(run.directory)
    return problems if [fingerprint(run.directory) for run in sound] == expected else [*problems, "others changed"]

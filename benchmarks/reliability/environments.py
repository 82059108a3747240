"""Every shipped environment, bare and wrapped: trained, continued in a new process in the middle of an episode, and held
against the run that was trained in one go. And environments that hide some of their state: they must be found out.
"""

from __future__ import annotations

import json
import random
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.children import ROOT
from benchmarks.reliability.contract import fingerprint, rlrun, runs_in
from benchmarks.reliability.probes import HIDDEN, install
from benchmarks.reliability.report import Row
from rlrun import envs
from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.config import EnvConfig

RUNS = 1000  # more than there are: every environment in each way
SHIPPED = {
    path.stem: yaml.safe_load(path.read_text())["id"]
    for path in sorted((ROOT / "configs" / "env").glob("*.yaml"))
    if path.stem != "gymnasium"  # which names none
}
WRAPPED = ("env.frame_stack=3", "env.observation_norm=running", "env.time_limit=77", "env.frame_skip=2")
FRAMES = 640  # where it stops and goes on; twice as many in all
_FIXED = (
    "tuned=none",
    "network.hidden=[16,16]",
    "evaluation.episodes=0",
    "logging.every_frames=100",
    "checkpoint.every_frames=0",
)
_SHORT = {
    "dqn": ("algo.buffer_size=500", "algo.batch_size=16", "algo.learning_starts=50", "algo.train_every=4"),
    "ppo": ("algo.rollout_steps=64", "algo.minibatch_size=32", "algo.epochs=2", "algo.learning_rate_schedule=constant"),
}


def storm(runs: int, seed: int) -> list[Row]:
    """At most ``runs`` of the pairs of an environment and what is around it, chosen by chance, and all that hide something."""
    chance = random.Random(seed)
    pairs = [(name, wrapped) for name in SHIPPED for wrapped in (False, True)]
    bare, wrappers, found_out = (
        Row("shipped environments"),
        Row("shipped environments, wrapped"),
        Row("hidden state found"),
    )
    with tempfile.TemporaryDirectory(prefix="rlrun-storm-") as place:
        for name, wrapped in sorted(chance.sample(pairs, min(runs, len(pairs)))):
            problems = continued(name, wrapped, Path(place, f"{name}-{wrapped}"))
            (wrappers if wrapped else bare).add(*[f"{name}: {line}" for line in problems])
        site = Path(place, "site")
        install(site)
        for where in HIDDEN if runs >= len(HIDDEN) else chance.sample(HIDDEN, runs):
            found_out.add(*[f"{where}: {line}" for line in declared(where, Path(place, where), site)])
    return [bare, wrappers, found_out]


def settings_of(name: str, wrapped: bool) -> list[str]:
    """A run of an environment by an algorithm that can act in it."""
    action = envs.spaces(EnvConfig(id=SHIPPED[name])).action
    algo = "dqn" if isinstance(action, envs.DiscreteActions) else "ppo"
    wrappers = [*WRAPPED, *(["env.reward_norm=true"] if algo == "ppo" else [])] if wrapped else []
    return [f"env={name}", f"algo={algo}", "algo.num_envs=2", *_SHORT[algo], *_FIXED, *wrappers]


def continued(name: str, wrapped: bool, folder: Path) -> list[str]:
    """What differs between a run that went on in a new process and one that did not; that it was amid an episode too."""
    settings, whole, half = settings_of(name, wrapped), folder / "whole", folder / "half"
    for place, frames in ((whole, 2 * FRAMES), (half, FRAMES)):
        place.mkdir(parents=True)
        ended = rlrun([*settings, f"total_frames={frames}"], place)
        if ended.code != 0:
            return [f"exit {ended.code}: {ended.err}"]
    (directory,) = runs_in(half)
    problems = [] if _amid_episodes(directory) else ["stopped between two episodes: choose other frames"]
    ended = rlrun(["resume", str(directory), f"total_frames={2 * FRAMES}", "--require-exact"], half)
    if ended.code != 0:
        return [f"exit {ended.code}: {ended.err}"]
    had, wanted = fingerprint(directory), fingerprint(runs_in(whole)[0])
    return [*problems, *[f"{part} differs" for part in wanted if had.get(part) != wanted[part]]]


def _amid_episodes(directory: Path) -> bool:
    tree = CheckpointFolder(directory / "checkpoints", 1).newest(lambda line: None)[2]
    return any(length > 0 for length in tree["training"]["environments"]["lengths"])


def declared(where: str, folder: Path, site: Path) -> list[str]:
    """Whether an environment that hides state ``where`` is said to be inexact in every place where that is to be read."""
    folder.mkdir()
    settings = ["env.id=Hidden-v0", f"env.kwargs.where={where}", "algo=dqn", *_SHORT["dqn"], *_FIXED]
    ended = rlrun([*settings, "total_frames=300"], folder, site=site)
    if ended.code != 0:
        return [f"exit {ended.code}: {ended.err}"]
    (directory,) = runs_in(folder)
    problems = _undeclared(directory)
    if "exact resume: yes" in ended.out or "exact resume: " not in ended.out:
        problems.append("the header does not say so")
    listed = [re.split("  +", line) for line in rlrun(["ls"], folder, site=site).out.splitlines()]
    if len(listed) != 2 or dict(zip(*listed, strict=False)).get("exact") != "no":
        problems.append("rlrun ls does not say so")
    refused = rlrun(["resume", "--require-exact", str(directory), "total_frames=400"], folder, site=site)
    if refused.code != 4 or len(refused.errors) != 1:
        problems.append(f"--require-exact: exit {refused.code}: {refused.err}")
    resumed = rlrun(["resume", str(directory), "total_frames=400"], folder, site=site)
    if resumed.code != 0 or "not exact" not in resumed.err:
        problems.append(f"resume: exit {resumed.code}, without a word: {resumed.out} {resumed.err}")
    return [*problems, *_undeclared(directory)]


def _undeclared(directory: Path) -> list[str]:
    manifest: dict[str, Any] = json.loads((directory / "run.json").read_text())
    return [] if manifest["exact"] is False and manifest["inexact_because"] else ["run.json does not say so"]

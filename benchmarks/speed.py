"""Speed, start-up and memory of rlrun beside its peers at the same settings, interleaved, one thread each.

rlrun runs as users run it, through its command line with logging and checkpoints on. A repetition runs every side once; its ratio is
rlrun's figure / that of the peer beside it. A case is stored when all its repetitions are done.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import growth, tables
from benchmarks.cases import AT_ONCE, CASES, FIXED, GROWTH, RATE, SEEDS, Case, composed
from benchmarks.children import Ended, child, module, several
from benchmarks.stored import RESULTS, circumstances, load, merge, replace

NAMES = (*CASES, GROWTH)
PACKAGES = {"sb3": "stable_baselines3", "plain": "torch", "torchrl": "torchrl"}
MODULES = {"sb3": "sb3", "plain": "plain", "torchrl": "torchrl_parts", "environment": "environment"}
ENVIRONMENT_FRAMES = 50_000
EXTRAPOLATED_RUNS = 4
"""Runs of a peer that ``--extrapolate`` takes for all of a sweep's."""
QUICK = 5
"""How much shorter ``--quick`` makes everything."""
Sample = dict[str, float | None]


def run(names: Sequence[str], repeats: int, extrapolate: bool, quick: bool) -> None:
    """Measure the cases; print and store what came out. ``quick`` only shows that everything works, and stores nothing."""
    _check_installed(names)
    for name in names:
        if name == GROWTH:
            growth.run(repeats, QUICK if quick else 1)
            continue
        result = measure(name, repeats, extrapolate, QUICK if quick else 1)
        print(f"\n{tables.targets_table({name: result})}\n\n{tables.sides_table({name: result})}\n", flush=True)
        if not quick:
            merge("speed", name, result)
    if not quick:
        print_tables()


def print_tables() -> None:
    """Print all stored results as Markdown, and keep them in ``results/speed.md``."""
    text = tables.document(load("speed"), load("growth"))
    replace(RESULTS / "speed.md", text)
    print(text)


def _check_installed(names: Sequence[str]) -> None:
    """Leave with one line if a package is missing, before anything is measured."""
    peers = {target.peer for name in names if name in CASES for target in CASES[name].targets}
    missing = sorted(PACKAGES[peer] for peer in peers if importlib.util.find_spec(PACKAGES[peer]) is None)
    if missing:
        raise SystemExit(f"{', '.join(missing)} is not installed: pip install -e '.[bench]'")


def measure(name: str, repeats: int, extrapolate: bool, shorter: int) -> dict[str, Any]:
    """All repetitions of a case."""
    case, rounds = CASES[name], []
    frames = case.frames // shorter
    settings = composed(case.overrides, frames)
    for repeat in range(repeats):
        match case.kind:
            case "sweep":
                sides = _sweep(name, case, frames, settings, EXTRAPOLATED_RUNS if extrapolate else SEEDS)
            case "memory":
                sides = _memory(name, case, frames, settings, repeat)
            case _:
                sides = _runs(name, case, frames, settings, repeat)
        rounds.append(sides)
        print(f"{name} {repeat + 1}/{repeats}: {_summary(sides)}", flush=True)
    return {
        "overrides": list(case.overrides),
        "frames": frames,
        "extrapolated": extrapolate and case.kind == "sweep",
        "circumstances": circumstances(),
        "rounds": rounds,
    }


def _summary(sides: Mapping[str, Sample]) -> str:
    """One short text for a repetition: the speed of each side, or how long its command took."""
    words = []
    for side, sample in sides.items():
        rate, wall = sample["frames_per_second"], sample["wall_seconds"]
        words.append(f"{side} {rate:,.0f}/s" if rate else f"{side} {wall:.1f} s")
    return ", ".join(words)


def _runs(name: str, case: Case, frames: int, settings: Mapping[str, Any], seed: int) -> dict[str, Sample]:
    """One run of each side; the bare environment where speed is at stake."""
    sides = {"rlrun": _rlrun(case, frames, seed)}
    for peer in dict.fromkeys(target.peer for target in case.targets):
        sides[peer] = _peer(peer, name, frames, settings, seed)
    if any(target.measure is RATE for target in case.targets):
        sides["environment"] = _peer("environment", name, ENVIRONMENT_FRAMES, settings, seed)
    return sides


def _memory(name: str, case: Case, frames: int, settings: Mapping[str, Any], seed: int) -> dict[str, Sample]:
    """One run, a population of all seeds in one process, and one run of the peer."""
    return {
        "rlrun": _rlrun(case, frames, seed),
        "population": _rlrun_sweep(case, frames, "sweep.workers=1", f"sweep.batch={SEEDS}"),
        "sb3": _peer("sb3", name, frames, settings, seed),
    }


def _sweep(name: str, case: Case, frames: int, settings: Mapping[str, Any], peer_runs: int) -> dict[str, Sample]:
    """A sweep of all seeds by one command, and the peer's runs two at a time."""
    sides = {"rlrun": _rlrun_sweep(case, frames)}
    for peer in dict.fromkeys(target.peer for target in case.targets):
        commands = [module(f"benchmarks.peers.{MODULES[peer]}", name, frames, seed) for seed in range(peer_runs)]
        started = time.perf_counter()
        ended = several(commands, settings, AT_ONCE)
        seconds = (time.perf_counter() - started) * SEEDS / peer_runs
        sides[peer] = _sample(ended, seconds, SEEDS * frames / seconds, None)
    return sides


def _sample(ended: Sequence[Ended], wall: float, rate: float | None, first_step: float | None) -> Sample:
    return {
        "frames_per_second": rate,
        "seconds_to_first_step": first_step,
        "wall_seconds": wall,
        "peak_mb": max(one.peak_mb for one in ended),
    }


def _rlrun(case: Case, frames: int, seed: int) -> Sample:
    """One run of the command line. What it wrote says how fast it was and when it began to train."""
    with tempfile.TemporaryDirectory() as outputs:
        ended = child(_command(case, frames, outputs, f"seed={seed}"))
        (file,) = Path(outputs).glob("*/*/run.json")
        manifest = json.loads(file.read_text())
        row = json.loads((file.parent / "timing.jsonl").read_text().splitlines()[0])
    assert manifest["status"] == "finished"
    # The first row of timing.jsonl is written after `seconds` of nothing but training.
    first_step = row["unix_time"] - row["seconds"] - ended.started
    return _sample([ended], ended.wall_seconds, manifest["frames"] / manifest["seconds"], first_step)


def _rlrun_sweep(case: Case, frames: int, *overrides: str) -> Sample:
    """One command that trains all seeds."""
    with tempfile.TemporaryDirectory() as outputs:
        ended = child([*_command(case, frames, outputs, f"seed=range({SEEDS})", *overrides), "-m"])
        statuses = [json.loads(file.read_text())["status"] for file in Path(outputs).glob("sweeps/*/*/run.json")]
    assert statuses == ["finished"] * SEEDS, statuses
    return _sample([ended], ended.wall_seconds, SEEDS * frames / ended.wall_seconds, None)


def _command(case: Case, frames: int, outputs: str, *overrides: str) -> list[str]:
    fixed = [*FIXED, f"total_frames={frames}", f"outputs={outputs}"]
    return module("rlrun", "-q", *case.overrides, *fixed, *overrides)


def _peer(peer: str, name: str, frames: int, settings: Mapping[str, Any], seed: int) -> Sample:
    """One run of a peer in a process of its own."""
    ended = child(module(f"benchmarks.peers.{MODULES[peer]}", name, frames, seed), settings)
    answer = ended.answer()
    return _sample([ended], ended.wall_seconds, answer["frames_per_second"], answer["seconds_to_first_step"])

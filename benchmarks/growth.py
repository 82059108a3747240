"""How rlrun's time grows: for an agent's step with the number of agents in a process, for a frame with the frames done.

``python -m benchmarks.growth PRESET AGENTS`` trains one population and prints one JSON line.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.cases import FIXED, LONG_RUN, PRESETS, composed
from benchmarks.children import SETTINGS, child, module
from benchmarks.stored import RESULTS, circumstances, merge

AGENTS = (1, 2, 4, 8, 16, 32, 64)
FRAMES = {"dqn_tutorial": 1500, "dqn_cleanrl": 6000, "ppo_cartpole": 8192, "ppo_halfcheetah": 4096}
"""Frames of each agent; few, because 64 agents have 64 times the work."""
CHANGED = {"dqn_cleanrl": ("algo.learning_starts=1000",)}
"""So that most of these frames learn."""
STRETCHES = (0, 10_000, 100_000, 1_000_000)


def run(repeats: int, shorter: int) -> None:
    """Measure, print, and store tables and picture; with ``shorter`` > 1 only show that everything works."""
    agents = {name: {str(count): [] for count in _counts(shorter)} for name in FRAMES}
    stretches: dict[str, list[float]] = {}
    for repeat in range(repeats):
        for name, count in ((name, count) for count in _counts(shorter) for name in FRAMES):
            agents[name][str(count)].append(_population(name, count))
            print(f"{name}, {count} agents, {repeat + 1}/{repeats}: {agents[name][str(count)][-1]:.1f} µs", flush=True)
        for label, microseconds in _long_run([frames // shorter for frames in STRETCHES]).items():
            stretches.setdefault(label, []).append(microseconds)
    measured = {"agents": agents, "frames": stretches}
    print(f"\n{tables.growth_table(measured)}\n", flush=True)
    folder = Path(tempfile.mkdtemp()) if shorter > 1 else RESULTS
    if shorter == 1:
        for key, result in {**measured, "circumstances": circumstances()}.items():
            merge("growth", key, result)
    draw(measured, folder / "growth.png")
    print(f"picture: {folder / 'growth.png'}", flush=True)


def _counts(shorter: int) -> Sequence[int]:
    return AGENTS if shorter == 1 else AGENTS[:3]


def _population(name: str, agents: int) -> float:
    """Microseconds of training for an agent's step, in a population of this size."""
    settings = composed((*PRESETS[name].overrides, *CHANGED.get(name, ())), FRAMES[name])
    answer = child(module("benchmarks.growth", name, agents), settings).answer()
    return 1e6 * answer["seconds"] / (answer["frames"] * agents)


def _long_run(stretches: Sequence[int]) -> dict[str, float]:
    """Microseconds a frame over each stretch of one run, from its timing.jsonl."""
    with tempfile.TemporaryDirectory() as outputs:
        fixed = [*FIXED, f"total_frames={stretches[-1]}", f"outputs={outputs}"]
        child(module("rlrun", "-q", *PRESETS[LONG_RUN].overrides, *fixed))
        (file,) = Path(outputs).glob("*/*/timing.jsonl")
        rows = [json.loads(line) for line in file.read_text().splitlines()]
    result = {}
    for start, stop in pairwise(stretches):
        first, last = (_row_at(rows, frames) for frames in (start, stop))
        result[f"{start:,} to {stop:,}"] = (
            1e6 * (last["seconds"] - first["seconds"]) / (last["frames"] - first["frames"])
        )
    return result


def _row_at(rows: Sequence[Mapping[str, Any]], frames: int) -> Mapping[str, Any]:
    """The first row from ``frames`` on; the start has none."""
    if frames == 0:
        return {"frames": 0, "seconds": 0.0}
    return next(row for row in rows if row["frames"] >= frames)


def draw(measured: Mapping[str, Any], path: Path) -> None:
    """The two tables as two panels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 5), layout="constrained")
    for name, values in measured["agents"].items():
        counts = [int(count) for count in values]
        medians = [statistics.median(values[str(count)]) for count in counts]
        below = [middle - min(values[str(count)]) for count, middle in zip(counts, medians, strict=True)]
        above = [max(values[str(count)]) - middle for count, middle in zip(counts, medians, strict=True)]
        left.errorbar(counts, medians, yerr=[below, above], marker="o", capsize=3, label=name)
    left.set(xscale="log", yscale="log", xlabel="agents in one process", ylabel="µs per agent and step")
    left.set_title("Cost of an agent's step")
    left.set_xticks(counts, [str(count) for count in counts])
    low, high = left.get_ylim()
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if low <= tick <= high]
    left.set_yticks(ticks, [str(tick) for tick in ticks])
    left.minorticks_off()
    left.grid(alpha=0.3)
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False)
    labels = [label.replace(" to ", "\nto ") for label in measured["frames"]]
    right.bar(labels, [statistics.median(values) for values in measured["frames"].values()], color="tab:orange")
    right.set(xlabel="frames", ylabel="µs per frame", title=f"Cost of a frame in one long run ({LONG_RUN})")
    right.grid(axis="y", alpha=0.3)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def train_population(settings: Mapping[str, Any], agents: int) -> dict[str, float]:
    """Train agents that differ in their seed as one population; frames of each, and seconds of training."""
    from rlrun.cli.live import choose_view
    from rlrun.config import from_mapping
    from rlrun.run import Run
    from rlrun.training import train

    with tempfile.TemporaryDirectory() as outputs:
        config = dataclasses.replace(from_mapping(settings), outputs=outputs)
        runs = [Run.create(dataclasses.replace(config, seed=seed), {}) for seed in range(agents)]
        outcomes = train(runs, choose_view(quiet=True))
        assert all(outcome.status == "finished" for outcome in outcomes)
        return {"frames": runs[0].manifest["frames"], "seconds": max(run.manifest["seconds"] for run in runs)}


def main() -> None:
    name, agents = sys.argv[1], int(sys.argv[2])
    if SETTINGS in os.environ:
        settings = json.loads(os.environ[SETTINGS])
    else:
        settings = composed((*PRESETS[name].overrides, *CHANGED.get(name, ())), FRAMES[name])
    print(json.dumps(train_population(settings, agents)))


if __name__ == "__main__":
    main()

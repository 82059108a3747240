"""What checkpoints cost at their default cadence: seconds of saving beside seconds of training.

``python -m benchmarks.reliability.cost AGENTS FIRST_FRAME`` trains one population and prints what it measured as a line of JSON.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from unittest import mock

from benchmarks.cases import composed
from benchmarks.children import SETTINGS, child, module
from benchmarks.reliability.report import Row

RUNS = 1
MOST = 0.02  # of the time of training


@dataclass(frozen=True)
class Measured:
    """Overrides of a run whose checkpoints are as they are by default; nothing counts before ``first_frame``."""

    overrides: tuple[str, ...]
    frames: int
    first_frame: int = 0
    agents: int = 1


MILLION = ("algo.buffer_size=1000000", "algo.learning_starts=1000000")
CASES = {
    "DQN": Measured(("algo=dqn", "env=cartpole"), 200_000),
    "PPO": Measured(("algo=ppo", "env=cartpole"), 600_000),
    "PPO on HalfCheetah": Measured(("algo=ppo", "env=halfcheetah"), 400_000),
    "DQN with a million transitions": Measured(("algo=dqn", "env=cartpole", *MILLION), 1_200_000, 1_000_000),
    "16 DQN together": Measured(("algo=dqn", "env=cartpole"), 100_000, agents=16),
}


def storm(runs: int, seed: int) -> list[Row]:
    """Each case ``runs`` times."""
    rows = []
    for name, case in CASES.items():
        row = Row(f"checkpoints cost less than {MOST:.0%} of training: {name}")
        for _ in range(runs):
            settings = composed(case.overrides, case.frames) | {"seed": seed}
            answer = child(module("benchmarks.reliability.cost", case.agents, case.first_frame), settings).answer()
            share = answer["saving"] / answer["training"]
            row.add(*[] if share < MOST else [f"{share:.1%}"])
            row.note = (
                f"{share:.2%}: {answer['saves']} saves of {1000 * answer['saving'] / answer['saves']:.0f} ms and "
                f"{answer['megabytes']:.1f} MB in {answer['training']:.0f} s"
            )
        rows.append(row)
    return rows


def measure(settings: Mapping[str, Any], agents: int, first_frame: int) -> dict[str, float]:
    """Train a population in this process, with a watch on what is saved from a frame on."""
    from rlrun.bookkeeping import Books
    from rlrun.cli.live import choose_view
    from rlrun.config import from_mapping
    from rlrun.run import Run
    from rlrun.training import train

    saves: list[float] = []
    before, save = 0.0, Books.save

    def watched(books: Books, chosen: Any) -> None:
        nonlocal before
        is_new = any(books.members[agent].saved != books.trainer.frames for agent in chosen)
        began = time.perf_counter()
        save(books, chosen)
        if books.trainer.frames <= first_frame:
            before = books.members[0].seconds
        elif is_new:
            saves.append(time.perf_counter() - began)

    with tempfile.TemporaryDirectory() as outputs, mock.patch.object(Books, "save", watched):
        config = dataclasses.replace(from_mapping(settings), outputs=outputs)
        runs = [Run.create(dataclasses.replace(config, seed=config.seed + index), {}) for index in range(agents)]
        outcomes = train(runs, choose_view(quiet=True))
        assert all(outcome.status == "finished" for outcome in outcomes)
        files = [sorted(run.checkpoints.glob(pattern)) for run in runs for pattern in ("step_*.ckpt", "*.piece")]
        newest = [paths[-1].stat().st_size for paths in files if paths]
        training = max(run.manifest["seconds"] for run in runs) - before
    return {"saves": len(saves), "saving": sum(saves), "training": training, "megabytes": sum(newest) / 1e6}


def main() -> None:
    print(json.dumps(measure(json.loads(os.environ[SETTINGS]), int(sys.argv[1]), int(sys.argv[2]))))


if __name__ == "__main__":
    main()

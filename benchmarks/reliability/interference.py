"""What must not change training: checkpoints, evaluations, videos, rows, output, surroundings, and who is trained beside it."""

from __future__ import annotations

import hashlib
import random
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.reliability.cases import DQN, PPO
from benchmarks.reliability.contract import Case, digest_of, rlrun, runs_in
from benchmarks.reliability.report import Row
from rlrun.checkpoint_folder import CheckpointFolder

RUNS = 100


def storm(runs: int, seed: int, cases: Sequence[Case] = (*DQN, *PPO)) -> list[Row]:
    """Change something that must not matter, ``runs`` times in all."""
    chance = random.Random(seed)
    rows = {name: Row(f"training is the same with {name}") for name in VARIANTS}
    trained: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="rlrun-storm-") as place:
        for number in range(runs):
            name = list(VARIANTS)[number % len(VARIANTS)]
            case = chance.choice(cases)
            if case.name not in trained:
                trained[case.name] = _trained(list(case.arguments), Path(place, case.name))
            with tempfile.TemporaryDirectory(dir=place) as folder:
                same = VARIANTS[name](case, Path(folder, "run"), chance) == trained[case.name]
            rows[name].add(*[] if same else [case.name])
    return list(rows.values())


def _set(*settings: str) -> Callable[[Case, Path, random.Random], str]:
    """Train with other settings."""

    def changed(case: Case, folder: Path, chance: random.Random) -> str:
        numbered = [setting.replace("N", str(chance.randint(30, 500))) for setting in settings]
        keys = {setting.partition("=")[0] for setting in settings}
        return _trained([word for word in case.arguments if word.partition("=")[0] not in keys] + numbered, folder)

    return changed


def _loud(case: Case, folder: Path, chance: random.Random) -> str:
    return _trained([word for word in case.arguments if word != "-q"], folder)


def _closed(case: Case, folder: Path, chance: random.Random) -> str:
    return _trained(list(case.arguments), folder, under=("sh", "-c", 'exec "$@" >&- 2>&-', "sh"))


def _full(case: Case, folder: Path, chance: random.Random) -> str:
    with open("/dev/full", "w") as full:
        return _trained(
            [word for word in case.arguments if word != "-q"], folder, stdout=full, stderr=subprocess.DEVNULL
        )


def _beside_others(case: Case, folder: Path, chance: random.Random) -> str:
    """In a population, where the seed of the case is one of several."""
    return _trained(["-m", *case.arguments, f"seed=range({chance.randint(2, 5)})", "sweep.workers=1"], folder)


def _elsewhere(case: Case, folder: Path, chance: random.Random) -> str:
    """With another language, time zone, hash of text, and mask of files; ``folder`` has a name of its own anyway."""
    variables = (
        f"PYTHONHASHSEED={chance.randint(0, 10**6)}",
        "TZ=Asia/Kathmandu",
        "LC_ALL=C",
        "COLUMNS=40",
        "NO_COLOR=1",
    )
    return _trained(list(case.arguments), folder, under=("env", *variables))


VARIANTS: dict[str, Callable[[Case, Path, random.Random], str]] = {
    "checkpoints every N frames": _set("checkpoint.every_frames=N"),
    "no checkpoint before the end": _set("checkpoint.every_frames=0"),
    "evaluations every N frames": _set("evaluation.every_frames=N"),
    "no evaluation": _set("evaluation.episodes=0"),
    "rows every N frames": _set("logging.every_frames=N"),
    "videos of evaluations": _set("evaluation.video=true"),
    "figures": _set("plot.figures=auto"),
    "a logger": _set("logger=tensorboard"),
    "lines on the terminal": _loud,
    "closed output": _closed,
    "full output": _full,
    "other surroundings": _elsewhere,
    "others beside it": _beside_others,
}


def _trained(arguments: list[str], folder: Path, **options: object) -> str:
    """Train a run; a hash of its last state, without what is summed up for the next row, and of its episodes."""
    folder.mkdir()
    ended = rlrun(arguments, folder, **options)
    if ended.code != 0:
        return f"exit {ended.code}: {ended.err}"
    first = runs_in(folder)[0]  # in the order of seeds: 0
    training = CheckpointFolder(first / "checkpoints", 1).newest(lambda line: None)[2]["training"]
    del training["means"]
    episodes = hashlib.sha256((first / "episodes.csv").read_bytes()).hexdigest()
    return f"{digest_of(training)} {episodes}"

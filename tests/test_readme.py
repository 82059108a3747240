"""Every command of the README works. Trainings are cut to a few frames; what needs a GPU says so where there is none."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Answer

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = list(
    dict.fromkeys(
        re.split(r"\s{2,}", line)[0] for block in BLOCKS for line in block.splitlines() if line.startswith("rlrun")
    )
)
READING = (
    *("ls", "show", "plot", "compare", "report", "video", "eval", "export", "diff", "resume", "reproduce", "rm", "gc"),
    *("configs", "help"),
)
TRAININGS = [command for command in COMMANDS if shlex.split(command)[1:2] not in [[word] for word in READING]]
SHORT = {"dqn": ["total_frames=400", "algo.learning_starts=128"], "ppo": ["total_frames=4096"]}


def arguments_of(command: str) -> list[str]:
    return shlex.split(command)[1:]


def test_the_readme_shows_commands() -> None:
    assert len(COMMANDS) > 12
    assert {"-m", "--cfg", *READING} <= {word for command in COMMANDS for word in arguments_of(command)}


@pytest.mark.parametrize("command", TRAININGS)
def test_training_command(command: str, rlrun: Callable[..., Answer], workplace: Path) -> None:
    words = arguments_of(command)
    if "--cfg" in words:
        answer = rlrun(*words)
        assert answer.code == 0 and "algo:" in answer.out
        return
    ppo = any("ppo" in word for word in words)
    typed = {word.partition("=")[0] for word in words}
    short = [word for word in SHORT["ppo" if ppo else "dqn"] if word.partition("=")[0] not in typed]
    words = [re.sub(r"total_frames=\S+", "total_frames=4096", word) for word in words]
    answer = rlrun(*words, *short, "evaluation.episodes=1")
    if "device=cuda" in words and not torch.cuda.is_available():
        assert answer.code == 3 and "device=cuda" in answer.errors[0]
        return
    assert answer.code == 0, answer.err
    assert list(workplace.glob("runs/a/run.json" if "run.dir=runs/a" in words else "outputs/**/run.json"))


def test_reading_commands(rlrun: Callable[..., Answer], workplace: Path) -> None:
    assert rlrun("-q", "-m", "seed=1,2", "total_frames=400", "algo.learning_starts=128").code == 0
    (sweep,) = (workplace / "outputs" / "sweeps").iterdir()
    assert rlrun("-q", "algo=ppo", "tuned=none", "total_frames=2048", "evaluation.episodes=1").code == 0
    assert rlrun("-q", "total_frames=400", "algo.learning_starts=128", "evaluation.episodes=1").code == 0
    for command in COMMANDS:
        words = arguments_of(command)
        if words[:1] and words[0] in READING:
            words = [re.sub(r"total_frames=\d+", "total_frames=800", word) for word in words]
            words = ["2" if word == "100" else word for word in words]
            words = [sweep.name if re.fullmatch(r"\d{4}-\d\d-\d\d_\d+", word) else word for word in words]
            answer = rlrun(*words)
            assert answer.code == 0, (command, answer.err)
            assert answer.out

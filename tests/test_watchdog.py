"""An environment that does not come back: the run ends with what its last checkpoint holds, other runs go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Answer
from support import CARTPOLE, Folder
from test_cli_newcomer import install
from test_sweep import only_sweep, runs_of

from rlrun.watchdog import watching

HANGING = """
import os
import time
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.envs.registration import register

class Hanging(CartPoleEnv):
    doomed, steps = False, 0

    def __init__(self, at_once=False, **kwargs):
        super().__init__(**kwargs)
        while at_once or "HANG" in os.environ:
            time.sleep(1)

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.doomed = seed % 2 == 0
        return super().reset(seed=seed)

    def close(self):
        while "HANG_CLOSE" in os.environ and self.steps > 100:
            time.sleep(1)

    def step(self, action):
        self.steps += 1
        while self.doomed and self.steps > 300:
            time.sleep(1)
        return super().step(action)

def add():
    register("Hanging-v0", entry_point=Hanging, max_episode_steps=200)
"""
SETTINGS = (
    *("algo=dqn", "env.id=Hanging-v0", "env.step_timeout=1", "total_frames=600", "network=small"),
    *("evaluation.episodes=0", "checkpoint.every_frames=200", "logging.every_frames=100"),
)


@pytest.fixture
def hanging(workplace: Path) -> dict[str, str]:
    """Environment variables under which Hanging-v0 is installed."""
    install(workplace, "rlrun.envs", "hanging", HANGING)
    return {**os.environ, "PYTHONPATH": str(workplace)}


def call(variables: dict[str, str], *arguments: str) -> tuple[int, list[str]]:
    command = [sys.executable, "-m", "rlrun", *arguments]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=90, check=False)
    return done.returncode, [line for line in done.stderr.splitlines() if not line.startswith("rlrun: note: ")]


def test_a_hanging_environment_ends_its_run_with_its_checkpoints_intact(
    hanging: dict[str, str], workplace: Path
) -> None:
    for seed in range(8):  # which one is doomed depends on the seeds drawn from it
        code, errors = call(hanging, *SETTINGS, f"seed={seed}")
        if code:
            break
    assert code == 7 and len(errors) == 1
    expected = f"env Hanging-v0 did not come back within 1 s from step at step 301 of the agent with seed {seed}; "
    assert errors[0].removeprefix("rlrun: error: ").startswith(expected) and "env.step_timeout=N" in errors[0]
    run = max(workplace.glob("outputs/*/*"))
    manifest = json.loads((run / "run.json").read_text())
    assert manifest["status"] == "failed" and manifest["failure"] == errors[0].removeprefix("rlrun: error: ")
    left = f"Last good checkpoint: step_000000000200.ckpt; go on from there: rlrun resume {run.relative_to(workplace)}"
    assert errors[0].endswith(left)
    assert [file.name for file in run.glob("checkpoints/*")] == ["step_000000000200.ckpt"]
    assert call(hanging, "resume", str(run), "env.step_timeout=0.5")[0] == 7  # it may change, and the lock is free


def test_one_that_hangs_when_it_is_closed_costs_nothing_that_was_trained(
    hanging: dict[str, str], workplace: Path
) -> None:
    variables, settings = {**hanging, "HANG_CLOSE": "1"}, [*SETTINGS[:3], "total_frames=200", *SETTINGS[4:]]
    code, errors = call(variables, *settings)
    assert code == 7 and len(errors) == 1 and "within 1 s when it was closed; " in errors[0]
    assert errors[0].endswith("Its run had ended before, and is saved")
    code, errors = call(variables, "-m", *settings, "seed=1,2")
    assert code == 0 and errors == []
    assert [run.manifest["status"] for run in runs_of(only_sweep(workplace))] == ["finished"] * 2


def test_the_other_runs_of_its_process_go_on(hanging: dict[str, str], workplace: Path) -> None:
    code, errors = call(hanging, "-m", *SETTINGS, "seed=range(6)", "sweep.batch=6", "sweep.workers=1")
    assert code == 9
    manifests = [run.manifest for run in runs_of(only_sweep(workplace))]
    ended = {manifest["seed"]: manifest["status"] for manifest in manifests}
    hung = [seed for seed, status in ended.items() if status == "failed"]
    assert set(ended.values()) == {"failed", "finished"}
    assert all(
        "did not come back" in line and f"seed={seed}" in line for seed, line in zip(hung, errors[1:], strict=True)
    )
    assert [manifest["inexact_because"] for manifest in manifests] == [[]] * 6


def test_one_that_hangs_before_training_leaves_nothing_behind(hanging: dict[str, str], workplace: Path) -> None:
    code, errors = call(hanging, *SETTINGS, "+env.kwargs.at_once=true")
    assert code == 7 and len(errors) == 1 and "within 1 s when it was made; " in errors[0]
    assert not (workplace / "outputs").exists()


def test_slow_work_that_is_no_environment_is_left_alone() -> None:
    with watching("CartPole-v1", 0.05):
        time.sleep(0.5)


def test_null_waits_for_ever() -> None:
    """Nobody looks, neither where it is tried nor where it is trained."""
    threads = set(threading.enumerate())
    for seconds, watchers in ((60.0, 1), (None, 0)):
        with watching("CartPole-v1", seconds):
            assert len({*threading.enumerate()} - threads) == watchers


def test_one_that_hangs_when_it_is_made_again_ends_the_resume(hanging: dict[str, str], workplace: Path) -> None:
    short = [text if "total_frames" not in text else "total_frames=200" for text in SETTINGS]
    assert call(hanging, *short)[0] == 0
    for command in (
        ["resume", "latest", "total_frames=600"],
        ["resume", "latest", "--require-exact"],
        ["eval", "latest"],
    ):
        code, errors = call(
            {**hanging, "HANG": "1"}, *command, *(["total_frames=600"] if "--require-exact" in command else [])
        )
        assert code == 7 and len(errors) == 1 and "within 1 s when it was made; " in errors[0], command
    for command in ("eval", "video", "export"):  # what it suggests can be typed there, too
        code, errors = call({**hanging, "HANG": "1"}, command, "latest", "env.step_timeout=0.5")
        assert code == 7 and "within 0.5 s when it was made; " in errors[0], (command, errors)


def test_how_long_an_environment_may_take_is_checked(rlrun: Callable[..., Answer], workplace: Path) -> None:
    Folder(workplace / "outputs").trained(CARTPOLE)
    assert rlrun("eval", "latest", "--episodes", "1", "env.step_timeout=null").code == 0
    for typed, line in (
        ("env.step_timeout=-1", "env.step_timeout=-1 is out of range; it must be a number in (0, 1000000000] or null"),
        ("env.step_timeout=soon", "env.step_timeout: expected a number in (0, 1000000000] or null, got 'soon'"),
        ("env.step_timeout", "'env.step_timeout' has no value; write env.step_timeout=N"),
        ("env.time_limit=5", "env.time_limit: eval plays with the run's own settings; leave it out"),
    ):
        answer = rlrun("eval", "latest", typed)
        assert (answer.code, answer.errors) == (2, [line])

"""Real sweeps: the bits of every member, and whatever may kill a worker, a member, or all of it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import assert_same_run
from test_cli import command
from test_cli_hardship import wait_until
from test_cli_newcomer import install
from test_population import cursed_env
from test_sweep import only_sweep, runs_of, statuses, summary

from rlrun.cli import main
from rlrun.finding import list_runs
from rlrun.run import Run

TINY = {
    "dqn": [
        "algo=dqn", "tuned=none", "total_frames=900", "algo.buffer_size=300", "algo.learning_rate=1e-3",
        "network.hidden=[32,32]",
    ],
    "ppo": ["algo=ppo", "tuned=none", "total_frames=896", "algo.rollout_steps=64", "algo.minibatch_size=32"],
}  # fmt: skip
CADENCE = [
    "evaluation.episodes=1",
    "evaluation.every_frames=300",
    "checkpoint.every_frames=130",
    "logging.every_frames=100",
]

PLUGIN = """
import os, gymnasium
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.envs.registration import register

class Deadly(CartPoleEnv):
    '''Aborts the process at step `at` of an environment; rewards of that reset with seed `cursed` are nan from step 40 on.'''

    def __init__(self, at=0, cursed=-1):
        super().__init__()
        self.at, self.cursed, self.count, self.is_cursed = at, cursed, 0, False

    def reset(self, *, seed=None, options=None):
        self.is_cursed = self.is_cursed or seed == self.cursed
        return super().reset(seed=seed, options=options)

    def step(self, action):
        self.count += 1
        if self.count == self.at:
            os.abort()
        observation, reward, *rest = super().step(action)
        return (observation, float("nan") if self.is_cursed and self.count > 40 else reward, *rest)

def add():
    register("Deadly-v0", entry_point=Deadly, max_episode_steps=200)
"""


@pytest.fixture
def plugin(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with an environment that kills."""
    site = workplace / "site"
    site.mkdir()
    install(site, "rlrun.envs", "deadly", PLUGIN)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))


def alone(rlrun: Any, workplace: Path, *arguments: str) -> Run:
    """The run that the same settings give without a sweep."""
    answer = rlrun("-q", *arguments, "outputs=alone")
    assert answer.code == 0, answer.err
    return Run.open(workplace / answer.out.strip())


@pytest.mark.parametrize("algo", ["dqn", "ppo"])
def test_a_member_of_a_sweep_is_the_run_it_would_be_alone(algo: str, rlrun: Any, workplace: Path) -> None:
    settings = [*TINY[algo], *CADENCE]
    answer = rlrun("-m", *settings, "seed=1,2", "algo.gamma=0.9,0.99", "sweep.workers=1")
    assert answer.code == 0, answer.err
    runs = runs_of(only_sweep(workplace))
    assert [run.manifest["population"]["index"] for run in runs] == [0, 1, 2, 3]
    assert {run.manifest["population"]["size"] for run in runs} == {4}
    assert {run.manifest["alone"] for run in runs} == {"the same bits"} and "alone: the same bits" in answer.out
    assert_same_run(runs[3], alone(rlrun, workplace, *settings, "seed=2", "algo.gamma=0.99"))
    assert_same_run(runs[0], alone(rlrun, workplace, *settings, "seed=1", "algo.gamma=0.9"))


def test_a_file_in_the_users_folder_is_no_module(rlrun: Any, workplace: Path) -> None:
    (workplace / "random.py").write_text("raise SystemExit('shadowed')")
    (workplace / "torch.py").write_text("raise SystemExit('shadowed')")
    assert rlrun("-q", "-m", *TINY["dqn"], "seed=1,2", "evaluation.episodes=0").code == 0


def test_an_environment_that_kills_its_process(rlrun: Any, workplace: Path, plugin: None) -> None:
    settings = [*TINY["dqn"], *CADENCE, "env.id=Deadly-v0"]
    answer = rlrun("-m", *settings, "env.kwargs.at=500,600000", "seed=1,2")
    sweep = only_sweep(workplace)
    assert answer.code == 9
    assert [line.partition(": ")[2].partition(":")[0] for line in answer.errors[1:]] == ["worker died"] * 2
    assert all("SIGABRT" in line for line in answer.errors[1:]), answer.errors
    assert statuses(sweep) == ["failed", "failed", "finished", "finished"]
    assert list(runs_of(sweep)[0].checkpoints.glob("step_*"))  # they can go on, if only to die again
    assert_same_run(runs_of(sweep)[2], alone(rlrun, workplace, *settings, "env.kwargs.at=600000", "seed=1"))


def test_a_member_that_fails_leaves_the_others_their_bits(rlrun: Any, workplace: Path, plugin: None) -> None:
    kwargs = f"env.kwargs.cursed={cursed_env(2)['env']['kwargs']['seed']}"
    settings = [*TINY["dqn"], *CADENCE, "env.id=Deadly-v0", kwargs]
    answer = rlrun("-m", *settings, "seed=1,2,3", "sweep.workers=1")
    sweep = only_sweep(workplace)
    assert answer.code == 9 and "nan" in answer.errors[1]
    assert statuses(sweep) == ["finished", "failed", "finished"]
    assert [job["status"] for job in summary(sweep)["jobs"]] == statuses(sweep)
    assert_same_run(runs_of(sweep)[2], alone(rlrun, workplace, *settings, "seed=3"))


# --- killed ----------------------------------------------------------------------------------------------------------

LONGER = [setting.replace("total_frames=900", "total_frames=3000") for setting in TINY["dqn"]]
KILLED = ["-q", "-m", *LONGER, *CADENCE, "seed=range(4)", "sweep.batch=2", "sweep.workers=2"]


def children(process: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


def has_saved(workplace: Path) -> bool:
    """Whether each of four runs has two checkpoints."""
    folders = list(workplace.glob("outputs/sweeps/*/*/checkpoints"))
    return len(folders) == 4 and all(len(list(folder.glob("step_*.ckpt"))) >= 2 for folder in folders)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """The sweep that nothing interrupts."""
    outputs = tmp_path_factory.mktemp("whole")
    assert main([*KILLED, f"outputs={outputs}"]) == 0
    (sweep,) = (outputs / "sweeps").iterdir()
    return runs_of(sweep)


def assert_same_sweep(sweep: Path, expected: list[Run]) -> None:
    assert statuses(sweep) == ["finished"] * len(expected)
    for run, other in zip(runs_of(sweep), expected, strict=True):
        assert_same_run(run, other)
        assert run.manifest["exact"] is True


def test_a_stopped_and_resumed_sweep_is_the_uninterrupted_one(rlrun: Any, workplace: Path, whole: list[Run]) -> None:
    process = subprocess.Popen(command(*KILLED), stdout=subprocess.PIPE, text=True)
    wait_until(lambda: has_saved(workplace))
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "4 resumable, 0 not started; continue with: rlrun resume " in out
    sweep = only_sweep(workplace)
    assert statuses(sweep) == ["stopped"] * 4
    newest = sorted(runs_of(sweep)[0].checkpoints.glob("step_*.ckpt"))[-1]
    newest.write_bytes(newest.read_bytes()[:-1])  # as if killed between two saves: the other member has to go back
    answer = rlrun("resume", sweep.name, "sweep.batch=null", "sweep.workers=1")
    assert answer.code == 0, answer.err
    assert f"{newest.name} is damaged (sha256 mismatch), renamed to {newest.name}.bad; using step_" in answer.err
    assert_same_sweep(sweep, whole)


def test_without_their_parent_workers_save_and_leave(rlrun: Any, workplace: Path) -> None:
    process = subprocess.Popen(command(*KILLED, "name=orphans"), stdout=subprocess.PIPE)
    wait_until(lambda: has_saved(workplace))
    sweep, workers = only_sweep(workplace), children(process.pid)
    assert len(workers) == 2
    process.kill()
    process.wait()
    wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    assert {*statuses(sweep)} <= {"stopped", "finished"}
    assert rlrun("resume", "-q", str(sweep)).code == 0
    assert statuses(sweep) == ["finished"] * 4


def killed(arguments: list[str], wait: Callable[[subprocess.Popen[bytes]], Any]) -> None:
    """Start a command and, after ``wait``, kill it and all its workers in random order."""
    process = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        wait(process)
    victims = [process.pid, *children(process.pid)]
    random.shuffle(victims)
    for victim in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(Path(f"/proc/{victim}").exists() for victim in victims))


def test_a_killed_and_resumed_sweep_is_the_uninterrupted_one(rlrun: Any, workplace: Path, whole: list[Run]) -> None:
    killed(KILLED, lambda process: wait_until(lambda: has_saved(workplace)))
    sweep = only_sweep(workplace)
    assert {run["status"] for run in list_runs(workplace / "outputs")} <= {"interrupted", "finished"}
    answer = rlrun("resume", "-q", str(sweep))
    assert answer.code == 0, answer.err
    assert_same_sweep(sweep, whole)


@pytest.mark.slow
def test_killed_at_any_instant(rlrun: Any, workplace: Path, whole: list[Run]) -> None:
    instants = random.Random(int(os.environ.get("RLRUN_TEST_SEED", "0")))
    for _ in range(8):
        killed(KILLED, lambda process: wait_until(lambda: any(workplace.glob("outputs/sweeps/*/sweep.json"))))
        sweep = only_sweep(workplace)
        for _ in range(3):
            killed(["resume", "-q", str(sweep)], lambda process: process.wait(timeout=instants.uniform(1.5, 7)))
        assert rlrun("resume", "-q", str(sweep)).code == 0
        assert_same_sweep(sweep, whole)
        sweep.rename(workplace / f"done-{time.monotonic_ns()}")

"""What may happen to the processes, runs and files of a sweep, and what it may cost."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import DQN, Folder, Silent
from test_cli_hardship import wait_until
from test_cli_newcomer import install
from test_sweep import SEEDS, only_sweep, runs_of, statuses, summary

from rlrun.config import to_mapping
from rlrun.errors import RlrunError
from rlrun.interrupts import SHOW_CURSOR, Interrupts
from rlrun.run import Run
from rlrun.sweeps.runner import train_runs

# --- processes -------------------------------------------------------------------------------------------------------


def test_a_child_of_a_dead_worker_holds_up_nobody(rlrun: Any, workplace: Path, fake_worker: Any) -> None:
    """It has inherited the pipe to us, and the locks."""
    fake_worker("""
        if 0 in seeds:
            child = os.fork()
            if child == 0:
                time.sleep(600)
            Path("child").write_text(str(child))
            end(0)
            os.kill(os.getpid(), signal.SIGKILL)
        end_all()
    """)
    answer = rlrun(*SEEDS)
    assert answer.code == 9
    assert answer.errors[1:] == ["#2 seed=1: worker was killed (out of memory?)"]
    assert statuses(only_sweep(workplace)) == ["finished", "failed", "finished", "finished"]
    child = Path("/proc", (workplace / "child").read_text())
    wait_until(lambda: not child.exists() or (child / "stat").read_text().split()[2] == "Z")


def test_a_worker_that_closes_its_output_is_given_time_then_killed(
    rlrun: Any, workplace: Path, fake_worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlrun.sweeps.launcher._SECONDS_TO_LEAVE", 0.5)
    fake_worker("end(0); os.close(1); time.sleep(60)")
    answer = rlrun(*SEEDS)
    assert answer.code == 9 and statuses(only_sweep(workplace)) == ["finished", "failed", "finished", "failed"]


def test_a_sweep_that_is_deleted_meanwhile_is_not_to_be_tried_again(
    rlrun: Any, workplace: Path, fake_worker: Any
) -> None:
    fake_worker("import shutil; shutil.rmtree(runs[0].directory.parent, ignore_errors=True)")
    answer = rlrun(*SEEDS, "run.dir=mine")
    assert (answer.code, answer.errors) == (5, ["sweep mine has vanished while it was trained"])
    assert not (workplace / "mine").exists()


def test_what_has_ended_stays_as_it_ended(rlrun: Any, workplace: Path, fake_worker: Any) -> None:
    """Killed between the last word on the disk and the word to us."""
    fake_worker("""
        if 0 in seeds:
            runs[0].update(status="finished", frames=2000)
            runs[1].update(status="failed", failure="the simulator is on fire")
            os._exit(1)
        runs[0].update(status="running")
        os._exit(1)
    """)
    answer = rlrun(*SEEDS)
    reason = "worker ended with exit code 1"
    assert answer.code == 9
    assert answer.errors[1:] == ["#2 seed=1: the simulator is on fire", f"#3 seed=2: {reason}", f"#4 seed=3: {reason}"]
    assert statuses(only_sweep(workplace)) == ["finished", "failed", "failed", "failed"]
    assert summary(only_sweep(workplace))["jobs"][0]["error"] is None


LINGERING = """
import threading, time
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.envs.registration import register

class Lingering(CartPoleEnv):
    def __init__(self):
        super().__init__()
        threading.Thread(target=time.sleep, args=(60,)).start()

def add():
    register("Lingering-v0", entry_point=Lingering, max_episode_steps=200)
"""


def test_a_worker_ends_whatever_threads_and_members_it_was_left_with(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(workplace, "rlrun.envs", "lingering", LINGERING)
    monkeypatch.syspath_prepend(workplace)
    monkeypatch.setenv("PYTHONPATH", str(workplace))
    settings = {"env": {"id": "Lingering-v0"}, "total_frames": 50, "evaluation": {"episodes": 0}}
    runs = [Folder(workplace / "outputs").run(DQN, settings, {"seed": seed}) for seed in (1, 2)]
    members = [{"directory": str(r.directory), "config": to_mapping(r.config), "manifest": r.manifest} for r in runs]
    (runs[0].directory / "run.json").unlink()
    request = json.dumps({"parent": os.getpid(), "frames": None, "runs": members}) + "\n"
    command = [sys.executable, "-P", "-m", "rlrun.sweeps.worker"]
    done = subprocess.run(command, input=request, stdout=subprocess.PIPE, text=True, timeout=40, check=True)
    ended = [event for event in map(json.loads, done.stdout.splitlines()) if event["event"] == "ended"]
    assert [(event["member"], event["status"]) for event in ended] == [(0, "failed"), (1, "finished")]
    assert "run.json" in ended[0]["error"] and Run.open(runs[1].directory).manifest["frames"] == 50


# --- signals ---------------------------------------------------------------------------------------------------------

TWICE = """
import signal, sys
from rlrun.interrupts import Interrupts
from rlrun.sweeps.worker import WorkerInterrupts
Interrupts.SECONDS_OF_ONE = 0
with {interrupts} as interrupts:
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
sys.exit(interrupts.signal)
"""


def test_a_worker_ignores_a_second_signal() -> None:
    program = TWICE.format(interrupts="WorkerInterrupts(0)")
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == signal.SIGTERM


def test_a_second_signal_gives_the_terminal_its_cursor_back() -> None:
    master, terminal = pty.openpty()
    program = TWICE.format(interrupts="Interrupts()")
    done = subprocess.run([sys.executable, "-c", program], stdout=terminal, stderr=subprocess.PIPE, timeout=60)
    os.close(terminal)
    assert done.returncode == 128 + signal.SIGINT and os.read(master, 100) == SHOW_CURSOR
    os.close(master)


# --- runs ------------------------------------------------------------------------------------------------------------


def test_a_run_deleted_meanwhile_costs_itself_alone(rlrun: Any, workplace: Path, fake_worker: Any) -> None:
    fake_worker("""
        end_all()
        if 0 in seeds:
            (runs[0].directory / "run.json").unlink()
    """)
    answer = rlrun(*SEEDS)
    assert answer.code == 9 and answer.errors[0].startswith("3 of 4 jobs ok")
    assert answer.errors[1].startswith("#1 seed=0: ") and "run.json" in answer.errors[1]
    jobs = summary(only_sweep(workplace))["jobs"]
    assert [job["status"] for job in jobs] == ["failed", "finished", "finished", "finished"]


def test_a_bug_fails_only_runs_that_have_not_ended_and_that_are_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [Folder(tmp_path).run(DQN, {"seed": seed}) for seed in range(5)]

    def broken(*_: Any, **__: Any) -> None:
        runs[0].update(status="finished")
        runs[1].update(status="failed", failure="diverged")
        Run.open(runs[4].directory).update(status="finished")
        raise ZeroDivisionError

    monkeypatch.setattr("rlrun.training.train", broken)
    with Run.open(runs[2].directory).lock(), pytest.raises(RlrunError, match="internal error"), Interrupts() as stop:
        train_runs(runs, Silent(), stop)
    manifests = [Run.open(run.directory).manifest for run in runs]
    assert [manifest["status"] for manifest in manifests] == ["finished", "failed", "running", "failed", "finished"]
    assert manifests[1]["failure"] == "diverged" and "internal error" in manifests[3]["failure"]


def test_planted_files_hang_nobody(rlrun: Any, workplace: Path, fake_worker: Any) -> None:
    fake_worker("end(0)")
    assert rlrun(*SEEDS[:3], "evaluation.episodes=0", "sweep.batch=1").code == 0
    sweep = only_sweep(workplace)
    first, second = (run.directory / "episodes.csv" for run in runs_of(sweep)[:2])
    os.mkfifo(first)
    second.symlink_to("/dev/zero")
    (runs_of(sweep)[3].directory / "run.json").write_text("{")
    assert rlrun("resume", str(sweep)).code == 9

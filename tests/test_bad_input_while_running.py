"""Rows 66 to 68, 88 to 90, 93 to 95 and 98 to 100 of the catalogue of ``test_bad_input.py``: what goes wrong around training."""

from __future__ import annotations

import datetime as clock
import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import probes
import pytest
from test_cli import TINY, command, only_run
from test_cli_hardship import ENDLESS, training, wait_until

from rlrun.checkpoint import find_damage
from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.run import Run

# --- disks -----------------------------------------------------------------------------------------------------------

GROWING = ("total_frames=6000", "checkpoint.every_frames=500", "evaluation.episodes=0", "algo.train_every=16")


def newest_frames(run: Run) -> int:
    return next(CheckpointFolder(run.checkpoints, 2).undamaged(lambda line: None))[0]


def test_disk_full_while_training(rlrun: Any, workplace: Path) -> None:
    """Row 66: no file may grow beyond 150 kB, which the replay memory in a checkpoint soon wants to."""
    limit = 150_000
    done = subprocess.run(
        command("-q", *GROWING), capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert done.returncode == 5 and len(done.stderr.splitlines()) == 1, done.stderr
    run = only_run(workplace)
    assert done.stderr.startswith("rlrun: error: can't write ") and "File too large" in done.stderr
    newest = f"step_{newest_frames(run):012d}.ckpt"
    advice = f"once there is room: rlrun resume {run.directory.relative_to(workplace)}"
    assert f". Last good checkpoint: {newest}; {advice}\n" in done.stderr
    assert run.manifest["status"] == "failed" and 0 < newest_frames(run) < 6000
    assert not list(run.directory.rglob(".tmp-*"))
    assert rlrun("resume", "latest").code == 0
    assert Run.open(run.directory).manifest["frames"] == 6000


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EIO, errno.ESTALE])
def test_disk_that_fails(number: int, rlrun: Any, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 67: a quota, a broken disk, a network file system that is gone: the third checkpoint meets it."""
    fsync, calls = os.fsync, [0]

    def failing(descriptor: int) -> None:
        calls[0] += os.readlink(f"/proc/self/fd/{descriptor}").partition("/checkpoints/.tmp-")[1] != ""
        if calls[0] >= 3:
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", failing)
    answer = rlrun("-q", *GROWING)
    assert answer.code == 5 and len(answer.errors) == 1
    assert os.strerror(number) in answer.errors[0] and "rlrun resume" in answer.errors[0]
    monkeypatch.undo()
    monkeypatch.chdir(workplace)
    run = only_run(workplace)
    assert newest_frames(run) == 1000
    assert rlrun("resume", "latest").code == 0
    assert Run.open(run.directory).manifest["frames"] == 6000


def test_run_deleted_while_it_trains(workplace: Path) -> None:
    """Row 68: it is not made again, and the line does not promise a checkpoint."""
    process = subprocess.Popen(
        command(*ENDLESS, "checkpoint.every_frames=500"), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    wait_until(lambda: training(workplace))
    directory = only_run(workplace).directory
    directory.rename(workplace / "gone")  # at once, where deleting would meet files being made
    _, text = process.communicate(timeout=60)
    assert process.returncode == 5 and len(text.splitlines()) == 1, text
    assert f"{directory.name} has vanished" in text and "rlrun resume" not in text
    assert not directory.exists()


# --- environments ----------------------------------------------------------------------------------------------------


class Odd(gymnasium.Wrapper[Any, Any, Any, Any]):
    """CartPole whose 41st step of the process gives back something else."""

    def __init__(self, how: str) -> None:
        super().__init__(gymnasium.make("CartPole-v1"))
        self.how, self.count = how, 0

    def step(self, action: Any) -> Any:
        observation, *rest = super().step(action)
        self.count += 1
        if self.count <= 40:
            return observation, *rest
        return {
            "none": None,
            "nothing": (None, *rest),
            "text": (observation.astype(str), *rest),
            "short": (observation, *rest[:2]),
        }[self.how]


@pytest.fixture
def odd() -> Iterator[None]:
    probes.register()
    gymnasium.register("Odd-v0", Odd, max_episode_steps=500)
    yield
    del gymnasium.registry["Odd-v0"]


BROKEN = {
    "env.id=ProbeNaN-v0": "reward nan",
    "env.id=ProbeNaNObservation-v0": "observation is not finite",
    "env.id=ProbeRaise-v0": "RuntimeError: the simulator is on fire",
    "env.id=ProbeExit-v0": "SystemExit",
    "env.id=ProbeShape-v0": "observation of shape (4,), its space says (3,)",
    "env.kwargs.how=none": "",
    "env.kwargs.how=nothing": "",
    "env.kwargs.how=text": "",
    "env.kwargs.how=short": "",
}


@pytest.mark.parametrize("setting", BROKEN)
def test_broken_environment(setting: str, rlrun: Any, workplace: Path, odd: None) -> None:
    """Rows 88, 89, 90, 93: one line names the environment, the step and the seed, and what was saved before is sound."""
    broken = ["env.id=Odd-v0"] if "kwargs" in setting else ["env.kwargs.at=45", "env.time_limit=100"]
    settings = ("algo.learning_starts=16", "algo.batch_size=8", "total_frames=300", "checkpoint.every_frames=20")
    answer = rlrun("-q", setting, *broken, *settings, "evaluation.every_frames=0")
    assert answer.code == 7 and len(answer.errors) == 1, answer.err
    identifier = (setting if "id" in setting else broken[0]).partition("=")[2]
    assert answer.errors[0].startswith(f"env {identifier} failed at step ") and "seed" in answer.errors[0]
    assert BROKEN[setting] in answer.errors[0]
    run = only_run(workplace)
    assert run.manifest["status"] == "failed" and run.manifest["failure"] == answer.errors[0]
    checkpoints = list(run.checkpoints.glob("step_*.ckpt"))
    assert checkpoints and not any(map(find_damage, checkpoints))


def test_divergence(rlrun: Any, workplace: Path) -> None:
    """Row 95: no checkpoint that is not finite."""
    settings = ("algo.learning_rate=10", "algo.clip_gradient_value=null", "env.reward_scale=1e30", "algo.loss=mse")
    answer = rlrun("-q", *settings, "total_frames=2000", "checkpoint.every_frames=100", "evaluation.episodes=0")
    assert (answer.code, answer.errors) == (
        6,
        [
            "diverged at frame 1000: the loss is not finite; lower algo.learning_rate. "
            "Last good checkpoint: step_000000000900.ckpt"
        ],
    )
    run = only_run(workplace)
    assert run.manifest["status"] == "failed" and newest_frames(run) <= 1000
    assert rlrun("eval", "latest", "--episodes", "1", "--checkpoint", "last").code == 0


# --- the process and its surroundings --------------------------------------------------------------------------------


def test_reader_that_goes_away(workplace: Path) -> None:
    """Row 98: ``rlrun | head -1`` trains to the end."""
    process = subprocess.Popen(command(*TINY), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    text = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), text) == (0, "")
    assert only_run(workplace).manifest["status"] == "finished"


@pytest.mark.parametrize("coerced", [True, False])
def test_foreign_locale(coerced: bool, workplace: Path) -> None:
    """Row 99: a folder that the locale has no letters for; also where Python may not help itself with UTF-8."""
    folder = workplace / "é中"
    folder.mkdir()
    helped = {} if coerced else {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = os.environ | {"LC_ALL": "C", "LANG": "C"} | helped
    for arguments in (TINY, ["resume", "latest", "total_frames=700"], ["eval", "latest", "--episodes", "1"], ["ls"]):
        done = subprocess.run(command(*arguments), capture_output=True, timeout=60, cwd=folder, env=environment)
        assert (done.returncode, done.stderr) == (0, b""), arguments
    assert only_run(folder).manifest["frames"] == 700


def test_clock_that_jumps(rlrun: Any, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 99: a clock that says 1970 gives a name, and the order of checkpoints is that of their frames."""

    class Early(clock.datetime):
        @classmethod
        def now(cls, zone: clock.tzinfo | None = None) -> Early:
            return cls(1970, 1, 1, tzinfo=zone)

    monkeypatch.setattr("rlrun.run.datetime", Early)
    answer = rlrun("-q", *TINY)
    assert answer.code == 0 and answer.out.startswith("outputs/1970-01-01/000000_")
    monkeypatch.undo()
    monkeypatch.chdir(workplace)
    run = only_run(workplace)
    for path in run.checkpoints.glob("step_*.ckpt"):
        os.utime(path, (0, 10**9))
    assert rlrun("resume", "latest", "total_frames=700").code == 0
    assert Run.open(run.directory).manifest["exact"] is True


def test_no_home_and_no_place_for_temporary_files(workplace: Path) -> None:
    """Row 100: they are not needed. The deleted current folder has its test in test_cli_newcomer.py."""
    nowhere = {"HOME": "/proc/nope", "XDG_CACHE_HOME": "/proc/nope", "TMPDIR": "/proc/nope"}
    unset = {name: value for name, value in os.environ.items() if name not in nowhere}
    for environment in (unset, os.environ | nowhere):
        done = subprocess.run(command("-q", *TINY), capture_output=True, text=True, timeout=60, env=environment)
        assert (done.returncode, done.stderr) == (0, "")
        shutil.rmtree(workplace / "outputs")


@pytest.mark.parametrize("safe", [[], ["-P"]])
def test_current_folder_is_not_imported_from(safe: list[str], workplace: Path) -> None:
    """Row 36: neither by ``python -m rlrun`` nor with permission."""
    for name in ("mine", "random", "numpy"):
        (workplace / f"{name}.py").write_text("raise SystemExit('imported')")
    arguments = [sys.executable, *safe, "-m", "rlrun", "env.id=mine:Any-v0", "env.allow_import=mine"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3 and "can't import mine: ModuleNotFoundError" in done.stderr, done.stderr

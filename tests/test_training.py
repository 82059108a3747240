"""The loop: what is due when, exact resume, ends of a run, and that watching changes nothing."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import probes
import pytest
from support import (
    CARTPOLE,
    DQN,
    HALFCHEETAH,
    HOPPER,
    PPO,
    RUNNING_NORMS,
    Folder,
    Silent,
    as_tensor,
    assert_same_bits,
    assert_same_run,
    config_of,
    last_tree,
    merged,
    recorded,
    resumed,
    signal_at,
    trainer_of,
)

from rlrun import bookkeeping, training
from rlrun.checkpoint import load
from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.errors import DivergedError, EnvironmentFailure, LockedError, LostFileError, ResumeError, StorageError
from rlrun.kernels.native import library
from rlrun.member import Member
from rlrun.metrics import Recorder, read_episodes, read_rows
from rlrun.run import Run
from rlrun.trainers import make_trainer
from rlrun.training import due, next_multiple, train

probes.register()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "outputs")


# --- what is due -----------------------------------------------------------------------------------------------------


def test_due_and_next_multiple() -> None:
    assert [due(before, after, 10) for before, after in ((0, 9), (0, 10), (9, 10), (10, 11), (5, 35))] == [
        False, True, True, False, True,
    ]  # fmt: skip
    assert not due(0, 100, 0)
    assert [next_multiple(frames, 10) for frames in (0, 9, 10)] == [10, 10, 20]


def test_everything_happens_at_its_frames(folder: Folder) -> None:
    run, view = folder.run(CARTPOLE), Silent()
    train([run], view)
    rows = read_rows(run.directory / "metrics.jsonl")
    assert [row["frames"] for row in rows if row["type"] == "train"] == [90, 180, 270, 360, 400]
    assert [row["frames"] for row in rows if row["type"] == "evaluation"] == [150, 300, 400]
    assert [frames for _, frames, _ in view.evaluations] == [150, 300, 400]
    names = sorted(path.name for path in run.checkpoints.glob("*.ckpt"))
    assert names == ["best.ckpt", "step_000000000390.ckpt", "step_000000000400.ckpt"]
    timing = read_rows(run.directory / "timing.jsonl")
    assert [row["frames"] for row in timing] == [90, 180, 270, 360, 400]
    episodes = read_episodes(run.directory)
    assert rows[-1]["episodes"] == len(episodes["return"]) and episodes["length"].sum() <= 400
    seen = [row["return_mean"] for row in rows if row["type"] == "train"]
    within = episodes["return"][episodes["frames"] <= 90]
    assert seen[0] == pytest.approx(within.mean())


def test_no_row_is_written_twice_where_rollouts_step_over_the_cadence(folder: Folder) -> None:
    run = folder.trained(PPO, {"total_frames": 192, "logging": {"every_frames": 50}, "evaluation": {"episodes": 0}})
    rows = read_rows(run.directory / "metrics.jsonl")
    assert [row["frames"] for row in rows] == [64, 128, 192]
    assert all("loss" in row for row in rows)


def test_the_manifest_of_a_finished_run(folder: Folder) -> None:
    run = folder.trained(CARTPOLE)
    manifest = json.loads((run.directory / "run.json").read_text())
    assert (manifest["status"], manifest["frames"], manifest["failure"]) == ("finished", 400, None)
    assert manifest["frames_per_second"] > 0 and manifest["seconds"] > 0
    assert manifest["frames_per_second"] == pytest.approx(400 / manifest["seconds"])
    assert (manifest["exact"], manifest["device"]) == (True, "cpu")
    assert manifest["implementation"] in ("numpy", "numpy and C")  # the latter where there is a compiler
    evaluation = manifest["evaluation"]
    wanted = {"return_mean", "return_std", "return_iqm", "return_min", "return_max", "episodes", "checkpoint"}
    assert set(evaluation) == wanted | {"frames"}
    assert (evaluation["episodes"], evaluation["checkpoint"]) == (2, "step_000000000400.ckpt")
    assert (run.checkpoints / evaluation["checkpoint"]).is_file()
    rows = [row for row in read_rows(run.directory / "metrics.jsonl") if row["type"] == "evaluation"]
    assert evaluation["return_mean"] == rows[-1]["return_mean"]
    assert manifest["best"]["return_mean"] == max(row["return_mean"] for row in rows)


# --- watching changes nothing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [CARTPOLE, HOPPER], ids=["dqn", "ppo"])
def test_evaluation_checkpoints_and_logging_do_not_change_training(settings: dict[str, Any], folder: Folder) -> None:
    def trained(*changes: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        run = folder.trained(settings, *changes)
        tree = last_tree(run)["training"]
        del tree["means"]  # of the numbers since the last row
        return tree, recorded(run)[1]

    expected = trained()
    for change in (
        {"evaluation": {"episodes": 0}},
        {"evaluation": {"every_frames": 64, "episodes": 3}},
        {"checkpoint": {"every_frames": 0}},
        {"checkpoint": {"every_frames": 0, "every_seconds": 0.05}},
        {"logging": {"every_frames": 1}},
    ):
        assert_same_bits(trained(change), expected)


def test_a_checkpoint_is_saved_when_its_time_has_come(folder: Folder) -> None:
    every = {"checkpoint": {"every_frames": 0, "every_seconds": 1e-9, "keep": 1000}}
    run = folder.trained(CARTPOLE, every, {"total_frames": 50})
    assert {path.name for path in run.checkpoints.glob("step_*")} >= {
        f"step_{frames:012d}.ckpt" for frames in range(1, 51)
    }


def test_sigusr1_saves_a_checkpoint_and_training_goes_on(folder: Folder) -> None:
    every = {"checkpoint": {"every_frames": 0, "keep": 9}}
    with signal_at(222, signal.SIGUSR1):
        run = folder.trained(CARTPOLE, every)
    assert [path.name for path in sorted(run.checkpoints.glob("step_*"))] == [
        f"step_{222:012d}.ckpt",
        f"step_{400:012d}.ckpt",
    ]
    assert_same_run(run, folder.trained(CARTPOLE, every))


def test_a_run_of_one_and_a_member_leave_the_same_files(folder: Folder) -> None:
    runs = [folder.run(CARTPOLE, {"seed": seed, "algo": {"learning_rate": 1e-3 * seed}}) for seed in (1, 2, 3)]
    train(runs, Silent())
    assert_same_run(runs[1], folder.trained(CARTPOLE, {"seed": 2, "algo": {"learning_rate": 2e-3}}))


# --- ends ------------------------------------------------------------------------------------------------------------


def test_stop_after_episodes(folder: Folder) -> None:
    run = folder.trained(CARTPOLE, {"stop": {"episodes": 4}, "total_frames": 10_000})
    episodes = read_episodes(run.directory)
    assert len(episodes["return"]) == 4
    assert Run.open(run.directory).manifest["frames"] == episodes["frames"][-1] < 10_000
    assert run.manifest["episodes"] == 4


def test_stop_at_a_return(folder: Folder) -> None:
    run = folder.trained(CARTPOLE, {"stop": {"return": 1.0}, "total_frames": 10_000})
    assert run.manifest["frames"] == 150 and run.manifest["evaluation"]["return_mean"] >= 1


def test_stop_after_seconds(folder: Folder) -> None:
    """Also where nothing else is due for a long time."""
    never = {"logging": {"every_frames": 10**8}, "evaluation": {"every_frames": 0}, "checkpoint": {"every_frames": 0}}
    run = folder.trained(CARTPOLE, never, {"stop": {"seconds": 0.3}, "total_frames": 10**8})
    assert run.manifest["status"] == "finished" and 0 < run.manifest["frames"] < 10**8


def test_members_stop_by_themselves(folder: Folder) -> None:
    settings = merged(CARTPOLE, {"stop": {"episodes": 6}})
    runs = [folder.run(settings, {"seed": seed}) for seed in (1, 2, 3)]
    outcomes = train(runs, Silent())
    assert [outcome.status for outcome in outcomes] == ["finished"] * 3
    frames = [run.manifest["frames"] for run in runs]
    assert len(set(frames)) == 3
    for seed, run in zip((1, 2, 3), runs, strict=True):
        alone = folder.trained(settings, {"seed": seed})
        assert recorded(run)[1] == recorded(alone)[1]
        assert_same_bits(last_tree(run)["training"], last_tree(alone)["training"])


def test_the_best_checkpoint_is_kept_with_its_normaliser(folder: Folder) -> None:
    scores = iter([5.0, 7.0, 6.0, 7.0, 1.0])

    def evaluating(policy: Any, config: Any, seeds: Any, *_: Any, **__: Any) -> Any:
        score = next(scores)
        return [{"return_mean": score, "returns": [score], "lengths": [1], "episodes": 1}]

    every, view = {"evaluation": {"every_frames": 64}, "checkpoint": {"every_frames": 64, "keep": 9}}, Silent()
    run = folder.run(HOPPER, every)
    with mock.patch.object(bookkeeping, "evaluate", evaluating):
        train([run], view)
    assert [best for _, _, best in view.evaluations] == [True, True, False, True, False]  # of equals the newest
    header, tree = load(run.checkpoints / "best.ckpt")
    assert header["frames"] == 256 == run.manifest["best"]["frames"]
    _, there = load(run.checkpoints / "step_000000000256.ckpt")
    for name in ("parameters_AP", "normalizer"):
        assert_same_bits(tree["training"][name], there["training"][name])
    assert tree["training"]["normalizer"]["count"] == 256


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_the_best_is_never_what_is_not_finite(score: float, folder: Folder) -> None:
    run = folder.run(CARTPOLE)
    member = Member(run, CheckpointFolder(run.checkpoints, 1), Recorder(run.directory, None))
    assert not member.evaluated(10, {"return_mean": score, "lengths": [1]}) and member.best is None
    assert member.evaluated(20, {"return_mean": -5.0, "lengths": [1]})
    assert not member.evaluated(30, {"return_mean": score, "lengths": [1]})
    assert member.best is not None and member.best["frames"] == 20
    member.close()


def test_a_failing_environment_fails_its_run(folder: Folder) -> None:
    run = folder.run(DQN, {"env": {"id": "ProbeNaN-v0"}})
    (outcome,) = train([run], Silent())
    assert outcome.status == "failed" and isinstance(outcome.error, EnvironmentFailure)
    manifest = Run.open(run.directory).manifest
    assert (manifest["status"], manifest["frames"]) == ("failed", 5) and "reward nan" in manifest["failure"]


def test_an_environment_that_fails_in_the_last_evaluation_fails_its_run(folder: Folder) -> None:
    def evaluating(*_: Any, **__: Any) -> Any:
        return [EnvironmentFailure("no more")]

    run = folder.run(CARTPOLE, {"evaluation": {"every_frames": 0}})
    with mock.patch.object(bookkeeping, "evaluate", evaluating):
        (outcome,) = train([run], Silent())
    left = f"no more. Last good checkpoint: step_000000000400.ckpt; go on from there: rlrun resume {run.directory}"
    assert (outcome.status, str(outcome.error)) == ("failed", left)


def test_a_diverging_member_is_marked_failed_and_the_others_do_not_notice(folder: Folder) -> None:
    settings = merged(HALFCHEETAH, {"algo": {"learning_rate_schedule": "constant"}, "checkpoint": {"every_frames": 64}})
    runs = [folder.run(settings, {"algo": {"learning_rate": rate}}) for rate in (1e-3, 10.0, 2e-3)]
    outcomes = train(runs, Silent())
    assert [outcome.status for outcome in outcomes] == ["finished", "failed", "finished"]
    assert isinstance(outcomes[1].error, DivergedError)
    failed = Run.open(runs[1].directory)
    assert failed.manifest["status"] == "failed" and "diverged at frame" in failed.manifest["failure"]
    parameters = last_tree(failed)["training"]["parameters_AP"]
    assert np.isfinite(parameters).all()  # what it left can be looked at
    without = [folder.run(settings, {"algo": {"learning_rate": rate}}) for rate in (1e-3, 2e-3)]
    train(without, Silent())
    for left, right in zip((runs[0], runs[2]), without, strict=True):
        assert_same_run(left, right)


def test_files_of_a_member_that_cannot_be_written_fail_it_alone(folder: Folder) -> None:
    runs = [folder.run(CARTPOLE, {"seed": seed}) for seed in (1, 2, 3)]
    save = CheckpointFolder.save

    def saving(self: CheckpointFolder, frames: int, *arguments: Any) -> None:
        if self.directory == runs[1].checkpoints and frames == 260:
            raise StorageError("no space")
        save(self, frames, *arguments)

    with mock.patch.object(CheckpointFolder, "save", saving):
        outcomes = train(runs, Silent())
    assert [outcome.status for outcome in outcomes] == ["finished", "failed", "finished"]
    advice = f"Last good checkpoint: step_000000000130.ckpt; once there is room: rlrun resume {runs[1].directory}"
    assert str(outcomes[1].error) == runs[1].manifest["failure"] == f"no space. {advice}"
    assert_same_run(runs[2], folder.trained(CARTPOLE, {"seed": 3}))
    assert resumed(runs[1]).status == "finished"
    assert_same_run(runs[1], folder.trained(CARTPOLE, {"seed": 2}))


def test_a_member_whose_disk_takes_nothing_any_more_fails_alone(folder: Folder) -> None:
    runs = [folder.run(CARTPOLE, {"seed": seed}) for seed in (1, 2)]
    update = Run.update

    def updating(self: Run, **fields: Any) -> None:
        if self is runs[0] and fields.get("frames", 0) >= 130:
            raise StorageError("no space")
        update(self, **fields)

    with mock.patch.object(Run, "update", updating):
        outcomes = train(runs, Silent())
    assert [outcome.status for outcome in outcomes] == ["failed", "finished"]
    assert_same_run(runs[1], folder.trained(CARTPOLE, {"seed": 2}))


def test_a_full_disk_at_the_best_checkpoint_is_one_line_where_a_row_is_due_too(folder: Folder) -> None:
    settings = merged(CARTPOLE, {"logging": {"every_frames": 150}})
    run = folder.run(settings)
    with mock.patch.object(CheckpointFolder, "save_best", side_effect=StorageError("no space")):
        outcome = train([run], Silent())[0]
    assert outcome.status == "failed" and "no space" in str(outcome.error)
    assert resumed(run).status == "finished"
    assert_same_run(run, folder.trained(settings))


def test_no_checkpoint_counts_on_rows_that_could_not_be_written(folder: Folder) -> None:
    """A row and a checkpoint are due at one frame, and the row fails."""
    settings = merged(CARTPOLE, {"logging": {"every_frames": 130}})
    run = folder.run(settings)
    flush = Recorder.flush
    flushes = 0

    def flushing(self: Recorder) -> None:
        nonlocal flushes
        flushes += 1
        if flushes == 3:  # after the row and the checkpoint of frame 130
            self._episodes.clear()
            raise StorageError("no space")
        flush(self)

    with mock.patch.object(Recorder, "flush", flushing):
        assert train([run], Silent())[0].status == "failed"
    assert [path.name for path in run.checkpoints.glob("step_*")] == ["step_000000000130.ckpt"]
    assert resumed(run).status == "finished"
    assert_same_run(run, folder.trained(settings))


@contextlib.contextmanager
def meddling_at(frames: int, meddle: Callable[[], object]) -> Iterator[None]:
    """Do something to the files before the checkpoint of ``frames`` is saved."""
    sync = Recorder.sync
    saves: list[None] = []

    def syncing(self: Recorder) -> dict[str, int]:
        saves.append(None)
        if len(saves) * 130 == frames:
            meddle()
        return sync(self)

    with mock.patch.object(Recorder, "sync", syncing):
        yield


def test_what_is_said_of_files_that_go_while_it_trains(folder: Folder, tmp_path: Path) -> None:
    runs = [folder.run(CARTPOLE) for _ in range(3)]
    places = [run.directory for run in runs]

    def replace() -> None:
        places[2].rename(tmp_path / "elsewhere")
        places[2].mkdir()

    meddlers: list[Callable[[], object]] = [
        (places[0] / "metrics.jsonl").unlink, lambda: shutil.rmtree(runs[1].checkpoints), replace,
    ]  # fmt: skip
    failures = []
    for run, meddle in zip(runs, meddlers, strict=True):
        with meddling_at(260, meddle):
            outcome = train([run], Silent())[0]
        assert outcome.error is not None and outcome.error.exit_code == 5
        failures.append(str(outcome.error))
    gone = "metrics.jsonl was moved or deleted while the run was writing to it"
    assert failures[0] == (
        f"{places[0]}/{gone}. Last good checkpoint: step_000000000130.ckpt; "
        f"rlrun eval {places[0]} plays it, but the run can't be resumed without that file"
    )
    assert failures[1].endswith(f"No such file or directory. No checkpoint is left in {places[1]}")
    assert failures[2].endswith(f"{gone}. No checkpoint is left in {places[2]}")
    assert not any(places[2].iterdir())
    assert resumed(Run.open(tmp_path / "elsewhere")).status == "finished"


def test_an_internal_error_is_recorded_and_raised(folder: Folder) -> None:
    run = folder.run(CARTPOLE)
    with (
        mock.patch.object(bookkeeping, "capture", side_effect=ZeroDivisionError("oh")),
        pytest.raises(ZeroDivisionError),
    ):
        train([run], Silent())
    manifest = Run.open(run.directory).manifest
    assert manifest["status"] == "failed" and "ZeroDivisionError" in manifest["failure"]


def test_a_run_in_use_is_locked(folder: Folder) -> None:
    run = folder.run(CARTPOLE)
    with run.lock(), pytest.raises(LockedError, match="in use by pid"):
        train([run], Silent())
    assert not (run.directory / "metrics.jsonl").exists()
    assert train([run], Silent())[0].status == "finished"


def test_a_lock_whose_file_closes_with_an_error_is_free(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    run, close = folder.run(CARTPOLE), os.close

    def closing(descriptor: int) -> None:
        close(descriptor)
        raise OSError(errno.EIO, "a network's error")

    with monkeypatch.context() as patch, run.lock():
        patch.setattr(os, "close", closing)
    with run.lock():
        pass


def test_a_member_that_cannot_be_taken_fails_alone(folder: Folder) -> None:
    """Deleted, damaged, held, trained meanwhile: its files stay as they are."""
    runs = [folder.run(CARTPOLE, {"seed": seed}) for seed in range(5)]
    shutil.rmtree(runs[0].directory)
    (runs[1].directory / "run.json").write_text("{")
    assert train([Run.open(runs[2].directory)], Silent())[0].status == "finished"
    trained = {path: path.read_bytes() for path in runs[2].directory.rglob("*") if path.is_file()}
    with Run.open(runs[3].directory).lock():
        outcomes = train(runs, Silent())
    assert [outcome.status for outcome in outcomes] == ["failed"] * 4 + ["finished"]
    errors = [type(outcome.error) for outcome in outcomes[:4]]
    assert errors == [LostFileError, ResumeError, ResumeError, LockedError]
    del trained[runs[2].directory / "run.lock"]
    assert all(path.read_bytes() == content for path, content in trained.items())
    assert not (runs[3].directory / "metrics.jsonl").exists()
    assert_same_run(runs[4], folder.trained(CARTPOLE, {"seed": 4}))


def test_a_run_with_checkpoints_is_never_started_over(folder: Folder) -> None:
    run = folder.trained(CARTPOLE)
    before = recorded(run)
    with pytest.raises(ResumeError, match="has checkpoints; to start over would lose them"):
        train([run], Silent())
    assert recorded(run) == before


def test_weights_that_are_not_finite_are_never_the_best(folder: Folder) -> None:
    def breaking(*arguments: Any) -> Any:
        trainer = make_trainer(*arguments)
        step = trainer.step

        def stepping() -> None:
            step()
            if trainer.frames == 150:  # of an evaluation
                trainer.state.parameters_AP[0] = math.nan

        trainer.step = stepping  # type: ignore[method-assign]
        return trainer

    runs = [folder.run(CARTPOLE, {"seed": seed}) for seed in (1, 2)]
    with mock.patch.object(training, "make_trainer", breaking):
        outcomes = train(runs, Silent())
    assert [outcome.status for outcome in outcomes] == ["failed", "finished"]
    assert str(outcomes[0].error) == (
        "diverged by frame 150: weights of q.0.weight are not finite; lower algo.learning_rate. "
        "Last good checkpoint: step_000000000130.ckpt"
    )
    assert not (runs[0].checkpoints / "best.ckpt").exists()
    assert_same_run(runs[1], folder.trained(CARTPOLE, {"seed": 2}))


# --- golden metrics --------------------------------------------------------------------------------------------------

GOLDEN: dict[str, dict[str, float]] = {
    "dqn": {
        "loss": 0.3213799,
        "q_value": 0.4038365,
        "epsilon": 0.5655511,
        "learning_rate": 0.001,
        "updates": 61.0,
        "parameters": 5.317545,
    },
    "ppo": {
        "reward_mean": -5.872404,
        "explained_variance": -0.008011256,
        "loss": 0.1977599,
        "policy_loss": -0.0008303275,
        "critic_loss": 0.3971804,
        "entropy": 1.405482,
        "approximate_kl": 0.0006924098,
        "clip_fraction": 0.0,
        "learning_rate": 0.00298848,
        "updates": 24.0,
        "parameters": 11.96614,
    },
}


@pytest.mark.parametrize("kernels", ["auto", "plain"])
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_metrics(name: str, kernels: str) -> None:
    """Numbers of short runs, stored when the code was known to learn. A change here changes results: say so in the changelog."""
    pendulum = merged(PPO, {"env": {"id": "Pendulum-v1", **RUNNING_NORMS}, "algo": {"learning_rate": 3e-3}})
    settings, steps = (DQN, 100) if name == "dqn" else (pendulum, 3)
    trainer = trainer_of(config_of(settings, {"hardware": {"kernels": kernels}}))
    for _ in range(steps):
        trainer.step()
    row = trainer.metrics(0)
    row["parameters"] = float(as_tensor(trainer.state.parameters_AP).double().norm())
    assert row == pytest.approx(GOLDEN[name], rel=1e-3)


@pytest.mark.parametrize("algo", ["dqn", "ppo"])
def test_a_run_with_numpy_kernels_never_imports_torch(algo: str, tmp_path: Path) -> None:
    """Its second and its 150 MB are most of what starting costs."""
    if library() is None:
        pytest.skip("without the C library, torch is asked to flush denormals")
    arguments = ["-q", f"algo={algo}", "env=cartpole", "total_frames=3000", "evaluation.episodes=1", "device=cpu"]
    script = (
        "import sys; from rlrun.cli import main; code = main(sys.argv[1:]);"
        "assert code == 0; print(sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'tensordict'}))"
    )
    command = [sys.executable, "-c", script, *arguments, f"outputs={tmp_path}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("reason", "shown"), [(None, "yes"), ("engine=x: none is", "no: engine=x: none is")])
def test_the_header_says_whether_the_run_resumes_exactly(
    reason: str | None, shown: str, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlrun.training.inexactness", lambda config: reason)
    headers: list[Any] = []
    view = Silent()
    monkeypatch.setattr(view, "start", lambda runs, header: headers.append(header))
    train([folder.run(CARTPOLE)], view)
    assert headers[0]["exact resume"] == shown

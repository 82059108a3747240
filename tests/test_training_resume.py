"""Exact resume: a run that was stopped, killed or extended equals the uninterrupted one, bit for bit."""

from __future__ import annotations

import dataclasses
import re
import signal
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from support import (
    CARTPOLE,
    HALFCHEETAH,
    HOPPER,
    STACKED,
    Folder,
    Silent,
    assert_same_run,
    config_of,
    merged,
    recorded,
    resumed,
    signal_at,
)

from rlrun import bookkeeping
from rlrun.checkpoint import save
from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.errors import ResumeError
from rlrun.evaluation import evaluate
from rlrun.metrics import read_rows
from rlrun.run import Run
from rlrun.training import population_note, train


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "outputs")


@pytest.mark.parametrize(
    ("settings", "stops"),
    [(CARTPOLE, (1, 137, 150, 390, 399)), (HALFCHEETAH, (192,)), (HOPPER, (128, 192)), (STACKED, (213,))],
    ids=["cartpole", "halfcheetah", "hopper", "stacked"],
)
def test_a_stopped_and_resumed_run_equals_the_uninterrupted_one(
    settings: dict[str, Any], stops: tuple[int, ...], folder: Folder
) -> None:
    whole = folder.trained(settings)
    for at in stops:
        run = folder.stopped_and_resumed(at, settings)
        assert_same_run(run, whole)
        manifest = Run.open(run.directory).manifest
        assert (manifest["resumed"], manifest["exact"], manifest["best"]) == (1, True, whole.manifest["best"])


def test_two_stops(folder: Folder) -> None:
    run = folder.run(CARTPOLE)
    with signal_at(101):
        train([run], Silent())
    with signal_at(333):
        assert resumed(run).status == "stopped"
    assert resumed(run).status == "finished"
    assert_same_run(run, folder.trained(CARTPOLE))


def test_a_killed_run_goes_on_from_its_newest_checkpoint(folder: Folder) -> None:
    """What was written after the checkpoint is cut off and written again."""
    run = folder.trained(CARTPOLE)
    before = recorded(run)
    (run.checkpoints / "step_000000000400.ckpt").unlink()  # the newest is of frame 390
    assert resumed(run).status == "finished"
    assert recorded(run) == before
    assert_same_run(run, folder.trained(CARTPOLE))


@pytest.mark.parametrize("settings", [CARTPOLE, HOPPER], ids=["dqn", "ppo"])
def test_an_extended_run_equals_the_long_one(settings: dict[str, Any], folder: Folder) -> None:
    """Off-cadence rows and evaluations at the first end are cut off. Schedules must not depend on the end."""
    constant = merged(settings, {"algo": {"learning_rate_schedule": "constant"}})
    shorter = 235 if settings is CARTPOLE else 192
    run = folder.trained(constant, {"total_frames": shorter})
    outcome = resumed(run, total_frames=settings["total_frames"])
    assert (outcome.status, outcome.run.manifest["frames"]) == ("finished", settings["total_frames"])
    assert_same_run(run, folder.trained(constant))


def test_a_signal_during_an_evaluation_makes_the_resumed_run_do_it_again(folder: Folder) -> None:
    calls = 0

    def evaluating(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            signal.raise_signal(signal.SIGINT)
        return evaluate(*arguments, **named)

    run = folder.run(CARTPOLE)
    with mock.patch.object(bookkeeping, "evaluate", evaluating):
        (outcome,) = train([run], Silent())
    assert (outcome.status, outcome.signal) == ("stopped", signal.SIGINT)
    assert Run.open(run.directory).manifest["frames"] == 300
    rows = read_rows(run.directory / "metrics.jsonl")
    assert [row["frames"] for row in rows if row["type"] == "evaluation"] == [150]
    assert resumed(run).status == "finished"
    assert_same_run(run, folder.trained(CARTPOLE))


def test_a_signal_during_the_last_evaluation(folder: Folder) -> None:
    def evaluating(*arguments: Any, **named: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return evaluate(*arguments, **named)

    settings = merged(CARTPOLE, {"evaluation": {"every_frames": 0}})
    run = folder.run(settings)
    with mock.patch.object(bookkeeping, "evaluate", evaluating):
        assert train([run], Silent())[0].status == "stopped"
    assert resumed(run).status == "finished"
    assert_same_run(run, folder.trained(settings))


def test_signal_handlers_are_restored(folder: Folder) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signal_at(50):
        train([folder.run(CARTPOLE)], Silent())
    assert signal.getsignal(signal.SIGTERM) is before


def test_there_must_be_a_checkpoint_to_resume_from(folder: Folder) -> None:
    with pytest.raises(ResumeError, match="no checkpoint"):
        train([folder.run(CARTPOLE)], Silent(), resume=True)


def test_members_of_a_population_are_resumed_one_by_one_or_from_a_given_frame(folder: Folder) -> None:
    """Their newest checkpoints may be of different frames, and they share what counts them."""
    runs = [folder.run(CARTPOLE, {"seed": seed}) for seed in (1, 2)]
    with signal_at(203):
        assert [outcome.status for outcome in train(runs, Silent())] == ["stopped"] * 2
    with pytest.raises(AssertionError):
        train([Run.open(run.directory) for run in runs], Silent(), resume=True)
    for run in runs:
        assert resumed(run).status == "finished"
        assert_same_run(run, folder.trained(CARTPOLE, {"seed": run.config.seed}))


def test_a_population_goes_on_from_a_given_frame(folder: Folder) -> None:
    """One member is ahead: its newer checkpoint goes, and is saved again with the same bits."""
    runs = [folder.run(CARTPOLE, {"seed": seed, "checkpoint": {"keep": 3}}) for seed in (1, 2)]
    train(runs, Silent())
    for run in runs:
        (run.checkpoints / "step_000000000400.ckpt").unlink()
    (runs[1].checkpoints / "step_000000000390.ckpt").unlink()
    again = [Run.open(run.directory) for run in runs]
    with signal_at(261):
        assert [outcome.status for outcome in train(again, Silent(), resume=True, frames=260)] == ["stopped"] * 2
    assert not (runs[0].checkpoints / "step_000000000390.ckpt").exists()
    for run in runs:
        assert resumed(run).status == "finished"
        assert_same_run(run, folder.trained(CARTPOLE, {"seed": run.config.seed}))


@pytest.mark.parametrize("broken", ["checkpoint", "metrics", "config"])
def test_a_member_that_cannot_go_on_is_left_out(broken: str, folder: Folder) -> None:
    runs = [folder.run(CARTPOLE, {"seed": seed}) for seed in (1, 2, 3)]
    with signal_at(203):
        train(runs, Silent())
    directory = runs[2].directory
    if broken == "checkpoint":
        path, header, tree = CheckpointFolder(runs[2].checkpoints, 1).newest(lambda line: None)
        tree["training"]["steps"] = 77
        tree["training"]["parameters_AP"] = np.zeros(1, np.float32)
        save(path, header, tree)
    elif broken == "metrics":
        (directory / "metrics.jsonl").unlink()
    again = [Run.open(run.directory) for run in runs]
    if broken == "config":
        path, header, tree = CheckpointFolder(runs[2].checkpoints, 1).newest(lambda line: None)
        header["config"]["algo"]["gamma"] = 0.5
        save(path, header, tree)
    before = (directory / "run.json").read_bytes()
    outcomes = train(again, Silent(), resume=True, frames=203)
    assert [outcome.status for outcome in outcomes] == ["finished", "finished", "failed"]
    assert isinstance(outcomes[2].error, ResumeError)
    assert (directory / "run.json").read_bytes() == before
    assert_same_run(runs[0], folder.trained(CARTPOLE, {"seed": 1}))


def test_a_checkpoint_of_another_frame_leaves_nothing_to_the_others(folder: Folder) -> None:
    """Members share how much their replay memories hold."""
    runs = [folder.run(CARTPOLE, {"seed": seed}) for seed in (1, 2)]
    with signal_at(150):
        train(runs, Silent())
    path, header, tree = CheckpointFolder(runs[1].checkpoints, 1).newest(lambda line: None)
    header["frames"] = tree["training"]["steps"] = 40
    for memory in ("rows", "outcomes"):
        tree["training"]["replay"][memory] = tree["training"]["replay"][memory][:40]
    tree["training"]["replay"]["written"] = 40
    tree["training"]["environments"] = [1]  # it fails after its memory
    save(path, header, tree)
    outcomes = train([Run.open(run.directory) for run in runs], Silent(), resume=True, frames=150)
    assert [outcome.status for outcome in outcomes] == ["finished", "failed"]
    assert str(outcomes[1].error) == f"{path} holds another frame than its name says"
    assert_same_run(runs[0], folder.trained(CARTPOLE, {"seed": 1}))


def test_where_bits_depend_on_the_population_another_size_is_inexact(folder: Folder) -> None:
    plain = merged(CARTPOLE, {"hardware": {"kernels": "plain"}})
    runs = [folder.run(plain, {"seed": seed}) for seed in (1, 2)]
    with signal_at(203):
        train(runs, Silent())
    reason = "on the plain PyTorch path bits may depend on the size of the population"
    manifest = Run.open(runs[1].directory).manifest
    assert (manifest["alone"], manifest["exact"]) == (reason, True)
    assert manifest["population"] == {"size": 2, "index": 1, "first": runs[0].directory.name}
    assert resumed(runs[1]).status == "finished"
    manifest = Run.open(runs[1].directory).manifest
    assert (manifest["alone"], manifest["exact"]) == (reason, False)
    assert manifest["inexact_because"] == [f"{reason}: 2 before, 1 now"]
    assert population_note(config_of(plain), 1, None) is None
    assert population_note(config_of(CARTPOLE), 9, None) is None
    assert population_note(config_of(CARTPOLE), 1, "hidden") is None
    assert "share what is hidden" in (population_note(config_of(CARTPOLE), 9, "hidden") or "")


def test_a_checkpoint_of_another_config_is_refused(folder: Folder) -> None:
    """Also settings that leave every shape as it is."""
    run = folder.trained(CARTPOLE)
    text = (run.directory / "config.yaml").read_text()
    (run.directory / "config.yaml").write_text(text.replace("gamma: 0.99", "gamma: 0.5"))
    with pytest.raises(ResumeError, match=r"algo.gamma: 0.99 -> 0.5"):
        train([Run.open(run.directory)], Silent(), resume=True)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("steps", "x"),
        ("steps", 10**30),
        ("parameters_AP", np.zeros(1, np.float32)),
        ("environments", [1]),
        ("target_AP", 3),
    ],
)
def test_a_checkpoint_with_other_shapes_or_types_is_refused(place: str, value: Any, folder: Folder) -> None:
    run = folder.trained(CARTPOLE)
    path, header, tree = CheckpointFolder(run.checkpoints, 1).newest(lambda line: None)
    tree["training"][place] = value
    save(path, header, tree)
    with pytest.raises(ResumeError, match=f"does not fit this config \\({place}"):
        train([Run.open(run.directory)], Silent(), resume=True)


@pytest.mark.parametrize("action", [-1.0, 0.5, 2.0, 1e9, np.nan])
def test_a_memory_of_actions_that_there_are_not_is_refused(action: float, folder: Folder) -> None:
    run = folder.trained(CARTPOLE)
    path, header, tree = CheckpointFolder(run.checkpoints, 1).newest(lambda line: None)
    tree["training"]["replay"]["rows"][7, -1] = action
    save(path, header, tree)
    with pytest.raises(
        ResumeError, match="replay: ValueError: (an action that does not exist|it holds numbers that are not finite)"
    ):
        resumed(run)


@pytest.mark.parametrize("value", [[[1.0]], [3], "x", {"a": 1}])
def test_counts_of_another_form_are_refused(value: Any, folder: Folder) -> None:
    run = folder.trained(CARTPOLE)
    path, header, tree = CheckpointFolder(run.checkpoints, 1).newest(lambda line: None)
    tree["loop"]["recent"] = value
    save(path, header, tree)
    with pytest.raises(ResumeError, match="is not usable"):
        resumed(run)


def test_an_environment_that_exits_while_it_is_restored_ends_in_one_line(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = folder.trained(CARTPOLE)

    def exiting(*_: Any) -> None:
        raise SystemExit(0)

    monkeypatch.setattr("rlrun.envstate.restore", exiting)
    with pytest.raises(ResumeError, match="does not fit this config .*SystemExit: 0"):
        resumed(run, total_frames=500)


def test_an_extended_run_keeps_the_best_of_its_first_end(folder: Folder) -> None:
    """The evaluation at the first end is off cadence: cut from the metrics, but its weights are kept if they are the best."""
    run = folder.trained(CARTPOLE, {"total_frames": 235})
    best, _ = CheckpointFolder(run.checkpoints, 1).best_evaluation() or ({}, None)
    assert best == run.manifest["best"]
    outcome = resumed(run, total_frames=400)
    kept, _ = CheckpointFolder(run.checkpoints, 1).best_evaluation() or ({}, None)
    assert kept == outcome.run.manifest["best"] and kept["return_mean"] >= best["return_mean"]


def test_the_best_of_another_config_is_told_and_does_not_count(folder: Folder) -> None:
    run = folder.trained(CARTPOLE, {"total_frames": 235})
    best = CheckpointFolder(run.checkpoints, 1)
    _, header, tree = best.newest(lambda line: None)
    better = {**run.manifest["best"], "return_mean": 1e9}
    for frames, config, why in ((245, header["config"] | {"seed": 7}, r" \(seed: 7 -> 0\)"), (255, "x", "")):
        best.save_best({"frames": 235, "config": config, "evaluation": better}, {"training": tree["training"]})
        opened, view = Run.open(run.directory), Silent()
        opened.config = dataclasses.replace(opened.config, total_frames=frames)
        assert train([opened], view, resume=True)[0].status == "finished"
        assert re.fullmatch(
            rf"best.ckpt of \S+ is of another config{why}; only a better evaluation replaces it", view.notes[0]
        )
        assert opened.manifest["best"]["return_mean"] < 1e9

"""``run.dir=DIR resume=auto``: the same command starts, goes on, and is done; a scheduler may queue it as often as it likes."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import assert_same_run
from test_cli_hardship import wait_until

from rlrun.locks import lock
from rlrun.run import Run

SETTINGS = (
    *("tuned=none", "network.hidden=[16]", "total_frames=600", "algo.learning_starts=50", "algo.batch_size=16"),
    *("evaluation.every_frames=200", "evaluation.episodes=2", "logging.every_frames=50", "checkpoint.every_frames=100"),
)
REMEDY = "type chmod -R o-w {}, or type another run.dir=DIR"
HERE = ("run.dir=runs/a", "resume=auto")


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_the_same_command_starts_and_is_done(rlrun: Any, workplace: Path) -> None:
    (workplace / "runs" / "a").mkdir(parents=True)
    (workplace / "runs" / "a" / "slurm-1.out").write_text("mine")
    answer = rlrun("-q", *SETTINGS, *HERE)
    assert (answer.code, answer.out) == (0, "runs/a\n"), answer.err
    before = files(workplace / "runs" / "a")
    answer = rlrun(*SETTINGS, *HERE)
    assert answer.code == 0 and answer.out.startswith("already complete (600/600 frames)")
    assert files(workplace / "runs" / "a") == before and before["slurm-1.out"] == b"mine"
    assert not (workplace / "outputs").exists()
    assert [run["directory"] for run in json.loads(rlrun("ls", "--outputs", "runs", "--json").out)] == ["runs/a"]


def test_a_name_like_an_option_is_shown_so_that_it_can_be_typed(rlrun: Any, workplace: Path) -> None:
    answer = rlrun(*SETTINGS, "run.dir=--lead")
    assert answer.code == 0 and f"rlrun resume {workplace}/--lead total_frames=1200" in answer.out
    assert rlrun("resume", f"{workplace}/--lead", "-q").code == 0


def test_more_frames_extend_it(rlrun: Any, workplace: Path) -> None:
    assert rlrun("-q", *SETTINGS, *HERE).code == 0
    longer = [text if "total_frames" not in text else "total_frames=900" for text in SETTINGS]
    assert rlrun("-q", *longer, *HERE).code == 0
    assert Run.open(workplace / "runs" / "a").manifest["frames"] == 900
    assert rlrun(*SETTINGS, *HERE).out.startswith("already complete (900/900 frames)")  # a job queued before


def test_a_logger_in_the_command_is_typed(rlrun: Any, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rlrun("-q", *SETTINGS, *HERE).code == 0
    longer = [text if "total_frames" not in text else "total_frames=900" for text in SETTINGS]
    monkeypatch.setattr("rlrun.tracking.find_spec", lambda name: None)
    answer = rlrun(*longer, *HERE, "logger=tensorboard")
    assert (answer.code, answer.errors) == (
        3,
        ["logger=tensorboard needs tensorboard: pip install 'rlrun[tensorboard]'"],
    )
    monkeypatch.undo()
    monkeypatch.chdir(workplace)
    assert rlrun(*longer, *HERE, "logger=tensorboard").code == 0
    assert any((workplace / "runs" / "a" / "tensorboard").glob("events*"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["resume=auto"], 2, "type run.dir=DIR as well"),
        (["resume=yes", "run.dir=x"], 2, "resume=yes is not known; choices: auto, never"),
        (["run.dir="], 2, "run.dir has no value; write run.dir=DIR"),
        (["run.dir='~nouser/x'"], 2, "run.dir='~nouser/x': ~ stands for no folder; write it in full"),
        (["run.dir=a", "run.dir=b"], 2, "run.dir is given twice (run.dir=a and run.dir=b)"),
        (["run.dir=file"], 5, "can't create file: Not a directory. Choose another place: run.dir=DIR"),
        (["run.dir=file/x"], 5, "can't create file/x: Not a directory. Choose another place: run.dir=DIR"),
        (["run.dir=/proc/nope"], 5, "can't create /proc/nope: "),
        ([f"run.dir={'x' * 300}"], 5, "x: File name too long. Choose another place: run.dir=DIR"),
        ([f"run.dir={'x' * 300}", "resume=auto"], 5, "x: File name too long. Choose another place: run.dir=DIR"),
        ([f"outputs={'x' * 300}"], 5, "x: File name too long. Choose another place: outputs=DIR"),
        (["-m", "seed=1,2", f"run.dir={'x' * 300}"], 5, "x: File name too long. Choose another place: run.dir=DIR"),
        (["-m", "seed=1,2", f"outputs={'x' * 300}"], 5, "x: File name too long. Choose another place: outputs=DIR"),
        ([f"run.dir={'d/' * 2500}"], 5, "d: File name too long. Choose another place: run.dir=DIR"),
        ([f"run.dir={'d/' * 1500}"], 5, "d: File name too long. Choose another place: run.dir=DIR"),
        (["run.dir=a\nb"], 2, "run.dir='a\\nb' has characters that can't be printed; choose another name"),
        (["run.dir=a\udce9"], 2, "run.dir='a\\udce9' has characters that can't be printed; choose another name"),
        (["outputs='a\nb'"], 2, "outputs='a\\nb' has characters that can't be printed; choose another name"),
        (
            ["-m", "seed=1,2", "run.dir=file"],
            5,
            "can't create file: Not a directory. Choose another place: run.dir=DIR",
        ),
    ],
)
def test_what_can_not_be(arguments: list[str], code: int, words: str, rlrun: Any, workplace: Path) -> None:
    (workplace / "file").touch()
    answer = rlrun(*SETTINGS, *arguments)
    assert answer.code == code and len(answer.errors) == 1 and words in answer.errors[0], answer.err
    assert [path.name for path in workplace.iterdir()] == ["file"]


def test_nothing_is_lost_in_a_place_that_is_taken(rlrun: Any, workplace: Path) -> None:
    assert rlrun("-q", *SETTINGS, "run.dir=runs/a").code == 0
    before = files(workplace / "runs")
    for arguments, code, words in (
        (["run.dir=runs/a"], 4, "run.dir=runs/a holds a run already; type resume=auto to go on with it"),
        ([*HERE, "seed=1"], 4, "seed: 0 -> 1 can't change on resume"),
        ([*HERE, "algo.gamma=0.5"], 4, "algo.gamma: 0.99 -> 0.5 can't change on resume"),
        ([*HERE, "-m", "seed=1,2"], 4, "run.dir=runs/a holds a single run; leave -m out"),
    ):
        answer = rlrun(*SETTINGS, *arguments)
        assert answer.code == code and words in answer.errors[0], answer.err
    with lock(workplace / "runs" / "a"):
        longer = [text if "total_frames" not in text else "total_frames=900" for text in SETTINGS]
        assert rlrun(*longer, *HERE).code == 8
    assert {name: data for name, data in files(workplace / "runs").items() if "lock" not in name} == {
        name: data for name, data in before.items() if "lock" not in name
    }


def test_nothing_of_others_is_overwritten(rlrun: Any, workplace: Path) -> None:
    for name in ("config.yaml", "metrics.jsonl", "episodes.csv", "checkpoints/step_000000000100.ckpt"):
        path = workplace / "mine" / name
        path.parent.mkdir(parents=True)
        path.write_text("mine")
        answer = rlrun(*SETTINGS, "run.dir=mine", "resume=auto")
        assert answer.code == 4 and len(answer.errors) == 1
        assert f"run.dir=mine holds {name.partition('/')[0]}, which is of no run" in answer.errors[0]
        assert path.read_text() == "mine" and not (workplace / "mine" / "run.lock").exists()
        shutil.rmtree(workplace / "mine")
    (workplace / "mine").mkdir(mode=0o777)
    (workplace / "mine").chmod(0o777)
    for sweep in ((), ("-m", "seed=1,2")):
        answer = rlrun(*SETTINGS, *sweep, "run.dir=mine")
        assert (answer.code, answer.errors) == (4, [f"everybody can write to mine; {REMEDY.format('mine')}"])


def test_what_others_can_write_to_is_not_gone_on_with(rlrun: Any, workplace: Path, fake_worker: Any) -> None:
    """Nor is --trust advised, which is for resume."""
    fake_worker()
    sweep = ("-m", "seed=1,2", "run.dir=s", "resume=auto")
    assert rlrun("-q", *sweep).code == 0
    for place in (workplace / "s", next((workplace / "s").glob("*_s2"))):
        place.chmod(0o777)
        answer = rlrun(*sweep)
        name = str(place.relative_to(workplace))
        assert (answer.code, answer.errors) == (4, [f"everybody can write to {name}; {REMEDY.format(name)}"])
        place.chmod(0o700)


def test_one_killed_while_it_was_made_begins_anew(rlrun: Any, workplace: Path) -> None:
    """Between config.yaml and run.json."""
    assert rlrun("-q", *SETTINGS, *HERE).code == 0
    (workplace / "runs" / "b" / "checkpoints").mkdir(parents=True)
    shutil.copy(workplace / "runs" / "a" / "config.yaml", workplace / "runs" / "b")
    assert rlrun("-q", *SETTINGS, "run.dir=runs/b", "resume=auto").code == 0
    assert_same_run(Run.open(workplace / "runs" / "b"), Run.open(workplace / "runs" / "a"))


def test_a_run_that_never_came_to_a_checkpoint_begins_anew(rlrun: Any, workplace: Path) -> None:
    assert rlrun("-q", *SETTINGS, *HERE).code == 0
    expected = Run.open(workplace / "runs" / "a")
    shutil.copytree(workplace / "runs" / "a", workplace / "runs" / "b")
    run = Run.open(workplace / "runs" / "b")
    for path in run.checkpoints.iterdir():
        path.unlink()
    run.update(status="running", frames=50)
    assert rlrun("-q", *SETTINGS, "run.dir=runs/b", "resume=auto").code == 0
    assert_same_run(Run.open(workplace / "runs" / "b"), expected)


def test_one_whose_checkpoints_are_all_damaged_is_not_begun_anew(rlrun: Any, workplace: Path) -> None:
    assert rlrun("-q", *SETTINGS, *HERE).code == 0
    run = Run.open(workplace / "runs" / "a")
    run.update(status="running")
    for path in run.checkpoints.glob("step_*.ckpt"):
        path.rename(f"{path}.bad")
    metrics = (run.directory / "metrics.jsonl").read_bytes()
    answer = rlrun(*SETTINGS, *HERE)
    assert answer.code == 4 and "has no checkpoint to continue from" in answer.errors[0]
    assert (run.directory / "metrics.jsonl").read_bytes() == metrics


def test_a_sweep_killed_while_it_was_made_is_completed(rlrun: Any, workplace: Path) -> None:
    sweep = ("-m", "seed=1,2,3", "sweep.workers=1", "run.dir=runs/s", "resume=auto")
    assert rlrun("-q", *SETTINGS, *sweep).code == 0
    place = workplace / "runs" / "s"
    expected = {run["seed"]: (Path(run["directory"]) / "metrics.jsonl").read_bytes() for run in listed(rlrun)}
    assert rlrun(*SETTINGS, *sweep).out.startswith("already complete (3 runs)")
    gone = next(place.glob("*_s2"))
    shutil.rmtree(gone)
    assert rlrun("-q", *SETTINGS, *sweep).code == 0
    found = {run["seed"]: (Path(run["directory"]) / "metrics.jsonl").read_bytes() for run in listed(rlrun)}
    assert found == expected
    manifest = next(place.glob("*_s3")) / "run.json"
    whole, other = manifest.read_text(), next(place.glob("*_s1")) / "run.json"
    kept = other.read_text()
    manifest.write_text(whole.replace('"job": 3', '"job": 99'))
    other.write_text("{")  # so that the number of jobs can't be held against them
    assert rlrun(*SETTINGS, *sweep).code == 4
    manifest.write_text(whole)
    other.write_text(kept)
    for arguments, words in (
        (["seed=1,2"], "has other jobs than the 2 typed"),
        (["seed=1,2,4"], "seed: 3 -> 4 can't change on resume"),
    ):
        answer = rlrun("-m", *SETTINGS, *arguments, *sweep[2:])
        assert answer.code == 4 and words in answer.errors[0]
    assert rlrun(*SETTINGS, *sweep[:-1]).code == 4
    answer = rlrun(*SETTINGS, *sweep[3:])
    assert answer.code == 4 and "holds a sweep; type -m" in answer.errors[0]


def listed(rlrun: Any) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = json.loads(rlrun("ls", "--outputs", "runs", "--json").out)
    return [run for run in runs if Path(run["directory"]).parent.name == "s"]


def saved(workplace: Path) -> str:
    """The name of the newest checkpoint that is or was there."""
    return max((path.name for path in (workplace / "runs" / "a").rglob("step_*.ckpt")), default="")


@pytest.mark.parametrize("sweep", [(), ("-m", "seed=0,1", "sweep.workers=1")], ids=["run", "sweep"])
def test_queued_again_until_done_it_equals_the_uninterrupted_one(
    sweep: tuple[str, ...], rlrun: Any, workplace: Path
) -> None:
    """``until rlrun ...; do :; done``, killed again and again."""
    settings = (*SETTINGS, "total_frames=6000", "algo.train_every=4")
    settings = tuple(text for text in settings if text != "total_frames=600")
    assert rlrun("-q", *settings, *sweep, "run.dir=runs/expected").code == 0
    command = [sys.executable, "-m", "rlrun", "-q", *settings, *sweep, *HERE]
    chance, kills = random.Random(0), 0
    while True:
        before = saved(workplace)
        process = subprocess.Popen(command, start_new_session=True)
        wait_until(lambda: process.poll() is not None or saved(workplace) > before)  # noqa: B023 called here only
        try:
            code = process.wait(timeout=60 if kills == 4 else chance.uniform(0.0, 0.2))
        except subprocess.TimeoutExpired:
            process.send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1]))
            kills += 1
            if process.wait(timeout=60) == 0:
                break
            time.sleep(0.5)  # a worker of a killed sweep looks for its parent now and then
        else:
            if code == 0:
                break
            assert code == 8  # a worker that has not noticed yet
    places = [workplace / "runs" / name for name in ("a", "expected")]
    runs = [[place] if not sweep else sorted(place.glob("*_s?"), key=lambda path: path.name[-1]) for place in places]
    for left, right in zip(*runs, strict=True):
        assert_same_run(Run.open(left), Run.open(right))


@pytest.mark.parametrize("name", ["videos/a.mp4", "exports/a", "plots/a.png", "report.html"])
@pytest.mark.parametrize("sweep", [[], ["-m", "seed=1,2"]], ids=["run", "sweep"])
def test_no_run_begins_beside_what_rm_would_take_for_its_own(
    name: str, sweep: list[str], rlrun: Any, workplace: Path
) -> None:
    mine = workplace / "mine" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    answer = rlrun(*sweep, *SETTINGS, "run.dir=mine")
    assert answer.code == 4 and f"holds {name.partition('/')[0]}, which is of no" in answer.errors[0]
    found = {path for path in (workplace / "mine").rglob("*") if path.is_file()}
    assert found - {workplace / "mine" / "run.lock"} == {mine} and mine.read_text() == "mine"

"""``rlrun reproduce``: runs that come out the same, and what is said of those that do not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from planted import plant
from support import CARTPOLE, HALFCHEETAH, PPO, Folder, Silent, merged, recorded, resumed, signal_at
from test_cli import command

from rlrun.cli.reproduce import without_addresses
from rlrun.config import from_mapping, to_mapping
from rlrun.errors import DIFFERENT
from rlrun.locks import lock
from rlrun.plain import read_yaml, to_yaml
from rlrun.run import Run
from rlrun.sweeps.resources import has_graphics_driver
from rlrun.training import train

PPO_CARTPOLE = merged(
    PPO,
    {
        "total_frames": 320, "logging": {"every_frames": 64}, "checkpoint": {"every_frames": 64},
        "evaluation": {"every_frames": 128, "episodes": 1},
    },
)  # fmt: skip


@pytest.fixture
def folder(workplace: Path) -> Folder:
    return Folder(workplace / "outputs")


def reproduced(rlrun: Any, run: Run, code: int = 0, *more: str) -> dict[str, Any]:
    answer = rlrun("reproduce", str(run.directory), "--json", *more)
    assert answer.code == code, answer.err + answer.out
    report: dict[str, Any] = json.loads(answer.out)
    assert report["equal"] is (code == 0)
    return report


def extended(run: Run, **changes: Any) -> None:
    """As ``rlrun resume`` does it."""
    from rlrun.cli.resume import extend

    opened = Run.open(run.directory)
    with opened.lock():
        extend(opened, from_mapping(merged(to_mapping(opened.config), changes)))
    assert train([opened], Silent(), resume=True)[0].status == "finished"


@pytest.mark.parametrize("settings", [CARTPOLE, HALFCHEETAH], ids=["dqn", "ppo"])
def test_a_run_comes_out_the_same(rlrun: Any, folder: Folder, settings: dict[str, Any]) -> None:
    run = folder.trained(settings, {"name": "mine", "seed": 7})
    answer = rlrun("reproduce", "latest", "-q")
    assert answer.code == 0, answer.err
    first, second = answer.out.splitlines()
    repeated = Run.open(Path(first.removeprefix("reproduction: ")))
    assert repeated.directory != run.directory and recorded(repeated) == recorded(run)
    rows = [len(content.splitlines()) for content in recorded(run)]
    assert second == (
        f"equal bit for bit: {rows[0]} lines of metrics.jsonl and {rows[1]} line{'s' if rows[1] > 1 else ''} of episodes.csv, "
        f"up to frame {run.config.total_frames}"
    )
    assert repeated.manifest["reproduces"] == run.manifest["id"]
    assert (repeated.config.name, repeated.config.seed) == ("mine", 7)


def test_the_first_row_that_differs_is_named(rlrun: Any, folder: Folder) -> None:
    run = folder.trained(CARTPOLE)
    path = run.directory / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    row = json.loads(lines[2])
    lines[2] = json.dumps(row | {"return_mean": 1.25}) + "\n"
    path.write_text("".join(lines))
    run.update(versions=run.manifest["versions"] | {"numpy": "1.0"}, git={"sha": "abc", "dirty": True})
    report = reproduced(rlrun, run, DIFFERENT)
    (difference,) = report["differences"]
    assert (difference["file"], difference["line"], difference["frames"]) == ("metrics.jsonl", 3, row["frames"])
    assert difference["what"] == f"return_mean: 1.25 -> {row['return_mean']!r}"
    assert report["changed"][0].startswith("numpy: 1.0 -> 2.") and report["changed"][1].startswith(
        "git: abc with changes -> "
    )
    answer = rlrun("reproduce", str(run.directory), "-q")
    assert answer.code == DIFFERENT and answer.err == ""
    assert f"metrics.jsonl, line 3 (frame {row['frames']}): return_mean: 1.25 -> " in answer.out
    assert "changed since:\n  numpy: 1.0 -> 2." in answer.out
    for more in ("-q", "--json"):  # nobody reads the answer: the exit code is one, too
        reader, pipe = os.pipe()
        os.close(reader)
        assert (
            subprocess.run(command("reproduce", str(run.directory), more), stdout=pipe, timeout=60).returncode
            == DIFFERENT
        )
        os.close(pipe)


def test_what_differs_earlier_comes_first_and_missing_rows_differ(rlrun: Any, folder: Folder) -> None:
    run = folder.trained(CARTPOLE)
    episodes, metrics = run.directory / "episodes.csv", run.directory / "metrics.jsonl"
    lines = episodes.read_text().splitlines(keepends=True)
    number, frames, return_, length = lines[1].split(",")
    episodes.write_text("".join([lines[0], f"{number},{frames},{float(return_) + 1},{length}", *lines[2:]]))
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:-1]))
    report = reproduced(rlrun, run, DIFFERENT)
    first, second = report["differences"]
    assert (first["file"], first["line"], first["frames"]) == ("episodes.csv", 2, int(frames))
    assert first["what"] == f"return: {float(return_) + 1} -> {return_}"
    assert second["file"] == "metrics.jsonl" and second["what"] == "only in the reproduction"
    assert report["changed"] == []
    answer = rlrun("reproduce", str(run.directory), "-q")
    assert "nothing that run.json holds has changed since" in answer.out


@pytest.mark.parametrize("settings", [CARTPOLE, PPO_CARTPOLE], ids=["dqn", "ppo"])
def test_runs_that_were_cut_short_are_compared_as_far_as_they_came(
    rlrun: Any, folder: Folder, settings: dict[str, Any]
) -> None:
    run = folder.run(settings, {"algo": {"learning_rate_schedule": "linear"}})
    with signal_at(200):
        assert train([run], Silent())[0].status == "stopped"
    report = reproduced(rlrun, run)
    assert report["frames"] == run.manifest["frames"] < run.config.total_frames and report["differences"] == []
    assert Run.open(Path(report["reproduction"])).manifest["frames"] == report["frames"]
    run.update(status="running")  # killed, with half a row behind
    with (run.directory / "metrics.jsonl").open("a") as file:
        file.write('{"type": "tra')
    reproduced(rlrun, run)
    with (run.directory / "metrics.jsonl").open("a") as file:
        file.write('in", "frames": 210}\n')
    (difference,) = reproduced(rlrun, run, DIFFERENT)["differences"]
    assert difference["frames"] == 210


def test_resumed_and_extended_runs_come_out_the_same(rlrun: Any, folder: Folder) -> None:
    moving = {"algo": {"learning_rate_schedule": "linear"}}
    reproduced(rlrun, folder.stopped_and_resumed(200, CARTPOLE, moving))
    run = folder.trained(CARTPOLE, moving)
    extended(run, total_frames=600)
    assert Run.open(run.directory).manifest["changed"] == [{"frames": 400, "settings": {"total_frames": [400, 600]}}]
    extended(run, total_frames=700, logging={"every_frames": 60})
    report = reproduced(rlrun, run)
    assert report["frames"] == 700 and report["notes"] == []
    assert Run.open(Path(report["reproduction"])).manifest["changed"] == Run.open(run.directory).manifest["changed"]


def test_a_run_stopped_in_the_middle_and_extended(rlrun: Any, folder: Folder) -> None:
    run = folder.run(PPO_CARTPOLE)
    with signal_at(150):
        train([run], Silent())
    extended(run, total_frames=448, evaluation={"every_frames": 100})
    (change,) = Run.open(run.directory).manifest["changed"]
    assert change["frames"] == 192  # the end of the rollout
    reproduced(rlrun, run)


def test_an_extension_that_was_not_written_down(rlrun: Any, folder: Folder) -> None:
    run = folder.trained(PPO_CARTPOLE)
    run.update(overrides=["algo=ppo", "total_frames=320"])
    extended(run, total_frames=448)
    opened = Run.open(run.directory)
    opened.update(changed=None)
    report = reproduced(rlrun, run)
    assert report["notes"] == ["it was extended from 320 frames to 448; taken as done when it had reached the former"]


def test_a_run_that_a_clock_ended(rlrun: Any, folder: Folder) -> None:
    run = folder.run(CARTPOLE, {"total_frames": 10**9, "stop": {"seconds": 0.3}, "evaluation": {"every_frames": 10**6}})
    assert train([run], Silent())[0].status == "finished"
    report = reproduced(rlrun, run)
    assert 0 < report["frames"] == run.manifest["frames"] < 10**9


def test_a_failed_run_fails_again(rlrun: Any, folder: Folder) -> None:
    large = {"algo": {"loss": "mse", "clip_gradient_value": None}, "env": {"reward_scale": 1e38}}
    run = folder.run(CARTPOLE, large, {"logging": {"every_frames": 10}})
    assert train([run], Silent())[0].status == "failed"
    report = reproduced(rlrun, run)
    end = f"at frame {run.manifest['frames']}: {run.manifest['failure']}"
    assert report["failure"] is None and report["both_failed"] == end and "diverged at frame" in end
    assert f"\nboth failed in the same way, {end}\n" in rlrun("reproduce", str(run.directory), "-q").out
    run.update(failure="<Env at 0x7f01> broke")
    words = f"both failed, but differently: the run at frame {run.manifest['frames']}: <Env at 0x7f01> broke; "
    assert reproduced(rlrun, run, DIFFERENT)["failure"].startswith(words + "the reproduction at frame ")
    run.update(status="stopped")
    assert "the reproduction failed: diverged at frame" in reproduced(rlrun, run, DIFFERENT)["failure"]
    good = folder.trained(CARTPOLE)
    good.update(status="failed", failure="it broke")
    assert reproduced(rlrun, good, DIFFERENT)["failure"] == "the run failed, the reproduction did not: it broke"


def test_objects_of_another_process_are_no_difference() -> None:
    then, now = (f"at frame 7: <Env at 0x{place}> broke" for place in ("7f01aa", "55d2"))
    assert without_addresses(then) == without_addresses(now) != without_addresses(now.replace("7", "8"))


def test_a_member_of_a_population_alone(rlrun: Any, workplace: Path) -> None:
    runs = [
        Run.create(from_mapping(merged({"device": "cpu"}, CARTPOLE, {"seed": seed})), {}, _sweep(workplace))
        for seed in (1, 2)
    ]
    assert [outcome.status for outcome in train(runs, Silent())] == ["finished"] * 2
    report = reproduced(rlrun, runs[1])
    assert report["changed"] == ["population: 2 -> 1"]
    assert Path(report["reproduction"]).parent.parent.name == "outputs"
    runs[1].update(alone="on CUDA bits depend on the size of the population")
    assert "population of 2, and is repeated alone: on CUDA" in reproduced(rlrun, runs[1])["notes"][0]


def _sweep(workplace: Path) -> Path:
    sweep = workplace / "outputs" / "sweeps" / "2026-01-01_120000_a"
    sweep.mkdir(parents=True, exist_ok=True)
    (sweep / "sweep.json").write_text("{}")
    return sweep


def test_what_can_not_be_reproduced_is_one_line(rlrun: Any, folder: Folder, workplace: Path) -> None:
    planted = plant(folder.path / "2026-01-01", "planted")
    run = folder.trained(CARTPOLE)
    sweep = _sweep(workplace)
    with lock(planted):
        assert rlrun("reproduce", "planted").code == 8
    before = sorted(folder.path.rglob("*"))
    for arguments, code, words in (
        (["planted"], 4, "has no row of metrics and no episode to compare"),
        ([sweep.name], 2, "is a sweep; name one of its runs"),
        ([str(run.directory), "seed=3"], 2, "seed: reproduce trains by the run's own settings"),
        (["nothing"], 4, "no run at nothing"),
    ):
        answer = rlrun("reproduce", *arguments)
        assert answer.code == code and words in answer.errors[0] and len(answer.errors) == 1, answer
    for changed in (
        "x", [1], [{"frames": 0, "settings": {}}], [{"frames": 9, "settings": {"seed": [1, 2]}}],
        [{"frames": 9, "settings": {"total_frames": ["x", 2]}}], [{"frames": 9, "settings": {}}] * 2,
        [{"frames": 9, "settings": {"stop.\x1b": [1, 2]}}], {"frames": 9},
    ):  # fmt: skip
        run.update(changed=changed)
        answer = rlrun("reproduce", str(run.directory))
        assert answer.code == 4 and "'changed'" in answer.errors[0], (changed, answer)
    run.update(changed=None, device="quantum")
    values = read_yaml(run.directory / "config.yaml")
    (run.directory / "config.yaml").write_bytes(to_yaml(merged(values, {"device": "auto"})))
    assert rlrun("reproduce", str(run.directory)).code == 4
    assert sorted(folder.path.rglob("*")) == before


def test_it_writes_where_the_user_said_and_not_the_file(rlrun: Any, folder: Folder, workplace: Path) -> None:
    run = folder.trained(CARTPOLE)
    values = read_yaml(run.directory / "config.yaml")
    (run.directory / "config.yaml").write_bytes(to_yaml(merged(values, {"outputs": str(workplace / "elsewhere")})))
    report = reproduced(rlrun, run, 0, "--outputs", "again")
    assert Path(report["reproduction"]).parts[0] == "again" and not (workplace / "elsewhere").exists()


def test_no_file_makes_it_send_or_film(rlrun: Any, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    run = folder.stopped_and_resumed(200, CARTPOLE)
    run.update(changed=[{"frames": 200, "settings": {"evaluation.video": [True, True]}}])
    values = read_yaml(run.directory / "config.yaml")
    foreign = {"logger": ["mlflow"], "logging": {"project": "theirs"}, "evaluation": {"video": True}}
    (run.directory / "config.yaml").write_bytes(to_yaml(merged(values, foreign)))
    monkeypatch.setattr("rlrun.tracking.find_spec", lambda name: None)  # nor is a package of theirs needed
    repeated = Run.open(Path(reproduced(rlrun, run)["reproduction"]))
    assert (repeated.config.logger, repeated.config.evaluation.video) == ((), False)
    assert "tracking" not in repeated.manifest and not (repeated.directory / "videos").exists()
    assert not (folder.path / "mlruns").exists()


def test_how_long_an_environment_may_take_is_typed(rlrun: Any, folder: Folder) -> None:
    run = folder.trained(CARTPOLE)
    report = reproduced(rlrun, run, 0, "env.step_timeout=7")
    assert Run.open(Path(report["reproduction"])).config.env.step_timeout == 7


@pytest.mark.skipif(has_graphics_driver(), reason="there may be a CUDA device here")
def test_a_device_that_is_not_here(rlrun: Any, folder: Folder) -> None:
    run = folder.trained(CARTPOLE)
    values = read_yaml(run.directory / "config.yaml")
    (run.directory / "config.yaml").write_bytes(to_yaml(merged(values, {"device": "cuda"})))
    run.update(device="cuda")
    report = reproduced(rlrun, run)
    assert "trained on the CPU instead" in report["notes"][0] and report["changed"] == ["device: cuda -> cpu"]


def test_an_interruption_compares_nothing(rlrun: Any, folder: Folder) -> None:
    run = folder.trained(CARTPOLE)
    with signal_at(100, signal.SIGINT):
        answer = rlrun("reproduce", str(run.directory), "-q")
    assert answer.code == 130 and "nothing is compared" in answer.out


def test_resuming_notes_no_change_where_there_is_none(folder: Folder) -> None:
    run = folder.stopped_and_resumed(200, CARTPOLE)
    assert "changed" not in Run.open(run.directory).manifest
    resumed(run, checkpoint={"keep": 1}, total_frames=500)
    assert [entry["settings"] for entry in Run.open(run.directory).manifest["changed"]] == [
        {"total_frames": [400, 500]}
    ]


def test_a_setting_that_was_not_stored_is_typed_again(
    rlrun: Any, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLRUN_TEST_TOKEN", "CartPole-v1")
    run = folder.trained(CARTPOLE)
    assert "CartPole" not in (run.directory / "config.yaml").read_text()
    answer = rlrun("reproduce", str(run.directory))
    assert answer.code == 4 and "env.id was not stored" in answer.errors[0]
    assert answer.errors[0].endswith(f"{run.directory.name} env.id=VALUE")
    report = reproduced(rlrun, run, 0, "env.id=CartPole-v1")
    assert "CartPole" not in json.dumps(report)
    assert "CartPole" not in Path(report["reproduction"], "config.yaml").read_text()

"""Loggers: what TensorBoard, Weights & Biases and MLflow have of a run, read back from what they wrote."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from rlrun.config import from_mapping
from rlrun.errors import UnavailableError, UsageError
from rlrun.metrics import read_rows
from rlrun.run import Run
from rlrun.tracking import check_installed, sender, tracking
from rlrun.tracking.folders import own_folder, turn
from rlrun.tracking.points import Feed, Point, Subject, name_of
from rlrun.training import train
from tests.support import CARTPOLE, Folder, Silent, recorded, resumed, signal_at

ALL = ("tensorboard", "wandb", "mlflow")
Curves = dict[str, dict[int, float]]
"""Name of a curve -> frame -> value."""


@pytest.fixture(autouse=True)
def own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No account, server or setting of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


# --- reading back ----------------------------------------------------------------------------------------------------


def of_metrics(run: Path, algo: str = "dqn") -> Curves:
    """What the tools are to have: every number in metrics.jsonl."""
    curves: Curves = {}
    for row in read_rows(run / "metrics.jsonl"):
        for key, value in row.items():
            if key not in ("type", "frames") and value is not None:
                curves.setdefault(name_of(algo, row["type"], key), {})[row["frames"]] = float(value)
    return curves


def of_tensorboard(run: Path) -> Curves:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    curves: Curves = {}
    for tag in events.Tags()["scalars"]:
        points = [(event.step, event.value) for event in events.Scalars(tag)]
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps)), f"{tag}: {steps}"
        curves[tag] = dict(points)
    return curves


def wandb_records(run: Path) -> list[Any]:
    """The records of the only offline run there: LevelDB's log format, blocks of 32 KiB, after a header of 7 bytes."""
    protocol = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    (file,) = (run / "wandb").glob("offline-run-*/*.wandb")
    data, at, whole, records = file.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            records.append(protocol.Record.FromString(whole))
            whole = b""
    return records


def of_wandb(run: Path) -> Curves:
    curves: Curves = {}
    steps = []
    for record in wandb_records(run):
        if record.WhichOneof("record_type") == "history":
            values = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
            }
            steps.append(values["_step"])
            assert values.pop("global_step") == values["_step"]
            for key, value in values.items():
                if not key.startswith("_"):
                    curves.setdefault(key, {})[steps[-1]] = float(value)
    assert steps == sorted(set(steps))
    return curves


def mlflow_run(run: Path, outputs: Path) -> tuple[Any, Any]:
    mlflow = pytest.importorskip("mlflow")
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    client = mlflow.MlflowClient(tracking_uri=(outputs / "mlruns").absolute().as_uri())
    experiments = [experiment for experiment in client.search_experiments() if experiment.name == "rlrun"]
    assert len(experiments) == 1
    name = f"attributes.run_name = '{run.name}'"
    (found,) = client.search_runs([experiments[0].experiment_id], name)
    return client, found


def of_mlflow(run: Path, outputs: Path) -> Curves:
    client, found = mlflow_run(run, outputs)
    curves: Curves = {}
    for key in found.data.metrics:
        points = [(metric.step, metric.value) for metric in client.get_metric_history(found.info.run_id, key)]
        assert len(points) == len(dict(points)), f"{key}: {points}"
        curves[key] = dict(points)
    return curves


def assert_all_have(run: Path, outputs: Path, *kept: int) -> None:
    """The tools have every point of metrics.jsonl, the speed at each row, and nothing else; MLflow what it was given at ``kept``, too."""
    expected = of_metrics(run)
    expected["charts/SPS"] = dict.fromkeys(expected["charts/learning_rate"], 0.0)
    for read in (of_tensorboard(run), of_wandb(run), without(of_mlflow(run, outputs), kept)):
        assert all(speed > 0 for speed in read["charts/SPS"].values())
        read["charts/SPS"] = dict.fromkeys(read["charts/SPS"], 0.0)
        assert read.keys() == expected.keys()
        for name, points in expected.items():
            assert read[name] == pytest.approx(points, rel=1e-6), name  # TensorBoard has 32 bits
    assert of_wandb(run)["losses/td_loss"] == expected["losses/td_loss"]


def without(curves: Curves, frames: Sequence[int]) -> Curves:
    return {key: {at: value for at, value in points.items() if at not in frames} for key, points in curves.items()}


# --- training --------------------------------------------------------------------------------------------------------


def test_stopped_and_resumed_a_run_has_each_point_once_in_all_tools(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "runs")
    run = folder.stopped_and_resumed(260, CARTPOLE, {"logger": ALL, "name": "mine"})
    assert recorded(run) == recorded(folder.trained(CARTPOLE, {"name": "mine"})), "loggers change training"
    assert_all_have(run.directory, folder.path)
    _, found = mlflow_run(run.directory, folder.path)
    assert found.info.status == "FINISHED" and found.data.params["algo.batch_size"] == "32"
    assert found.data.tags["algo"] == "dqn" and found.data.tags["name"] == "mine"

    assert resumed(run, total_frames=500).status == "finished"
    assert_all_have(run.directory, folder.path, 400)  # the last row, which is cut off where a run is extended
    _, found = mlflow_run(run.directory, folder.path)
    assert (found.data.params["total_frames"], found.data.tags["changed.total_frames"]) == ("400", "500")

    (start,) = [record.run for record in wandb_records(run.directory) if record.WhichOneof("record_type") == "run"]
    config = {item.key: json.loads(item.value_json) for item in start.config.update}
    assert (start.project, start.display_name, start.job_type) == ("rlrun", run.directory.name, "train")
    assert list(start.tags) == ["dqn", "cartpole-v1", "mine"]
    assert config["algo"]["batch_size"] == 32 and "versions" in config["rlrun"]


def test_a_killed_run_is_sent_to_its_last_row_and_goes_on_without_duplicates(tmp_path: Path) -> None:
    outputs = tmp_path / "runs"
    settings = ["algo.learning_starts=100", "total_frames=1000000", "logging.every_frames=200", "evaluation.episodes=2"]
    settings += ["evaluation.every_frames=300", "checkpoint.every_frames=1000", "tuned=none", f"outputs={outputs}"]
    command = [sys.executable, "-m", "rlrun", f"logger=[{','.join(ALL)}]", *settings]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        wanted = ("mlruns/*/*/metrics/charts/*", "*/*/checkpoints/step_*")
        while not all(map(any, map(outputs.glob, wanted))) and time.monotonic() < until:
            time.sleep(0.1)
        (directory,) = (path.parent for path in outputs.glob("*/*/run.json"))
    finally:
        process.kill()
        process.wait()
    with turn(directory / "metrics.jsonl", 60.0):  # who sends has ended
        assert_all_have(directory, outputs)
    assert mlflow_run(directory, outputs)[1].info.status == "KILLED"
    (ended,) = [record.exit for record in wandb_records(directory) if record.WhichOneof("record_type") == "exit"]
    assert ended.exit_code == 255

    run = Run.open(directory)
    reached = max(row["frames"] for row in read_rows(directory / "metrics.jsonl"))
    assert resumed(run, total_frames=reached + 500).status == "finished"
    assert_all_have(directory, outputs)
    assert mlflow_run(directory, outputs)[1].info.status == "FINISHED"


def test_members_of_a_sweep_are_runs_of_one_group(rlrun: Any, workplace: Path) -> None:
    answer = rlrun(
        "-m", "seed=1,2", f"logger=[{','.join(ALL)}]", "tuned=none", "total_frames=400", "name=group",
        "algo.learning_starts=100", "logging.every_frames=100", "evaluation.episodes=0",
    )  # fmt: skip
    assert answer.code == 0 and answer.errors == [], answer.err
    assert answer.err.count("rlrun: note: tensorboard --logdir outputs") == 1
    (sweep,) = (workplace / "outputs" / "sweeps").iterdir()
    members = sorted(path.parent for path in sweep.glob("*/run.json"))
    assert len(members) == 2
    for directory in members:
        assert_all_have(directory, workplace / "outputs")
        groups = [record.run.run_group for record in wandb_records(directory) if record.HasField("run")]
        assert groups == [sweep.name]
        assert mlflow_run(directory, workplace / "outputs")[1].data.tags["sweep"] == sweep.name
        shutil.rmtree(directory / "tensorboard")
    answer = rlrun("resume", str(sweep), "logger=tensorboard")
    assert answer.code == 0 and "already complete" in answer.out
    for directory in members:
        assert_all_have(directory, workplace / "outputs")


def test_tensorboard_has_the_settings_and_the_times_of_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "sesame42")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.hparams import metadata

    run = Folder(tmp_path).trained(CARTPOLE, {"logger": "tensorboard", "name": "sesame42"})
    events = accumulator.EventAccumulator(str(run.directory / "tensorboard")).Reload()
    times = {row["frames"]: row["unix_time"] for row in read_rows(run.directory / "timing.jsonl")}
    assert {event.step: event.wall_time for event in events.Scalars("charts/SPS")} == times
    (text,) = events.Tensors("hyperparameters/text_summary")
    assert b"|algo.batch_size|32|" in text.tensor_proto.string_val[0]
    assert b"|name|***|" in text.tensor_proto.string_val[0]
    start, end = (
        events.SummaryMetadata(tag).plugin_data.content
        for tag in (metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG)
    )
    hyperparameters = metadata.parse_session_start_info_plugin_data(start).hparams
    assert hyperparameters["algo.learning_rate"].number_value == 1e-3
    assert hyperparameters["algo.amsgrad"].bool_value is True and "outputs" not in hyperparameters
    assert metadata.parse_session_end_info_plugin_data(end).status == 1  # success


def test_a_finished_run_is_sent_when_a_logger_is_typed(rlrun: Any, workplace: Path) -> None:
    run = Folder(workplace / "outputs").trained(CARTPOLE)
    config = (run.directory / "config.yaml").read_bytes()
    answer = rlrun("resume", "latest", "logger=tensorboard")
    assert answer.code == 0 and "already complete" in answer.out and "tensorboard --logdir" in answer.out
    assert (
        f"\nsent to tensorboard: all that outputs/{run.directory.parent.name}/{run.directory.name} recorded\n"
        in answer.out
    )
    read = of_tensorboard(run.directory)
    assert read.pop("charts/SPS").keys() == read["charts/learning_rate"].keys()
    assert read.keys() == of_metrics(run.directory).keys()
    assert (run.directory / "config.yaml").read_bytes() == config


# --- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("-m", "seed=1,2")])
def test_a_missing_package_is_said_before_anything_is_written(
    arguments: tuple[str, ...], rlrun: Any, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlrun.tracking.find_spec", lambda name: None if name in ("wandb", "mlflow") else object())
    answer = rlrun(*arguments, "logger=[tensorboard,wandb]")
    assert (answer.code, answer.errors) == (3, ["logger=wandb needs wandb: pip install 'rlrun[wandb]'"])
    assert list(workplace.iterdir()) == []
    with pytest.raises(UnavailableError) as error:
        check_installed(["mlflow", "wandb"])
    assert len(str(error.value).splitlines()) == 2


def test_mlflow_without_its_databases_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlrun.tracking.find_spec", lambda name: None if name == "sqlalchemy" else object())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg2://me:password@host/db")
    with pytest.raises(
        UnavailableError, match="MLFLOW_TRACKING_URI=postgresql:... is a database.*: pip install mlflow"
    ):
        check_installed(["mlflow"])
    check_installed(["wandb"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://host")
    check_installed(["mlflow"])


def test_a_resumed_run_with_a_missing_package_stays_as_it_was(
    rlrun: Any, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Folder(workplace / "outputs").trained(CARTPOLE)
    before = (run.directory / "run.json").read_bytes()
    monkeypatch.setattr("rlrun.tracking.find_spec", lambda name: None)
    for settings in (["logger=mlflow"], ["logger=mlflow", "total_frames=500"]):
        answer = rlrun("resume", "latest", *settings)
        assert (answer.code, answer.errors) == (3, ["logger=mlflow needs mlflow: pip install 'rlrun[mlflow]'"])
    assert (run.directory / "run.json").read_bytes() == before


@pytest.fixture
def stopped(workplace: Path) -> Run:
    """A run with loggers, stopped before its end; what it gave them is gone."""
    run = Folder(workplace / "outputs").run(CARTPOLE, {"logger": ["tensorboard", "mlflow"]})
    with signal_at(200):
        assert train([run], Silent())[0].status == "stopped"
    shutil.rmtree(run.directory / "tensorboard")
    shutil.rmtree(workplace / "outputs" / "mlruns")
    return run


def test_a_stored_logger_goes_on_and_a_missing_package_is_a_note(
    stopped: Run, rlrun: Any, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = (stopped.directory / "config.yaml").read_bytes()
    monkeypatch.setattr("rlrun.tracking.find_spec", lambda name: None if name == "mlflow" else object())
    answer = rlrun("resume", "latest", "logger=[tensorboard,mlflow]")
    assert (answer.code, answer.errors) == (3, ["logger=mlflow needs mlflow: pip install 'rlrun[mlflow]'"])
    answer = rlrun("resume", "latest")
    assert answer.code == 0 and "note: logger=mlflow needs mlflow: pip install 'rlrun[mlflow]'; left out" in answer.err
    assert of_tensorboard(stopped.directory)["charts/updates"] == of_metrics(stopped.directory)["charts/updates"]
    assert not (workplace / "outputs" / "mlruns").exists()
    assert (stopped.directory / "config.yaml").read_bytes() == config  # where it is installed, it goes on


def test_in_a_directory_of_others_a_logger_is_typed(stopped: Run, rlrun: Any, workplace: Path) -> None:
    stopped.directory.chmod(0o777)
    answer = rlrun("resume", "latest", "--trust", "total_frames=500")
    assert answer.code == 0 and "logger=[tensorboard,mlflow] is left out" in answer.err
    assert not (stopped.directory / "tensorboard").exists() and not (workplace / "outputs" / "mlruns").exists()
    assert rlrun("resume", "latest", "--trust", "total_frames=600", "logger=tensorboard").code == 0
    assert max(of_tensorboard(stopped.directory)["charts/updates"]) == 600


def test_in_a_sweep_of_others_a_logger_is_typed(rlrun: Any, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = rlrun(
        "-m", "seed=1,2", "logger=tensorboard", "tuned=none", "total_frames=300", "evaluation.episodes=0",
        "sweep.workers=1", "algo.learning_starts=100", "logging.every_frames=100",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    (sweep,) = (workplace / "outputs" / "sweeps").iterdir()
    folders = sorted(sweep.glob("*/tensorboard"))
    for folder in folders:
        shutil.rmtree(folder)
    folders[1].parent.chmod(0o777)
    answer = rlrun("resume", str(sweep), "--trust", "total_frames=400")
    assert answer.code == 0 and answer.err.count("logger=tensorboard is left out") == 1, answer.err
    assert len(folders) == 2 and not any(folder.exists() for folder in folders)
    folders[1].parent.chmod(0o700)
    monkeypatch.setattr("rlrun.tracking.find_spec", lambda name: None)
    answer = rlrun("resume", str(sweep), "total_frames=500")
    assert answer.code == 0 and "needs tensorboard: pip install 'rlrun[tensorboard]'; left out" in answer.err
    assert rlrun("resume", str(sweep), "total_frames=600", "logger=tensorboard").code == 3
    monkeypatch.undo()
    monkeypatch.chdir(workplace)
    assert rlrun("resume", str(sweep), "total_frames=600").code == 0
    assert [max(of_tensorboard(folder.parent)["charts/updates"]) for folder in folders] == [600, 600]


def test_a_finished_run_that_a_stop_rule_ended_is_sent(rlrun: Any, workplace: Path) -> None:
    run = Folder(workplace / "outputs").trained(CARTPOLE, {"stop": {"return": 1}})
    assert run.manifest["frames"] < 400
    for settings in (["plot.figures=dqn"], ["checkpoint.keep=1"], ["evaluation.video=true"], ["logging.project=foo"]):
        answer = rlrun("resume", "latest", *settings)
        assert answer.code == 0 and "already complete" in answer.out, answer.err
    assert rlrun("resume", "latest", "logger=tensorboard", "logging.project=foo").code == 0
    assert of_tensorboard(run.directory).keys() >= of_metrics(run.directory).keys()
    answer = rlrun("resume", "latest", "total_frames=800")
    assert answer.code == 4 and "stop.return=1 was reached; change it too" in answer.errors[0]


@pytest.mark.parametrize("uri", [None, "elsewhere"])
def test_mlflow_takes_a_folder_of_runs_that_is_a_link(
    uri: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    (tmp_path / "scratch").mkdir()
    (tmp_path / "outputs").symlink_to(tmp_path / "scratch")
    if uri is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / uri / "mlruns").as_uri())
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run, view = Folder(tmp_path / "outputs").run(CARTPOLE, {"logger": "mlflow"}), Silent()
    assert [outcome.status for outcome in train([run], view)] == ["finished"]
    assert not [note for note in view.notes if "left out" in note]
    curves = of_mlflow(run.directory, tmp_path / (uri or "scratch"))
    assert curves["charts/updates"] == of_metrics(run.directory)["charts/updates"]
    assert (tmp_path / "scratch" / "mlruns").exists() is (uri is None)


def test_mlflow_refuses_a_local_store_that_is_a_link(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    (tmp_path / "victim").mkdir()
    (tmp_path / "mlruns").symlink_to(tmp_path / "victim")
    run, view = Folder(tmp_path).run(CARTPOLE, {"logger": "mlflow"}), Silent()
    train([run], view)
    assert "mlruns is a symbolic link" in view.notes[-1] and list((tmp_path / "victim").iterdir()) == []


@pytest.mark.parametrize("place", [".", "metrics", "metrics/a", "params", "..", "../../.trash"])
def test_mlflow_refuses_links_in_a_local_store(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip("rlrun.tracking.to_mlflow", exc_type=ImportError)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    subject = subject_of(tmp_path)
    module.open_run(subject, print).log([Point(1, 1.0, {"a": 1.0})])
    module.open_run(subject, print)  # it goes on with the same
    (metrics,) = (tmp_path / "mlruns").glob("*/*/metrics")
    path = Path(os.path.normpath(metrics.parent / place))
    path.rename(tmp_path / "victim")
    path.symlink_to(tmp_path / "victim")
    before = {file: file.read_bytes() for file in (tmp_path / "victim").rglob("*") if file.is_file()}
    with pytest.raises(OSError, match=f"{path} is a symbolic link"):
        module.open_run(subject, print)
    assert before == {file: file.read_bytes() for file in (tmp_path / "victim").rglob("*") if file.is_file()}


def test_tools_leave_no_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    run = Folder(tmp_path / "runs").trained(CARTPOLE, {"logger": ALL})
    assert of_wandb(run.directory) and list((tmp_path / "temporary").iterdir()) == []


def test_wandb_takes_no_settings_from_a_folder(workplace: Path) -> None:
    for name in ("wandb", ".wandb"):
        (workplace / name).mkdir()
        (workplace / name / "settings").write_text("[default]\nentity = theirs\nbase_url = http://127.0.0.1:9\n")
    (workplace / "config-defaults.yaml").write_text("theirs: {value: 1}\n")
    folder = Folder(workplace / "outputs")
    run = folder.trained(CARTPOLE, {"logger": "wandb"})
    (start,) = [record.run for record in wandb_records(run.directory) if record.WhichOneof("record_type") == "run"]
    assert start.entity == "" and "theirs" not in {item.key for item in start.config.update}

    run, view = folder.run(CARTPOLE, {"logger": "wandb"}), Silent()
    (run.directory / "wandb").mkdir()
    (run.directory / "wandb" / "settings").touch()
    train([run], view)
    (note,) = view.notes
    assert "wandb/settings would tell W&B where to send the run, and your key; remove it" in note


def test_a_tool_that_fails_is_left_out_and_the_run_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server").write_text("no folder")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "server").as_uri())
    run, view = Folder(tmp_path / "runs").run(CARTPOLE, {"logger": ["mlflow", "tensorboard"]}), Silent()
    assert [outcome.status for outcome in train([run], view)] == ["finished"]
    (failure,) = [note for note in view.notes if "left out" in note]
    assert failure.startswith("mlflow left out: ") and "rlrun resume" in failure and "\n" not in failure
    assert of_tensorboard(run.directory)["charts/updates"] == of_metrics(run.directory)["charts/updates"]


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise SystemExit(7)", "its process ended with code 7"),
        ("import time; time.sleep(60)", "not all was sent within 0.2 s"),
    ],
    ids=["dies", "hangs"],
)
def test_a_process_that_does_not_send_costs_no_run(
    program: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "COMMAND", (sys.executable, "-c", program))
    monkeypatch.setattr(tracking, "_SECONDS_TO_END", 0.2 if "within" in reason else 60.0)
    run, view = Folder(tmp_path).run(CARTPOLE, {"logger": "wandb"}), Silent()
    assert [outcome.status for outcome in train([run], view)] == ["finished"]
    (note,) = view.notes
    assert note.startswith(f"wandb left out: {reason}") and note.endswith("logger=wandb")


def test_a_tool_that_lacks_something_is_not_said_to_have_all(
    rlrun: Any, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Folder(workplace / "outputs").trained(CARTPOLE)
    said = [{"tool": "mlflow", "failure": "no network"}, *({"tool": tool, "done": ""} for tool in ("mlflow", "wandb"))]
    program = f"print({'|'.join(map(json.dumps, said))!r}.replace('|', chr(10)))"
    monkeypatch.setattr(tracking, "COMMAND", (sys.executable, "-c", program))
    answer = rlrun("resume", "latest", "logger=[mlflow,wandb]")
    assert answer.code == 0 and "note: mlflow left out: no network" in answer.out
    assert "\nsent to wandb: all that outputs/" in answer.out


class Recording:
    """A tool that keeps what it gets, and fails where a test wants it to."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.status = fails, ""
        self.frames: list[int] = []

    def log(self, points: Sequence[Point]) -> None:
        if self.fails:
            raise ConnectionError("no\n  network")
        self.frames += [point.frames for point in points]

    def close(self, status: str) -> None:
        self.status = status


def subject_of(directory: Path) -> Subject:
    return Subject(directory, "0" * 16, "dqn", "cartpole", "", None, None, directory, {}, {}, 0.0, 1)


def write_rows(directory: Path, *frames: int) -> None:
    directory.mkdir(exist_ok=True)
    with (directory / "metrics.jsonl").open("a") as metrics, (directory / "timing.jsonl").open("a") as timing:
        for frame in frames:
            metrics.write(json.dumps({"type": "train", "frames": frame, "loss": 0.5}) + "\n")
            timing.write(json.dumps({"frames": frame, "seconds": frame / 100, "unix_time": 5.0 + frame}) + "\n")


def test_one_run_that_can_not_be_sent_spares_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = {tmp_path / "a": Recording(fails=True), tmp_path / "b": Recording(fails=True), tmp_path / "c": Recording()}
    for directory in tools:
        write_rows(directory, 10, 20)
    monkeypatch.setattr(sender, "opener", lambda tool: lambda subject, say: tools[subject.directory])
    with (tmp_path / "out").open("w") as stream:
        sending = sender.Sending("tool", dict(enumerate(map(subject_of, tools))), sender.Output(stream))
        sending.start()
        write_rows(tmp_path / "c", 30)
        for run in range(3):
            sending.end(run, "stopped")
        sending.join(30)
    assert not sending.is_alive()
    assert tools[tmp_path / "c"].frames == [10, 20, 30] and tools[tmp_path / "c"].status == "stopped"
    said = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert said == [{"tool": "tool", "failure": "no network"}, {"tool": "tool", "done": ""}]  # the failure once


# --- rows --------------------------------------------------------------------------------------------------------------


def test_names_are_those_that_dashboards_know() -> None:
    names = {
        key: name_of("ppo", "train", key) for key in ("return_mean", "critic_loss", "approximate_kl", "loss", "new")
    }
    assert names == {
        "return_mean": "charts/episodic_return", "critic_loss": "losses/value_loss",
        "approximate_kl": "losses/approx_kl", "loss": "losses/loss", "new": "losses/new",
    }  # fmt: skip
    assert name_of("dqn", "train", "loss") == "losses/td_loss"
    assert name_of("dqn", "evaluation", "return_mean") == "eval/return_mean"


def test_rows_are_followed_as_they_are_written(tmp_path: Path) -> None:
    feed = Feed(tmp_path, "dqn")
    assert feed.new() == []
    write_rows(tmp_path, 100)
    assert feed.new() == [Point(100, 105.0, {"losses/td_loss": 0.5, "charts/SPS": 100.0})]
    evaluation = json.dumps(
        {"type": "evaluation", "frames": 150, "return_mean": None, "nonfinite": {"return_mean": "inf"}}
    )
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(evaluation[:20])
        file.flush()
        assert feed.new() == []  # half a row is none
        file.write(evaluation[20:] + "\n")
    write_rows(tmp_path, 200)
    first, second = feed.new()
    assert first == Point(150, 205.0, {"eval/return_mean": float("inf")})  # written with the row of 200
    assert (second.frames, second.values["charts/SPS"]) == (200, 100.0)
    assert feed.new() == []


def test_what_tools_are_told_has_no_secrets_and_no_forged_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "sesame-42")
    monkeypatch.setenv("WANDB_PROJECT", "CartPole")  # a word, and no secret
    run = Folder(tmp_path).run(CARTPOLE, {"env": {"kwargs": {"note": "sesame-42"}}})
    for forged in (None, 7, "../../etc", "ABCDEF0123456789"):
        run.manifest["tracking"] = forged
        told = tracking._subject(run)
        assert set(told["id"]) <= set("0123456789abcdef") and len(told["id"]) == 16
    assert (
        tracking._subject(run)["id"] == told["id"] == json.loads((run.directory / "run.json").read_text())["tracking"]
    )
    assert "sesame" not in json.dumps(told) and told["config"]["env"]["id"] == "CartPole-v1"


@pytest.mark.parametrize(
    ("run", "outputs"),
    [
        ("outputs/2026-11-25/120000_dqn_s0", "outputs"),
        ("/data/runs/sweeps/2026-11-25_120000_dqn/120000_dqn_s0", "/data/runs"),
        ("runs/a", "runs"),
        ("a", "."),
    ],
)
def test_what_several_runs_share_lies_in_the_folder_of_runs(run: str, outputs: str) -> None:
    assert tracking.outputs_of(Path(run)) == Path(outputs)


def test_online_wandb_gets_what_it_does_not_have() -> None:
    module = pytest.importorskip("rlrun.tracking.to_wandb", exc_type=ImportError)
    run = mock.Mock(starting_step=201)  # it has all up to frame 200
    tool = module.WandB(run, offline=False)
    tool.log([Point(100, 1.0, {"a": 1.0}), Point(200, 2.0, {"a": 2.0}), Point(300, 3.0, {"a": 3.0})])
    run.log.assert_called_once_with({"a": 3.0, "global_step": 300, "_timestamp": 3.0}, step=300)
    tool.close("failed")
    run.finish.assert_called_once_with(exit_code=1)


@pytest.mark.parametrize(
    ("settings", "host", "logged_in"),
    [
        ("", "api.wandb.ai", True),
        ("base_url = https://wandb.lab:8080", "wandb.lab:8080", True),
        ("base_url = https://wandb.lab:8080", "wandb.lab", True),
        ("base_url = https://wandb.lab:8080", "api.wandb.ai", False),
    ],
)
def test_a_key_is_looked_for_under_the_host_that_the_user_has_set(
    settings: str, host: str, logged_in: bool, tmp_path: Path
) -> None:
    module = pytest.importorskip("rlrun.tracking.to_wandb", exc_type=ImportError)
    (tmp_path / ".config" / "wandb").mkdir(parents=True)
    (tmp_path / ".config" / "wandb" / "settings").write_text(f"[default]\n{settings}\n")
    Path(os.environ["NETRC"]).write_text(f"machine {host} login user password {'a' * 40}\n")
    try:
        assert module._is_logged_in() is logged_in
    finally:
        module.wandb.teardown()


def test_a_new_run_does_not_take_over_what_other_tools_wrote(rlrun: Any, workplace: Path) -> None:
    for name in ("tensorboard", "wandb"):
        place = workplace / name / name
        place.mkdir(parents=True)
        (place / "events.out.tfevents.1").touch()
        answer = rlrun(f"run.dir={name}", "logger=tensorboard")
        assert (answer.code, answer.errors) == (
            4,
            [f"run.dir={name} holds {name}, which is of no run; choose another place"],
        )
        assert (place / "events.out.tfevents.1").exists()


def test_the_tools_folders_are_the_runs_own_and_of_one_process(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tensorboard").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        own_folder(tmp_path / "tensorboard")
    with pytest.raises(FileNotFoundError):
        own_folder(tmp_path / "deleted" / "tensorboard")  # the run is not made anew
    with turn(tmp_path, 0.0), pytest.raises(TimeoutError), turn(tmp_path, 0.0):
        pass
    with turn(tmp_path, 0.0):
        """It is free again."""


# --- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "loggers"), [("wandb", ("wandb",)), ([], ()), (["mlflow", "wandb"], ("mlflow", "wandb"))]
)
def test_a_bare_word_is_a_list_of_one(value: Any, loggers: tuple[str, ...]) -> None:
    assert from_mapping({"logger": value}).logger == loggers


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (
            "wandbb",
            "logger=wandbb is not known; choices: tensorboard, wandb, mlflow; for none: []; did you mean 'wandb'?",
        ),
        (["wandb", "wandb"], "logger=[wandb,wandb] names one twice; keep one"),
        (3, "logger: expected tensorboard, wandb or mlflow or a list of them, got 3"),
        (None, "logger: expected tensorboard, wandb or mlflow or a list of them, got null"),
    ],
)
def test_what_is_no_logger_is_one_line(value: Any, line: str) -> None:
    with pytest.raises(UsageError) as error:
        from_mapping({"logger": value})
    assert str(error.value) == line


def test_loggers_are_typed_as_any_setting(rlrun: Any) -> None:
    assert "logger:\n- wandb\n" in rlrun("--cfg", "job", "logger=wandb").out
    assert "write one list: logger=[wandb,mlflow]" in rlrun("logger=wandb,mlflow").err
    assert rlrun("-m", "logger=wandb,mlflow").errors == [
        "logger can't be swept; a sweep has one list of them: logger=[tensorboard,wandb]"
    ]
    assert "logging.project=NAME" in rlrun("logger.wandb=1").err

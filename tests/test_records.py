"""Choosing runs by what is typed, grouping them over seeds, and reading their curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import config_of, merged

from rlrun.config import to_mapping
from rlrun.errors import ResumeError
from rlrun.plain import read_yaml, to_yaml
from rlrun.reports.records import Record, differing, duplicates, group, once, read_record, select
from rlrun.run import Run


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


def made(outputs: Path, sweep: str = "", overrides: tuple[str, ...] = (), **settings: Any) -> Run:
    """A run, in ``sweep`` if one is named."""
    place = outputs / "sweeps" / sweep if sweep else None
    if place:
        place.mkdir(parents=True, exist_ok=True)
        (place / "sweep.json").write_text("{}")
    return Run.create(config_of(settings, {"outputs": str(outputs)}), {"overrides": list(overrides)}, place)


def names(records: list[Record]) -> list[str]:
    return [record.name for record in records]


def test_a_sweep_a_run_and_globs_are_chosen_each_run_once(outputs: Path) -> None:
    first, second = made(outputs, "2026-01-01_0_a", seed=1), made(outputs, "2026-01-01_0_a", seed=2)
    single = made(outputs, name="alone")
    assert names(select(["2026-01-01_0_a"], outputs).records) == [first.directory.name, second.directory.name]
    assert names(select([str(single.directory), "*alone*"], outputs).records) == [single.directory.name]
    assert len(select([str(outputs / "*" / "*")], outputs).records) == 3  # a run and a sweep of two
    assert select(["*_a"], outputs).records[0].sweep == outputs / "sweeps" / "2026-01-01_0_a"
    with pytest.raises(ResumeError, match=r"no run or sweep fits \*zzz\*"):
        select(["*zzz*"], outputs)


def test_an_unreadable_member_is_named_and_the_others_stay(outputs: Path) -> None:
    good, bad = made(outputs, "s", seed=1), made(outputs, "s", seed=2)
    (bad.directory / "run.json").write_text("{")
    selection = select(["s"], outputs)
    assert names(selection.records) == [good.directory.name] and list(selection.unreadable) == [bad.directory.name]
    with pytest.raises(ResumeError, match=r"run\.json"):
        select([str(bad.directory)], outputs)
    good.directory.joinpath("run.json").write_text("[]")
    with pytest.raises(ResumeError, match="not the manifest"):
        select(["s"], outputs)


def test_groups_differ_in_settings_and_not_in_what_changes_no_result(outputs: Path) -> None:
    for seed in (1, 2):
        for rate in (0.1, 0.2):
            made(outputs, seed=seed, algo={"name": "dqn", "learning_rate": rate}, checkpoint={"keep": seed})
    records = [read_record(path.parent) for path in sorted(outputs.glob("*/*/run.json"))]
    groups = group(records)
    assert sorted(each.label for each in groups) == ["learning_rate=0.1", "learning_rate=0.2"]
    assert [len(each.records) for each in groups] == [2, 2]
    assert groups[0].settings.keys() == {"algo.learning_rate"}
    assert [each.label for each in group(records[:1])] == ["dqn cartpole-v1"]


def test_labels_use_as_few_settings_as_tell_the_groups_apart(outputs: Path) -> None:
    runs = [made(outputs, algo={"name": name}, overrides=(f"algo={name}",)) for name in ("dqn", "ppo")]
    runs.append(made(outputs, algo={"name": "ppo", "gamma": 0.5}, overrides=("algo.gamma=0.5",)))
    groups = group([read_record(run.directory) for run in runs])
    assert [each.label for each in groups] == ["algo=dqn, gamma=0.99", "algo=ppo, gamma=0.99", "algo=ppo, gamma=0.5"]


def test_equal_sweeps_stay_apart(outputs: Path) -> None:
    for sweep in ("one", "two"):
        made(outputs, sweep, seed=1)
    groups = group(select(["one", "two"], outputs).records)
    assert [each.label for each in groups] == ["one", "two"]


def test_curves_are_in_the_order_of_frames_without_holes(outputs: Path) -> None:
    run = made(outputs)
    rows = [
        {"type": "evaluation", "frames": 20, "return_mean": 2.0},
        {"type": "train", "frames": 10, "return_mean": 9.0},
        {"type": "evaluation", "frames": 10, "return_mean": 1},
        {"type": "evaluation", "frames": 30, "return_mean": None},
        {"type": "evaluation", "frames": 40, "return_mean": True},
        {"type": "evaluation", "frames": "50", "return_mean": 1.0},
    ]
    (run.directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run.directory / "timing.jsonl").write_text('{"frames": 10, "seconds": 1.0}\n{"frames": 20, "seconds": 3.0}\n')
    record = read_record(run.directory)
    frames, values = record.curve("evaluation", "return_mean")
    assert frames.tolist() == [10, 20] and values.tolist() == [1, 2]
    assert record.seconds_at(np.array([5.0, 15, 99])).tolist() == [0.5, 2, 3]
    assert np.isnan(read_record(made(outputs).directory).seconds_at(np.array([1.0]))).all()


@pytest.mark.parametrize("text", ["a: 1\n? b\n: 2\n", "{a: 1}\n", "# note\na: 1\n\n", "a:\n  b: [1,\n  2]\nc: x\n"])
def test_settings_are_read_as_yaml_has_them(outputs: Path, text: str) -> None:
    run = made(outputs)
    (run.directory / "config.yaml").write_text(text)
    flat = read_record(run.directory).settings
    whole = read_yaml(run.directory / "config.yaml")
    assert {key.partition(".")[0] for key in flat} == {"engine", *whole}
    assert flat.get("a.b", flat.get("a")) == (whole["a"]["b"] if isinstance(whole["a"], dict) else whole["a"])


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2\n", "a: &x 1\nb: *x\n", "- 1\n", "a: !!python/name:os.system\n", "a: [\n"]
)
def test_settings_that_are_no_plain_mapping_are_refused(outputs: Path, text: str) -> None:
    run = made(outputs)
    (run.directory / "config.yaml").write_text(text)
    with pytest.raises(ResumeError, match=r"config\.yaml"):
        read_record(run.directory)


def test_a_config_is_read_as_it_was_written(outputs: Path) -> None:
    config = config_of({"env": {"kwargs": {"x": {"y": "- z\n\nq: 1"}}}, "outputs": str(outputs)})
    run = Run.create(config, {})
    settings = read_record(run.directory).settings
    assert settings["env.kwargs.x.y"] == "- z\n\nq: 1"
    assert to_yaml(to_mapping(config)) == (run.directory / "config.yaml").read_bytes()


def test_differing_keys() -> None:
    assert differing([{"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 0}]) == ["b", "c"]
    assert differing([{"a": 1}]) == []
    assert differing([{"a": None, "b": None}, {"b": None}]) == ["a"]


def test_what_auto_has_become_is_no_other_setting(outputs: Path) -> None:
    chosen, typed, waiting, other = (made(outputs, seed=seed) for seed in range(4))
    chosen.update(device="cpu")
    change(chosen, device="auto")
    change(waiting, device="auto")
    waiting.update(device="auto")
    change(typed, hardware={"device": "cuda"})
    records = [read_record(run.directory) for run in (waiting, chosen, typed)]
    (only,) = group(records)
    assert {record.seed for record in only.records} == {0, 1, 2}
    other.update(device="cuda:1")
    first, second = group([*records, read_record(other.directory)])
    assert (first.label, second.label) == ("device=cpu", "device=cuda")
    assert len(first.records) == 3 and first.settings == {"device": "cpu"}


def change(run: Run, **settings: Any) -> None:
    path = run.directory / "config.yaml"
    path.write_bytes(to_yaml(merged(read_yaml(path), settings)))


def test_runs_of_before_there_were_engines_are_of_the_only_one_there_was(outputs: Path) -> None:
    old, new = made(outputs, seed=1), made(outputs, seed=2)
    path = old.directory / "config.yaml"
    path.write_bytes(to_yaml({key: value for key, value in read_yaml(path).items() if key != "engine"}))
    assert b"engine" not in path.read_bytes()
    records = [read_record(run.directory) for run in (old, new)]
    assert [record.settings["engine"] for record in records] == ["rlrun", "rlrun"]
    assert len(group(records)) == 1


def test_runs_of_a_group_come_by_seed(outputs: Path) -> None:
    records = [read_record(made(outputs, seed=seed).directory) for seed in (3, 1, 2)]
    assert [record.seed for record in group(records)[0].records] == [1, 2, 3]


def test_the_newest_run_of_a_seed_counts(outputs: Path) -> None:
    runs = [made(outputs, seed=seed) for seed in (7, 7, 7, 5)]
    for day, (run, status) in enumerate(zip(runs, ("finished", "finished", "failed", "finished"), strict=True), 1):
        run.update(status=status, created=f"2026-01-0{day}")
    first, second, failed, other = (read_record(run.directory) for run in runs)
    assert once([first, failed, second, other]) == ([other, failed], [(first, failed), (second, failed)])
    assert duplicates(group([second, failed, first, other])) == [(first, second)]  # one that failed replaces none


def test_labels_leave_out_what_is_not_set(outputs: Path) -> None:
    runs = [made(outputs), made(outputs, env={"id": "CartPole-v1", "kwargs": {"at": 7}}, name="x")]
    runs.append(made(outputs, env={"id": "CartPole-v1", "kwargs": {"at": 7}}))
    labels = [each.label for each in group([read_record(run.directory) for run in runs])]
    assert labels == ["dqn cartpole-v1", "name=x, kwargs.at=7", "kwargs.at=7"]

"""A small part of the fuzzer, and what it has found so far."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from support import DQN, Folder, Silent

from benchmarks.reliability import fuzz, fuzz_inputs
from rlrun import checkpoint
from rlrun.config import from_mapping
from rlrun.errors import ResumeError
from rlrun.finding import runs_in
from rlrun.run import Run
from rlrun.sweeps.jobs import Job
from rlrun.training import train

CASES = 200


def test_some_hundred_cases(workplace: Path) -> None:
    assert fuzz.run(CASES, seed=0) == []


def test_it_finds_a_bug(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("rlrun.cli.overrides._unparsed", raising)
    monkeypatch.setattr(fuzz, "KINDS", (fuzz._command_line,))
    assert any("exit code 70" in line for line in fuzz.run(60, seed=1))


def test_it_finds_a_reader_that_writes(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def writing(folder: Path) -> Any:
        (folder / "cache").write_text("")
        return runs_in(folder)

    monkeypatch.setattr("rlrun.finding.runs_in", writing)
    monkeypatch.setattr(fuzz, "KINDS", (fuzz._read,))
    assert any("and changed" in line and "/cache'" in line for line in fuzz.run(60, seed=1))


def test_it_finds_settings_that_get_lost(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Job(from_mapping({"algo": {"name": "ppo"}, "total_frames": 12345}), ())
    with monkeypatch.context() as patch:
        patch.setattr("rlrun.cli.application.make_job", lambda *_: lost)
        patch.setattr("benchmarks.reliability.fuzz_workshop.Workshop.prepare", lambda shop: None)
        patch.setattr(fuzz, "KINDS", (fuzz._command_line,))
        findings = fuzz.run(60, seed=1)
    assert any("became" in line for line in findings)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("# @packa\nseed: 1\n", "'# @packa' is no header of Hydra"),
        ("# @package [global_\n", "'# @package [global_' is no header of Hydra"),
        ("# @package a..b\nseed: 1\n", "is no header of Hydra"),
        ("# @package hydra\nseed: 1\n", "# @package hydra sets Hydra itself, which can run code"),
        ("# @package a b\nseed: 1\n", "is no header of Hydra; write # @package _global_"),
        ("# @package _global_\ndefaults:\n  - nope\n", "Could not load 'experiment/nope'"),
        ("3\n", "expected a mapping of settings, got 3"),
        ("[a]\n", "expected a mapping of settings"),
        (
            f"# @package _global_\nalgo:\n  batch_size: {10**400}\n",
            "is out of range; the largest number is 9223372036854775807",
        ),
        (f"# @package _global_\nalgo:\n  gamma: {10**400}\n", "algo.gamma: expected a number in [0, 1]"),
        ("# @package _global_\nalgo:\n  name: []\n", "unknown algo []"),
        ("# @package _global_\nsweep:\n  max_jobs: .inf\n", "sweep.max_jobs: expected an integer >= 1, got inf"),
    ],
)
def test_own_configs(content: str, words: str, rlrun: Any, workplace: Path) -> None:
    file = workplace / "mine" / "experiment" / "own.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    answer = rlrun("--config-dir", "mine", "experiment=own", "-m", "seed=1,2")
    assert answer.code == 2 and len(answer.errors) == 1
    assert words.replace("'", "") in answer.errors[0].replace("'", "")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("", float("inf")),
        ("loop.handled", "ppo"), ("loop.seconds", [[]]), ("loop.episodes", "x"), ("loop.recent", [[1.0]]), ("loop.recent", [3]),
        ("loop.best", {"return_mean": "x", "frames": 1}), ("loop.evaluation", [[]]), ("loop", []), ("offsets", "cpu"), ("offsets", [1]),
        ("training", None),
    ],
)  # fmt: skip
def test_forged_checkpoints(place: str, value: Any, tmp_path: Path) -> None:
    """Their digests are right."""
    run = Folder(tmp_path).trained(DQN, {"total_frames": 80, "evaluation": {"episodes": 0}})
    newest = max(run.checkpoints.glob("step_*.ckpt"))
    header, tree = checkpoint.load(newest)
    forged: dict[str, Any] = {"tree": tree}
    *parents, last = f"tree.{place}".rstrip(".").split(".")
    target = forged
    for parent in parents:
        target = target[parent]
    target[last] = value
    checkpoint.save(newest, header, forged["tree"])
    with pytest.raises(ResumeError):
        train([Run.open(run.directory)], Silent(), resume=True)


def test_forged_headers_make_no_lines_of_their_own(rlrun: Any, workplace: Path) -> None:
    run = Folder(workplace / "outputs").trained(DQN, {"total_frames": 80, "evaluation": {"episodes": 0}})
    newest = max(run.checkpoints.glob("step_*.ckpt"))
    header, tree = checkpoint.load(newest)
    text = "a\nthe file is fine; mend it with: curl"
    header["config"]["env"]["kwargs"] = {text: text}
    checkpoint.save(newest, header, tree)
    for command in (["eval", "latest"], ["resume", "latest", "total_frames=90"]):
        answer = rlrun(*command)
        assert answer.code == 4 and len(answer.errors) == 1 and "athe file is fine" in answer.errors[0]


@pytest.mark.parametrize("config", ["finished", ["a"], None, 3])
def test_forged_headers(config: Any, rlrun: Any, workplace: Path) -> None:
    run = Folder(workplace / "outputs").trained(DQN, {"total_frames": 80, "evaluation": {"episodes": 0}})
    newest = max(run.checkpoints.glob("step_*.ckpt"))
    header, tree = checkpoint.load(newest)
    checkpoint.save(newest, header | {"config": config}, tree)
    for command in (["eval", "latest"], ["resume", "latest", "total_frames=90"]):
        answer = rlrun(*command)
        assert answer.code == 4 and "does not say which config it is of" in answer.errors[0]


def test_whatever_hydra_stumbles_over_is_one_line(rlrun: Any, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumbling(*_: Any, **__: Any) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr("hydra._internal.config_loader_impl.ConfigLoaderImpl.load_configuration", stumbling)
    answer = rlrun("seed=1")
    assert answer.code == 2 and answer.errors == ["Hydra can't compose this: list index out of range"]


@pytest.mark.parametrize(
    "line", ["export latest -o X", "report latest -o X", "plot latest -o X", "ls --outputs X", "gc --outputs X"]
)
def test_a_path_too_long_for_the_system_is_one_line(line: str, rlrun: Any, workplace: Path) -> None:
    Folder(workplace / "outputs").trained(DQN, {"total_frames": 80, "evaluation": {"episodes": 1}})
    answer = rlrun(*line.replace("X", "9" * 400).split())
    assert answer.code in (0, 2, 4, 5) and len(answer.errors) == (answer.code != 0)


def test_inputs_repeat_themselves() -> None:
    """So that a finding can be seen again."""
    assert [fuzz_inputs.line(Random(3)) for _ in range(2)] == [fuzz_inputs.line(Random(3))] * 2

"""``rlrun show`` and ``rlrun diff``: what they say of runs and sweeps, whoever wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from planted import checkpoint, plant, plant_sweep


@pytest.fixture
def outputs(workplace: Path) -> Path:
    return workplace / "outputs"


def section(answer: Any, title: str) -> list[str]:
    """The lines below a title."""
    assert answer.code == 0, answer.err
    lines = answer.out.split(f"\n{title}\n")[1].split("\n\n")[0].splitlines()
    return [line.removeprefix("  ") for line in lines]


def facts(answer: Any) -> dict[str, str]:
    lines = answer.out.split("\n\n")[0].splitlines()[1:]
    return {line[2:14].strip(): line[15:] for line in lines}


def test_a_run_on_one_screen(rlrun: Any, outputs: Path) -> None:
    directory = plant(
        outputs / "2026-01-01",
        "mine",
        7200,
        {"algo": {"name": "dqn", "gamma": 0.9}, "evaluation": {"episodes": 3}},
        status="failed",
        failure="diverged at <b>frame</b> 7\x1b[31m",
        overrides=[
            "algo.gamma=0.9",
            "--experimental-rerun=x",
            "env.allow_import=evil",
            "hydra.searchpath=[pkg://evil]",
            "name=a b",
        ],
        exact=False,
        inexact_because=["torch: 1 -> 2"],
        git={"sha": "abc", "dirty": True},
        best={"return_mean": 12.5, "return_std": 0.5, "episodes": 3, "frames": 50},
        population={"size": 4},
        alone="the same bits",
        resumed=2,
    )
    checkpoint(directory, "step_000000000100.ckpt", 100)
    checkpoint(directory, "best.ckpt", 50)
    (directory / "checkpoints" / "step_000000000050.ckpt").write_bytes(b"PK nonsense")
    (directory / "checkpoints" / "step_000000000020.ckpt.bad").write_bytes(b"x")
    answer = rlrun("show", "mine")
    assert answer.out.startswith("mine  failed\n") and "\x1b" not in answer.out
    said = facts(answer)
    assert said["reason"] == "diverged at <b>frame</b> 7[31m"
    assert said["what"] == "dqn on cartpole-v1 (CartPole-v1), seed 0" and "2h ago" in said["begun"]
    assert said["exact"] == "no: torch: 1 -> 2; trained in a population of 4, the same bits alone"
    assert said["git"] == "abc, with changes" and said["updated"].endswith("resumed 2 times")
    assert said["best"].startswith("return 12.5 ± 0.5") and said["frames"] == "100/100, 50 frames/s"
    assert section(answer, "settings that are not rlrun's defaults") == [
        "device               cpu  (default auto)",
        "algo.gamma           0.9  (default 0.99)",
        "evaluation.episodes  3    (default 10)",
    ]
    assert section(answer, "typed") == [
        "rlrun algo.gamma=0.9 'name=a b'",  # what could run foreign code is nothing to paste
        "left out: 3 words of run.json: no plain settings, or yours to choose (outputs, logger)",
    ]
    lines = section(answer, "checkpoints")
    assert [line.split()[0] for line in lines] == [
        "step_000000000050.ckpt", "step_000000000100.ckpt", "best.ckpt", "step_000000000020.ckpt.bad",
    ]  # fmt: skip
    assert "unusable: is malformed" in lines[0] and lines[1].endswith("frame 100") and lines[2].endswith("frame 50")
    assert section(answer, "next") == [
        f"rlrun {verb} outputs/2026-01-01/mine" for verb in ("eval", "resume", "reproduce")
    ]
    stored = json.loads(rlrun("show", "mine", "--json").out)
    assert stored["changed"]["algo.gamma"] == {"value": 0.9, "default": 0.99} and stored["settings"]["seed"] == 0
    assert [each["frames"] for each in stored["checkpoints"]] == [None, 100, 50, None]
    assert stored["status"] == "failed" and stored["size"] > 500


ODD = [10**400, "text", True, [1], {"a": [{}]}, None, "\x1b[2J"]


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_a_run_json_may_say_anything(rlrun: Any, outputs: Path, value: Any) -> None:
    directory = plant(outputs / "2026-01-01", "odd")
    known = json.loads((directory / "run.json").read_text())
    keys = ("best", "seconds", "wall_seconds", "population", "alone", "machine", "git", "versions", "numerics")
    keys += (
        "resumed",
        "episodes",
        "exact",
        "inexact_because",
        "overrides",
        "failure",
        "tuned",
        "implementation",
        "job",
    )
    for key in keys:
        (directory / "run.json").write_text(json.dumps(known | {key: value}))
        for command in (["show", "odd"], ["show", "odd", "--json"], ["diff", "odd", "odd", "--all"], ["ls"]):
            answer = rlrun(*command)
            assert answer.code == 0 and "\x1b" not in answer.out, (key, answer.err)


def test_a_sweep_shows_its_table(rlrun: Any, outputs: Path) -> None:
    sweep = plant_sweep(outputs, "2026-01-01_120000_a", {"120000_a_s1": 1.0, "120000_a_s2": 4.0})
    plant(sweep, "120000_a_s3", status="failed", failure="it\nbroke", job=3, seed=3)
    plant(sweep, "broken").joinpath("run.json").write_text("{")
    answer = rlrun("show", "2026-01-01")
    assert "3 runs: 2 finished, 1 failed" in answer.out.splitlines()[0]
    assert "#3 120000_a_s3: it broke" in answer.out and "broken: " in answer.out
    shown = json.loads(rlrun("show", "2026-01-01", "--json").out)
    assert [job["return_mean"] for job in shown["jobs"][:2]] == [1.0, 4.0]
    assert shown["groups"][0]["statistics"]["iqm"] == 2.5 and list(shown["unreadable"]) == ["broken"]


def test_what_is_not_there_is_one_line(rlrun: Any, outputs: Path) -> None:
    directory = plant(outputs / "2026-01-01", "mine")
    assert rlrun("show", "mien").errors == ["no run at mien; nearest: mine"]
    (directory / "config.yaml").unlink()
    answer = rlrun("show", "mine")
    assert answer.code == 4 and "config.yaml: No such file" in answer.errors[0]


# --- diff ------------------------------------------------------------------------------------------------------------


def test_two_runs_differ_in_these_settings(rlrun: Any, outputs: Path) -> None:
    plant(outputs / "d", "a", settings={"seed": 1}, git={"sha": "x"}, versions={"torch": "1"})
    plant(
        outputs / "d",
        "b",
        settings={"seed": 2, "algo": {"name": "dqn", "clip_gradient_value": None}},
        versions={"torch": "2"},
    )
    assert [line.split() for line in rlrun("diff", "a", "b").out.splitlines()] == [
        ["setting", "a", "b"],
        ["seed", "1", "2"],
        ["algo.clip_gradient_value", "100.0", "null"],
    ]
    assert json.loads(rlrun("diff", "a", "b", "--all", "--json").out) == {
        "settings": {"seed": [1, 2], "algo.clip_gradient_value": [100.0, None]},
        "facts": {"versions.torch": ["1", "2"], "git.sha": ["x", None]},
    }
    assert rlrun("diff", "a", "a").out == "no setting differs between a and a\n"
    assert rlrun("diff", "a").code == 2 and rlrun("diff", "a", "zzzzzz").code == 4


def test_algorithms_have_settings_of_their_own(rlrun: Any, outputs: Path) -> None:
    plant(outputs / "d", "a")
    plant(outputs / "d", "b", settings={"algo": {"name": "ppo"}})
    rows = [line.split() for line in rlrun("diff", "a", "b").out.splitlines()]
    assert ["algo.double", "false", "-"] in rows and ["algo.gae_lambda", "-", "0.95"] in rows
    assert json.loads(rlrun("diff", "a", "b", "--json").out)["settings"]["algo.double"] == [False, None]


def test_a_sweep_has_several_values(rlrun: Any, outputs: Path) -> None:
    plant_sweep(outputs, "2026-01-01_120000_a", {"120000_a_s1": 1.0, "120000_a_s2": 4.0})
    plant(outputs / "d", "b", settings={"seed": 2})
    rows = [line.split() for line in rlrun("diff", "2026-01-01_120000_a", "b").out.splitlines()]
    assert rows[1:] == [["seed", "1,", "2", "2"]]
    answer = json.loads(rlrun("diff", "2026-01-01_120000_a", "b", "--json").out)
    assert answer["settings"] == {"seed": [{"varies": [1, 2]}, 2]}

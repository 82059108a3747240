"""rlrun compare, from the command line."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comparing import finished_run, rate
from conftest import Answer

from rlrun.reports.tables import Table, fits, markdown_of, spreadsheet_cell, text_of

Command = Callable[..., Answer]


@pytest.fixture
def sweep(workplace: Path) -> Path:
    """Two learning rates, five seeds each, far apart, and a failed sixth one."""
    outputs = workplace / "outputs"
    for seed in range(5):
        finished_run(outputs, 10.0 + seed, seed=seed, sweep="2026-01-01_0_s", **rate(0.1))
        finished_run(outputs, 20.0 + seed, seed=seed, sweep="2026-01-01_0_s", **rate(0.2))
    finished_run(outputs, 1.0, seed=5, sweep="2026-01-01_0_s", manifest={"status": "failed"}, **rate(0.1))
    return outputs


def test_text_fits_80_columns_and_says_what_is_shown(
    rlrun: Command, sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    answer = rlrun("compare", "2026-01-01_0_s", "--threshold", "21")
    assert answer.code == 0 and answer.err == ""
    lines = answer.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "10 runs of 2 settings: mean return of the last evaluation, 10 episodes each;"
    assert "=> #1 (learning_rate=0.2) is better than #2" in lines
    assert "  #2  0.1" in answer.out
    assert "  #1  5       22.00 [20.33, 23.67]  22.00 [20.80, 23.20]  22.00 [20.00, 24.00]" in lines
    assert "  #2  5 of 6  12.00 [10.33, 13.67]  12.00 [10.80, 13.20]  12.00 [10.00, 14.00]" in lines
    assert "  #2  1.00 [1.00, 1.00]  better   intervals apart" in lines
    assert "  #1  4/5      1,000   10.0" in lines and "  #2  0/5      never   never" in lines
    assert "note: left out of #2: " in answer.out and "note: runs of #2 failed" in answer.out


def test_json_holds_every_number(rlrun: Command, sweep: Path) -> None:
    answer = rlrun("compare", "*_s", "--json", "--threshold", "21")
    result = json.loads(answer.out)
    assert result["metric"]["name"] == "final" and result["intervals"]["resamples"] == 10_000
    (environment,) = result["environments"]
    first, second = environment["settings"]
    assert (first["number"], first["settings"], first["iqm"]["value"]) == (1, {"algo.learning_rate": 0.2}, 22.0)
    assert [run["score"] for run in second["runs"]] == [10.0, 11.0, 12.0, 13.0, 14.0]
    assert [run["seed"] for run in second["runs"]] == [0, 1, 2, 3, 4] and second["runs"][0]["episodes"] == 10
    assert first["to_threshold"] == {"reached": 4, "median_frames": 1000.0, "median_seconds": 10.0}
    assert second["to_threshold"] == {"reached": 0, "median_frames": None, "median_seconds": None}
    assert first["curve"]["frames"] == [1000.0] and first["curve"]["iqm"] == [22.0] and first["curve"]["runs"] == 5
    assert second["left_out"][0]["why"] == "failed at frame 1,000 of 1,000"
    (versus,) = environment["against_first"]
    assert (versus["verdict"], versus["probability"]) == ("better", {"value": 1.0, "low": 1.0, "high": 1.0})
    assert result["overall"] is None and any("failed" in note for note in result["notes"])
    assert rlrun("compare", "*_s", "--json", "--threshold", "21").out == answer.out


def test_csv_has_a_row_for_each_setting_and_notes_on_stderr(rlrun: Command, sweep: Path) -> None:
    answer = rlrun("compare", "*_s", "--csv")
    first, second = csv.DictReader(io.StringIO(answer.out))
    assert (first["number"], first["algo.learning_rate"], first["seeds"], first["iqm"]) == ("1", "0.2", "5", "22.0")
    assert (second["left_out"], second["verdict"], second["probability_first_scores_more"]) == ("1", "better", "1.0")
    assert first["verdict"] == "" and second["threshold"] == "475.0" and second["frames_to_threshold"] == ""
    assert "rlrun: note: #1 (learning_rate=0.2) is better than #2\n" in answer.err


def test_names_from_a_foreign_run_are_no_markup_and_no_formula(rlrun: Command, workplace: Path) -> None:
    for seed in range(2):
        for name in ("=1+1", "<img src=x onerror=alert(1)>|[a](b)`\x1b[31m"):
            run = finished_run(workplace / "outputs", 1.0, seed=seed)
            path = run.directory / "config.yaml"
            path.write_text(path.read_text().replace("name: ''", f"name: {json.dumps(name)}", 1))
    answer = rlrun("compare", "*", "--markdown")
    assert answer.code == 0 and "\x1b" not in answer.out
    assert r"&lt;img src=x onerror=alert(1)&gt;\|\[a\](b)\`\[31m" in answer.out and "<" not in answer.out
    assert "\x1b" not in rlrun("compare", "*").out
    rows = list(csv.DictReader(io.StringIO(rlrun("compare", "*", "--csv").out)))
    assert {row["name"] for row in rows} == {"'=1+1", "<img src=x onerror=alert(1)>|[a](b)`[31m"}


def test_markdown_tables_have_as_many_cells_everywhere(rlrun: Command, sweep: Path) -> None:
    out = rlrun("compare", "*_s", "--markdown").out
    assert "### CartPole-v1\n" in out and "| #1 | 5 | 22.00 \\[20.33, 23.67\\] |" in out
    for block in out.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_several_environments(rlrun: Command, workplace: Path) -> None:
    for seed in range(4):
        for algo, better in (("dqn", 0), ("ppo", 100)):
            for env_id in ("CartPole-v1", "Acrobot-v1"):
                typed = [f"algo={algo}", f"env.id={env_id}"]
                finished_run(
                    workplace / "outputs",
                    float(better + seed),
                    seed=seed,
                    frames=4000,
                    typed=typed,
                    algo={"name": algo},
                    env={"id": env_id},
                )
    out = rlrun("compare", "*").out
    assert "\nAcrobot-v1\n" in out and "\nCartPole-v1\n" in out
    assert "algo=ppo against each, mean over environments" in out and "normalised" not in out
    assert "=> over all environments, algo=ppo is better than algo=dqn" in out
    scaled = rlrun("compare", "*", "--normalize", "Acrobot-v1=-100:100", "--normalize", "CartPole-v1=0:200", "--json")
    methods = json.loads(scaled.out)["overall"]["methods"]
    assert [method["label"] for method in methods] == ["algo=ppo", "algo=dqn"] and methods[0]["seeds"] == [4, 4]
    assert methods[0]["normalised"]["mean"]["value"] == pytest.approx(((101.5 + 100) / 200 + 101.5 / 200) / 2)
    assert rlrun("compare", "*", "--normalize", "Acrobot-v1=0:1").errors == [
        "--normalize says nothing of CartPole-v1; add --normalize CartPole-v1=LOW:HIGH"
    ]


def test_pooled_sweeps_and_runs(rlrun: Command, workplace: Path) -> None:
    for seed, sweep in (
        (1, "2026-01-01_0_a"),
        (2, "2026-01-01_0_a"),
        (2, "2026-01-02_0_b"),
        (3, "2026-01-02_0_b"),
        (4, ""),
    ):
        finished_run(workplace / "outputs", float(seed), seed=seed, sweep=sweep)
    apart = json.loads(rlrun("compare", "*", "--json").out)["environments"][0]["settings"]
    assert [len(each["runs"]) for each in apart] == [1, 2, 2]
    (pooled,) = json.loads(rlrun("compare", "*", "--json", "--pool").out)["environments"][0]["settings"]
    assert [run["score"] for run in pooled["runs"]] == [1.0, 2.0, 3.0, 4.0]
    assert [each["why"].partition(" of")[0] for each in pooled["left_out"]] == ["a duplicate"]


def test_training_episodes_are_compared_where_nothing_is_evaluated(rlrun: Command, workplace: Path) -> None:
    run = finished_run(workplace / "outputs", None, evaluation={"episodes": 0})
    (run.directory / "episodes.csv").write_text("episode,frames,return,length\n1,9,3.0,9\n2,19,5.0,10\n")
    result = json.loads(rlrun("compare", "latest", "--json").out)
    assert result["metric"]["name"] == "training" and result["environments"][0]["settings"][0]["iqm"]["value"] == 4.0


def test_nothing_to_compare(rlrun: Command, workplace: Path) -> None:
    run = finished_run(workplace / "outputs", 1.0, manifest={"status": "stopped", "frames": 10})
    answer = rlrun("compare", run.directory.name)
    assert answer.code == 4
    assert answer.errors == [
        "no run here can be compared; rlrun ls shows which have finished",
        f"{run.directory.name}: stopped at frame 10 of 1,000",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "required: RUN"),
        (["nope"], 4, "no run"),
        (["*zzz*"], 4, "fits"),
        (["x", "--metric", "fnal"], 2, "'final'"),
        (["x", "--threshold", "nan"], 2, "finite number, got 'nan'"),
        (["x", "--normalize", "A=2:1"], 2, "LOW below HIGH, got 'A=2:1'"),
        (["x", "--at", "1.5e0"], 2, "expected an integer, got '1.5e0'"),
        (["x", "--at", "1e999"], 2, "expected an integer, got '1e999'"),
        (["x", "--at", "1e99"], 2, "out of range"),
        (["x", "--json", "--csv"], 2, "not allowed with"),
    ],
)
def test_wrong_arguments_are_one_line(
    rlrun: Command, workplace: Path, arguments: list[str], code: int, words: str
) -> None:
    (workplace / "outputs").mkdir()
    answer = rlrun("compare", *arguments)
    assert answer.code == code and len(answer.errors) == 1 and words in answer.errors[0] and answer.out == ""


def test_one_environment_needs_no_scale(rlrun: Command, sweep: Path) -> None:
    answer = rlrun("compare", "*_s", "--normalize", "CartPole-v1=0:500")
    assert answer.code == 2 and answer.errors == [
        "--normalize puts several environments on one scale, and all runs here are of CartPole-v1; leave it out"
    ]


def test_curves_end_where_runs_are_compared(rlrun: Command, workplace: Path) -> None:
    finished_run(workplace / "outputs", 9.0, frames=3000, curve=[(1000, 1.0), (2000, 5.0), (3000, 9.0)])
    answer = rlrun("compare", "latest", "--at", "2e3", "--json")
    result = json.loads(answer.out)
    assert result["metric"]["at"] == 2000
    (setting,) = result["environments"][0]["settings"]
    assert (setting["curve"]["frames"], setting["curve"]["iqm"]) == ([1000.0, 2000.0], [1.0, 5.0])
    assert "3,000" not in rlrun("compare", "latest", "--at", "2000").out


def test_a_setting_that_one_run_lacks_tells_them_apart(rlrun: Command, workplace: Path) -> None:
    finished_run(workplace / "outputs", 2.0, env={"kwargs": {"sutton_barto_reward": True}})
    finished_run(workplace / "outputs", 1.0)
    lines = rlrun("compare", "*", "--threshold", "5").out.splitlines()
    start = lines.index("settings that differ")
    assert [line.split() for line in lines[start + 1 : start + 4]] == [
        ["env.kwargs.sutton_barto_reward"], ["#1", "True"], ["#2", "-"],
    ]  # fmt: skip


def test_an_environment_normalised_twice(rlrun: Command, sweep: Path) -> None:
    twice = ["--normalize", "A=0:1", "--normalize", "A=0:2"]
    assert rlrun("compare", "*_s", *twice).errors == ["--normalize A=... is given twice; keep one"]


def test_compare_imports_no_torch(sweep: Path) -> None:
    program = (
        "import sys; from rlrun.cli import main; code = main(['compare', '2026-01-01_0_s']); "
        "sys.exit(code or any(name in sys.modules for name in ('torch', 'hydra', 'omegaconf', 'matplotlib')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_columns_that_find_no_room_go_below() -> None:
    table = Table("", ["", "one", "two"], [["#1", "aaaa", "bbbb"]])
    assert text_of(table, 14) == ["    one   two", "#1  aaaa  bbbb"] and fits(table, 14)
    assert text_of(table, 13) == ["    one", "#1  aaaa", "    two", "#1  bbbb"] and not fits(table, 13)
    assert text_of(table, 1) == text_of(table, 13)
    assert text_of(table.turned(), 80) == ["     #1", "one  aaaa", "two  bbbb"]
    assert markdown_of(table).splitlines()[1] == "| --- | --- | --- |"
    assert text_of(Table("", ["a"], [["b" * 50]]), 80) == ["a", "b" * 39 + "…"]


@pytest.mark.parametrize(("value", "cell"), [("=1", "'=1"), ("-1.5", "-1.5"), ("\t@x", "'@x"), (-2, -2), (None, None)])
def test_spreadsheet_cells(value: Any, cell: Any) -> None:
    assert spreadsheet_cell(value) == cell

"""``rlrun plot``, and the figures that runs and sweeps draw when they end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree import ElementTree

import pytest
from conftest import Answer
from support import signal_at

from rlrun.cli import main, plot
from rlrun.errors import StorageError
from rlrun.run import Run

Call = Callable[..., Answer]
TINY = ("total_frames=600", "algo.learning_starts=100", "evaluation.episodes=2", "evaluation.every_frames=300")
DQN_FIGURES = ["diagnostics", "episodes", "losses", "returns"]


def only_run(workplace: Path) -> Path:
    (manifest,) = (workplace / "outputs").rglob("run.json")
    return manifest.parent


def only_sweep(workplace: Path) -> Path:
    (directory,) = (workplace / "outputs" / "sweeps").iterdir()
    return directory


def names(place: Path) -> list[str]:
    """The figures in a folder, each of which has to be there as PNG and as SVG."""
    files = sorted(file.name for file in place.iterdir())
    stems = sorted({file.rpartition(".")[0] for file in files})
    assert files == sorted(f"{stem}.{kind}" for stem in stems for kind in ("png", "svg"))
    for stem in stems:
        assert (place / f"{stem}.png").read_bytes().startswith(b"\x89PNG\r\n")
        assert ElementTree.parse(place / f"{stem}.svg").getroot().tag.endswith("svg")  # noqa: S314 our own
    return stems


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of one run without figures."""
    outputs = tmp_path_factory.mktemp("example") / "outputs"
    assert main([*TINY, f"outputs={outputs}", "plot.figures=none", "-q"]) == 0
    return outputs


@pytest.fixture
def trained(example: Path, workplace: Path) -> Path:
    """A run without figures."""
    shutil.copytree(example, workplace / "outputs")
    run = only_run(workplace)
    assert not (run / "plots").exists()
    return run


# --- at the end -------------------------------------------------------------------------------------------------------


def test_a_run_draws_its_figures_when_it_ends(rlrun: Call, workplace: Path, figures: None) -> None:
    answer = rlrun(*TINY)
    plots = only_run(workplace) / "plots"
    assert (answer.code, answer.err) == (0, "")
    assert f"figures: {plots.relative_to(workplace)} (returns, losses, diagnostics, episodes)" in answer.out
    assert names(plots) == DQN_FIGURES
    assert (plots.stat().st_mode & 0o777, (plots / "returns.png").stat().st_mode & 0o777) == (0o700, 0o600)


def test_a_sweep_draws_one_set_of_figures(rlrun: Call, workplace: Path, figures: None) -> None:
    answer = rlrun("-m", "seed=1,2", *TINY)
    assert answer.code == 0 and "plots (returns, losses, diagnostics, episodes)" in answer.out
    sweep = only_sweep(workplace)
    assert names(sweep / "plots") == DQN_FIGURES
    assert [path.parent for path in sweep.rglob("plots")] == [sweep]


def test_quiet_runs_draw_and_print_only_their_directory(rlrun: Call, workplace: Path, figures: None) -> None:
    answer = rlrun("-q", *TINY)
    run = only_run(workplace)
    assert answer == Answer(0, f"{run.relative_to(workplace)}\n", "")
    assert names(run / "plots") == DQN_FIGURES


@pytest.mark.parametrize(("choice", "expected"), [("none", []), ("dqn", ["episodes"])])
def test_what_is_drawn_can_be_chosen(
    rlrun: Call, workplace: Path, figures: None, choice: str, expected: list[str]
) -> None:
    answer = rlrun(*TINY, f"plot.figures={choice}")
    plots = only_run(workplace) / "plots"
    assert answer.code == 0 and ("figures:" in answer.out) == bool(expected)
    assert (names(plots) if expected else plots.exists()) == (expected or False)


def test_a_resumed_run_draws_and_a_stopped_one_waits(rlrun: Call, workplace: Path, figures: None) -> None:
    with signal_at(200):
        assert rlrun(*TINY).code == 128 + signal.SIGTERM
    run = only_run(workplace)
    assert not (run / "plots").exists()
    assert "figures: " in rlrun("resume", str(run)).out
    assert names(run / "plots") == DQN_FIGURES
    before = (run / "plots" / "returns.svg").read_bytes()
    assert rlrun("resume", str(run), "total_frames=900").code == 0
    assert (run / "plots" / "returns.svg").read_bytes() != before


def test_a_figure_is_never_worth_a_run(rlrun: Call, workplace: Path, figures: None) -> None:
    with mock.patch.object(plot, "draw", side_effect=ValueError("no\nink")):
        answer = rlrun(*TINY)
    run = only_run(workplace)
    assert answer.code == 0 and Run.open(run).manifest["status"] == "finished" and "next: rlrun eval" in answer.out
    assert answer.err.splitlines() == [
        "rlrun: note: no figures: internal error: ValueError: no ink (RLRUN_DEBUG=1 shows the traceback); "
        f"try again with: rlrun plot {run.relative_to(workplace)}"
    ]


def test_a_full_disk_costs_the_figures_alone(rlrun: Call, workplace: Path, figures: None) -> None:
    with mock.patch.object(plot, "save", side_effect=StorageError("can't write: no space")):
        answer = rlrun("-m", "seed=1,2", *TINY)
    assert answer.code == 0 and not answer.errors
    assert "no figures: can't write: no space; try again with: rlrun plot outputs/sweeps/" in answer.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_drawing_ends_the_drawing(
    rlrun: Call, workplace: Path, figures: None, number: signal.Signals
) -> None:
    def draw(*_: Any) -> Any:
        signal.raise_signal(number)
        raise AssertionError("went on")

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with mock.patch.object(plot, "draw", draw):
        answer = rlrun(*TINY)
    run = only_run(workplace).relative_to(workplace)
    assert (
        answer.code == 0 and answer.err == f"rlrun: note: no figures: interrupted; draw them with: rlrun plot {run}\n"
    )
    assert {each: signal.getsignal(each) for each in before} == before


def test_what_would_take_long_is_drawn_on_demand_only(
    rlrun: Call, workplace: Path, figures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plot, "_MOST_BYTES", 100)
    answer = rlrun(*TINY)
    run = only_run(workplace)
    assert answer.code == 0 and not (run / "plots").exists()
    assert f"no figures: there is a lot to read; draw them with: rlrun plot {run.relative_to(workplace)}" in answer.err


def test_of_a_sweep_with_a_damaged_run_the_others_are_drawn(
    rlrun: Call, workplace: Path, figures: None, fake_worker: Callable[[str], None]
) -> None:
    row = '{"type": "train", "frames": 10, "loss": 1.0}'
    fake_worker(f"""
        for number, run in enumerate(runs):
            (run.directory / "metrics.jsonl").write_text("{{" * (number == 1) + '{row}' + chr(10))
        end_all()
    """)
    answer = rlrun("-m", "seed=range(3)", "total_frames=2000", "sweep.batch=3")
    sweep = only_sweep(workplace)
    assert answer.code == 0 and names(sweep / "plots") == ["losses"]
    (note,) = answer.err.splitlines()
    assert note.startswith("rlrun: note: ") and "_s1 is left out of the figures: " in note and "line 1" in note


def test_a_failed_run_draws_nothing_by_itself(rlrun: Call, workplace: Path, figures: None) -> None:
    with mock.patch("rlrun.trainers.dqn.DQNTrainer.step", side_effect=StorageError("can't write")):
        answer = rlrun(*TINY)
    assert answer.code == 5 and not (only_run(workplace) / "plots").exists()


# --- on demand --------------------------------------------------------------------------------------------------------


def test_figures_of_a_run_go_into_it(rlrun: Call, trained: Path, workplace: Path) -> None:
    answer = rlrun("plot", "latest")
    assert answer.code == 0 and names(trained / "plots") == DQN_FIGURES
    where = trained.relative_to(workplace) / "plots"
    assert answer.out.splitlines()[:2] == [f"{where}/returns.png", f"{where}/returns.svg"]
    assert len(answer.out.splitlines()) == 8


def test_formats_figures_and_folder_can_be_chosen(rlrun: Call, trained: Path, workplace: Path) -> None:
    answer = rlrun("plot", str(trained), "--figures", "losses,returns", "--format", "svg", "-o", "a/b", "--json")
    assert json.loads(answer.out) == {"files": ["a/b/returns.svg", "a/b/losses.svg"], "left_out": {}}
    assert sorted(file.name for file in (workplace / "a/b").iterdir()) == ["losses.svg", "returns.svg"]
    assert not (trained / "plots").exists()


def test_figures_of_several_runs_go_into_the_current_folder(rlrun: Call, trained: Path, workplace: Path) -> None:
    assert rlrun("algo=ppo", "total_frames=600", "algo.rollout_steps=64", "evaluation.episodes=2").code == 0
    answer = rlrun("plot", "*")
    assert answer.code == 0 and answer.out.splitlines()[0] == "plots/returns.png"
    both = ["diagnostics_dqn", "diagnostics_ppo", "losses_dqn", "losses_ppo"]
    assert names(workplace / "plots") == sorted([*both, "episodes", "four_panels_ppo", "returns"])


def test_figures_of_a_sweep_go_into_it(rlrun: Call, workplace: Path) -> None:
    assert rlrun("-m", "seed=1,2", *TINY).code == 0
    sweep = only_sweep(workplace)
    (sweep / "damaged").mkdir()
    (sweep / "damaged" / "run.json").write_text("{")
    answer = rlrun("plot", sweep.name, "--json")
    assert answer.code == 0 and names(sweep / "plots") == DQN_FIGURES
    assert list(json.loads(answer.out)["left_out"]) == ["damaged"]
    assert answer.err.startswith("rlrun: note: damaged is left out: ")


def test_a_running_run_can_be_drawn(rlrun: Call, trained: Path) -> None:
    with open(trained / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"type": "tra')
    assert rlrun("plot", str(trained)).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        ((), 2, "the following arguments are required: RUN; see rlrun plot --help"),
        (("latest", "--format", "pgn"), 2, "--format=pgn: unknown 'pgn'; did you mean 'png'?; choices: png, svg"),
        (("latest", "--figures", ""), 2, "--figures=: unknown ''"),
        (("latest", "--figures", "return"), 2, "--figures=return: unknown 'return'; did you mean 'returns'?"),
        (("nope",), 4, "no run at nope"),
        (("latest", "--figures", "four_panels"), 4, "nothing to draw: "),
        (("latest", "-o", "file"), 5, "can't make file: File exists; choose another: -o DIR"),
        (("latest", "-o", "file/x"), 5, "can't make file/x: Not a directory; choose another: -o DIR"),
    ],
)
def test_wrong_arguments(
    rlrun: Call, trained: Path, workplace: Path, arguments: tuple[str, ...], code: int, line: str
) -> None:
    (workplace / "file").write_text("")
    answer = rlrun("plot", *arguments)
    assert (answer.code, answer.out) == (code, "") and len(answer.errors) == 1
    assert answer.errors[0].startswith(line)


def test_a_wanted_figure_without_data_is_named(rlrun: Call, trained: Path) -> None:
    answer = rlrun("plot", "latest", "--figures", "returns,four_panels")
    assert answer.code == 0 and len(answer.out.splitlines()) == 2
    assert answer.err.startswith("rlrun: note: no four_panels: outputs/")


def test_a_run_without_rows_and_a_damaged_one_are_errors(rlrun: Call, trained: Path) -> None:
    for name in ("metrics.jsonl", "timing.jsonl", "episodes.csv"):
        (trained / name).unlink()
    answer = rlrun("plot", str(trained))
    assert answer.code == 4 and answer.errors[0].startswith("nothing to draw") and not (trained / "plots").exists()
    (trained / "episodes.csv").write_text("nonsense\n")
    answer = rlrun("plot", str(trained))
    assert answer.code == 4 and "does not begin with" in answer.errors[0]


def test_a_link_in_place_of_the_folder_is_refused(rlrun: Call, trained: Path, workplace: Path) -> None:
    (workplace / "away").mkdir()
    (trained / "plots").symlink_to(workplace / "away")
    answer = rlrun("plot", "latest")
    assert (
        answer.code == 5 and "symbolic link; put a folder in its place, or choose another: -o DIR" in answer.errors[0]
    )
    assert not list((workplace / "away").iterdir())


def test_plotting_needs_no_torch_and_no_window(trained: Path) -> None:
    program = (
        "import sys; from rlrun.cli import main; code = main(['plot', 'latest', '--format', 'png']);"
        "assert not {'torch', 'hydra', 'matplotlib.pyplot'} & set(sys.modules); sys.exit(code)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stderr) == (0, "") and len(done.stdout.splitlines()) == 4


def test_a_reproduction_is_not_drawn_as_a_second_seed(rlrun: Call, trained: Path, workplace: Path) -> None:
    again = trained.parent / "again"
    shutil.copytree(trained, again)
    manifest = json.loads((again / "run.json").read_text())
    (again / "run.json").write_text(json.dumps(manifest | {"created": "9999-01-01"}))
    answer = rlrun("plot", trained.name, "again", "--figures", "returns", "--format", "svg", "--json")
    assert answer.code == 0
    assert json.loads(answer.out)["left_out"] == {trained.name: "a duplicate of again: the same settings and seed"}
    assert f"{trained.name} is left out: a duplicate of again" in answer.err
    assert json.loads(answer.out)["files"] == ["plots/returns.svg"]  # not into one of the two

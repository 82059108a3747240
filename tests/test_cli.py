"""The command line end to end: exit code, one line for each problem, and nothing left on disk."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rlrun.cli import COMMANDS, live, main
from rlrun.cli.output import deliver, deliver_line, print_table, say
from rlrun.errors import DivergedError, StorageError
from rlrun.run import Run
from rlrun.sweeps.jobs import Job

TINY = ("total_frames=600", "algo.learning_starts=100", "evaluation.episodes=2", "evaluation.every_frames=300")
PROGRAM = "import sys; from rlrun.cli import main; code = main(sys.argv[1:]); {after}; sys.exit(code)"


def command(*arguments: str, after: str = "pass") -> list[str]:
    return [sys.executable, "-c", PROGRAM.format(after=after), *arguments]


def leftovers(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != "MUJOCO_LOG.TXT")


# --- wrong input -----------------------------------------------------------------------------------------------------

WRONG = [  # beside the catalogue of test_bad_input.py
    (["hydra/launcher=nope"], 2, ["nope"]),
    (["-m", "seed=1,2", "sweep.max_jobs=x"], 2, ["sweep.max_jobs: expected an integer"]),
    (["-m", "seed=1,2", "sweep.workers=1,2"], 2, ["sweep.* can't be swept"]),
    (["sweep.batch=4"], 2, ["sweep.batch: for sweeps only; add -m, or leave it out"]),
    (["sweep.workers=4", "--cfg", "job"], 2, ["sweep.workers: for sweeps only"]),
    (["-m", "algo.gamma=interval(0,1)"], 2, ["interval"]),
    (["-m", "seed=1,1"], 2, ["jobs 1 and 2 of the sweep are the same run"]),
    (["-m", "algo=dqn,pppo"], 2, ["unknown algo 'pppo'; did you mean 'ppo'?"]),
    (["-m", "env=cartpole,pendulum"], 2, ["dqn needs a Discrete action space"]),
    (["-m", "outputs=a,b"], 2, ["outputs can't be swept"]),
    (["-m", "--cfg", "job"], 2, ["-m runs a sweep"]),
    # commands
    (["evaluate"], 2, ["unknown command 'evaluate'; did you mean 'eval'?"]),
    (["lss"], 2, ["did you mean 'ls'?"]),
    (["frobnicate"], 2, ["unknown command 'frobnicate'; commands: train, eval"]),
    (["eval"], 2, ["required: RUN"]),
    (["eval", "nope"], 4, ["no run at nope"]),
    (["eval", "latest"], 4, ["no run in outputs yet"]),
    (["eval", "latest", "--episodes", "0"], 2, ["0 is out of range"]),
    (["eval", "latest", "--episodes", "x"], 2, ["expected an integer"]),
    (["resume", "nope"], 4, ["no run at nope"]),
    (["configs", "algos"], 2, ["unknown part 'algos'; did you mean 'algo'?"]),
]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    WRONG,
    ids=lambda value: " ".join(map(str, value))[:60] if isinstance(value, list) else None,
)
def test_wrong_input_is_one_line(
    arguments: list[str], code: int, words: list[str], rlrun: Any, workplace: Path
) -> None:
    (workplace / "file").touch()
    answer = rlrun(*arguments)
    assert (answer.code, answer.out) == (code, ""), answer.err
    assert len(answer.errors) == 1
    assert all(word in answer.errors[0] for word in words), answer.errors
    assert leftovers(workplace) == ["file"]


def test_impossible_combinations_are_a_line_each(rlrun: Any) -> None:
    combinations = [
        "batch_size=256",
        "buffer_size=100",
        "epsilon_start=0.1",
        "epsilon_end=0.2",
        "learning_starts=50000",
    ]
    answer = rlrun(*(f"algo.{override}" for override in combinations), "stop.return=475", "evaluation.episodes=0")
    assert answer.code == 2
    words = ["stop.return needs evaluations", "algo.batch_size (256) > algo.buffer_size (100)", "epsilon can only fall"]
    for word, line in zip([*words, "leaves no update"], answer.errors, strict=True):
        assert word in line


def test_all_problems_are_reported_at_once(rlrun: Any) -> None:
    answer = rlrun("alog=dqn", "+algo.gama=1", "algo.gamma=2", "seed=x")
    assert answer.code == 2
    assert [line.split()[0] for line in answer.errors] == ["unknown", "seed:", "unknown", "algo.gamma=2"]


def test_all_problems_of_a_sweep_are_reported_once_each(rlrun: Any, workplace: Path) -> None:
    answer = rlrun("-m", "algo.gamma=0.5,1.5,2.5", "seed=1,2", "algo.tau=0")
    assert answer.code == 2
    assert sorted(line.partition(" ")[0] for line in answer.errors) == [
        "algo.gamma=1.5",
        "algo.gamma=2.5",
        "algo.tau=0",
    ]
    assert leftovers(workplace) == []


def test_config_folder_inside_a_run_is_refused(rlrun: Any, workplace: Path) -> None:
    (workplace / "run" / "configs").mkdir(parents=True)
    (workplace / "run" / "run.json").write_text("{}")
    answer = rlrun("--config-dir", "run/configs")
    assert answer.code == 2 and "is inside a run" in answer.errors[0]


def test_quick_answers_import_no_torch(workplace: Path) -> None:
    """One process, the quickest first: what one imports stays imported for those after it."""
    lines = ["--help", "ls", "configs", "train --help", "--cfg job", "algo.gama=1", "env=pendulum", "-m seed=1,1"]
    program = (
        "import sys; from rlrun.cli import main\n"
        "for line in sys.argv[1:]:\n"
        "    main(line.split()); print('@', line, *({'torch', 'gymnasium', 'hydra'} & set(sys.modules)), sep='|')"
    )
    done = subprocess.run([sys.executable, "-c", program, *lines], capture_output=True, text=True, timeout=60)
    imported = {line.split("|")[1]: line.split("|")[2:] for line in done.stdout.splitlines() if line.startswith("@|")}
    assert list(imported) == lines
    assert all("torch" not in modules for modules in imported.values())
    assert imported["--help"] == imported["ls"] == imported["configs"] == []


def test_internal_error_is_one_line_and_70(rlrun: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arguments: list[str]) -> int:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr("rlrun.cli.ls.main", fail)
    answer = rlrun("ls")
    assert answer.code == 70
    assert len(answer.errors) == 1 and "internal error: ZeroDivisionError: by zero" in answer.errors[0]
    monkeypatch.setenv("RLRUN_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        rlrun("ls")


def test_closed_output_is_no_error(workplace: Path) -> None:
    reader = subprocess.Popen(command("configs", "root"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert reader.stdout is not None and reader.stderr is not None
    reader.stdout.close()
    assert reader.wait(timeout=60) == 0
    assert reader.stderr.read() == ""
    reader.stderr.close()


# --- help and configs ------------------------------------------------------------------------------------------------


def test_help_names_commands_and_examples(rlrun: Any) -> None:
    answer = rlrun("--help")
    assert answer.code == 0
    assert all(name in answer.out for name in COMMANDS)
    assert answer.out.count("\n  rlrun ") == 2
    assert rlrun("help").out == answer.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, rlrun: Any) -> None:
    answer = rlrun(name, "--help")
    assert answer.code == 0 and f"usage: rlrun {name}" in answer.out


def test_help_explains_itself(rlrun: Any) -> None:
    page = rlrun("help")
    for word in ("help", "--help", "-h"):
        assert rlrun("help", word) == page and page.code == 0


def test_version(rlrun: Any) -> None:
    answer = rlrun("--version")
    assert answer.code == 0 and re.fullmatch(r"rlrun \d+\.\d+\.\d+\n", answer.out)


def test_configs_lists_groups_and_tuned_pairs(rlrun: Any) -> None:
    answer = rlrun("configs")
    assert re.search(r"^  cartpole .*\[tuned for dqn, ppo\]$", answer.out, re.MULTILINE)
    groups = json.loads(rlrun("configs", "--json").out)
    assert {"algo", "env", "network", "hardware", "experiment", "tuned"} <= set(groups)
    assert all(line for choices in groups.values() for line in choices.values())


def test_configs_explains_every_setting(rlrun: Any) -> None:
    sections = json.loads(rlrun("configs", "algo", "--json").out)
    gamma = next(row for row in sections["PPOConfig"] if row["key"] == "algo.gamma")
    assert gamma == {
        "key": "algo.gamma",
        "allowed": "a number in [0, 1]",
        "default": 0.99,
        "unit": "",
        "per_agent": True,
        "meaning": "Discount factor.",
    }
    assert "algo.n_step" in rlrun("configs", "dqn").out
    assert "total_frames" in rlrun("configs", "root").out


def test_hydra_information_is_reachable(rlrun: Any, workplace: Path) -> None:
    # In a process of its own: Hydra leaves its logger talking.
    done = subprocess.run(command("--info", "defaults"), capture_output=True, text=True, timeout=60, cwd=workplace)
    assert done.returncode == 0 and "tuned/dqn_cartpole" in done.stdout
    part = rlrun("--cfg", "job", "--package", "network", "network=large")
    assert part.code == 0 and "256" in part.out and "gamma" not in part.out


# --- training --------------------------------------------------------------------------------------------------------


def only_run(workplace: Path) -> Run:
    (manifest,) = (path for path in workplace.rglob("run.json") if "sweeps" not in path.parts)
    return Run.open(manifest.parent)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run of DQN on CartPole."""
    outputs = tmp_path_factory.mktemp("trained") / "outputs"
    assert main(["-q", *TINY, f"outputs={outputs}"]) == 0
    return outputs


@pytest.fixture
def run(trained: Path, workplace: Path) -> Run:
    """A copy of it, in the current folder."""
    shutil.copytree(trained, workplace / "outputs")
    return only_run(workplace)


def test_train_eval_list_resume(rlrun: Any, workplace: Path) -> None:
    trained = rlrun(*TINY, "seed=3", "name=mine")
    assert trained.code == 0, trained.err
    run = only_run(workplace)
    where = str(run.directory.relative_to(workplace))
    assert run.manifest["status"] == "finished" and run.manifest["frames"] == 600
    assert run.manifest["tuned"] == "tuned/dqn_cartpole"
    assert run.manifest["overrides"] == [*TINY, "seed=3", "name=mine"]
    assert f"rlrun resume {where} total_frames=1200" in trained.out and "tuned/dqn_cartpole" in trained.out
    assert leftovers(workplace)[0] == "outputs"

    evaluated = rlrun("eval", "latest", "--episodes", "3", "--seed", "7", "--json", "--returns")
    result = json.loads(evaluated.out)
    assert list(result) == [
        "return_mean", "return_std", "return_iqm", "return_min", "return_max", "episodes", "checkpoint", "returns",
    ]  # fmt: skip
    assert len(result["returns"]) == result["episodes"] == 3
    assert result["return_min"] <= result["return_iqm"] <= result["return_max"]
    assert rlrun("eval", "latest", "--episodes", "3", "--seed", "7", "--json", "--returns").out == evaluated.out
    assert "mean" in rlrun("eval", where, "--episodes", "2", "--checkpoint", "last").out
    assert rlrun("eval", where, "--checkpoint", "12345").code == 4

    assert f"{run.directory.name}  finished" in rlrun("ls").out
    (listed,) = json.loads(rlrun("ls", "--json").out)
    assert listed["seed"] == 3 and listed["directory"] == where

    complete = rlrun("resume", "latest")
    assert complete.code == 0 and "already complete (600/600 frames)" in complete.out
    extended = rlrun("resume", where, "total_frames=9e2", "evaluation.episodes=1")
    assert extended.code == 0, extended.err
    assert "learning_rate_schedule=linear now runs to the new end" in extended.out
    run = Run.open(run.directory)
    assert (run.manifest["frames"], run.config.total_frames, run.config.evaluation.episodes) == (900, 900, 1)


def test_resume_changes_only_what_may_change(rlrun: Any, run: Run) -> None:
    answer = rlrun("resume", "latest", "algo.gamma=0.5", "seed=1", "total_frames=900")
    assert answer.code == 4
    assert sorted(answer.errors) == [
        "algo.gamma: 0.99 -> 0.5 can't change on resume; start a new run for it",
        "seed: 0 -> 1 can't change on resume; start a new run for it",
    ]
    assert rlrun("resume", "latest", "total_frames=500").code == 4
    assert "did you mean 'total_frames'" in rlrun("resume", "latest", "total_frame=500").errors[0]
    assert rlrun("resume", "latest", "stop.return=!!python/name:os.system").code == 2
    assert rlrun("resume", "latest", "total_frames=-1").code == 2
    assert Run.open(run.directory).config == run.config


def test_resume_exactly_or_not_at_all(rlrun: Any, run: Run) -> None:
    assert rlrun("resume", "-q", "latest", "total_frames=700", "--require-exact").code == 0
    run.update(**Run.open(run.directory).manifest | {"versions": {"torch": "0.0"}})
    answer = rlrun("resume", "latest", "total_frames=800", "--require-exact")
    assert answer.code == 4 and "torch: 0.0 -> " in answer.errors[0]


def test_quiet_prints_the_directory_only(rlrun: Any, workplace: Path) -> None:
    answer = rlrun("-q", *TINY)
    assert answer.out == f"{only_run(workplace).directory.relative_to(workplace)}\n"


def test_ppo_on_a_mujoco_environment(rlrun: Any, workplace: Path) -> None:
    answer = rlrun("algo=ppo", "env=reacher", "total_frames=512", "evaluation.episodes=1")
    assert answer.code == 0, answer.err
    assert "return" in answer.out
    assert only_run(workplace).manifest["evaluation"]["episodes"] == 1


def test_divergence_ends_with_6_and_is_recorded(rlrun: Any, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(runs: Sequence[Run], view: Any, **_: Any) -> list[Outcome]:
        runs[0].update(status="failed")
        return [Outcome(runs[0], "failed", DivergedError("loss is nan at frame 12"))]

    monkeypatch.setattr("rlrun.training.train", train)
    answer = rlrun()
    assert answer.code == 6 and answer.errors == ["loss is nan at frame 12"]
    assert str(only_run(workplace).directory.name) in answer.out


def test_signals_save_and_say_how_to_continue(workplace: Path) -> None:
    arguments = ("total_frames=50000000", "evaluation.episodes=0")
    processes = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        folder = workplace / str(int(number))
        folder.mkdir()
        processes[number] = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, text=True, cwd=folder)
    for number, process in processes.items():
        folder = workplace / str(int(number))
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size for path in folder.rglob("timing.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 128 + number
        run = only_run(folder)
        assert run.manifest["status"] == "stopped"
        words = "checkpoint saved; continue with: rlrun resume"
        assert re.search(rf"stopped at frame [\d,]+, {words} .*{run.directory.name}", out)


# --- sweeps ----------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """As rlrun.training.Outcome."""

    run: Run
    status: str
    error: Any = None
    signal: int | None = None


@pytest.fixture
def stub_training(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Run], Outcome]], None]:
    """Replaces training by a function of the run, in tests of the command line around it."""

    def replace(outcome_of: Callable[[Run], Outcome]) -> None:
        def train(runs: Sequence[Run], view: Any, **_: Any) -> list[Outcome]:
            return [outcome_of(run) for run in runs]

        monkeypatch.setattr("rlrun.training.train", train)

    return replace


def finished(run: Run) -> Outcome:
    run.update(status="finished", frames=run.config.total_frames, evaluation={"return_mean": 10.0 * run.config.seed})
    return Outcome(run, "finished")


def test_sweep_in_hydras_other_words(rlrun: Any, workplace: Path, fake_worker: Any) -> None:
    fake_worker()
    assert rlrun("hydra.mode=MULTIRUN", "seed=range(1,3)", "algo=choice(dqn,ppo)").code == 0
    assert len(list(workplace.rglob("run.json"))) == 4
    assert rlrun("-m", "network=glob(s*)", "name=globbed").code == 0
    assert [path.parent.name.split("_", 1)[1] for path in workplace.rglob("*globbed*/run.json")] == ["globbed_s0"]


def test_same_second_sweeps_do_not_share_a_folder(rlrun: Any, workplace: Path, fake_worker: Any) -> None:
    fake_worker()
    for _ in range(2):
        assert rlrun("-q", "-m", "seed=1,2").code == 0
    assert len(list((workplace / "outputs" / "sweeps").iterdir())) == 2


def test_multiplying_out_varies_the_last_key_fastest() -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from rlrun.sweeps.plugins import multiply_out

    jobs = multiply_out(OverridesParser.create().parse_overrides(["++a=1,2", "b=x", "c=range(0,2)"]), 4)
    assert jobs == [[f"++a={a}", "b=x", f"c={c}"] for a in (1, 2) for c in (0, 1)]


def test_a_job_remembers_what_was_typed(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Job] = []
    monkeypatch.setattr("rlrun.cli.application.check_jobs", lambda found, place: jobs.extend(found))
    monkeypatch.setattr("rlrun.cli.application.create_run", lambda job: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["env=acrobot", "++algo.gamma=0.9"]) == 130
    assert jobs[0].overrides == ("env=acrobot", "algo.gamma=0.9") and jobs[0].tuned == "tuned/dqn_acrobot"
    assert main(["env=acrobot", "tuned=none"]) == 130
    assert jobs[1].tuned == "none" and jobs[1].experiment is None
    assert main(["experiment=tutorial_dqn"]) == 130
    assert (jobs[2].tuned, jobs[2].experiment) == ("none", "experiment/tutorial_dqn")
    assert main(["env.id=Taxi-v3"]) == 130
    assert (jobs[3].tuned, jobs[3].experiment) == (None, None)


# --- views -----------------------------------------------------------------------------------------------------------


def test_sparkline_spans_its_values() -> None:
    assert live.sparkline([0, 1, 2, float("nan"), 7]) == "▁▂▃█"
    assert live.sparkline([3.0]) == "▁"
    assert live.sparkline([]) == ""


def test_terminal_view_shows_progress_and_best(run: Run) -> None:
    console = Console(force_terminal=True, width=100, record=True)
    view = live.TerminalView(console)
    view.start([run], {"device": "cpu"})
    for frames in range(100, 400, 100):
        view.progress(frames, 600, 1234.0, [{"frames": frames, "return_mean": float(frames), "loss": 0.5}])
    view.evaluated(0, 300, {"return_mean": 123.4, "return_std": 1.0, "episodes": 2}, best=True)
    view.note("a [bold]notice[/bold]\x1b[2J")
    view.finish()
    view.finish()
    text = console.export_text()
    assert "300 frames: return 123.4 ± 1.0 over 2 episodes  (best so far)" in text
    assert "a [bold]notice[/bold][2J" in text
    assert all(
        word in text for word in ("CartPole-v1", "tuned/dqn_cartpole", "300/600", "1,234/s", "▁▄█", "123.4 at 300")
    )


def test_table_in_a_pipe_is_plain_and_safe(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "value"), [("a\x1b[31m", "1"), ("bb", "22")])
    assert capsys.readouterr().out == "name   value\na[31m  1\nbb     22\n"


class Terminal(io.StringIO):
    """What is written to a terminal of colours."""

    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """What stdout is from now on."""
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    return screen


MARKUP = "a[/red][link=http:a]:smile:"


def test_texts_of_a_table_steer_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = on_terminal(monkeypatch)
    print_table(("#", f"{MARKUP}\a"), [("1", MARKUP)])
    assert screen.getvalue().count(MARKUP) == 2 and "\x1b]" not in screen.getvalue() and "\a" not in screen.getvalue()


def test_half_a_line_of_an_environment_is_shown_as_it_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = on_terminal(monkeypatch)
    view = live.choose_view(quiet=False)
    view.start([run], {})
    print(MARKUP, end="", flush=True)
    view.finish()
    assert MARKUP in screen.getvalue()


def test_a_verdict_is_not_lost_with_the_progress_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        say("progress")
        deliver()
        with pytest.raises(StorageError, match="can't write the output: No space left on device"):
            deliver_line("verdict")

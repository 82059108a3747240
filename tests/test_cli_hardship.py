"""The command line when things go wrong around it: signals, closed terminals, full disks, no memory, foreign runs, bugs."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_cli import TINY, Outcome, command, finished, leftovers, only_run

from rlrun.cli import live, main
from rlrun.cli.output import shown_number
from rlrun.config import from_mapping
from rlrun.errors import UsageError
from rlrun.finding import list_runs
from rlrun.run import Run
from rlrun.sweeps.jobs import Job

ENDLESS = ("total_frames=50000000", "evaluation.episodes=0")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def training(workplace: Path) -> bool:
    return any(path.stat().st_size for path in workplace.glob("outputs/*/*/timing.jsonl"))


def read_of(manifest: Path) -> dict[str, Any]:
    values = json.loads(manifest.read_text())
    assert isinstance(values, dict)
    return values


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


@pytest.fixture
def stub_training(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Run], Outcome]], None]:
    """Replaces training by a function of the run, in tests of the command line around it."""

    def replace(outcome_of: Callable[[Run], Outcome]) -> None:
        def train(runs: Sequence[Run], view: Any, **_: Any) -> list[Outcome]:
            return [outcome_of(run) for run in runs]

        monkeypatch.setattr("rlrun.training.train", train)

    return replace


# --- signals ---------------------------------------------------------------------------------------------------------

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", ENDING)
def test_what_a_library_makes_of_a_signal_is_still_one(
    number: signal.Signals, rlrun: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dispatch(arguments: list[str]) -> int:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            signal.raise_signal(signal.SIGHUP)  # within a second: whatever is tidied up is let be
            raise ImportError("initialization failed") from None
        return 0

    before = [signal.getsignal(each) for each in ENDING]
    monkeypatch.setattr("rlrun.cli._dispatch", dispatch)
    answer = rlrun("compare", "latest")
    assert (answer.code, answer.err) == (128 + number, "rlrun: interrupted\n")
    assert [signal.getsignal(each) for each in ENDING] == before


def test_a_signal_ends_the_process_as_itself(workplace: Path) -> None:
    """In the middle of what ``exec`` runs, as when a library makes a dataclass, Python takes an interruption for Ctrl-C."""
    program = textwrap.dedent("""
        import signal, sys
        from rlrun import cli

        cli._dispatch = lambda arguments: exec("signal.raise_signal(signal.SIGTERM)")
        sys.exit(cli.main([]))
    """)
    (workplace / "program.py").write_text(program)
    done = subprocess.run([sys.executable, "-m", "program"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "rlrun: interrupted\n")


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize(
    "arguments",
    [["report"], ["plot", "--figures", "returns", "--format", "svg"], ["export", "--format", "safetensors"]],
)
def test_a_signal_leaves_no_temporary_files(
    arguments: list[str], number: signal.Signals, rlrun: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(run.directory.rglob("*"))
    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, lambda *_: signal.raise_signal(number))
    answer = rlrun(arguments[0], str(run.directory), *arguments[1:])
    assert (answer.code, answer.err) == (128 + number, "rlrun: interrupted\n")
    assert sorted(run.directory.rglob("*")) == before


# --- terminals, pipes and disks that go away -------------------------------------------------------------------------


def test_closed_terminal_stops_and_saves(workplace: Path) -> None:
    process, terminal = pty.fork()
    if process == 0:
        arguments = command(*ENDLESS)
        os.execv(arguments[0], arguments)
    wait_until(lambda: training(workplace))
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 128 + signal.SIGHUP
    run = only_run(workplace)
    assert run.manifest["status"] == "stopped" and list(run.checkpoints.glob("step_*.ckpt"))


def test_dead_terminal_does_not_stop_training(run: Run) -> None:
    """Without the signal: a terminal whose other end is gone refuses every write."""
    view = (
        "import sys; from rich.console import Console; from rlrun.cli import live\n"
        "from rlrun.run import Run; from pathlib import Path; run = Run.open(Path(sys.argv[1]))\n"
        "view = live.TerminalView(Console(force_terminal=True))\n"
        "view.start([run], {}); view.progress(1, 2, 3.0, [{}]); view.note('x')\n"
        "view.evaluated(0, 1, {'return_mean': 1.0}, True); view.finish(); live.say('end')\n"
        "from rlrun.cli import main; sys.exit(main(['nope']))"
    )
    arguments = [*command()[:2], view, str(run.directory)]
    terminal, other_end = pty.openpty()
    os.close(terminal)
    done = subprocess.run(arguments, stdout=other_end, stderr=other_end, timeout=60)
    os.close(other_end)
    assert done.returncode == 2


def test_training_goes_on_with_a_full_output(workplace: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(command(*TINY), stdout=full, stderr=full, timeout=60)
    assert done.returncode == 0
    assert only_run(workplace).manifest["status"] == "finished"


@pytest.mark.parametrize("line", ["configs --json", "ls --json", "configs algo", "--help", "--cfg job"])
def test_half_an_answer_is_an_error(line: str, workplace: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(command(*line.split()), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (
        5,
        "rlrun: error: can't write the output: No space left on device\n",
    )


def test_started_without_output_streams(workplace: Path) -> None:
    script = 'exec "$@" >&- 2>&-'
    assert subprocess.run(["sh", "-c", script, "sh", *command("ls")], timeout=60).returncode == 0
    assert subprocess.run(["sh", "-c", script, "sh", *command("nope")], timeout=60).returncode == 2


def test_files_of_a_run_do_not_take_the_place_of_closed_streams(workplace: Path) -> None:
    """A library prints to a number instead of a stream, and MuJoCo's import starts a process that prints."""
    short = ("tuned=none", "algo.rollout_steps=64", "total_frames=64", "evaluation.episodes=0")
    prints = "import os; [os.write(number, b'printed') for number in (1, 2)]"
    for closed in (">&- 2>&-", "<&- >&- 2>&-"):
        arguments = command("algo=ppo", "env=hopper", *short, f"outputs=closed_{len(closed)}", after=prints)
        done = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *arguments], timeout=60)
        assert done.returncode == 0
    assert [run["status"] for name in ("closed_8", "closed_12") for run in list_runs(workplace / name)] == [
        "finished"
    ] * 2


# --- signals at bad moments ------------------------------------------------------------------------------------------


def test_a_wish_for_a_checkpoint_kills_nothing_before_and_after_training(workplace: Path) -> None:
    program = """import os, signal, sys
from rlrun.__main__ import main
sys.argv[1:] = {arguments}
code = main()
os.kill(os.getpid(), signal.SIGUSR1)
sys.exit(code)"""
    for arguments in (["ls"], ["env=cartpole", "total_frames=200", "tuned=none", "evaluation.episodes=0"]):
        done = subprocess.run(
            [sys.executable, "-c", program.format(arguments=arguments)], capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
    program = """import os, signal, sys, types
from rlrun.__main__ import main
sys.modules["rlrun.cli"] = types.SimpleNamespace(main=lambda: os.kill(os.getpid(), signal.SIGUSR1))
sys.exit(main())"""  # as if it came while that is being imported
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_signal_while_torch_is_imported_loses_nothing(workplace: Path, rlrun: Any) -> None:
    process = subprocess.Popen(command(*ENDLESS, "hardware.kernels=plain"), stdout=subprocess.PIPE, text=True)
    wait_until(lambda: any(workplace.rglob("run.json")))
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "stopped at frame 0, checkpoint saved; continue with: rlrun resume" in out
    run = only_run(workplace)
    assert run.manifest["status"] == "stopped"
    assert rlrun("resume", "latest", "stop.episodes=3").code == 0
    assert Run.open(run.directory).manifest["episodes"] >= 3


# --- memory and bugs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [
        (["algo.buffer_size=100000000000"], "algo.buffer_size=100000000000"),
        (
            ["algo=ppo", "algo.rollout_steps=6400000000", "algo.num_envs=4", "total_frames=900000000000"],
            "algo.rollout_steps=6400000000 with algo.num_envs=4",
        ),
    ],
)
def test_too_large_arrays_are_refused(arguments: list[str], setting: str, rlrun: Any, workplace: Path) -> None:
    answer = rlrun(*arguments)
    assert answer.code == 5 and len(answer.errors) == 1
    assert re.fullmatch(rf"{setting} needs [\d,.]+ GB, [\d,.]+ GB free; make it smaller", answer.errors[0])
    assert leftovers(workplace) == []


class OutOfMemoryError(RuntimeError):
    """As torch.OutOfMemoryError, which a machine without a graphics card can't provoke."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 7 TiB for an array"),
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has ..."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_no_memory_left_is_5(error: Exception, rlrun: Any, workplace: Path, stub_training: Any) -> None:
    def fail(run: Run) -> Outcome:
        raise error

    stub_training(fail)
    answer = rlrun()
    assert answer.code == 5 and len(answer.errors) == 1
    assert answer.errors[0].startswith("out of memory: ") and "algo.buffer_size" in answer.errors[0]
    manifest = only_run(workplace).manifest
    assert manifest["status"] == "failed" and manifest["failure"] == answer.errors[0]


def test_bug_leaves_its_traceback_in_the_run(
    rlrun: Any, workplace: Path, stub_training: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET", "canary-value")

    def fail(run: Run) -> Outcome:
        raise ZeroDivisionError("canary-value\nby zero")

    stub_training(fail)
    answer = rlrun()
    crash = only_run(workplace).directory / "crash.log"
    assert answer.code == 70
    where = crash.relative_to(workplace)
    assert answer.errors == [f"internal error: ZeroDivisionError: *** by zero (traceback: {where})"]
    assert "Traceback (most recent call last)" in crash.read_text() and "canary-value" not in crash.read_text()
    assert crash.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("RLRUN_DEBUG", "1")
    with pytest.raises(Exception, match="internal error") as raised:
        main([])
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


# --- foreign runs ----------------------------------------------------------------------------------------------------

ODD = [10**400, -(10**400), float("1e999"), "text", True, [1], {"a": [{}]}, 1e300]


def test_list_shows_what_is_no_number_as_a_question_mark(rlrun: Any, run: Run) -> None:
    path = run.directory / "run.json"
    original = path.read_text()
    for value in ODD:
        text = json.dumps(value).replace("Infinity", "1e999")
        for field in ("evaluation", "best"):
            manifest = json.loads(original)
            manifest[field] = {"return_mean": "@"}
            path.write_text(json.dumps(manifest).replace('"@"', text))
            answer = rlrun("ls")
            assert answer.code == 0, answer.err
            assert ("1e+300" if value == 1e300 else "?") in answer.out.splitlines()[1].split()
            assert json.loads(rlrun("ls", "--json").out)
    for field in ("seed", "frames", "total_frames"):
        path.write_text(json.dumps(json.loads(original) | {field: 10**400}))
        assert rlrun("ls").code == 0
    path.write_text(json.dumps(json.loads(original) | {"best": "junk", "machine": 3, "versions": [], "overrides": 5}))
    assert rlrun("ls").out.splitlines()[1].split()[7] == "?"
    assert rlrun("resume", "latest").code == 0
    assert rlrun("resume", "latest", "total_frames=700", "--require-exact").code == 4


def test_list_says_which_runs_are_inexact(rlrun: Any, run: Run) -> None:
    def column() -> str:
        header, row = rlrun("ls").out.splitlines()
        return row[header.index("exact") :].split()[0]

    assert column() == "yes"
    run.update(exact=False, inexact_because=["other library versions than it began with"])
    assert column() == "no"


def test_numbers_as_they_are_shown() -> None:
    assert [shown_number(value) for value in (None, 1234.56, 5, -1e20, True, "5")] == [
        "-", "1,234.6", "5.0", "-1e+20", "?", "?",
    ]  # fmt: skip


# --- resume and eval elsewhere ---------------------------------------------------------------------------------------


def test_resume_on_another_device_is_no_longer_exact(rlrun: Any, run: Run) -> None:
    assert run.config.device == "auto"
    answer = rlrun("resume", "latest", "total_frames=700", "device=cpu", "--require-exact")
    assert answer.code == 4 and "device: auto -> cpu" in answer.errors[0]
    assert Run.open(run.directory).config == run.config
    answer = rlrun("resume", "latest", "total_frames=700", "hardware.device=cpu", "hardware.threads=2")
    assert answer.code == 0, answer.err
    run = Run.open(run.directory)
    assert (run.config.device, run.config.hardware.device, run.config.hardware.threads) == ("cpu", "cpu", 2)
    assert run.manifest["exact"] is False
    assert any("device: auto -> cpu" in reason for reason in run.manifest["inexact_because"])
    answer = rlrun("resume", "latest", "total_frames=800", "--require-exact")
    assert answer.code == 4 and "it was no longer exact before: device: auto -> cpu; " in answer.errors[0]


def test_resume_leaves_name_and_place(rlrun: Any, run: Run) -> None:
    answer = rlrun("resume", "latest", "total_frames=700", "name=other", "outputs=elsewhere")
    assert answer.code == 4
    assert [line.partition(":")[0] for line in answer.errors] == ["name", "outputs"]


@pytest.fixture
def without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlrun.sweeps.resources._GRAPHICS_DRIVERS", ("/dev/no-such-driver",))


def test_missing_cuda_is_found_without_torch(workplace: Path) -> None:
    program = (
        "import sys; from rlrun.sweeps import resources; resources._GRAPHICS_DRIVERS = ('/dev/no-such-driver',)\n"
        "from rlrun.cli import main; code = main(['device=cuda:1']); assert 'torch' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([*command()[:2], program], capture_output=True, text=True, timeout=60)
    line = "device=cuda:1 but there is no CUDA device; use device=cpu or device=auto"
    assert (done.returncode, done.stderr) == (3, f"rlrun: error: {line}\n")


def test_run_of_another_machine(rlrun: Any, run: Run, without_cuda: None) -> None:
    """Trained on CUDA, brought to a machine without."""
    path = run.directory / "config.yaml"
    path.write_text(path.read_text().replace("\ndevice: auto", "\ndevice: cuda"))
    assert Run.open(run.directory).config.device == "cuda"
    answer = rlrun("resume", "latest", "total_frames=700")
    assert answer.code == 3 and "use device=cpu" in answer.errors[0]
    assert Run.open(run.directory).config.total_frames == 600
    assert rlrun("eval", "latest", "--episodes", "1").code == 0
    assert rlrun("eval", "latest", "--episodes", "1", "--device", "cuda").code == 3
    assert rlrun("eval", "latest", "--episodes", "1", "--device", "gpu").code == 2
    assert rlrun("eval", "latest", "--episodes", "1", "--device", "cpu").code == 0
    assert rlrun("resume", "-q", "latest", "total_frames=700", "device=cpu").code == 0


def test_extending_past_a_stop_rule_needs_it_changed(rlrun: Any, workplace: Path) -> None:
    tiny = [setting for setting in TINY if not setting.startswith("total_frames")]
    assert rlrun("-q", *tiny, "total_frames=3000", "stop.return=1", "stop.episodes=1000").code == 0
    run = only_run(workplace)
    where = run.directory.relative_to(workplace)
    assert run.manifest["frames"] == 300
    assert "its stop rule ended it" in rlrun("resume", "latest").out
    answer = rlrun("resume", "latest", "total_frames=6000")
    assert answer.code == 4
    assert answer.errors == [
        f"stop.return=1 was reached; change it too: rlrun resume {where} total_frames=6000 stop.return=null"
    ]
    assert Run.open(run.directory).config == run.config
    answer = rlrun("resume", "latest", "stop.return=1", "stop.episodes=2", "total_frames=6000")
    assert answer.code == 4
    assert "stop.return=1 and stop.episodes=2 were reached; change them too:" in answer.errors[0]
    assert answer.errors[0].endswith(f"{where} total_frames=6000 stop.return=null stop.episodes=null")
    assert rlrun("resume", "latest", "total_frames=6000", "stop.return=null", "stop.episodes=30").code == 0
    run = Run.open(run.directory)
    assert 300 < run.manifest["frames"] < 6000


def test_extending_past_a_limit_of_seconds(rlrun: Any, run: Run) -> None:
    path = run.directory / "config.yaml"
    path.write_text(path.read_text().replace("  seconds: null", "  seconds: 500"))
    run.update(frames=400)  # finished before its end, and no other rule is set: it was this one
    answer = rlrun("resume", "latest", "total_frames=700", "stop.seconds=400")
    assert answer.code == 4 and answer.errors[0].startswith("stop.seconds=400 was reached; change it too:")
    assert rlrun("resume", "latest", "total_frames=700", "stop.seconds=9000").code == 0


# --- settings that would do nothing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["algo.learning_starts=100", "total_frames=100", "algo.batch_size=9"], "algo.learning_starts (100) leaves"),
        (["algo.train_every=90000"], "algo.train_every (90000) leaves no update"),
        (["algo.weight_decay=0.1"], "algo.weight_decay is for adamw only; type algo.optimizer=adamw as well"),
        (
            ["algo=ppo", "algo.distribution=tanh_normal", "algo.initial_log_std=-1"],
            "algo.distribution, algo.initial_log_std are for continuous actions only; CartPole-v1 has discrete ones",
        ),
        (["algo=ppo", "algo.state_dependent_std=true"], "algo.state_dependent_std is for continuous actions only"),
    ],
)
def test_ignored_settings_are_errors(arguments: list[str], words: str, rlrun: Any, workplace: Path) -> None:
    answer = rlrun(*arguments)
    assert answer.code == 2 and len(answer.errors) == 1
    assert words in answer.errors[0]
    assert leftovers(workplace) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["algo.weight_decay=0.1", "algo.optimizer=adamw"],
        ["algo.weight_decay=0"],
        ["algo=ppo", "algo.distribution=gaussian"],
        ["algo=ppo", "env=pendulum", "algo.distribution=tanh_normal", "total_frames=9000"],
        ["experiment=tutorial_ppo", "env=cartpole"],
    ],
)
def test_settings_that_do_something_are_none(arguments: list[str], rlrun: Any, stub_training: Any) -> None:
    stub_training(finished)
    assert rlrun(*arguments).code == 0


def test_algorithm_without_a_name() -> None:
    with pytest.raises(UsageError, match="^algo.name is missing; choices: dqn, ppo$"):
        from_mapping({"algo": {"gamma": 0.5}})


# --- where settings came from ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "origin"),
    [
        ([], "tuned/dqn_cartpole"),
        (["tuned=none"], "tuned=none"),
        (["experiment=tutorial_dqn"], "experiment/tutorial_dqn"),
        (["experiment=tutorial_dqn", "tuned=dqn_acrobot"], "experiment/tutorial_dqn and tuned/dqn_acrobot"),
        (["env.id=Acrobot-v1"], "not tuned for this pair"),
    ],
)
def test_header_names_the_origin_of_settings(
    arguments: list[str], origin: str, rlrun: Any, workplace: Path, stub_training: Any, capfd: Any
) -> None:
    def outcome(run: Run) -> Outcome:
        live.PlainView().start([run], {})
        return finished(run)

    stub_training(outcome)
    answer = rlrun(*arguments)
    assert answer.code == 0, answer.err
    assert f"settings: {origin}\n" in answer.out
    manifest = only_run(workplace).manifest
    wanted = arguments[0].replace("=", "/") if arguments and arguments[0].startswith("experiment") else None
    assert manifest["experiment"] == wanted and "tuned" in manifest


def test_a_job_knows_which_keys_were_typed() -> None:
    job = Job(from_mapping({}), ("algo.gamma=0.9", "name='a=b'"))
    assert job.typed == {"algo.gamma", "name"}


def test_ctrl_c_while_modules_are_imported_is_one_line() -> None:
    program = textwrap.dedent("""
        import sys

        class Interrupting:
            def find_spec(self, name, path=None, target=None):
                if name == "rlrun.cli.output":
                    raise KeyboardInterrupt

        sys.meta_path.insert(0, Interrupting())
        from rlrun.__main__ import main
        sys.exit(main())
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "rlrun: interrupted\n")

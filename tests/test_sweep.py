"""Sweeps around their workers: directories, failures, signals, resuming, lists. Most workers here only pretend to train."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import FAKE_WORKER
from test_cli_hardship import wait_until

from rlrun.checkpoint import save
from rlrun.errors import EnvironmentFailure
from rlrun.locks import lock
from rlrun.reports.tables import spreadsheet_cell
from rlrun.run import Run

SEEDS = ("-m", "seed=range(4)", "total_frames=2000", "sweep.batch=2", "sweep.workers=2")


def only_sweep(workplace: Path) -> Path:
    (directory,) = (workplace / "outputs" / "sweeps").iterdir()
    return directory


def runs_of(sweep: Path) -> list[Run]:
    return sorted((Run.open(path.parent) for path in sweep.glob("*/run.json")), key=lambda run: run.manifest["job"])


def statuses(sweep: Path) -> list[str]:
    return [run.manifest["status"] for run in runs_of(sweep)]


def summary(sweep: Path) -> dict[str, Any]:
    values = json.loads((sweep / "sweep.json").read_text())
    assert isinstance(values, dict)
    return values


# --- directories and lists -------------------------------------------------------------------------------------------


def test_all_directories_wait_before_the_first_is_trained(rlrun: Any, workplace: Path, fake_worker: Any) -> None:
    fake_worker("print(len(list(Path('outputs/sweeps').glob('*/*/run.json'))), file=sys.stderr); end_all()")
    assert rlrun(*SEEDS).code == 0
    sweep = only_sweep(workplace)
    assert (sweep / "worker-1.log").read_text() == "4\n"
    assert statuses(sweep) == ["finished"] * 4
    assert [run.manifest["job"] for run in runs_of(sweep)] == [1, 2, 3, 4]
    assert {run.manifest["sweep"] for run in runs_of(sweep)} == {sweep.name}
    assert not list(workplace.rglob("multirun.yaml"))


def test_a_sweep_is_not_made_behind_a_link(rlrun: Any, workplace: Path) -> None:
    (workplace / "victim").mkdir()
    (workplace / "outputs").mkdir()
    (workplace / "outputs" / "sweeps").symlink_to(workplace / "victim")
    answer = rlrun("-m", "seed=1,2")
    assert answer.code == 5 and answer.errors[0].startswith("outputs/sweeps is a symbolic link")
    assert not list((workplace / "victim").iterdir())


def test_sweep_json_and_csv(rlrun: Any, workplace: Path, fake_worker: Any) -> None:
    fake_worker()
    arguments = ("-m", "seed=1,2,3", "algo.gamma=0.9,0.99", "name='a=b',-x", "total_frames=2000")
    assert rlrun(*arguments).code == 2  # such names are refused
    answer = rlrun(*arguments[:3], "env.kwargs.render_mode=null,rgb_array", "total_frames=2000")
    assert answer.code == 0, answer.err
    values = summary(only_sweep(workplace))
    assert values["settings"] == ["seed", "algo.gamma", "env.kwargs.render_mode"]
    assert len(values["jobs"]) == 12 and values["jobs"][0]["settings"] == {
        "algo.gamma": "0.9", "env.kwargs.render_mode": "null", "seed": "1",
    }  # fmt: skip
    assert [(group["settings"]["algo.gamma"], group["failed"]) for group in values["groups"]] == [
        ("0.9", 0), ("0.9", 0), ("0.99", 0), ("0.99", 0),
    ]  # fmt: skip
    statistics = values["groups"][0]["statistics"]
    assert (statistics["count"], statistics["mean"], statistics["iqm"], statistics["best"]) == (3, 20.0, 20.0, 30.0)
    assert statistics["interval"] == [10.0, 30.0]
    assert values["agent_frames"] == 24_000 and values["agent_frames_per_second"] > 0 and values["versions"]["torch"]
    rows = list(csv.DictReader((only_sweep(workplace) / "sweep.csv").read_text().splitlines()))
    assert [row["job"] for row in rows] == [str(number) for number in range(1, 13)]
    assert rows[5] == rows[5] | {"algo.gamma": "0.9", "return_mean": "20.0", "status": "finished", "frames": "2000"}
    lines = answer.out.splitlines()
    assert next(line for line in lines if line.startswith("#  ")).split() == [
        "#", "algo.gamma", "env.kwargs.render_mode", "seed", "status", "return", "frames", "run",
    ]  # fmt: skip
    assert "returns: last evaluation; best settings first" in lines


@pytest.mark.parametrize(
    ("cell", "safe"),
    [
        ("=1+1", "'=1+1"),
        ("@x", "'@x"),
        ("-x", "'-x"),
        ("+", "'+"),
        ("-1.5", "-1.5"),
        ("+1e3", "+1e3"),
        (-2, -2),
        ("a=b", "a=b"),
        ("\t=1+1", "'=1+1"),
        ("\r\n@x", "'@x"),
        ("red\x1b[31m", "red[31m"),
    ],
)
def test_cells_are_no_formulas(cell: Any, safe: Any) -> None:
    assert spreadsheet_cell(cell) == safe


def test_returns_of_training_where_nothing_is_evaluated(rlrun: Any, workplace: Path, fake_worker: Any) -> None:
    fake_worker("""
        for run in runs:
            rows = "".join(f"{n},{n},{n}.0,1\\n" for n in range(1, 201))
            (run.directory / "episodes.csv").write_text("episode,frames,return,length\\n" + rows)
        end_all()
    """)
    answer = rlrun(*SEEDS, "evaluation.episodes=0")
    assert answer.code == 0 and "returns: last 100 training episodes" in answer.out
    assert [job["return_mean"] for job in summary(only_sweep(workplace))["jobs"]] == [150.5] * 4


def test_evaluations_are_not_ranked_among_training_episodes(rlrun: Any, workplace: Path, fake_worker: Any) -> None:
    fake_worker("""
        for run in runs:
            (run.directory / "episodes.csv").write_text("episode,frames,return,length\\n1,1,22.5,1\\n")
        end_all()  # evaluations of 10 and 20, which count for nothing where evaluation.episodes says that there are none
    """)
    answer = rlrun("-m", "evaluation.episodes=0,1", "seed=1,2")
    assert answer.code == 0 and "each measure by itself" in answer.out
    table = [line for line in answer.out.splitlines() if "last " in line]
    assert [line.split()[0] for line in table[:2]] == ["1", "0"]
    assert table[0].endswith("last evaluation") and table[1].endswith("last 100 training episodes")
    groups = summary(only_sweep(workplace))["groups"]
    assert [group["measure"] for group in groups] == ["last 100 training episodes", "last evaluation"]
    listed = rlrun("ls", "--all", "--sort", "return").out.splitlines()[1:]
    assert ["22.5 training" in line for line in listed] == [False, False, True, True]
    (line,) = rlrun("ls").out.splitlines()[1:]
    assert " 15.0 " in line and "22.5" not in line


def test_many_jobs_are_shown_as_groups_only(rlrun: Any, fake_worker: Any) -> None:
    fake_worker()
    answer = rlrun("-m", "seed=range(20)", "total_frames=2000")
    assert answer.code == 0 and "95% interval" in answer.out
    assert not [line for line in answer.out.splitlines() if line.startswith("#  ")]


def test_quiet_sweep_prints_its_directory_only(rlrun: Any, workplace: Path, fake_worker: Any) -> None:
    fake_worker()
    assert rlrun("-q", *SEEDS).out == f"{only_sweep(workplace).relative_to(workplace)}\n"


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("death", "reason"),
    [
        ("os.abort()", "worker died: SIGABRT"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "worker was killed (out of memory?)"),
        ("print('boom', file=sys.stderr); os._exit(3)", "worker ended with exit code 3: boom"),
    ],
)
def test_a_dead_worker_costs_its_own_batch(
    death: str, reason: str, rlrun: Any, workplace: Path, fake_worker: Any
) -> None:
    fake_worker(f"""
        if 0 in seeds:
            end(0)
            {death}
        end_all()
    """)
    answer = rlrun(*SEEDS)
    sweep = only_sweep(workplace)
    where = sweep.relative_to(workplace)
    assert answer.code == 9
    assert answer.errors == [
        f"3 of 4 jobs ok; rlrun resume {where} tries them again", f"#2 seed=1: {reason}",
    ]  # fmt: skip
    assert statuses(sweep) == ["finished", "failed", "finished", "finished"]
    assert runs_of(sweep)[1].manifest["failure"] == reason
    assert [job["error"] for job in summary(sweep)["jobs"]] == [None, reason, None, None]
    assert (sweep / "worker-1.log").exists() == ("boom" in reason) and not (sweep / "worker-2.log").exists()

    fake_worker("print(seeds, file=sys.stderr); end_all()")
    again = rlrun("resume", str(where))
    assert again.code == 0, again.err
    earlier = ["boom"] if "boom" in reason else []
    assert trained(sweep) == ["[1]", *earlier]  # nothing is trained twice, and no log is lost
    assert rlrun("resume", str(where)).out.startswith("already complete (4 runs); extend with: rlrun resume ")


@pytest.mark.parametrize(
    "loss",
    [
        "place.rename('away')",
        "(place / 'checkpoints').rmdir(); (place / 'checkpoints').touch()",
        "(place / 'checkpoints' / 'step_000000000100.ckpt.bad').touch()",
    ],
    ids=["directory", "folder", "checkpoint"],
)
def test_who_is_lost_while_another_hangs_costs_only_itself(
    loss: str, rlrun: Any, workplace: Path, fake_worker: Any
) -> None:
    fake_worker(f"""
        print("seeds", *seeds, file=sys.stderr)
        if 0 in seeds:
            end(0, "failed", "it hangs")
            for member in (1, 2, 3):
                end(member, "stopped")
            place = runs[1].directory
            {loss}
            os._exit({EnvironmentFailure.exit_code})
        end_all()
    """)
    answer = rlrun(*SEEDS[:3], "sweep.workers=1")
    assert answer.code == 9 and len(answer.errors) == 3, answer.err
    assert answer.errors[1] == "#1 seed=0: it hangs" and answer.errors[2].startswith("#2 seed=1: ")
    sweep = only_sweep(workplace)
    assert [job["error"] is None for job in summary(sweep)["jobs"]] == [False, False, True, True]
    assert trained(sweep) == ["seeds 0 1 2 3", "seeds 2 3"]


def test_failed_members_are_listed_with_their_reasons(rlrun: Any, workplace: Path, fake_worker: Any) -> None:
    fake_worker("""
        for member, seed in enumerate(seeds):
            end(member, *(("failed", "diverged at frame 7") if seed % 2 else ()))
    """)
    answer = rlrun(*SEEDS)
    assert answer.code == 9
    assert answer.errors[1:] == ["#2 seed=1: diverged at frame 7", "#4 seed=3: diverged at frame 7"]
    assert summary(only_sweep(workplace))["groups"][0]["failed"] == 2


def test_a_worker_that_cannot_be_started(rlrun: Any, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlrun.sweeps.launcher.COMMAND", ("/no/such/python",))
    answer = rlrun(*SEEDS)
    assert answer.code == 9 and answer.errors[1] == "#1 seed=0: can't start a worker: No such file or directory"
    assert statuses(only_sweep(workplace)) == ["failed"] * 4


def test_a_sweep_that_cannot_be_made_leaves_nothing(
    rlrun: Any, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlrun.errors import StorageError

    def full(*_: Any) -> None:
        raise StorageError("no space")

    monkeypatch.setattr("rlrun.sweeps.sweep.save_summary", full)
    answer = rlrun(*SEEDS)
    assert (answer.code, answer.errors) == (5, ["no space"])
    assert list((workplace / "outputs" / "sweeps").iterdir()) == []


def test_what_a_worker_prints_is_no_event() -> None:
    """An environment may print what it likes."""
    program = (
        "import os, sys; from rlrun.child import claim_output\n"
        "stream = claim_output(); print('hello from a simulator', flush=True); os.system('echo from below')\n"
        "print('event', file=stream, flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "event\n" and sorted(done.stderr.splitlines()) == ["from below", "hello from a simulator"]


def test_neither_side_imports_what_it_does_not_need() -> None:
    for module, others in (("rlrun.sweeps.worker", "hydra rich torch gymnasium"), ("rlrun.sweeps.sweep", "torch")):
        program = f"import sys, {module}; sys.exit(len({{*{others.split()}}} & {{*sys.modules}}))"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


# --- signals ---------------------------------------------------------------------------------------------------------

SLOW = """
signal.signal(signal.SIGTERM, lambda *_: None)
say("start", header={})
say("progress", frames=1, return_mean=None)
Path(f"started-{seeds[0]}").touch()
signal.pause()
for member in range(len(runs)):
    end(member, "stopped")
"""
PARENT = """
import sys
from rlrun.cli import main
from rlrun.sweeps import launcher
launcher.COMMAND = (sys.executable, "-c", sys.argv[1])
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_saves_everything_and_gives_one_command(
    number: int, code: int, rlrun: Any, workplace: Path, fake_worker: Any
) -> None:
    program = FAKE_WORKER.format(body=SLOW)
    arguments = [sys.executable, "-c", PARENT, program, *SEEDS[:3], "sweep.batch=1", "sweep.workers=2"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, start_new_session=True)
    wait_until(lambda: len(list(workplace.glob("started-*"))) == 2)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    sweep = only_sweep(workplace)
    command = f"rlrun resume {sweep.relative_to(workplace)}"
    assert f"interrupted: 0 done, 0 failed, 2 resumable, 2 not started; continue with: {command}\n" in out
    assert statuses(sweep) == ["stopped", "stopped", "waiting", "waiting"]
    fake_worker()
    answer = rlrun(*command.split()[1:])
    assert answer.code == 0, answer.err
    assert statuses(sweep) == ["finished"] * 4


def test_a_wish_for_checkpoints_is_passed_on_to_workers_that_train(workplace: Path) -> None:
    asked = """
    signal.signal(signal.SIGUSR1, lambda *_: Path("asked-" + str(seeds[0])).touch())
    Path("started-" + str(seeds[0])).touch()
    if seeds[0] == 0:
        say("start", header={})
    for _ in range(600):
        if Path("asked-0").exists():
            break
        time.sleep(0.05)
    end_all()
    """
    program = FAKE_WORKER.format(body=textwrap.dedent(asked))
    sweep = ("-m", "seed=0,1", "total_frames=2000", "sweep.batch=1", "sweep.workers=2")
    process = subprocess.Popen([sys.executable, "-c", PARENT, program, *sweep], start_new_session=True)
    wait_until(lambda: len(list(workplace.glob("started-*"))) == 2)
    while process.poll() is None and not (workplace / "asked-0").exists():
        process.send_signal(signal.SIGUSR1)  # it may not yet have heard that the worker trains
        time.sleep(0.2)
    assert process.wait(timeout=60) == 0
    assert not (workplace / "asked-1").exists()


def test_a_second_signal_ends_all_processes(workplace: Path) -> None:
    stubborn = SLOW.replace("signal.pause()", "open('pid', 'w').write(str(os.getpid()))\nwhile True: signal.pause()")
    program = FAKE_WORKER.format(body=stubborn)
    process = subprocess.Popen([sys.executable, "-c", PARENT, program, "-m", "seed=1,2", "sweep.workers=1"])
    wait_until(lambda: (workplace / "pid").exists() and bool((workplace / "pid").read_text()))
    worker = int((workplace / "pid").read_text())
    process.send_signal(signal.SIGINT)
    time.sleep(1.2)
    assert process.poll() is None
    while process.poll() is None:  # one that comes within a second of the first is none
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    assert process.wait() == 130
    wait_until(
        lambda: not Path(f"/proc/{worker}").exists() or "Z" in Path(f"/proc/{worker}/stat").read_text().split()[2]
    )


# --- resuming --------------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(rlrun: Any, workplace: Path, fake_worker: Callable[..., None]) -> Path:
    """A sweep of which the first two runs are finished, the third failed, the fourth never started."""
    fake_worker("""
        for member, seed in enumerate(seeds):
            if seed < 2:
                end(member)
            elif seed == 2:
                end(member, "failed", "the simulator is on fire")
    """)
    assert rlrun("-q", *SEEDS).code == 9
    sweep = only_sweep(workplace)
    assert statuses(sweep) == ["finished", "finished", "failed", "waiting"]
    fake_worker("print(seeds, request['frames'], file=sys.stderr); end_all()")
    return sweep


def with_checkpoints(sweep: Path, *members: int) -> None:
    """Give finished runs of the fake worker a checkpoint of their last frame."""
    for run in (runs_of(sweep)[member] for member in members):
        frames = run.manifest["frames"]
        save(run.checkpoints / f"step_{frames:012d}.ckpt", {"frames": frames}, {})


def trained(sweep: Path) -> list[str]:
    return sorted(path.read_text().strip() for path in sweep.glob("worker-*.log"))


def test_a_sweep_is_found_by_the_beginning_of_its_name(stopped: Path, rlrun: Any) -> None:
    assert rlrun("resume", stopped.name[:-2]).code == 0
    assert trained(stopped) == ["[2] None", "[3] None"]
    assert rlrun("resume", "latest").code == 0  # a run, and complete
    assert rlrun("resume", "nothing").code == 4


def test_a_beginning_that_fits_several(stopped: Path, rlrun: Any) -> None:
    (stopped.parent / f"{stopped.name}-1").mkdir()
    (stopped.parent / f"{stopped.name}-1" / "sweep.json").touch()
    answer = rlrun("resume", stopped.name[:10])
    assert answer.code == 2 and "fits 2 sweeps and runs" in answer.errors[0]
    assert rlrun("resume", stopped.name).code == 0


def test_what_the_lists_say_is_ignored(stopped: Path, rlrun: Any, tmp_path: Path) -> None:
    """Members are the real folders in the sweep."""
    (stopped / "sweep.json").write_text('{"jobs": [{"directory": "../../../etc", "status": "finished"}]}')
    outside = tmp_path / "outside"
    (stopped / "link").symlink_to(outside)
    runs_of(stopped)[3].directory.rename(outside)
    (stopped / "worker-1.log").symlink_to(tmp_path / "victim")
    answer = rlrun("resume", str(stopped))
    assert answer.code == 9 and any("job 4: it has no directory" in line for line in answer.errors)
    assert not (tmp_path / "victim").exists()
    (stopped / "worker-1.log").unlink()
    assert trained(stopped) == ["[2] None"]
    assert json.loads((outside / "run.json").read_text())["status"] == "waiting"


def test_a_member_that_cannot_be_opened_does_not_stop_the_others(stopped: Path, rlrun: Any) -> None:
    broken = runs_of(stopped)[2].directory
    (broken / "config.yaml").write_text("seed: !!python/name:os.system\n")
    answer = rlrun("resume", str(stopped))
    assert answer.code == 9 and answer.errors[1].startswith(f"{broken.name}: ")
    assert trained(stopped) == ["[3] None"]


def test_a_sweep_in_use(stopped: Path, rlrun: Any) -> None:
    with lock(stopped, "sweep"):
        answer = rlrun("resume", str(stopped))
    assert answer.code == 8 and f"is in use by pid {os.getpid()}" in answer.errors[0]
    with runs_of(stopped)[2].lock():
        answer = rlrun("resume", str(stopped))
    assert answer.code == 8 and "is in use by pid" in answer.errors[0]
    assert statuses(stopped) == ["finished", "finished", "failed", "waiting"]


def test_overrides_extend_finished_runs_too(stopped: Path, rlrun: Any) -> None:
    assert rlrun("resume", str(stopped), "algo.gamma=0.1").code == 4
    assert rlrun("resume", str(stopped), "sweep.batch=0").code == 2
    assert rlrun("resume", str(stopped), "sweep.batch=100000", "sweep.workers=1000").code == 5
    assert rlrun("resume", str(stopped), "total_frames=1900").code == 4
    assert statuses(stopped) == ["finished", "finished", "failed", "waiting"]
    assert {run.config.sweep.batch for run in runs_of(stopped)} == {2}
    with_checkpoints(stopped, 0, 1)
    answer = rlrun("resume", str(stopped), "total_frames=3000", "sweep.workers=1", "sweep.batch=4")
    assert answer.code == 0, answer.err
    assert trained(stopped) == ["[0, 1] 2000", "[2] None", "[3] None"]  # what failed trains apart
    assert {run.config.total_frames for run in runs_of(stopped)} == {3000}
    assert rlrun("resume", str(stopped), "sweep.workers=2").out.startswith("already complete")


def test_a_finished_run_without_a_checkpoint_is_not_trained_anew(stopped: Path, rlrun: Any) -> None:
    with_checkpoints(stopped, 1)
    directory = runs_of(stopped)[0].directory
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    answer = rlrun("resume", str(stopped), "total_frames=3000", "sweep.workers=1", "sweep.batch=4")
    assert (answer.code, answer.errors[1:]) == (
        9, ["#1 seed=0: no usable checkpoint is left to go on from"],
    )  # fmt: skip
    assert trained(stopped) == ["[1] 2000", "[2] None", "[3] None"]
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


def test_a_sweep_is_extended_as_a_whole_or_not_at_all(stopped: Path, rlrun: Any) -> None:
    with_checkpoints(stopped, 0, 1)
    with runs_of(stopped)[2].lock():
        assert rlrun("resume", str(stopped), "total_frames=3000").code == 8
    assert {run.config.total_frames for run in runs_of(stopped)} == {2000}


def test_one_member_alone(stopped: Path, rlrun: Any) -> None:
    waiting = runs_of(stopped)[3].directory
    with lock(stopped, "sweep"):
        answer = rlrun("resume", str(waiting))
    where = stopped.relative_to(stopped.parents[2])
    assert (answer.code, answer.errors) == (
        8, [f"{where / waiting.name} belongs to sweep {where}, which is in use; wait for it"],
    )  # fmt: skip
    assert Run.open(waiting).manifest["status"] == "waiting"
    answer = rlrun("resume", str(waiting), "sweep.workers=1")
    assert answer.code == 2 and "sweep.workers=1: for sweeps only" in answer.errors[0]
    answer = rlrun("resume", str(waiting), "evaluation.episodes=1")
    assert answer.code == 0, answer.err
    manifest = Run.open(waiting).manifest
    assert manifest["status"] == "finished" and manifest["population"]["size"] == 1


def test_jobs_are_composed_as_if_each_was_composed_anew(rlrun: Any, workplace: Path, fake_worker: Any) -> None:
    """Groups choose tuned settings and networks; single settings win over them; text and lists keep their types."""
    fake_worker()
    groups = ["algo=dqn,ppo", "env=cartpole,acrobot", "network=small"]
    settings = ["seed=1,2", "algo.gamma=0.9", "network.hidden=[32,16]", "name=a", "total_frames=1e5"]
    assert rlrun("-q", "-m", *groups, *settings).code == 0
    swept = {path.parent: json.loads(path.read_text()) for path in workplace.glob("outputs/sweeps/*/*/run.json")}
    assert len(swept) == 8
    for directory, manifest in swept.items():
        anew = rlrun("--cfg", "job", *manifest["overrides"])
        assert yaml.safe_load(anew.out) == yaml.safe_load((directory / "config.yaml").read_text())


def test_a_sweep_killed_while_it_was_made_says_what_is_missing(stopped: Path, rlrun: Any) -> None:
    """As if the kill had come before the last run's directory."""
    shutil.rmtree(runs_of(stopped)[3].directory)
    (stopped / "sweep.json").write_text("{}")
    answer = rlrun("resume", str(stopped))
    assert answer.code == 9
    assert "job 4: it has no directory: deleted, or never made; start it again by itself" in answer.errors


def test_a_stopped_run_whose_checkpoints_are_all_damaged_does_not_start_over(stopped: Path, rlrun: Any) -> None:
    run = runs_of(stopped)[1]
    (run.checkpoints / "step_000000000100.ckpt").write_text("damaged")
    run.update(status="stopped", frames=100)
    answer = rlrun("resume", str(stopped))
    assert answer.code == 9
    assert any("no usable checkpoint is left to go on from" in line for line in answer.errors)
    assert f"{run.directory.name}: step_000000000100.ckpt is not an rlrun checkpoint" in answer.err
    assert run.directory.name not in "".join(trained(stopped))

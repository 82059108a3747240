"""What a newcomer types, and the one line that says what to type instead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.envs.registration import registry
from planted import plant, plant_sweep
from test_cli import TINY, command, leftovers, only_run

from rlrun import envs
from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.cli.playing import checkpoint_of
from rlrun.config import EnvConfig, from_mapping
from rlrun.config.settings import nearest
from rlrun.errors import ResumeError, UnavailableError, UsageError
from rlrun.interrupts import Interrupts
from rlrun.rollout import Environments
from rlrun.run import Run

LINES = [
    # other tools' words, and other ways to write a value
    (["lr=1e-3"], "unknown key 'lr'; did you mean 'algo.learning_rate'?"),
    (["algo.lr=1e-3"], "did you mean 'algo.learning_rate'?"),
    (["gamma=0.9"], "did you mean 'algo.gamma'?"),
    (["total_timesteps=5000"], "did you mean 'total_frames'?"),
    (["algo.steps=5000"], "did you mean 'total_frames'?"),
    (["algo=ppo", "algo.n_steps=128"], "did you mean 'algo.rollout_steps'?"),
    (["algo=ppo", "algo.ent_coef=0"], "did you mean 'algo.entropy_coef'?"),
    (["algo.n_steps=3"], "did you mean 'algo.n_step'?"),
    (["algo=DQN"], "unknown algo 'DQN'; did you mean 'dqn'?"),
    (["network.activation=ReLU"], "did you mean 'relu'?"),
    (["total_frames=100k"], "got '100k'; write 100000"),
    (["total_frames=1.5M"], "got '1.5M'; write 1500000"),
    (["total_frames=1,000"], "or write 1000 without a comma"),
    (["network.hidden=64,64"], "or write one list: network.hidden=[64,64]"),
    (["name=é中文"], "may only contain A-Z a-z 0-9 . _ -"),
    (["network.hidden=[1,2"], "can't parse network.hidden=[1,2; check its brackets"),
    (["total_frames=1e16"], "total_frames=10000000000000000 is out of range"),
    (["algo.num_envs=1e9"], "algo.num_envs=1000000000 is out of range"),
    # settings that contradict each other
    (
        ["env=cartpole", "env.id=Acrobot-v1"],
        "env=cartpole is CartPole-v1, not env.id=Acrobot-v1; leave env=cartpole out",
    ),
    (
        ["experiment=tutorial_dqn", "algo=ppo"],
        "experiment/tutorial_dqn sets algo.optimizer, which ppo does not have; it can't be used with algo=ppo",
    ),
    (["plot.figures=ppo"], "plot.figures=ppo shows what dqn does not record"),
    (
        ["env.frame_skip=4", "algo.learning_starts=500", "total_frames=2000"],
        "algo.learning_starts (500) x env.frame_skip (4) = 2000 frames leaves no update before total_frames (2000); "
        "raise total_frames or lower algo.learning_starts",
    ),
    (
        ["algo=ppo", "tuned=none", "env.frame_skip=2", "total_frames=3000"],
        "(2048 steps x 1 environment = 2048 transitions x env.frame_skip (2) = 4096 frames); raise total_frames",
    ),
    # Hydra's own settings
    (["hydra.run.dir=x"], "hydra.run.dir=x: rlrun makes its own run directories; use outputs=DIR"),
    (["hydra.job.chdir=true"], "use outputs=DIR"),
    (["-m", "seed=1,2", "hydra.sweep.dir=x"], "use outputs=DIR"),
    (["hydra.output_subdir=x"], "use outputs=DIR"),
    (["-m", "seed=1,2", "hydra/launcher=basic"], "rlrun runs sweeps itself; leave hydra/launcher out"),
    (["--config-name", "mine"], "use --config-dir DIR experiment=NAME"),
    (["--cfg", "job", "-p", "nope/env"], "--package=nope/env: the config has no such part"),
    (["--cfg", "job", "-p", "algos"], "the config has no such part; did you mean 'algo'?"),
    (["-p", "env"], "type --cfg job as well"),
    (["--info", "bogus"], "invalid choice: 'bogus'"),
    # commands
    (["resume"], "the following arguments are required: RUN; see"),
    (["ls", "--outputs", "file"], "--outputs=file: not a folder"),
    (["configs", "-cd", "file"], "--config-dir=file: not a folder"),
    (["ls", "--outputs", "\0"], "is no name of a folder"),
    (["network.hidden.x=1"], "network.hidden is one list; write network.hidden=[64,64]"),
    (["env.step_timeout=1e20"], "it must be a number in (0, 1000000000] or null"),
]


@pytest.mark.parametrize(
    ("arguments", "words"), LINES, ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else ""
)
def test_one_line_says_what_to_type(arguments: list[str], words: str, rlrun: Any, workplace: Path) -> None:
    (workplace / "file").touch()
    answer = rlrun(*arguments)
    assert (answer.code, answer.out) == (2, ""), answer.err
    (line,) = answer.errors
    assert words in line
    assert leftovers(workplace) == ["file"]


def test_same_id_on_top_of_its_environment_is_no_contradiction(rlrun: Any) -> None:
    assert rlrun("env=cartpole", "env.id=CartPole-v1", "--cfg", "job").code == 0


def test_nearest_without_settings() -> None:
    assert nearest("lr", ["learning_rate"]) == ""
    assert nearest("PPO", ["dqn", "ppo"]) == "; did you mean 'ppo'?"


def test_part_of_the_config(rlrun: Any) -> None:
    part = rlrun("--cfg", "job", "-p", "env").out
    assert "id: CartPole-v1" in part and "frame_skip: 1" in part and "gamma" not in part
    assert rlrun("--cfg", "job", "-p", "stop.return").out == "return: null\n"


def test_all_bad_files_of_an_own_folder_are_named_at_once(rlrun: Any, workplace: Path) -> None:
    folder = workplace / "mine" / "env"
    folder.mkdir(parents=True)
    for name in ("first", "second"):
        (folder / f"{name}.yaml").write_bytes(b"# \xff\nid: [1\n")
    answer = rlrun("-cd", "mine")
    assert answer.code == 2
    assert ["first" in answer.errors[0], "second" in answer.errors[1]] == [True, True]
    answer = rlrun("configs", "-cd", "mine")
    assert answer.code == 0 and "first" in answer.out


def test_help_says_the_options_and_names_what_exists(rlrun: Any) -> None:
    page = rlrun("--help").out
    assert all(option in page for option in ("-m ", "-q ", "--cfg job", "--json"))
    assert "Blackbird" not in rlrun("train", "--help").out


# --- around the process ----------------------------------------------------------------------------------------------


def test_output_that_lacks_characters_ends_no_run(workplace: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command(*TINY), capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    assert "return" in done.stdout and "?" in done.stdout


def test_deleted_folder_is_one_line(workplace: Path) -> None:
    program = "import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); "
    arguments = [sys.executable, "-c", program + "from rlrun.cli import main; raise SystemExit(main([]))"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, cwd=workplace)
    line = "rlrun: error: the current folder does not exist any more; cd to one that does\n"
    assert (done.returncode, done.stderr) == (5, line)


def test_second_signal_ends_the_process_only_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    clock = [100.0]
    monkeypatch.setattr("os._exit", ended.append)
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with Interrupts() as interrupted:
        for moment in (100.0, 100.01, 101.5):
            clock[0] = moment
            signal.raise_signal(signal.SIGINT)
            assert interrupted() and ended == ([130] if moment > 101 else [])


def test_first_signal_says_so_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    monkeypatch.setattr("os.isatty", lambda descriptor: descriptor == 2)
    monkeypatch.setattr("os.write", lambda descriptor, data: written.append(data))
    with Interrupts():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert written == [b"\nrlrun: stopping after this step, saving ...; again to abandon\n"]


# --- runs that lack something ----------------------------------------------------------------------------------------


@pytest.fixture
def run(workplace: Path) -> Run:
    """A run that was killed before its first checkpoint."""
    config = from_mapping({"outputs": str(workplace / "the outputs"), "name": "mine"})
    return Run.create(config, {"overrides": ["name=mine", "env.kwargs.a='b c'", "env.allow_import=evil", 3]})


def test_resume_without_a_checkpoint_says_how_to_start_over(rlrun: Any, run: Run) -> None:
    answer = rlrun("resume", str(run.directory))
    assert answer.code == 4
    (line,) = answer.errors
    left_out = "left out: 2 words of run.json: no plain settings, or yours to choose (outputs, logger)"
    command = """rlrun name=mine 'env.kwargs.a='"'"'b c'"'"''"""
    assert line.endswith(f" has no checkpoint to continue from; start it over: {command} ({left_out})")


def test_playing_needs_a_checkpoint(rlrun: Any, workplace: Path) -> None:
    run = Run.open(plant(workplace / "outputs", "mine"))
    for verb in ("eval", "video", "export"):
        for status, words in (
            ("running", ": it was interrupted before the first one"),
            ("finished", " any more, though it has finished"),
            ("waiting", " yet: it is still to come to its first one"),
            ("failed", ": it failed at frame 100: it broke"),
        ):
            run.update(status=status, failure="it broke" if status == "failed" else None)
            answer = rlrun(verb, str(run.directory))
            assert answer.code == 4 and answer.errors[0].endswith(f"outputs/mine has no checkpoint{words}")
        assert "no checkpoint 'last'" in rlrun(verb, "mine", "--checkpoint", "last").errors[0]
    run.directory.rename("elsewhere")
    with pytest.raises(ResumeError, match="has no checkpoint any more: it was moved, deleted or damaged meanwhile"):
        checkpoint_of(run, None)


def test_playing_names_one_run_of_a_sweep(rlrun: Any, workplace: Path) -> None:
    sweep = plant_sweep(workplace / "outputs", "2026-01-01_120000_a", {"120000_a_s1": 1.0, "120000_a_s2": 4.0})
    for verb in ("eval", "video", "export"):
        for name in (sweep.name, str(sweep)):
            answer = rlrun(verb, name)
            assert answer.code == 2 and answer.errors == [f"{name} is a sweep; name one of its runs: rlrun ls {name}"]


def test_missing_config(rlrun: Any, run: Run) -> None:
    (run.directory / "config.yaml").unlink()
    answer = rlrun("eval", str(run.directory))
    assert answer.code == 4 and answer.errors[0].endswith("has lost its config.yaml; put it back, or start a new run")


def test_damaged_best_checkpoint_names_the_other(rlrun: Any, run: Run) -> None:
    (run.checkpoints / "best.ckpt").write_bytes(b"RLRUN1\nnonsense")
    answer = rlrun("eval", str(run.directory))
    assert answer.code == 4
    assert answer.errors[0].endswith("best.ckpt is damaged (sha256 mismatch); try --checkpoint last")


def test_last_damaged_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "step_000000000005.ckpt").write_bytes(b"RLRUN1\nnonsense")
    notices: list[str] = []
    with pytest.raises(ResumeError, match="every checkpoint in .* is damaged"):
        CheckpointFolder(tmp_path, 1).newest(notices.append)
    name = "step_000000000005.ckpt"
    assert notices == [f"{name} is damaged (sha256 mismatch), renamed to {name}.bad; no older one is left"]


def test_quiet_path_is_not_quoted(rlrun: Any, workplace: Path) -> None:
    answer = rlrun("-q", *TINY, "outputs=the outputs")
    assert answer.code == 0, answer.err
    assert answer.out == f"{only_run(workplace).directory.relative_to(workplace)}\n"
    assert "1 episode\n" in rlrun("eval", answer.out.strip(), "--episodes", "1").out


# --- environments ----------------------------------------------------------------------------------------------------


def install(folder: Path, group: str, module: str, source: str) -> None:
    """A package with an entry point, as pip would leave it in ``folder``."""
    (folder / f"{module}.py").write_text(source)
    information = folder / f"{module}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{group}]\nany = {module}{':add' if 'def add' in source else ''}\n")


def test_environments_of_installed_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register = "register('{}-v0', entry_point='gymnasium.envs.classic_control:CartPoleEnv')\n"
    beginning = "from gymnasium.envs.registration import register\n"
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "gymnasium.envs", "newcomer_broken", "raise RuntimeError('no licence')\n")
    install(tmp_path, "gymnasium.envs", "newcomer_called", f"{beginning}def add():\n    {register.format('Called')}")
    install(tmp_path, "rlrun.envs", "newcomer_imported", beginning + register.format("Imported"))
    try:
        for name in ("Called-v0", "Imported-v0"):
            assert envs.spaces(EnvConfig(id=name)).observation_size == 4
        with pytest.raises(UnavailableError, match=r"package newcomer_broken \(RuntimeError: no licence\)"):
            envs.make(EnvConfig(id="Newcomer-v0"))
        with pytest.raises(UsageError, match="its versions are CartPole-v0, CartPole-v1"):
            envs.make(EnvConfig(id="CartPole-v9"))
    finally:
        for name in ("Called-v0", "Imported-v0"):
            registry.pop(name, None)


def test_scale_that_makes_rewards_infinite_is_named() -> None:
    environments = Environments(EnvConfig(reward_scale=1e300), 1, [0])
    with np.errstate(all="ignore"):  # as in training
        environments.step(np.zeros((1, 1), np.int64))
    environments.close()
    assert str(environments.failures[0]).endswith("reward inf, multiplied by env.reward_scale=1e+300")


def test_quiet_before_a_command_is_understood(rlrun: Any, workplace: Path) -> None:
    assert rlrun("-q", "total_frames=400", "algo.learning_starts=128", "evaluation.episodes=0").code == 0
    answer = rlrun("-q", "resume", "latest", "total_frames=500")
    assert answer.code == 0 and answer.out.count("\n") == 1


def test_own_config_whose_defaults_are_no_list_is_one_line(rlrun: Any, workplace: Path) -> None:
    (workplace / "mine" / "experiment").mkdir(parents=True)
    (workplace / "mine" / "experiment" / "own.yaml").write_text("# @package _global_\ndefaults:\n  -!nope\n")
    answer = rlrun("--config-dir", "mine", "experiment=own")
    assert answer.code == 2 and "defaults must be a list" in answer.errors[0] and len(answer.errors) == 1

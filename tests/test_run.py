"""A run on disk: made once, updated atomically, opened with suspicion."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rlrun import run as run_module
from rlrun.checkpoint_names import BEST_FILE, step_file
from rlrun.config import EnvConfig, PPOConfig, RunConfig
from rlrun.errors import ResumeError, StorageError
from rlrun.finding import find, list_runs
from rlrun.plain import read_yaml
from rlrun.run import Run


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return RunConfig(outputs=str(tmp_path / "outputs"), env=EnvConfig(name="cartpole"))


@pytest.fixture
def run(config: RunConfig) -> Run:
    return Run.create(config, {})


# --- create ----------------------------------------------------------------------------------------------------------


def test_create_makes_a_complete_private_directory(config: RunConfig) -> None:
    before = f"{datetime.now(UTC):%Y-%m-%d}"
    run = Run.create(config, {"tuned": "tuned/dqn_cartpole.yaml", "overrides": ["seed=0"], "parent_sweep": "s"})
    assert before <= run.directory.parent.name <= f"{datetime.now(UTC):%Y-%m-%d}"
    assert re.fullmatch(r"[0-9]{6}_dqn_cartpole_s0", run.directory.name)
    assert sorted(path.name for path in run.directory.iterdir()) == ["checkpoints", "config.yaml", "run.json"]
    assert run.checkpoints.is_dir()
    modes = [path.stat().st_mode & 0o777 for path in (run.directory, run.checkpoints, run.directory / "run.json")]
    assert modes == [0o700, 0o700, 0o600]
    manifest = json.loads((run.directory / "run.json").read_text())
    assert manifest == run.manifest
    expected = {
        "status": "running",
        "frames": 0,
        "frames_per_second": None,
        "evaluation": None,
        "id": f"{run.directory.parent.name}/{run.directory.name}",
        "algo": "dqn",
        "env": "cartpole",
        "env_id": "CartPole-v1",
        "seed": 0,
        "name": "",
        "total_frames": config.total_frames,
        "device": "auto",
        "resumed": 0,
        "seconds": 0.0,
        "tuned": "tuned/dqn_cartpole.yaml",
        "overrides": ["seed=0"],
        "parent_sweep": "s",
    }
    assert expected.items() <= manifest.items()
    assert {"created", "updated", "versions", "git", "machine", "exact", "failure", "best"} <= manifest.keys()
    assert set(manifest["versions"]) == {"python", "rlrun", "torch", "numpy", "gymnasium", "mujoco"}
    assert datetime.fromisoformat(manifest["created"]).utcoffset() is not None


def test_the_config_comes_back(config: RunConfig) -> None:
    config = dataclasses.replace(config, algo=PPOConfig(learning_rate=1e-5), name="on", seed=2**32 - 1)
    run = Run.create(config, {})
    assert run.directory.name.endswith("_on_s4294967295")
    opened = Run.open(run.directory)
    assert opened.config == config
    assert opened.manifest == run.manifest


def test_runs_of_one_second_never_share_a_directory(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime(2025, 3, 30, 1, 2, 3, tzinfo=tz)

    monkeypatch.setattr(run_module, "datetime", Stopped)
    directories = [Run.create(config, {}).directory for _ in range(12)]
    assert [path.name for path in directories[:3]] == [f"010203_dqn_cartpole_s0{end}" for end in ("", "-1", "-2")]
    assert len(set(directories)) == 12
    assert find("010203_dqn_cartpole_s0", Path(config.outputs)) == directories[0]


def test_a_sweep_names_the_parent(config: RunConfig, tmp_path: Path) -> None:
    parent = tmp_path / "outputs" / "sweeps" / "2025-01-01_120000_lr"
    run = Run.create(config, {}, sweep=parent)
    assert run.directory.parent == parent
    assert run.manifest["id"].startswith("2025-01-01_120000_lr/")
    assert find("2025-01-01_120000_lr/", Path(config.outputs)) == run.directory


@pytest.mark.parametrize("name", ["../../escape", "/abs", "a\x1b[31m\nb", "é" * 300, "ALE/Pong-v5"])
def test_no_name_leads_out_of_the_outputs(config: RunConfig, tmp_path: Path, name: str) -> None:
    run = Run.create(dataclasses.replace(config, env=EnvConfig(id=name)), {})
    assert run.directory.resolve().parent.parent == (tmp_path / "outputs").resolve()
    assert re.fullmatch(r"[A-Za-z0-9._-]+", run.directory.name)
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


def test_an_unwritable_place_is_one_line(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for outputs in ("/proc/nope", str(tmp_path / "file"), "nul\0byte"):
        with pytest.raises(StorageError) as raised:
            Run.create(dataclasses.replace(config, outputs=outputs), {})
        assert raised.value.exit_code == 5
        assert len(str(raised.value).splitlines()) == 1
        assert str(raised.value).startswith("can't create ")


def test_a_disk_that_fills_while_creating_leaves_no_run(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(StorageError, match="No space left on device"):
        Run.create(config, {})
    assert not [path for path in Path(config.outputs).rglob("*") if path.name != path.parent.name and path.is_file()]
    assert list_runs(Path(config.outputs)) == []


def test_secrets_of_the_environment_are_not_written(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    for index, variable in enumerate(("WANDB_API_KEY", "github_token", "MY_SECRET_1", "DBPASSWORD")):
        monkeypatch.setenv(variable, f"canary-{index}-value")
    monkeypatch.setenv("MONKEY", "auto")
    values = [f"canary-{index}-value" for index in range(4)]
    env = EnvConfig(name="cartpole", kwargs={"key": values[0], "list": [values[1]]})
    run = Run.create(
        dataclasses.replace(config, env=env, name=values[2]), {"overrides": [f"+env.kwargs.key={values[3]}"]}
    )
    run.update(failure=f"Error: bad key {values[0]}")
    for path in (*run.directory.rglob("*"), run.directory):
        assert "canary" not in str(path.name)
        assert path.is_dir() or "canary" not in path.read_text()
    assert read_yaml(run.directory / "config.yaml")["env"]["kwargs"] == {"key": "***", "list": ["***"]}
    assert run.manifest["overrides"] == ["+env.kwargs.key=***"]
    assert run.manifest["device"] == "auto"


def test_nothing_here_imports_torch() -> None:
    code = "import sys, rlrun.run, rlrun.metrics, rlrun.checkpoint; print({'torch', 'omegaconf', 'hydra'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- update and open -------------------------------------------------------------------------------------------------


def test_update_is_seen_by_others_and_is_strict_json(run: Run) -> None:
    run.update(status="finished", frames=7, evaluation={"return_mean": math.nan, "return_max": 5.0}, seconds=math.inf)
    text = (run.directory / "run.json").read_text()
    manifest = json.loads(text, parse_constant=pytest.fail)
    assert (manifest["status"], manifest["frames"], manifest["seconds"]) == ("finished", 7, None)
    assert manifest["evaluation"] == {"return_mean": None, "return_max": 5.0}
    assert manifest["updated"] > manifest["created"]
    assert Run.open(run.directory).manifest == run.manifest


def test_a_failed_update_keeps_the_old_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (run.directory / "run.json").read_bytes()

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match=r"run.json: Input/output error"):
        run.update(frames=1)
    assert (run.directory / "run.json").read_bytes() == before
    assert not list(run.directory.glob(".tmp-*"))


def test_a_run_that_vanished_is_not_made_again(run: Run, tmp_path: Path) -> None:
    run.directory.rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="is gone: it was moved or deleted meanwhile"):
        run.update(frames=1)
    assert not run.directory.exists()
    assert Run.open(tmp_path / "elsewhere").config == run.config


def test_what_only_looks_like_a_checkpoint_is_none_but_is_not_started_over(run: Run) -> None:
    """As the folder of checkpoints has it, which goes on from none of these."""
    for name in ("step_100.ckpt", "step_000000000100.ckpt.bad", "step_mine.ckpt"):
        (run.checkpoints / name).touch()
        assert not run.has_checkpoint() and run.has_begun(), name
        (run.checkpoints / name).unlink()
    (run.checkpoints / BEST_FILE).touch()
    assert not run.has_begun()
    (run.checkpoints / step_file(100)).touch()
    assert run.has_checkpoint()


def test_open_names_the_nearest_run(run: Run) -> None:
    with pytest.raises(ResumeError, match=rf"no run at .*; nearest: {run.directory.name}"):
        Run.open(run.directory.with_name(run.directory.name + "x"))
    with pytest.raises(ResumeError, match="no run at"):
        Run.open(Path("nowhere/at/all"))
    with pytest.raises(ResumeError, match=r"not an rlrun run \(it has no run.json\)"):
        Run.open(run.checkpoints)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1"),
        ("[]", "not the manifest"),
        ("{}", "'id' is missing"),
        ('{"id": 1, "id": 2}', "duplicate key 'id'"),
        ('{"id": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "deeper than 20"),
        ("[" * 21 + "]" * 21, "deeper than 20"),
        ("1" * 5000, "digits"),
        (" " * 300_000, "larger than 256 KiB"),
    ],
)
def test_a_manifest_of_another_form_is_refused(run: Run, text: str, message: str) -> None:
    (run.directory / "run.json").write_text(text)
    with pytest.raises(ResumeError, match=message) as raised:
        Run.open(run.directory)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"algo: [1, 2", "line"),
        (b"algo:\n\tname: dqn", "line 2"),
        (b"seed: 1\nseed: 2", "line 2, column 1: duplicate key 'seed'"),
        (b"a: &x [1]\nb: *x", "aliases are not allowed"),
        (b"a: !!python/object/apply:os.system ['true']", "tag .* is not allowed"),
        (b"a: !!str b", "tag .* is not allowed"),
        (b"!x {}", "tag .* is not allowed"),
        (b"<<: {seed: 1}", "keys must be text"),
        (b"1: 2", "keys must be text"),
        (b"? [a]\n: b", "keys must be text"),
        (b"a: 1\n---\nb: 2", "line"),
        (b"seed: \xff", r"not UTF-8 \(byte 6\)"),
        (b"a: \x1b[31m", "special characters"),
        (b"[" * 10_000, "deeper than 20"),
        (b"{a: " * 25 + b"1" + b"}" * 25, "deeper than 20"),
        (b"a: 0x_", "invalid"),
        (b"#" * 300_000, "larger than 256 KiB"),
        (b"alog: {}", "alog"),
        (b"seed: -1\nbogus: 1", ".*; .*"),
        (b"seed: '${oc.env:HOME}'", "seed"),
        (b"_target_: os.system", "_target_"),
        (b"", "mapping"),
    ],
)
def test_a_config_of_another_form_is_refused(run: Run, data: bytes, message: str) -> None:
    (run.directory / "config.yaml").write_bytes(data)
    with pytest.raises(ResumeError, match=message) as raised:
        Run.open(run.directory)
    assert raised.value.exit_code == 4
    assert len(str(raised.value).splitlines()) == 1


def test_links_and_pipes_in_place_of_files_are_refused(run: Run, tmp_path: Path) -> None:
    path = run.directory / "config.yaml"
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(ResumeError, match=r"has lost its config\.yaml"):
        Run.open(run.directory)
    (tmp_path / "other").write_bytes(content)
    path.symlink_to(tmp_path / "other")
    with pytest.raises(ResumeError, match=r"config.yaml"):
        Run.open(run.directory)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ResumeError, match="not a regular file"):
        Run.open(run.directory)


def test_a_run_is_not_made_behind_a_link(tmp_path: Path) -> None:
    victim, outputs, linked = (tmp_path / name for name in ("victim", "outputs", "linked"))
    victim.mkdir()
    outputs.mkdir()
    for days in (0, 1):  # it may be midnight meanwhile
        (outputs / f"{datetime.now(UTC) + timedelta(days):%Y-%m-%d}").symlink_to(victim)
    with pytest.raises(StorageError, match="is a symbolic link.*outputs=DIR"):
        Run.create(RunConfig(outputs=str(outputs)), {})
    assert not list(victim.iterdir())
    linked.symlink_to(victim)  # the folder itself may be one
    assert Run.create(RunConfig(outputs=str(linked)), {}).directory.is_dir()


@pytest.mark.parametrize("key", ["evaluation", "frames_per_second", "seed"])
def test_a_manifest_that_lacks_a_key_is_refused_though_it_may_be_null(key: str, tmp_path: Path) -> None:
    run = Run.create(RunConfig(outputs=str(tmp_path)), {})
    values = json.loads((run.directory / "run.json").read_text())
    del values[key]
    (run.directory / "run.json").write_text(json.dumps(values))
    with pytest.raises(ResumeError, match=f"'{key}' is missing or of a wrong type"):
        Run.open(run.directory)

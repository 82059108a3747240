"""``env.allow_import=MODULE``: what an id may import, who can say so, and where it is not kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from gymnasium.envs.registration import registry
from test_cli import TINY, leftovers, only_run
from test_sweep import only_sweep, runs_of, statuses

from rlrun.run import Run

MODULE = """
from pathlib import Path
from gymnasium.envs.registration import register
Path({canary!r}).touch()
register("Mine-v0", entry_point="gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=200)
"""
ID, ALLOWED = "env.id=mine.parts:Mine-v0", "env.allow_import=mine.parts"


@pytest.fixture
def canary(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A file that the module makes when it is imported, for which PYTHONPATH is set."""
    file = workplace / "canary"
    package = workplace / "site" / "mine"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "parts.py").write_text(MODULE.format(canary=str(file)))
    monkeypatch.setattr(sys, "path", [str(package.parent), *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield file
    forget()


def forget() -> None:
    """As a new process would find it."""
    for name in ("mine", "mine.parts"):
        sys.modules.pop(name, None)
    registry.pop("Mine-v0", None)


def imported(canary: Path) -> bool:
    """Whether it has been since the last time."""
    forget()
    was = canary.exists()
    canary.unlink(missing_ok=True)
    return was


def test_only_what_is_typed_and_only_for_this_command(rlrun: Any, canary: Path, workplace: Path) -> None:
    before = leftovers(workplace)
    for permission in ([], ["env.allow_import=mine"], ["env.allow_import=[os,mine.part]"]):
        answer = rlrun(ID, *permission)
        assert answer.code == 2 and "type env.allow_import=mine.parts on the command line" in answer.errors[0]
        assert not imported(canary) and leftovers(workplace) == before
    assert rlrun("-q", ID, "env.allow_import=[os,mine.parts]", *TINY).code == 0 and imported(canary)
    run = only_run(workplace)
    assert run.config.env.id == "mine.parts:Mine-v0" and run.directory.name.split("_")[2:-1] == [
        "mine.parts",
        "mine-v0",
    ]
    assert not [file for file in run.directory.rglob("*") if file.is_file() and b"allow_import" in file.read_bytes()]
    more = "total_frames=700"
    for command in (["eval", "latest", "--episodes", "1"], ["resume", "latest", more, "-q"]):
        files = {file: file.read_bytes() for file in run.directory.rglob("*") if file.is_file()}
        answer = rlrun(*command)
        assert answer.code == 4 and "type env.allow_import=mine.parts" in answer.errors[0]
        assert not imported(canary)
        assert files == {file: file.read_bytes() for file in run.directory.rglob("*") if file.is_file()}
        assert rlrun(*command, ALLOWED).code == 0 and imported(canary)
    assert Run.open(run.directory).manifest["frames"] == 700


def test_workers_of_a_sweep_are_told(rlrun: Any, canary: Path, workplace: Path) -> None:
    settings = ["-q", ID, *TINY]
    assert rlrun("-m", *settings, "seed=1,2").code == 2 and not imported(canary)
    assert rlrun("-m", *settings, "seed=1,2", ALLOWED).code == 0 and imported(canary)
    sweep = only_sweep(workplace)
    assert statuses(sweep) == ["finished"] * 2
    assert rlrun("resume", "-q", str(sweep), "total_frames=700").code == 9 and not imported(canary)
    assert {run.manifest["frames"] for run in runs_of(sweep)} == {600}
    assert rlrun("resume", "-q", str(sweep), "total_frames=700", ALLOWED).code == 0
    assert {run.manifest["frames"] for run in runs_of(sweep)} == {700}
    assert not [file for file in sweep.rglob("*") if file.is_file() and b"allow_import" in file.read_bytes()]


def test_no_file_can_allow_it(rlrun: Any, canary: Path, workplace: Path) -> None:
    assert rlrun("-q", ID, ALLOWED, *TINY).code == 0 and imported(canary)
    run = only_run(workplace)
    manifest, config = run.directory / "run.json", run.directory / "config.yaml"
    planted = '{"env.allow_import": "mine.parts", "imports": ["mine.parts"], '
    for path, text, words in (
        (manifest, planted + manifest.read_text()[1:], "type env.allow_import=mine.parts on the command line"),
        (config, config.read_text().replace("env:\n", "env:\n  allow_import: mine.parts\n"), "which no file can give"),
    ):
        original = path.read_text()
        path.write_text(text)
        for command in (["eval", "latest"], ["resume", "latest", "total_frames=700"]):
            answer = rlrun(*command)
            assert answer.code in (2, 4) and words in answer.errors[0], answer.err
            assert not imported(canary)
        path.write_text(original)


def test_a_module_that_fails(rlrun: Any, canary: Path, workplace: Path) -> None:
    module = workplace / "site" / "mine" / "parts.py"
    for source, reason in (("1 / 0", "ZeroDivisionError"), ("raise SystemExit(0)", "SystemExit"), ("(", "SyntaxError")):
        module.write_text(source)
        answer = rlrun(ID, ALLOWED)
        assert answer.code == 3 and len(answer.errors) == 1
        assert f"{ID}: can't import mine.parts: {reason}" in answer.errors[0]
        forget()
    assert not (workplace / "outputs").exists()

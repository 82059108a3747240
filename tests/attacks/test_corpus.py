"""Every hostile run directory through every command that reads one: nothing runs, nothing outside is touched, one line says why."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attacks.corpus import ATTACKS

from rlrun.errors import DIFFERENT

GOLDEN = Path(__file__).parent.parent / "golden" / "schema_1" / "dqn"
MOST_MEGABYTES = 700
REFUSED = ("checkpoint: ", "container: ", "safetensors", "config: ", "env.id: ")
"""Attacks on what eval and resume can't do without."""
HARMLESS = ("config: name=''", "config: name='nul'", "config: name='con'")


class Guarded:
    """A process with a watch on it (see ``guarded.py``)."""

    def __init__(self, place: Path) -> None:
        self.outputs, self.outside = place / "outputs", place / "outside"
        self.place = place
        program = [sys.executable, "-P", str(Path(__file__).with_name("guarded.py")), str(self.outputs)]
        environment = os.environ | {"PYTHONPATH": "", "HOME": str(Path.home())}
        self.process = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=place, env=environment
        )

    def run(self, name: str, *arguments: list[str]) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"name": name, "arguments": arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"{name}: the process died"
        answer = json.loads(line)
        assert answer["name"] == name
        return dict(answer)

    def directory(self) -> Path:
        """A fresh copy of the good run."""
        for folder in (self.outputs, self.outside):
            shutil.rmtree(folder, ignore_errors=True)
        self.outside.mkdir()
        (self.outside / "precious").write_text("precious")
        directory = self.outputs / "2026-01-01" / "120000_run_s0"
        shutil.copytree(GOLDEN, directory, copy_function=shutil.copyfile)
        return directory


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    watched = Guarded(tmp_path_factory.mktemp("guarded"))
    for number in range(len(SLOW)):
        watched.run("first imports, the compiler of the C library, git", *commands(watched.directory(), number))
    yield watched
    assert watched.process.stdin is not None
    watched.process.stdin.close()
    assert watched.process.wait(60) == 0


def commands(directory: Path, number: int = 0) -> list[list[str]]:
    """Every command that is quick, and one of the others."""
    run = str(directory)
    return [
        ["ls"],
        ["ls", "--json"],
        ["show", run],
        ["compare", run],
        ["diff", run, run, "--all"],
        ["report", run],
        SLOW[number % len(SLOW)](run),
        ["eval", run, "--episodes", "1", "--checkpoint", ("best", "last")[number % 2]],
        ["resume", run, "total_frames=410", "evaluation.episodes=1"],
        ["gc", run, "--yes", "--best"],
    ]


SLOW: list[Callable[[str], list[str]]] = [
    lambda run: ["plot", run, "--format", "svg"],
    lambda run: ["export", run, "--format", "safetensors"],
    lambda run: ["reproduce", run],
]


def state_of(folder: Path) -> dict[str, str]:
    """Every name below a folder, and what is behind it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path)] = f"{path.lstat().st_mode} {hashlib.sha256(content).hexdigest()}"
    return found


def test_the_watch_sees(guarded: Guarded) -> None:
    """A good run does nothing that is noted; and what must be noted is."""
    for number in range(len(SLOW)):
        answer = guarded.run("good", *commands(guarded.directory(), number))
        assert [got["code"] for got in answer["answers"]] == [0] * 10, answer
        assert answer["noted"] == []
    answer = guarded.run(
        "elsewhere", ["-q", f"outputs={guarded.place / 'elsewhere'}", "total_frames=600", "algo.learning_starts=100"]
    )
    assert answer["answers"][0]["code"] == 0, answer
    assert any("elsewhere" in line for line in answer["noted"])
    shutil.rmtree(guarded.place / "elsewhere")


GROUPS = sorted({name.partition(":")[0] for name in ATTACKS})


@pytest.mark.parametrize("group", GROUPS)
def test_nothing_runs_and_nothing_outside_is_touched(group: str, guarded: Guarded) -> None:
    for number, name in enumerate(name for name in ATTACKS if name.partition(":")[0] == group):
        directory = guarded.directory()
        ATTACKS[name](directory, guarded.outside)
        before = state_of(guarded.outside)
        answer = guarded.run(name, *commands(directory, number))
        assert answer["noted"] == [], name
        assert state_of(guarded.outside) == before, name
        assert sorted(path.name for path in guarded.place.iterdir()) == ["outputs", "outside"], name
        assert answer["megabytes"] < MOST_MEGABYTES, name
        for got in answer["answers"]:
            assert got["code"] in codes_of(name, got["arguments"][0]), f"{name}: {got}"
            check_words(name, got)


def codes_of(name: str, command: str) -> set[int]:
    """The exit codes that may come of an attack: 4, 5 for what can't be held or locked, or 0 if it can be ignored."""
    if command == "ls" or name in HARMLESS:
        return {0}
    if command not in ("eval", "resume"):
        return {0, 3, 4, 5, DIFFERENT}
    if name == "env.id: 'evilmod/Foo-v0'":
        return {3, 4}  # as for any environment whose package is not installed
    return {4, 5} if name.startswith(REFUSED) else {0, 4, 5}


def check_words(name: str, got: dict[str, Any]) -> None:
    where = f"{name}: {got}"
    lines = [line for line in got["err"].splitlines() if not line.startswith("rlrun: note: ")]
    assert all(line.startswith("rlrun: error: ") for line in lines), where
    assert bool(lines) == (got["code"] not in (0, DIFFERENT)), where
    assert len(lines) <= 5 and len(got["err"]) < 4000, where
    assert "Traceback" not in got["out"] + got["err"], where
    for text in (got["out"], got["err"]):
        assert all(letter.isprintable() for line in text.split("\n") for letter in line), where

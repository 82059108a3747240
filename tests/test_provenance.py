"""Where a run came from, as git tells it, whoever made the repository."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from rlrun.provenance import git_state


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, in which we stand."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    Path("train.py").write_text("1\n")
    Path("same.py").write_text("1\n")
    git("init", "-q")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first")
    return tmp_path


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def state() -> object:
    return git_state.__wrapped__()


def test_commit_and_changes(repository: Path) -> None:
    git("remote", "add", "origin", "https://example.org/x.git")
    sha = git("rev-parse", "HEAD")
    (repository / "new.py").touch()
    assert state() == {"sha": sha, "dirty": False}
    (repository / "train.py").touch()
    assert state() == {"sha": sha, "dirty": False}
    (repository / "train.py").write_text("2\n")
    assert state() == {"sha": sha, "dirty": True}


def test_without_a_repository_or_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert state() is None
    git("init", "-q")
    assert state() is None


@pytest.mark.parametrize("how", ["fsmonitor", "filter", "included", "hook"])
def test_a_foreign_repository_runs_nothing(how: str, repository: Path) -> None:
    canary, command = repository / "canary", "touch canary; cat"
    match how:
        case "fsmonitor":
            git("config", "core.fsmonitor", command)
        case "filter":
            (repository / ".gitattributes").write_text("*.py filter=x\n")
            git("config", "filter.x.clean", command)
        case "included":
            (repository / "more").write_text(f'[core]\nfsmonitor = "{command}"\n')
            git("config", "include.path", "../more")
        case "hook":
            hook = repository / ".git" / "hooks" / "post-index-change"
            hook.write_text("#!/bin/sh\ntouch canary\n")
            hook.chmod(0o755)
            os.utime("same.py", (1, 1))  # its entry in the index is stale: git status writes the index anew
    (repository / "train.py").write_text("2\n")
    told = state()
    assert told == {"sha": git("rev-parse", "HEAD"), "dirty": True if how == "hook" else None}
    assert not canary.exists()
    git("status")  # the trap works
    assert canary.exists()

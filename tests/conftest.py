"""What tests share: the command line, called in this process from an empty folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is imported: the tests themselves run in parallel


@dataclass(frozen=True)
class Answer:
    """What a command line gave back."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines on stderr, without their common beginning."""
        prefix = "rlrun: error: "
        lines = self.err.splitlines()
        assert all(line.startswith(prefix) for line in lines), self.err
        return [line.removeprefix(prefix) for line in lines]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RLRUN_DEBUG", raising=False)
    return tmp_path


@pytest.fixture
def rlrun(workplace: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """``rlrun("algo=ppo", "seed=1")`` -> exit code, stdout, stderr."""
    from rlrun.cli import main

    def call(*arguments: str) -> Answer:
        capfd.readouterr()
        code = main(list(arguments))
        out, err = capfd.readouterr()
        return Answer(code, out, err)

    return call

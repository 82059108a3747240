"""What tests share: the command line, called in this process from an empty folder."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is imported: the tests themselves run in parallel
# nohup ignores the one, a shell that starts the tests in the background the other; what the tests start would, too.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
os.umask(0o022)  # rlrun refuses folders that everybody can write to


FAKE_WORKER = """
import json, os, signal, sys, time
from pathlib import Path
from rlrun.config import from_mapping
from rlrun.run import Run

request = json.loads(sys.stdin.readline())
runs = [Run.open(Path(run["directory"]), from_mapping(run["config"])) for run in request["runs"]]
seeds = [run.config.seed for run in runs]

def say(event, **values):
    print(json.dumps({{"event": event, **values}}), flush=True)

def end(member, status="finished", error=None):
    run = runs[member]
    value = 10.0 * run.config.seed
    evaluation = {{"return_mean": value, "return_std": 0.0, "episodes": 1}} if status == "finished" else None
    frames = run.config.total_frames if status == "finished" else 100
    run.update(status=status, failure=error, frames=frames, evaluation=evaluation)
    say("ended", member=member, status=status, error=error, exit_code=0)

def end_all():
    for member in range(len(runs)):
        end(member)

{body}
"""


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
        lines = [line for line in self.err.splitlines() if not line.startswith("rlrun: note: ")]
        assert all(line.startswith(prefix) for line in lines), self.err
        return [line.removeprefix(prefix) for line in lines]


@pytest.fixture(autouse=True)
def denormals() -> None:
    """A test that trains by a command, or below ``rlrun.train``, has this thread take denormal numbers for 0; the next one is to
    find them again."""
    smallest = float("5e-324")
    if smallest * 1.0 == 0.0:
        import torch

        torch.set_flush_denormal(False)


@pytest.fixture
def figures() -> None:
    """A test that asks for this has its runs draw figures when they end; it costs a second."""


@pytest.fixture(autouse=True)
def no_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of other tests draw none."""
    if "figures" not in request.fixturenames:
        monkeypatch.setattr("rlrun.cli.results.draw_at_end", lambda runs, directory, is_sweep=False: None)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RLRUN_DEBUG", raising=False)
    return tmp_path


@pytest.fixture
def fake_worker(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``fake_worker(code)``: the workers of sweeps run this instead of training. See FAKE_WORKER for what it can use."""

    def replace(body: str = "end_all()") -> None:
        program = FAKE_WORKER.format(body=textwrap.dedent(body))
        monkeypatch.setattr("rlrun.sweeps.launcher.COMMAND", (sys.executable, "-c", program))

    return replace


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

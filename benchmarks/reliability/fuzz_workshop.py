"""Where the fuzzer works: a folder for each case, the command called in this process, and training that does nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from rlrun.cli import main
from rlrun.config import RunConfig
from rlrun.errors import DIFFERENT
from rlrun.finding import runs_in
from rlrun.run import Run
from rlrun.view import Outcome

CODES = {0, 2, 3, 4, 5, 6, 7, 8, 9, DIFFERENT}
"""What may end a command that no signal ended, but for 70: that would be a bug."""
PREFIX = "rlrun: error: "
NOTE = "rlrun: note: "
LONGEST_LINE = 6000
SMALL = (
    "tuned=none", "total_frames=200", "algo.learning_starts=32", "algo.batch_size=8", "algo.buffer_size=64", "network.hidden=[8]",
    "evaluation.episodes=1", "evaluation.every_frames=100", "checkpoint.every_frames=100", "plot.figures=none",
)  # fmt: skip


@dataclasses.dataclass
class Answer:
    """What a command line did."""

    arguments: Sequence[str]
    code: int | None
    out: str
    err: str
    error: BaseException | None = None

    def problems(self) -> list[str]:
        """What no command line may do."""
        if self.error is not None:
            return [f"{self.arguments!r} raised {self.error!r}"]
        lines, found = [line for line in self.err.splitlines() if not line.startswith(NOTE)], []
        if self.code not in CODES:
            found.append(f"exit code {self.code}")
        if bool(lines) != (self.code not in (0, DIFFERENT)):
            found.append(f"{len(lines)} lines on stderr with exit code {self.code}")
        if not all(line.startswith(PREFIX) and len(line) > len(PREFIX) for line in lines):
            found.append("something else than errors on stderr")
        if len({*lines}) < len(lines) or any(len(line) > LONGEST_LINE for line in lines):
            found.append("a line twice, or one that nobody can read")
        if any(not letter.isprintable() for line in lines for letter in line):
            found.append("what steers a terminal")
        return [f"{self.arguments!r}: {what}: {self.err[:600]!r}" for what in found]


class Workshop:
    """A folder for the cases, a small run and sweep to damage, and the configs that training was given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trained: list[RunConfig] = []

    def prepare(self) -> None:
        """Train the small run and a sweep of two, one of which counts as stopped."""
        os.chdir(self.folder)
        for arguments in (SMALL, ("-m", *SMALL, "seed=1,2")):
            answer = self.call(["-q", *arguments])
            assert answer.code == 0, answer
        (self.run,) = (path.parent for path in self.folder.glob("outputs/2*/*/run.json"))
        (self.sweep,) = (path.parent for path in self.folder.glob("outputs/sweeps/*/sweep.json"))
        Run.open(next(runs_in(self.sweep))).update(status="stopped")

    def new_case(self, number: int) -> Path:
        """A folder for one case, a few levels down so that ``..`` stays within it; the current one from now on."""
        place = self.folder / f"case{number}"
        work = place / "a" / "b" / "work"
        work.mkdir(parents=True)
        os.chdir(work)
        self.trained.clear()
        return place

    def call(self, arguments: Sequence[str]) -> Answer:
        out, err, error, code = io.StringIO(), io.StringIO(), None, None
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(arguments)
            except BaseException as raised:
                error = raised
        return Answer(arguments, code, out.getvalue(), err.getvalue(), error)

    @contextlib.contextmanager
    def without_training(self) -> Iterator[None]:
        """Training, sweeps and evaluations do nothing, but note the configs and mark the runs as finished."""

        def finish(runs: Sequence[Any]) -> None:
            for member in runs:
                self.trained.append(member.config)
                member.update(status="finished", frames=member.config.total_frames)

        def train(runs: Sequence[Any], view: Any, **_: Any) -> list[Outcome]:
            finish(runs)
            return [Outcome(member, "finished", None, None) for member in runs]

        def train_sweep(sweep: Any, places: Sequence[Any], *_: Any) -> None:
            finish([place.run for place in places])

        with (
            mock.patch("rlrun.training.train", train),
            mock.patch("rlrun.cli.resume_sweep.train_sweep", train_sweep),  # first: importing it takes the other's
            mock.patch("rlrun.sweeps.sweep.train_sweep", train_sweep),
        ):
            yield


@contextlib.contextmanager
def workshop() -> Iterator[Workshop]:
    """A prepared workshop; the current folder is what it was afterwards."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="rlrun-fuzz-", ignore_cleanup_errors=True) as name:
        shop = Workshop(Path(name).resolve())
        quick = {"return_mean": 1.0, "return_std": 0.0, "return_iqm": 1.0, "return_min": 1.0, "return_max": 1.0}
        evaluated = [quick | {"episodes": 1, "returns": [1.0], "lengths": [1]}]
        environment = {
            key: value for key, value in os.environ.items() if key not in ("RLRUN_DEBUG", "DISPLAY", "WAYLAND_DISPLAY")
        }
        with (
            mock.patch("rlrun.evaluation.evaluate", lambda *_, **__: evaluated),
            mock.patch.dict(os.environ, environment, clear=True),
        ):
            try:
                shop.prepare()
                yield shop
            finally:
                os.chdir(before)

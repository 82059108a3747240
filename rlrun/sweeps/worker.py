"""``python -m rlrun.sweeps.worker``: train one batch of a sweep, in a process of its own that may die without harm to others.

It reads one line of JSON, the batch, from stdin and writes lines of JSON, what a ``View`` is told, to stdout. Its runs are
complete by themselves at any moment, so neither side needs the other to end well.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from rlrun.child import claim_output, run_and_exit
from rlrun.config import from_mapping
from rlrun.errors import RlrunError, in_users_terms
from rlrun.interrupts import Interrupts, ignore_wishes
from rlrun.provenance import remember
from rlrun.run import Run

_SECONDS_BETWEEN_EVENTS = 0.2  # of progress, which is for the eye


class WorkerInterrupts(Interrupts):
    """Stops as well when the parent process has gone: nobody else would stop an orphan.

    A second signal abandons nothing: a scheduler signals all processes, then the parent does; and that one abandons with SIGKILL.
    """

    def __init__(self, parent: int) -> None:
        super().__init__()
        self._parent = parent

    def __call__(self) -> bool:
        if self.signal is None and os.getppid() != self._parent:
            self.stop(signal.SIGTERM)
        return super().__call__()

    def _handle(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self.save_wanted = True
        else:
            self.stop(number)


class EventView:
    """A view that writes what it is told as lines of JSON. If nobody reads them, training is to stop."""

    def __init__(self, stream: TextIO, interrupts: Interrupts) -> None:
        self._stream, self._interrupts = stream, interrupts
        self._last_progress = 0.0
        self.left: set[int] = set()  # members that have not ended

    def send(self, event: str, **values: Any) -> None:
        try:
            print(json.dumps({"event": event} | values), file=self._stream, flush=True)
        except OSError:
            self._interrupts.stop(signal.SIGTERM)

    def start(self, runs: Sequence[Run], header: Mapping[str, str]) -> None:
        self.send("start", header=dict(header))

    def progress(
        self, frames: int, total_frames: int, frames_per_second: float, latest: Sequence[Mapping[str, Any]]
    ) -> None:
        now = time.monotonic()
        if now - self._last_progress < _SECONDS_BETWEEN_EVENTS and frames < total_frames:
            return
        self._last_progress = now
        returns = [row["return_mean"] for row in latest if isinstance(row.get("return_mean"), int | float)]
        mean = sum(returns) / len(returns) if returns else None
        self.send("progress", frames=frames, return_mean=mean)

    def evaluated(self, member: int, frames: int, result: Mapping[str, Any], best: bool) -> None:
        numbers = {key: result.get(key) for key in ("return_mean", "return_std", "episodes")}
        self.send("evaluated", member=member, frames=frames, result=numbers, best=best)

    def note(self, line: str) -> None:
        self.send("note", line=line)

    def ended(self, member: int, status: str, error: RlrunError | None) -> None:
        self.left.discard(member)
        code = error.exit_code if error else 0
        self.send("ended", member=member, status=status, error=str(error) if error else None, exit_code=code)

    def finish(self) -> None:
        """Training has ended: ``ended`` has said how."""


def main() -> int:
    """Train the batch that stdin describes."""
    ignore_wishes()
    stream = claim_output()
    request = json.loads(sys.stdin.readline())
    remember(request.get("secrets", ()))
    _allow_many_files()
    with WorkerInterrupts(request["parent"]) as interrupts:  # before torch is imported, which takes seconds
        view = EventView(stream, interrupts)
        view.left = {*range(len(request["runs"]))}
        try:
            from rlrun.env_ids import allow_imports

            allow_imports(request.get("imports", ()))
            # As the parent planned with them; what has become of them since is found out when they are locked.
            runs = [
                Run(Path(run["directory"]), from_mapping(run["config"]), run["manifest"]) for run in request["runs"]
            ]

            from rlrun.sweeps.runner import train_runs

            train_runs(runs, view, interrupts, resume=request["frames"] is not None, frames=request["frames"])
        except Exception as error:
            if os.environ.get("RLRUN_DEBUG") == "1":
                raise
            for member in sorted(view.left):
                view.ended(member, "failed", in_users_terms(error))
    return 0


def _allow_many_files() -> None:
    """A member keeps four files open: as many as the system allows, not as many as it begins with."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    run_and_exit(main)

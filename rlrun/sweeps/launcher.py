"""The parent's side of a sweep: starts a worker process for each batch, a few at a time, and listens to them.

This process never imports torch. A worker that dies costs its own batch alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rlrun import env_ids
from rlrun.config import to_mapping
from rlrun.deletion import WORKER_LOG
from rlrun.errors import EnvironmentFailure, RlrunError
from rlrun.interrupts import Interrupts
from rlrun.manifest import UNENDED
from rlrun.plain import printable, reason_of
from rlrun.provenance import clean, secrets
from rlrun.run import Run
from rlrun.sweeps.batches import Batch

# -P: nothing in the folder that the user stands in may take the place of a module.
COMMAND = (sys.executable, "-P", "-m", "rlrun.sweeps.worker")
_SECONDS_BETWEEN_LOOKS = 0.2  # at signals, the clock and processes
_SECONDS_TO_LEAVE = 30.0  # of a worker that has closed its output


class SweepView(Protocol):
    """Who watches a sweep. ``batch`` is an index into the batches, ``member`` one into the runs of a batch."""

    def start(self, directory: Path, runs: Sequence[Run], batches: Sequence[Batch], workers: int) -> None: ...
    def launched(self, batch: int) -> None: ...
    def header(self, batch: int, header: Mapping[str, str]) -> None: ...
    def progress(self, batch: int, frames: int, return_mean: float | None) -> None: ...
    def evaluated(self, batch: int, member: int, frames: int, result: Mapping[str, Any], best: bool) -> None: ...
    def note(self, line: str) -> None: ...
    def ended(self, batch: int, member: int, status: str, error: str | None) -> None: ...
    def left(self, batch: int) -> None: ...
    def tick(self) -> None: ...
    def finish(self) -> None: ...


class _Worker:
    """A process that trains one batch."""

    def __init__(self, index: int, batch: Batch, log: Path, held: tuple[int, ...]) -> None:
        """``held``: the descriptors of the sweep's lock, so that it is held for as long as a worker lives. Raises OSError."""
        self.index, self.batch, self.log = index, batch, log
        self.left = {*range(len(batch.runs))}  # members that have not ended
        self.stopped: set[int] = set()  # those that ended before their time, but can go on
        self.training = False  # before, SIGUSR1 would kill it
        self.closed: float | None = None  # when it closed its output
        self._received = b""
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as stderr:
            # In a session of its own: Ctrl-C on the terminal is for us, who pass it on as SIGTERM.
            self.process = subprocess.Popen(
                COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
                start_new_session=True, pass_fds=held,
            )  # fmt: skip
        runs = [
            {"directory": str(run.directory), "config": to_mapping(run.config), "manifest": run.manifest}
            for run in batch.runs
        ]
        request = {
            "parent": os.getpid(),
            "frames": batch.frames,
            "imports": env_ids.allowed_imports(),
            "secrets": secrets(),
            "runs": runs,
        }
        assert self.process.stdin is not None and self.process.stdout is not None
        self.output = self.process.stdout
        os.set_blocking(self.output.fileno(), False)
        with contextlib.suppress(BrokenPipeError), self.process.stdin as stdin:
            stdin.write(json.dumps(request).encode() + b"\n")

    def events(self) -> list[dict[str, Any]]:
        """What it has said since."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.output.fileno(), 1 << 16):
                self._received += data
            self.closed = time.monotonic()
        *lines, self._received = self._received.split(b"\n")
        return [json.loads(line) for line in lines]

    def has_ended(self) -> bool:
        """Whether the process has. One that only closed its output is killed after a while; children of one that has ended at once."""
        if self.closed is not None and time.monotonic() - self.closed > _SECONDS_TO_LEAVE:
            self.process.kill()
        try:
            self.process.wait(0 if self.closed is None else _SECONDS_BETWEEN_LOOKS)
        except subprocess.TimeoutExpired:
            return False
        with contextlib.suppress(ProcessLookupError, PermissionError):  # they would hold its output, and our locks
            os.killpg(self.process.pid, signal.SIGKILL)
        return True

    def reason(self) -> str | None:
        """Why it died, if it did not end by itself."""
        code, last = self.process.returncode, _last_line(self.log)
        words = f": {last}" if last else ""
        if code == 0:
            return None
        if code == -signal.SIGKILL:
            return f"worker was killed (out of memory?){words}"
        how = f"died: {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"worker {how}{words}"


def _last_line(log: Path) -> str:
    """The last line of a log, which is removed if it is empty."""
    with contextlib.suppress(OSError):
        last = log.read_bytes().strip().rpartition(b"\n")[2]
        if last:
            return printable(clean(last.decode("utf-8", "replace").strip()))[:300]
        log.unlink()
    return ""


class Launcher:
    """Trains batches, at most ``workers`` at a time.

    ``errors`` says of each run that failed, why; ``survivors`` are those of a process that another one's environment ended.
    """

    def __init__(
        self,
        directory: Path,
        batches: Sequence[Batch],
        workers: int,
        view: SweepView,
        interrupts: Interrupts,
        held: tuple[int, ...],
    ) -> None:
        self.errors: dict[Path, str] = {}
        self.survivors: list[Run] = []
        self._directory, self._most, self._held = directory, workers, held
        logs = [match for path in directory.glob("worker-*.log") if (match := WORKER_LOG.fullmatch(path.name))]
        self._first_log = 1 + max((int(match[1]) for match in logs), default=0)  # those of earlier processes stay
        self._waiting = deque(enumerate(batches))
        self._view, self._interrupts = view, interrupts
        self._workers: list[_Worker] = []
        self._noted: set[str] = set()
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Until all batches have ended; after a signal, until the workers have saved and left."""
        self._interrupts.abandon = lambda: self._signal(signal.SIGKILL)
        told = False
        try:
            while self._workers or (self._waiting and not self._interrupts()):
                while self._waiting and len(self._workers) < self._most and not self._interrupts():
                    self._launch(*self._waiting.popleft())
                if self._interrupts() and not told:
                    told = True
                    self._signal(signal.SIGTERM)
                    self._view.note("stopping: workers save their runs and leave; again to abandon them")
                if self._interrupts.save_wanted:
                    self._interrupts.save_wanted = False
                    self._signal(signal.SIGUSR1, [worker for worker in self._workers if worker.training])
                for key, _ in self._selector.select(_SECONDS_BETWEEN_LOOKS):
                    self._listen(key.data)
                for worker in [worker for worker in self._workers if worker.has_ended()]:
                    self._forget(worker)
                self._view.tick()
        finally:
            self._signal(signal.SIGTERM)  # an error of ours: nobody may go on without us
            self._selector.close()
            self._interrupts.abandon = lambda: None

    def _launch(self, index: int, batch: Batch) -> None:
        try:
            log = self._directory / f"worker-{self._first_log + index}.log"
            worker = _Worker(index, batch, log, self._held)
        except OSError as error:
            for member, run in enumerate(batch.runs):
                self._failed(index, member, run, f"can't start a worker: {reason_of(error)}")
            return
        self._workers.append(worker)
        self._selector.register(worker.output, selectors.EVENT_READ, worker)
        self._view.launched(index)

    def _listen(self, worker: _Worker) -> None:
        for event in worker.events():
            self._show(worker, event)
        if worker.closed is not None:
            self._selector.unregister(worker.output)

    def _forget(self, worker: _Worker) -> None:
        """Of a worker whose process has ended: hear its last words, and record what it could not."""
        self._workers.remove(worker)
        if worker.closed is None:
            self._listen(worker)
        if worker.closed is None:  # a child of its own that has left its group
            self._selector.unregister(worker.output)
        worker.output.close()
        reason = worker.reason()
        stopped = self._interrupts() and worker.process.returncode == -signal.SIGTERM  # before it could catch it
        for member in sorted(worker.left) if reason and not stopped else ():
            self._failed(worker.index, member, worker.batch.runs[member], reason or "")
        told = worker.left or worker.stopped or any(run.directory in self.errors for run in worker.batch.runs)
        if reason and not stopped and not told:  # an environment that hangs when it is closed
            self._view.note(reason)
        if worker.process.returncode == EnvironmentFailure.exit_code:
            self.survivors += [worker.batch.runs[member] for member in sorted(worker.stopped)]
        self._view.left(worker.index)

    def _show(self, worker: _Worker, event: dict[str, Any]) -> None:
        kind, index = event.pop("event"), worker.index
        match kind:
            case "start":
                worker.training = True
                self._view.header(index, event["header"])
            case "progress":
                self._view.progress(index, event["frames"], event["return_mean"])
            case "evaluated":
                self._view.evaluated(index, event["member"], event["frames"], event["result"], event["best"])
            case "note":
                if event["line"] not in self._noted:  # what environments do badly each worker tells
                    self._noted.add(event["line"])
                    self._view.note(event["line"])
            case "ended":
                worker.left.discard(event["member"])
                if event["status"] == "stopped":
                    worker.stopped.add(event["member"])
                if event["error"]:
                    self.errors[worker.batch.runs[event["member"]].directory] = event["error"]
                self._view.ended(index, event["member"], event["status"], event["error"])

    def _failed(self, index: int, member: int, run: Run, reason: str) -> None:
        """Record what a worker could not record itself; of a member that has ended, what the worker could not say any more."""
        status, before = "failed", run.manifest["updated"]
        error: str | None = reason
        with contextlib.suppress(RlrunError):
            run.reread()
            if run.manifest["status"] in UNENDED:
                with run.lock():
                    run.update(status="failed", failure=reason)
            elif run.manifest["updated"] != before:
                status, error = run.manifest["status"], run.manifest.get("failure")
        if error:
            self.errors[run.directory] = error
        self._view.ended(index, member, status, error)

    def _signal(self, number: int, workers: Sequence[_Worker] | None = None) -> None:
        for worker in self._workers if workers is None else workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(number)

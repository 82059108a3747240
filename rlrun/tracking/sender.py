"""``python -m rlrun.tracking.sender``: hand the metrics of runs to tools while another process trains them.

It reads lines of JSON from stdin, first which runs and tools, then how a run has ended, and writes lines of JSON to stdout, what
the user is to know. When stdin closes, or the process that trains has gone, it sends what is left and ends: also of a training
that was killed, the tools get every row that is in its files.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from rlrun.child import claim_output, run_and_exit
from rlrun.errors import ResumeError
from rlrun.manifest import UNENDED, read_manifest
from rlrun.metrics import METRICS
from rlrun.provenance import clean
from rlrun.tracking.folders import turn
from rlrun.tracking.points import Feed, Open, Subject, Tool

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_TO_WAIT = 60.0  # for another process that still sends the same run
_SECONDS_TO_END = 120.0  # after the training; who trained waits less long
_LONGEST_REASON = 300


class Sending(threading.Thread):
    """Hands the points of all runs to one tool: one that hangs keeps no other waiting."""

    def __init__(self, tool: str, subjects: dict[int, Subject], out: Output) -> None:
        super().__init__(daemon=True)
        self._tool, self._subjects, self._out = tool, subjects, out
        self._ended: dict[int, str] = {}
        self._changed = threading.Event()
        self._open: dict[int, tuple[Tool, Feed]] = {}

    def end(self, run: int, status: str) -> None:
        """Say that a run has ended, unless it has been said before."""
        self._ended.setdefault(run, status)
        self._changed.set()

    def run(self) -> None:
        try:
            open_run = opener(self._tool)
            for run, subject in self._subjects.items():
                tool = open_run(subject, _nothing if self._open else self._say)  # the same for all of them
                self._open[run] = tool, Feed(subject.directory, subject.algo)
            while self._open:
                self._changed.wait(_SECONDS_BETWEEN_LOOKS)
                self._changed.clear()
                ended = dict(self._ended)  # now: what was written before is read below
                for run in list(self._open):
                    self._send(run, ended.get(run))
        except Exception as error:
            self._out.failed(self._tool, error)
        self._out.done(self._tool)

    def _say(self, line: str) -> None:
        self._out.say(self._tool, line)

    def _send(self, run: int, status: str | None) -> None:
        """What is new of one run. If that fails, the run is left out, and the others are not."""
        tool, feed = self._open[run]
        try:
            points = feed.new()
            if points:
                tool.log(points)
            if status is not None:
                del self._open[run]
                tool.close(status)
        except Exception as error:
            self._open.pop(run, None)
            self._out.failed(self._tool, error)


class Output:
    """Lines of JSON for the process that trains; of each tool, the first failure only."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lock = stream, threading.Lock()
        self._failed: set[str] = set()

    def say(self, tool: str, line: str) -> None:
        self._write({"tool": tool, "line": line})

    def done(self, tool: str) -> None:
        """Nothing more comes of it, also if it has failed."""
        self._write({"tool": tool, "done": ""})

    def failed(self, tool: str, error: BaseException) -> None:
        if os.environ.get("RLRUN_DEBUG") == "1":
            sys.excepthook(type(error), error, error.__traceback__)
        reason = " ".join(clean(str(error)).split())[:_LONGEST_REASON] or type(error).__name__
        with self._lock:
            new = tool not in self._failed
            self._failed.add(tool)
        if new:
            self._write({"tool": tool, "failure": reason})

    def _write(self, message: dict[str, str]) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):
            print(json.dumps(message), file=self._stream, flush=True)


def opener(tool: str) -> Open:
    """How to open a run in a tool, which is imported now."""
    match tool:
        case "tensorboard":
            from rlrun.tracking import to_tensorboard

            return to_tensorboard.open_run
        case "wandb":
            from rlrun.tracking import to_wandb

            return to_wandb.open_run
        case _:
            from rlrun.tracking import to_mlflow

            return to_mlflow.open_run


def main() -> int:
    """Send until the training has ended."""
    # Hooks of the tools would remove their temporary files, and are not run: they go with their folder.
    with tempfile.TemporaryDirectory(prefix="rlrun-", ignore_cleanup_errors=True) as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        _send_all()
    return 0


def _send_all() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # they are for who trains: its end is ours
    out = Output(claim_output())
    lines = _lines()
    request = next(lines, None)
    if request is None:
        return
    with contextlib.ExitStack() as turns:
        subjects = {}
        until = time.monotonic() + _SECONDS_TO_WAIT
        for run, values in enumerate(request["runs"]):
            subject = Subject(**values | {key: Path(values[key]) for key in ("directory", "outputs")})
            try:
                turns.enter_context(turn(subject.directory / METRICS, until - time.monotonic()))
                subjects[run] = subject
            except OSError as error:  # TimeoutError is one
                for tool in request["tools"]:
                    out.failed(tool, error)
        threads = [Sending(tool, subjects, out) for tool in request["tools"]]
        for thread in threads:
            thread.start()
        for line in lines:
            _end(threads, [line["run"]], line["status"])
        for run, subject in subjects.items():
            _end(threads, [run], _recorded_end(subject.directory))
        until = time.monotonic() + _SECONDS_TO_END
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))


def _recorded_end(directory: Path) -> str:
    """How a run ended whose process has left without a word: as its run.json says, or it was killed."""
    with contextlib.suppress(ResumeError):
        status = read_manifest(directory)["status"]
        return "killed" if status in UNENDED else str(status)
    return "killed"


def _end(threads: Sequence[Sending], runs: Any, status: str) -> None:
    for thread in threads:
        for run in runs:
            thread.end(run, status)


def _lines() -> Iterator[Any]:
    """What is said on stdin, until it closes or the process that trains has gone: children of its may hold the other end."""
    parent, received = os.getppid(), b""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        while os.getppid() == parent:
            if not selector.select(_SECONDS_BETWEEN_LOOKS):
                continue
            data = os.read(0, 1 << 16)
            if not data:
                return
            *lines, received = (received + data).split(b"\n")
            yield from map(json.loads, lines)


def _nothing(line: str) -> None:
    """Say nothing."""


if __name__ == "__main__":
    run_and_exit(main)

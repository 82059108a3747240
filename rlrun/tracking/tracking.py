"""The side of who trains: starts the process that sends metrics to the tools, tells it who has ended, passes on what it says."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rlrun.config import to_mapping
from rlrun.errors import StorageError
from rlrun.finding import DAY
from rlrun.plain import printable, reason_of
from rlrun.provenance import clean
from rlrun.run import Run
from rlrun.tracking import check_installed

# -P: nothing in the folder that the user stands in may take the place of a module.
COMMAND = (sys.executable, "-P", "-m", "rlrun.tracking.sender")
_SECONDS_TO_END = 60.0
_SECONDS_TO_LEAVE = 10.0  # after a signal: a scheduler kills soon
_SECONDS_IN_SILENCE = 5.0
_SECONDS_BETWEEN_LOOKS = 0.05
_ID = re.compile("[0-9a-f]{16}")
_FACTS = ("seed", "device", "implementation", "overrides", "experiment", "tuned", "versions", "git", "machine")


class Tracking:
    """The loggers of a population; of one without any, nothing. No error of theirs ends a run."""

    def __init__(self, runs: Mapping[int, Run], note: Callable[[str], None]) -> None:
        """``runs`` by the number that ``ended`` is told, all of the same loggers; ``note`` takes a line for the user."""
        self._note, self._runs, self._received = note, list(runs.values()), b""
        self._numbers = {agent: number for number, agent in enumerate(runs)}
        self._process: subprocess.Popen[bytes] | None = None
        self._loggers = self._runs[0].config.logger if self._runs else ()
        self._unsent = dict.fromkeys(self._loggers)  # those that have not said that they are done
        self._failed: set[str] = set()  # those that lack something
        if not self._loggers:
            return
        try:
            subjects = [_subject(run) for run in self._runs]
            self._start(json.dumps({"tools": self._loggers, "runs": subjects}))
        except (OSError, StorageError) as error:
            reason = reason_of(error) if isinstance(error, OSError) else str(error)
            self._note(self._left_out(", ".join(self._unsent), reason))

    @property
    def complete(self) -> list[str]:
        """The loggers that have said that they are done, and have all."""
        return [tool for tool in self._loggers if tool not in self._unsent and tool not in self._failed]

    def _start(self, request: str) -> None:
        debug = os.environ.get("RLRUN_DEBUG") == "1"
        # In a session of its own: signals of the terminal, and of who ends a worker with its children, are for us.
        self._process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None if debug else subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._tell(request)

    def listen(self) -> None:
        """Pass on what has been said since, and notice if the process has died. Never waits."""
        if self._process is None:
            return
        assert self._process.stdout is not None
        code = self._process.poll()  # before its last words are read
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._process.stdout.fileno(), 1 << 16):
                self._received += data
        *lines, self._received = self._received.split(b"\n")
        for message in map(json.loads, lines):
            self._pass_on(message)
        if code is not None:
            self._forget()
            if code:
                self._note(self._left_out(", ".join(self._unsent), f"its process ended with code {code}"))

    def ended(self, agent: int, status: str) -> None:
        """Say how a run has ended; all its rows are in its files."""
        if agent in self._numbers:
            self._tell(json.dumps({"run": self._numbers[agent], "status": status}))

    def finish(self, is_interrupted: Callable[[], bool]) -> None:
        """Wait until all is sent, for a minute at most, after a signal for less."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        began, told = time.monotonic(), False
        while self._process is not None:
            self.listen()
            limit = _SECONDS_TO_LEAVE if is_interrupted() else _SECONDS_TO_END
            waited = time.monotonic() - began
            if self._process is not None and waited > _SECONDS_IN_SILENCE and not told:
                told = True
                self._note(f"waiting for {', '.join(self._unsent)}, {limit:g} s at most")
            if self._process is not None and waited > limit:
                with contextlib.suppress(OSError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
                self._forget()
                self._note(self._left_out(", ".join(self._unsent), f"not all was sent within {limit:g} s"))
            elif self._process is not None:
                time.sleep(_SECONDS_BETWEEN_LOOKS)

    def _tell(self, line: str) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            with contextlib.suppress(OSError, ValueError):  # it has died: ``listen`` says so
                self._process.stdin.write(line.encode() + b"\n")
                self._process.stdin.flush()

    def _pass_on(self, message: Mapping[str, str]) -> None:
        first = self._runs[0].manifest.get("job") in (None, 1)  # the processes of a sweep would all say the same
        if "done" in message:
            self._unsent.pop(message["tool"], None)
        elif "failure" in message:
            self._failed.add(message["tool"])
            self._note(self._left_out(message["tool"], message["failure"]))
        elif first:
            self._note(printable(clean(message["line"])))

    def _left_out(self, tools: str, reason: str) -> str:
        where = self._runs[0].directory if len(self._runs) == 1 else "RUN"
        loggers = self._loggers[0] if len(self._loggers) == 1 else f"[{','.join(self._loggers)}]"
        again = shlex.join(["rlrun", "resume", str(where), f"logger={loggers}"])
        return printable(
            clean(f"{tools} left out: {reason}; the run's files have everything, to send it later: {again}")
        )

    def _forget(self) -> None:
        process, self._process = self._process, None
        assert process is not None and process.stdin is not None and process.stdout is not None
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()


def send(runs: Sequence[Run], note: Callable[[str], None]) -> list[str]:
    """Give the loggers of runs that have ended, all of the same ones, what they do not have of them. Returns those that have it all.

    Raises:
        UnavailableError: a package is missing.
        LockedError, ResumeError, StorageError: as ``Run.lock``.
    """
    check_installed(runs[0].config.logger)
    with contextlib.ExitStack() as locks:
        for run in runs:
            locks.enter_context(run.lock())
        tracking = Tracking(dict(enumerate(runs)), note)
        for number, run in enumerate(runs):
            tracking.ended(number, run.manifest["status"])
        tracking.finish(lambda: False)
    return tracking.complete


def _subject(run: Run) -> dict[str, Any]:
    """What the tools are told of a run, without secrets. Raises StorageError."""
    manifest = run.manifest
    known = manifest.get("tracking")  # run.json may be anyone's
    if not isinstance(known, str) or not _ID.fullmatch(known):
        known = secrets.token_hex(8)
        run.update(tracking=known)
    sweep = manifest.get("sweep")
    values = {
        "directory": str(Path(run.directory).absolute()),
        "id": known,
        "algo": run.config.algo.name,
        "env": run.config.env.name or run.config.env.id,
        "name": run.config.name,
        "sweep": printable(sweep) if isinstance(sweep, str) else None,
        "project": run.config.logging.project,
        "outputs": str(outputs_of(Path(run.directory))),
        "config": to_mapping(run.config),
        "facts": {key: manifest.get(key) for key in _FACTS},
        "created": _created(manifest["created"]),
        "trainer": os.getpid(),
    }
    return {**clean(values), "directory": values["directory"], "outputs": values["outputs"]}


def outputs_of(directory: Path) -> Path:
    """The folder of runs that a run lies in, by where it is: its config may be anyone's, and name any folder."""
    if DAY.fullmatch(directory.parent.name):
        return directory.parents[1]
    if directory.parent.parent.name == "sweeps":
        return directory.parents[2]
    return directory.parent


def _created(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return time.time()

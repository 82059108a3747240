"""``rlrun`` in a fork of this process, which need not import anything again, struck at one of its own calls to the disk.

It stands in for strace where that is slow or missing: it sees what Python's ``os`` is asked for, which is all that rlrun
uses to write to a run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.reliability.contract import Ended

CALLS = ("open", "write", "fsync", "rename", "unlink", "mkdir", "ftruncate", "close")


@dataclass(frozen=True)
class Strike:
    """What happens instead of call ``number`` (from 0) of all to the disk: an error, or for None the end of the process.

    ``lasting``: every later call ends so too.
    """

    number: int
    error: int | None = None
    lasting: bool = False

    def hits(self, number: int, name: str) -> bool:
        return number == self.number or (self.lasting and number > self.number and name != "close")


def rlrun_forked(arguments: Sequence[str], folder: Path, strike: Strike | None = None) -> tuple[Ended, list[str]]:
    """Run a command line in a fork, in ``folder``; returns how it ended and the calls to the disk that it made."""
    out, err, calls = (folder / f"{name}.log" for name in ("out", "err", "calls"))
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = _child(arguments, folder, strike, (out, err, calls))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    ended = Ended(code if code >= 0 else 128 - code, out.read_text(), err.read_text())
    return ended, calls.read_text().split()


def _child(arguments: Sequence[str], folder: Path, strike: Strike | None, logs: Sequence[Path]) -> int:
    from rlrun.cli import main

    os.chdir(folder)
    for target, log in enumerate(logs, 1):
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 9 if target == 3 else target)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115 for good
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    _intercept(os.write, strike)
    with contextlib.suppress(SystemExit):
        return main(list(arguments))
    return 70


def _intercept(write: Callable[[int, bytes], int], strike: Strike | None) -> None:
    """Write down every call that changes something below ``outputs``, and strike at one of them."""
    count = -1
    ours: set[int] = set()  # descriptors of files below it

    def concerns(name: str, target: Any, *arguments: Any) -> bool:
        if isinstance(target, int):
            return target in ours
        reads = name == "open" and arguments[0] & os.O_NONBLOCK
        return Path(target).parts[:1] == ("outputs",) and not reads

    def intercepted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            if not concerns(name, *arguments):
                return original(*arguments, **options)
            count += 1
            write(9, f"{name}\n".encode())
            if strike is not None and strike.hits(count, name):
                if strike.error is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                else:
                    raise OSError(strike.error, os.strerror(strike.error))
            result = original(*arguments, **options)
            if name == "open":
                ours.add(result)
            elif name == "close":
                ours.discard(arguments[0])
            return result

        return call

    for name in CALLS:
        setattr(os, name, intercepted(name, getattr(os, name)))

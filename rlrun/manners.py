"""What an environment does badly without harm to what is trained: it is told, and work goes on.

Whoever shows notes says so with ``telling``; without that they go to stderr.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from rlrun.errors import one_line
from rlrun.plain import printable


def _print(line: str) -> None:
    if sys.stderr is not None:  # an environment may have taken it away
        with contextlib.suppress(OSError, ValueError):
            print(f"rlrun: note: {printable(line)}", file=sys.stderr, flush=True)


_tell: Callable[[str], object] = _print
_home: str | None = None
_told: set[str] = set()  # in this process: one that can't be closed well is closed many times


@contextlib.contextmanager
def telling(note: Callable[[str], object]) -> Iterator[None]:
    """Have ``note`` told within."""
    global _tell
    before, _tell = _tell, note
    try:
        yield
    finally:
        _tell = before


def close(env: Any, identifier: str) -> None:
    """Close an environment, on which nothing depends. One that does not come back ends the process (``watchdog``)."""
    try:
        env.close()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        _tell_once(f"env {identifier} raised {one_line(error)} when it was closed; nothing else depends on that")
    go_back(identifier)


@contextlib.contextmanager
def staying(identifier: str) -> Iterator[None]:
    """Remember the working directory for ``go_back``, and be there in the end. The paths of runs may be relative to it.

    In another thread than the main one it is left to the others, who may go elsewhere for reasons of their own.
    """
    global _home
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = _home
    with contextlib.suppress(OSError):  # it was deleted, or can't be told
        _home = os.getcwd()
    try:
        yield
    finally:
        go_back(identifier)
        _home = before


def go_back(identifier: str) -> None:
    """Go where ``staying`` began, if an environment has gone away from there."""
    try:
        here = os.getcwd()
    except OSError:
        here = "one that is gone"
    if _home is not None and here != _home:
        with contextlib.suppress(OSError):
            os.chdir(_home)
            _tell_once(f"env {identifier} changed the working directory to {here}; rlrun has gone back")


def _tell_once(line: str) -> None:
    if line not in _told:
        _told.add(line)
        _tell(line)
